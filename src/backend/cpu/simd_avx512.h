/* SPDX-License-Identifier: MIT */
/* simd_avx512.h: the vectors of kernels_simd.inc for AVX-512 F, BW, DQ, VL and VNNI. */
#ifndef BACKEND_CPU_SIMD_AVX512_H
#define BACKEND_CPU_SIMD_AVX512_H

#include <immintrin.h>
#include <stdint.h>
#include <string.h>

#include "backend/cpu/inline.h"

enum {
    VL = 16,         /* floats in a vector */
    TOKEN_TILE = 6,  /* tokens of linear in registers, with ROW_TILE rows */
    ATTEND_TILE = 6, /* queries of attend in registers, and vectors of scores or outputs */
    ATTEND_VECTORS = 4,
    PAIR_VECTORS = 4 /* the same of attention to codes */
};

typedef __m512 vec;

static inline vec v_set(float x)
{
    return _mm512_set1_ps(x);
}

static inline vec v_load(const float *p)
{
    return _mm512_loadu_ps(p);
}

static inline void v_store(float *p, vec x)
{
    _mm512_storeu_ps(p, x);
}

static inline vec v_load_f16(const uint16_t *p)
{
    return _mm512_cvtph_ps(_mm256_loadu_si256((const void *)p));
}

static inline void v_store_f16(uint16_t *p, vec x)
{
    _mm256_storeu_si256((void *)p, _mm512_cvtps_ph(x, _MM_FROUND_TO_NEAREST_INT));
}

static inline vec v_load_bf16(const uint16_t *p)
{
    __m512i bits = _mm512_cvtepu16_epi32(_mm256_loadu_si256((const void *)p));
    return _mm512_castsi512_ps(_mm512_slli_epi32(bits, 16));
}

static inline vec v_load_s8(const int8_t *p)
{
    return _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm_loadu_si128((const void *)p)));
}

/* The low and the high nibbles of VL bytes. */
static inline void v_load_nibbles(const uint8_t *p, vec *low, vec *high)
{
    __m512i bytes = _mm512_cvtepu8_epi32(_mm_loadu_si128((const void *)p));
    *low = _mm512_cvtepi32_ps(_mm512_and_si512(bytes, _mm512_set1_epi32(15)));
    *high = _mm512_cvtepi32_ps(_mm512_srli_epi32(bytes, 4));
}

/* a * b + c */
static inline vec v_fma(vec a, vec b, vec c)
{
    return _mm512_fmadd_ps(a, b, c);
}

/* A NaN in b is kept. */
static inline vec v_max(vec a, vec b)
{
    return _mm512_max_ps(a, b);
}

static inline vec v_min(vec a, vec b)
{
    return _mm512_min_ps(a, b);
}

static inline vec v_sqrt(vec x)
{
    return _mm512_sqrt_ps(x);
}

/* sum + step where x > bound, else sum */
static inline vec v_add_above(vec sum, float step, vec x, float bound)
{
    __mmask16 above = _mm512_cmp_ps_mask(x, _mm512_set1_ps(bound), _CMP_GT_OQ);
    return _mm512_mask_add_ps(sum, above, sum, _mm512_set1_ps(step));
}

/* values[number of bounds below y], bounds ascending with infinity at the end: four steps of a
 * binary search. */
static inline vec v_look_up(const float bounds[16], const float values[16], vec y)
{
    vec all = _mm512_loadu_ps(bounds);
    __m512i i =
        _mm512_maskz_set1_epi32(_mm512_cmp_ps_mask(y, _mm512_set1_ps(bounds[7]), _CMP_GT_OQ), 8);
    UNROLL
    for (int step = 4; step > 0; step /= 2) {
        __m512i middle = _mm512_add_epi32(i, _mm512_set1_epi32(step - 1));
        __mmask16 above = _mm512_cmp_ps_mask(y, _mm512_permutexvar_ps(middle, all), _CMP_GT_OQ);
        i = _mm512_mask_add_epi32(i, above, i, _mm512_set1_epi32(step));
    }
    return _mm512_permutexvar_ps(i, _mm512_loadu_ps(values));
}

/* x > bound ? yes : no */
static inline vec v_choose_above(vec x, vec bound, vec yes, vec no)
{
    return _mm512_mask_mov_ps(no, _mm512_cmp_ps_mask(x, bound, _CMP_GT_OQ), yes);
}

static inline vec v_round(vec x)
{
    return _mm512_roundscale_ps(x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
}

/* 2^n for integer n in [-126, 127]. */
static inline vec v_pow2(vec n)
{
    __m512i exponent = _mm512_add_epi32(_mm512_cvtps_epi32(n), _mm512_set1_epi32(127));
    return _mm512_castsi512_ps(_mm512_slli_epi32(exponent, 23));
}

/* y, but 0 where x < limit. */
static inline vec v_zero_below(vec y, vec x, float limit)
{
    __mmask16 keep = _mm512_cmp_ps_mask(x, _mm512_set1_ps(limit), _CMP_NLT_UQ);
    return _mm512_maskz_mov_ps(keep, y);
}

/* The sums of the lanes of four vectors, each by the same tree. */
static inline void v_sum4(vec a, vec b, vec c, vec d, float out[4])
{
    __m256 a8 = _mm256_add_ps(_mm512_castps512_ps256(a), _mm512_extractf32x8_ps(a, 1));
    __m256 b8 = _mm256_add_ps(_mm512_castps512_ps256(b), _mm512_extractf32x8_ps(b, 1));
    __m256 c8 = _mm256_add_ps(_mm512_castps512_ps256(c), _mm512_extractf32x8_ps(c, 1));
    __m256 d8 = _mm256_add_ps(_mm512_castps512_ps256(d), _mm512_extractf32x8_ps(d, 1));
    __m256 abcd = _mm256_hadd_ps(_mm256_hadd_ps(a8, b8), _mm256_hadd_ps(c8, d8));
    _mm_storeu_ps(out, _mm_add_ps(_mm256_castps256_ps128(abcd), _mm256_extractf128_ps(abcd, 1)));
}

static inline float v_max_lanes(vec x)
{
    return _mm512_reduce_max_ps(x);
}

#ifdef HAS_BF16_PRODUCTS
/* Adds two products to each lane. The instruction ignores MXCSR: it rounds to nearest even and
 * takes subnormal numbers as zero. */
static inline vec v_dot_bf16(const uint16_t *a, const uint16_t *b, vec sum)
{
    return _mm512_dpbf16_ps(sum, (__m512bh)_mm512_loadu_si512(a), (__m512bh)_mm512_loadu_si512(b));
}

static inline void v_store_bf16(uint16_t *p, vec low, vec high)
{
    _mm512_storeu_si512(p, (__m512i)_mm512_cvtne2ps_pbh(high, low));
}
#endif

static inline vec v_abs(vec x)
{
    return _mm512_abs_ps(x);
}

/* Integers within int8. */
static inline void v_store_s8(int8_t *p, vec x)
{
    _mm_storeu_si128((void *)p, _mm512_cvtsepi32_epi8(_mm512_cvtps_epi32(x)));
}

/* Integers within int16. */
static inline void v_store_s16(char *p, vec x)
{
    _mm256_storeu_si256((void *)p, _mm512_cvtsepi32_epi16(_mm512_cvtps_epi32(x)));
}

/* Pairs of int8 times pairs of int16, added to sums of 32 bits. */
typedef __m512i isum;
typedef __m512i ipairs;

static inline isum i_zero(void)
{
    return _mm512_setzero_si512();
}

static inline ipairs i_load_pairs(const int8_t *p /* [VL][2] */)
{
    return _mm512_cvtepi8_epi16(_mm256_loadu_si256((const void *)p));
}

static inline isum i_dot_pairs(isum sum, ipairs x, int32_t pair)
{
    sum = _mm512_dpwssd_epi32(sum, x, _mm512_set1_epi32(pair));
    __asm__("" : "+v"(sum)); /* otherwise gcc copies sums from register to register */
    return sum;
}

static inline vec v_sums(isum sum)
{
    return _mm512_cvtepi32_ps(sum);
}

/* Codes of int4 `shift` bits up in VL words (struct nibble_page), with the steps and bases of two
 * positions: vpmaddubsw multiplies KV_BASE by the base beside a code by its step. */
static inline ipairs i_load_nibbles(const char *words, const int shift, int32_t steps)
{
    typedef uint32_t lanes __attribute__((vector_size(64)));
    __m512i codes = (__m512i)((lanes)_mm512_loadu_si512(words) >> shift);
    codes = _mm512_ternarylogic_epi32(codes, _mm512_set1_epi32(0x000f000f),
                                      _mm512_set1_epi32(KV_BASE * 0x01000100), 0xea);
    return _mm512_maddubs_epi16(codes, _mm512_set1_epi32(steps));
}

/* ---- integers (VNNI) --------------------------------------------------------------------- */

enum { STRIP_VECTORS = 1 };
/* With 16 sums of groups of 16 columns, compilers spill: q6_k's batch of 8 1.22x slower, its
 * prompts 1.09x. */
enum { GROUP_TILE = 7, GROUP_SUMS = 16, HALVES_SUMS = 12 };
#ifdef HAS_BF16_PRODUCTS
enum { PREFETCH_TOKENS = 0 }; /* the table of AMD's cores */
#else
enum { PREFETCH_TOKENS = 8 };
#endif

static inline bool prefetches_near(void)
{
    return true;
}

#define GROUP_SIZES(X) X(8) X(7) X(6) X(5) X(4) X(3) X(2) X(1)

typedef __m512i ivec;
typedef __m512i wtable; /* the codebook four times */
typedef __m512i wvec;   /* 128 larger */

static inline wtable w_codebook(const int8_t *table /* [16] */)
{
    __m512i four = _mm512_broadcast_i32x4(_mm_loadu_si128((const void *)table));
    return _mm512_xor_si512(four, _mm512_set1_epi8(-128));
}

static inline void w_nibbles(const uint8_t *p, wtable table, wvec *low, wvec *high)
{
    __m512i bytes = _mm512_load_si512((const void *)p), mask = _mm512_set1_epi8(15);
    *low = _mm512_shuffle_epi8(table, _mm512_and_si512(bytes, mask));
    *high = _mm512_shuffle_epi8(table, _mm512_and_si512(_mm512_srli_epi32(bytes, 4), mask));
}

static inline wvec w_bytes(const uint8_t *p)
{
    return _mm512_xor_si512(_mm512_load_si512((const void *)p), _mm512_set1_epi8(-128));
}

static inline void w_store(uint8_t *p, wvec w)
{
    _mm512_store_si512((void *)p, w);
}

static inline wvec w_load(const uint8_t *p)
{
    return _mm512_load_si512((const void *)p);
}

static inline ivec i_start(const float *start, const float *base)
{
    (void)base;
    return _mm512_castps_si512(_mm512_set1_ps(*start));
}

static inline ivec i_dot(ivec sum, wvec w, const int8_t *x)
{
    int32_t codes;
    memcpy(&codes, x, sizeof codes);
    return _mm512_dpbusd_epi32(sum, w, _mm512_set1_epi32(codes));
}

#endif
