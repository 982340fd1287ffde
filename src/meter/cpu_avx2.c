/* SPDX-License-Identifier: MIT */
/* cpu_avx2.c: the most that AVX2 gives. */
#define LOOPS cpu_loops_avx2
#define NAME  "avx2"
#include "meter/cpu_avx2.inc"
