/* SPDX-License-Identifier: MIT */
/* cpu_dotprod.c: the most that NEON gives with the dot products of bytes of Armv8.2. */
#define LOOPS cpu_loops_dotprod
#define NAME  "dotprod"
#define DOT   vdotq_s32
#include "meter/cpu_neon.inc"
