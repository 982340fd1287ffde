/* SPDX-License-Identifier: MIT */
/* limits_avxvnni.c: the most that AVX-VNNI gives. */
#define LOOPS  limit_loops_avxvnni
#define NAME   "avxvnni"
#define DPBUSD _mm256_dpbusd_avx_epi32
#include "backend/cpu/limits_avx2.inc"
