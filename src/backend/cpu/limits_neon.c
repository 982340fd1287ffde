/* SPDX-License-Identifier: MIT */
/* limits_neon.c: the most that NEON gives. */
#define LOOPS limit_loops_neon
#define NAME  "neon"
#include "backend/cpu/limits_neon.inc"
