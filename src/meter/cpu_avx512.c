/* SPDX-License-Identifier: MIT */
/* cpu_avx512.c: the most that AVX-512 gives, with VNNI and with BF16 where the CPU has them. */
#include <immintrin.h>

#include "meter/cpu_loops.h"

typedef __m512i bits;

enum { SUMS = 16 };

#define KEEP(x) __asm__ volatile("" : "+v"(x))

static inline uint32_t b_fold(bits x)
{
    return (uint32_t)_mm512_reduce_or_epi32(x);
}

#define F32(sum, a, b)  _mm512_fmadd_ps(a, b, sum)
#define INT8(sum, a, b) _mm512_dpbusd_epi32(sum, a, b)
#define BF16(sum, a, b) _mm512_dpbf16_ps(sum, (__m512bh)(a), (__m512bh)(b))

#include "meter/cpu_simd.inc"

MAC_LOOP(f32, __m512, __m512, _mm512_set1_ps(0.7f), F32, )
MAC_LOOP(int8, bits, bits, _mm512_set1_epi32(0x15263748), INT8, )
MAC_LOOP(bf16, __m512, bits, _mm512_set1_epi32(0x3f333f33), BF16,
         __attribute__((target("avx512bf16"))))

const struct cpu_loops cpu_loops_avx512 = {
    .name = "avx512",
    .int8 = int8,
    .f32 = f32,
    .int8_macs = (size_t)SUMS * 64,
    .f32_macs = (size_t)SUMS * 16,
    .read = {read_plain, read_four, read_ahead, read_two_ahead},
};

const struct cpu_loops cpu_loops_avx512bf16 = {
    .name = "avx512bf16",
    .int8 = int8,
    .bf16 = bf16,
    .f32 = f32,
    .int8_macs = (size_t)SUMS * 64,
    .bf16_macs = (size_t)SUMS * 32,
    .f32_macs = (size_t)SUMS * 16,
    .read = {read_plain, read_four, read_ahead, read_two_ahead},
};
