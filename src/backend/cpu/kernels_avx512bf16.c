/* SPDX-License-Identifier: MIT */
/* kernels_avx512bf16.c: those for AVX-512, with its products of bf16 numbers. */
#include "backend/cpu/kernels.h"

#define HAS_BF16_PRODUCTS
#include "backend/cpu/simd_avx512.h"

#define TABLE             kernels_avx512bf16
#define TABLE_NAME        "avx512bf16"
#define TABLE_DESCRIPTION "cpu (avx512bf16)"

#include "backend/cpu/kernels_simd.inc"
