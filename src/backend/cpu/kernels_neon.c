/* SPDX-License-Identifier: MIT */
/* kernels_neon.c: the fast kernels for NEON. */
#include "backend/cpu/kernels.h"

#include "backend/cpu/simd_neon.h"

#define TABLE             kernels_neon
#define TABLE_NAME        "neon"
#define TABLE_DESCRIPTION "cpu (neon)"

#include "backend/cpu/kernels_simd.inc"
