/* SPDX-License-Identifier: MIT */
/* limits_avx512vl.c: the most that the 256-bit half of AVX-512 VNNI gives. */
#define LOOPS  limit_loops_avx512vl
#define NAME   "avx512vl"
#define DPBUSD _mm256_dpbusd_epi32
#include "backend/cpu/limits_avx2.inc"
