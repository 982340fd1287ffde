/* SPDX-License-Identifier: MIT */
/* kernels_few.cc: those of few rows, as kernels.cc. */
#include "backend/cuda/few.cu"
