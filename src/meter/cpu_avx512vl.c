/* SPDX-License-Identifier: MIT */
/* cpu_avx512vl.c: the most that the 256-bit half of AVX-512 VNNI gives. */
#define LOOPS  cpu_loops_avx512vl
#define NAME   "avx512vl"
#define DPBUSD _mm256_dpbusd_epi32
#include "meter/cpu_avx2.inc"
