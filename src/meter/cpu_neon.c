/* SPDX-License-Identifier: MIT */
/* cpu_neon.c: the most that NEON gives. */
#define LOOPS cpu_loops_neon
#define NAME  "neon"
#include "meter/cpu_neon.inc"
