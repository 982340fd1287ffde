/* SPDX-License-Identifier: MIT */
/*
 * kernels_avx512vl.c: the fast kernels for the 256-bit half of AVX-512 VNNI.
 *
 * No processor has this as its best: it is the source of kernels_avxvnni.c, for machines that have
 * AVX-512 VNNI but not AVX-VNNI to test it on.
 */
#include "backend/cpu/kernels.h"

#define I_DPBUSD _mm256_dpbusd_epi32
#define I_DPWSSD _mm256_dpwssd_epi32
#include "backend/cpu/simd_avx2.h"

#define TABLE             kernels_avx512vl
#define TABLE_NAME        "avx512vl"
#define TABLE_DESCRIPTION "cpu (avx512vl)"

#include "backend/cpu/kernels_simd.inc"
