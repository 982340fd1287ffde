/* SPDX-License-Identifier: MIT */
/* kernels_avx512.c: the fast kernels for AVX-512. */
#include "backend/cpu/kernels.h"

#include "backend/cpu/simd_avx512.h"

#define TABLE             kernels_avx512
#define TABLE_NAME        "avx512"
#define TABLE_DESCRIPTION "cpu (avx512)"

#include "backend/cpu/kernels_simd.inc"
