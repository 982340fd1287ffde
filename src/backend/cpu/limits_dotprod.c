/* SPDX-License-Identifier: MIT */
/* limits_dotprod.c: the most that NEON gives with the dot products of bytes of Armv8.2. */
#define LOOPS limit_loops_dotprod
#define NAME  "dotprod"
#define DOT   vdotq_s32
#include "backend/cpu/limits_neon.inc"
