/* SPDX-License-Identifier: MIT */
/* kernels_gemm_small.cc: those of few rows, as kernels.cc. */
#include "backend/cuda/gemm_small.cu"
