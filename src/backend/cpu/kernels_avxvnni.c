/* SPDX-License-Identifier: MIT */
/* kernels_avxvnni.c: the fast kernels for AVX-VNNI. */
#include "backend/cpu/kernels.h"

#define I_DPBUSD _mm256_dpbusd_avx_epi32
#define I_DPWSSD _mm256_dpwssd_avx_epi32
#include "backend/cpu/simd_avx2.h"

#define TABLE             kernels_avxvnni
#define TABLE_NAME        "avxvnni"
#define TABLE_DESCRIPTION "cpu (avxvnni)"

#include "backend/cpu/kernels_simd.inc"
