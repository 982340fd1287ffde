/* SPDX-License-Identifier: MIT */
/* limits_avx2.c: the most that AVX2 gives. */
#define LOOPS limit_loops_avx2
#define NAME  "avx2"
#include "backend/cpu/limits_avx2.inc"
