/* SPDX-License-Identifier: MIT */
/* cpu_avxvnni.c: the most that AVX-VNNI gives. */
#define LOOPS  cpu_loops_avxvnni
#define NAME   "avxvnni"
#define DPBUSD _mm256_dpbusd_avx_epi32
#include "meter/cpu_avx2.inc"
