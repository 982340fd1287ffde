/* SPDX-License-Identifier: MIT */
/* kernels_gemm.cc: those of many rows, as kernels.cc. */
#include "backend/cuda/gemm.cu"
