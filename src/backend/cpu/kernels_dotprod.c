/* SPDX-License-Identifier: MIT */
/* kernels_dotprod.c: the fast kernels for NEON with the dot products of Armv8.2. */
#include "backend/cpu/kernels.h"

#include "backend/cpu/simd_neon.h"

#define TABLE             kernels_dotprod
#define TABLE_NAME        "dotprod"
#define TABLE_DESCRIPTION "cpu (dotprod)"

#include "backend/cpu/kernels_simd.inc"
