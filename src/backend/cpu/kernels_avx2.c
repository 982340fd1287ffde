/* SPDX-License-Identifier: MIT */
/* kernels_avx2.c: the fast kernels for AVX2. */
#include "backend/cpu/kernels.h"

#include "backend/cpu/simd_avx2.h"

#define TABLE             kernels_avx2
#define TABLE_NAME        "avx2"
#define TABLE_DESCRIPTION "cpu (avx2)"

#include "backend/cpu/kernels_simd.inc"
