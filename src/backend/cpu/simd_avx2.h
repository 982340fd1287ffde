/* SPDX-License-Identifier: MIT */
/* simd_avx2.h: the vectors of kernels_simd.inc for AVX2, FMA and F16C. */
#ifndef BACKEND_CPU_SIMD_AVX2_H
#define BACKEND_CPU_SIMD_AVX2_H

#include <immintrin.h>
#include <stdint.h>
#include <string.h>

enum {
    VL = 8,          /* floats in a vector */
    TOKEN_TILE = 3,  /* tokens of linear in registers, with ROW_TILE rows */
    ATTEND_TILE = 6, /* queries of attend in registers, and vectors of scores or outputs */
    ATTEND_VECTORS = 2,
    PAIR_VECTORS = 2 /* the same of attention to codes */
};

typedef __m256 vec;

static inline vec v_set(float x)
{
    return _mm256_set1_ps(x);
}

static inline vec v_load(const float *p)
{
    return _mm256_loadu_ps(p);
}

static inline void v_store(float *p, vec x)
{
    _mm256_storeu_ps(p, x);
}

static inline vec v_load_f16(const uint16_t *p)
{
    return _mm256_cvtph_ps(_mm_loadu_si128((const void *)p));
}

static inline void v_store_f16(uint16_t *p, vec x)
{
    _mm_storeu_si128((void *)p, _mm256_cvtps_ph(x, _MM_FROUND_TO_NEAREST_INT));
}

static inline vec v_load_bf16(const uint16_t *p)
{
    __m256i bits = _mm256_cvtepu16_epi32(_mm_loadu_si128((const void *)p));
    return _mm256_castsi256_ps(_mm256_slli_epi32(bits, 16));
}

static inline vec v_load_s8(const int8_t *p)
{
    return _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(_mm_loadl_epi64((const void *)p)));
}

/* The low and the high nibbles of VL bytes. */
static inline void v_load_nibbles(const uint8_t *p, vec *low, vec *high)
{
    __m256i bytes = _mm256_cvtepu8_epi32(_mm_loadl_epi64((const void *)p));
    *low = _mm256_cvtepi32_ps(_mm256_and_si256(bytes, _mm256_set1_epi32(15)));
    *high = _mm256_cvtepi32_ps(_mm256_srli_epi32(bytes, 4));
}

/* a * b + c */
static inline vec v_fma(vec a, vec b, vec c)
{
    return _mm256_fmadd_ps(a, b, c);
}

/* A NaN in b is kept. */
static inline vec v_max(vec a, vec b)
{
    return _mm256_max_ps(a, b);
}

static inline vec v_min(vec a, vec b)
{
    return _mm256_min_ps(a, b);
}

static inline vec v_sqrt(vec x)
{
    return _mm256_sqrt_ps(x);
}

/* sum + step where x > bound, else sum */
static inline vec v_add_above(vec sum, float step, vec x, float bound)
{
    __m256 above = _mm256_cmp_ps(x, _mm256_set1_ps(bound), _CMP_GT_OQ);
    return _mm256_add_ps(sum, _mm256_and_ps(above, _mm256_set1_ps(step)));
}

/* values[number of bounds below y], bounds ascending with infinity at the end: four steps of a
 * binary search, whose tables have at most eight entries. */
static inline vec v_look_up(const float bounds[16], const float values[16], vec y)
{
    vec upper = _mm256_cmp_ps(y, _mm256_set1_ps(bounds[7]), _CMP_GT_OQ);
    vec four = _mm256_blendv_ps(_mm256_set1_ps(bounds[3]), _mm256_set1_ps(bounds[11]), upper);
    __m256i i = _mm256_and_si256(_mm256_castps_si256(upper), _mm256_set1_epi32(4));
    vec above = _mm256_cmp_ps(y, four, _CMP_GT_OQ);
    i = _mm256_or_si256(i, _mm256_and_si256(_mm256_castps_si256(above), _mm256_set1_epi32(2)));
    vec two = _mm256_setr_ps(bounds[1], bounds[1], bounds[5], bounds[5], bounds[9], bounds[9],
                             bounds[13], bounds[13]);
    above = _mm256_cmp_ps(y, _mm256_permutevar8x32_ps(two, i), _CMP_GT_OQ);
    i = _mm256_or_si256(i, _mm256_and_si256(_mm256_castps_si256(above), _mm256_set1_epi32(1)));
    vec one = _mm256_setr_ps(bounds[0], bounds[2], bounds[4], bounds[6], bounds[8], bounds[10],
                             bounds[12], bounds[14]);
    above = _mm256_cmp_ps(y, _mm256_permutevar8x32_ps(one, i), _CMP_GT_OQ);
    i = _mm256_sub_epi32(_mm256_add_epi32(i, i), _mm256_castps_si256(above)); /* the mask is -1 */
    vec low = _mm256_permutevar8x32_ps(_mm256_loadu_ps(values), i);
    return _mm256_blendv_ps(low, _mm256_permutevar8x32_ps(_mm256_loadu_ps(values + 8), i), upper);
}

/* x > bound ? yes : no */
static inline vec v_choose_above(vec x, vec bound, vec yes, vec no)
{
    return _mm256_blendv_ps(no, yes, _mm256_cmp_ps(x, bound, _CMP_GT_OQ));
}

static inline vec v_round(vec x)
{
    return _mm256_round_ps(x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
}

/* 2^n for integer n in [-126, 127]. */
static inline vec v_pow2(vec n)
{
    __m256i exponent = _mm256_add_epi32(_mm256_cvtps_epi32(n), _mm256_set1_epi32(127));
    return _mm256_castsi256_ps(_mm256_slli_epi32(exponent, 23));
}

/* y, but 0 where x < limit. */
static inline vec v_zero_below(vec y, vec x, float limit)
{
    return _mm256_and_ps(y, _mm256_cmp_ps(x, _mm256_set1_ps(limit), _CMP_NLT_UQ));
}

/* The sums of the lanes of four vectors, each by the same tree. */
static inline void v_sum4(vec a, vec b, vec c, vec d, float out[4])
{
    __m256 abcd = _mm256_hadd_ps(_mm256_hadd_ps(a, b), _mm256_hadd_ps(c, d));
    _mm_storeu_ps(out, _mm_add_ps(_mm256_castps256_ps128(abcd), _mm256_extractf128_ps(abcd, 1)));
}

static inline float v_max_lanes(vec x)
{
    __m128 m = _mm_max_ps(_mm256_castps256_ps128(x), _mm256_extractf128_ps(x, 1));
    m = _mm_max_ps(m, _mm_movehl_ps(m, m));
    return _mm_cvtss_f32(_mm_max_ss(m, _mm_shuffle_ps(m, m, 1)));
}

static inline vec v_abs(vec x)
{
    return _mm256_andnot_ps(_mm256_set1_ps(-0.0f), x);
}

/* Integers within int8. */
static inline void v_store_s8(int8_t *p, vec x)
{
    __m256i words = _mm256_cvtps_epi32(x);
    __m128i halves =
        _mm_packs_epi32(_mm256_castsi256_si128(words), _mm256_extracti128_si256(words, 1));
    _mm_storel_epi64((void *)p, _mm_packs_epi16(halves, halves));
}

/* Integers within int16. */
static inline void v_store_s16(char *p, vec x)
{
    __m256i words = _mm256_cvtps_epi32(x);
    _mm_storeu_si128((void *)p, _mm_packs_epi32(_mm256_castsi256_si128(words),
                                                _mm256_extracti128_si256(words, 1)));
}

/* Pairs of int8 times pairs of int16, added to sums of 32 bits. */
typedef __m256i isum;
typedef __m256i ipairs;

static inline isum i_zero(void)
{
    return _mm256_setzero_si256();
}

static inline ipairs i_load_pairs(const int8_t *p /* [VL][2] */)
{
    return _mm256_cvtepi8_epi16(_mm_loadu_si128((const void *)p));
}

static inline isum i_dot_pairs(isum sum, ipairs x, int32_t pair)
{
#ifdef I_DPWSSD
    sum = I_DPWSSD(sum, x, _mm256_set1_epi32(pair));
#else
    sum = _mm256_add_epi32(sum, _mm256_madd_epi16(x, _mm256_set1_epi32(pair)));
#endif
    __asm__("" : "+x"(sum)); /* otherwise gcc copies sums from register to register */
    return sum;
}

static inline vec v_sums(isum sum)
{
    return _mm256_cvtepi32_ps(sum);
}

/* Codes of int4 `shift` bits up in VL words (struct nibble_page), with the steps and bases of two
 * positions: vpmaddubsw multiplies KV_BASE by the base beside a code by its step. */
static inline ipairs i_load_nibbles(const char *words, const int shift, int32_t steps)
{
    typedef uint32_t lanes __attribute__((vector_size(32)));
    __m256i codes = (__m256i)((lanes)_mm256_loadu_si256((const void *)words) >> shift);
    codes = _mm256_and_si256(codes, _mm256_set1_epi32(0x000f000f));
    codes = _mm256_or_si256(codes, _mm256_set1_epi32(KV_BASE * 0x01000100));
    return _mm256_maddubs_epi16(codes, _mm256_set1_epi32(steps));
}

/* ---- integers ---------------------------------------------------------------------------- */

enum { STRIP_VECTORS = 2 };
enum { PREFETCH_TOKENS = 1 };
enum { GROUP_TILE = 8 };
#define GROUP_SIZES(X) X(8) X(7) X(6) X(5) X(4) X(3) X(2) X(1)

static inline bool prefetches_near(void)
{
    return __builtin_cpu_is("intel");
}

typedef __m256i ivec;

static inline __m256i repeat_codes(const int8_t *x)
{
    int32_t codes;
    memcpy(&codes, x, sizeof codes);
    return _mm256_set1_epi32(codes);
}

static inline __m256i repeat_table(const int8_t *table /* [16] */)
{
    return _mm256_broadcastsi128_si256(_mm_loadu_si128((const void *)table));
}

static inline void split_nibbles(const uint8_t *p, __m256i *low, __m256i *high)
{
    __m256i bytes = _mm256_load_si256((const void *)p), mask = _mm256_set1_epi8(15);
    *low = _mm256_and_si256(bytes, mask);
    *high = _mm256_and_si256(_mm256_srli_epi32(bytes, 4), mask);
}

#ifdef I_DPBUSD /* multiplies unsigned by signed bytes into 32 bits */

enum { GROUP_SUMS = 4, HALVES_SUMS = 4 };

typedef __m256i wtable; /* the codebook twice */
typedef __m256i wvec;   /* 128 larger */

static inline wtable w_codebook(const int8_t *table /* [16] */)
{
    return _mm256_xor_si256(repeat_table(table), _mm256_set1_epi8(-128));
}

static inline void w_nibbles(const uint8_t *p, wtable table, wvec *low, wvec *high)
{
    split_nibbles(p, low, high);
    *low = _mm256_shuffle_epi8(table, *low);
    *high = _mm256_shuffle_epi8(table, *high);
}

static inline wvec w_bytes(const uint8_t *p)
{
    return _mm256_xor_si256(_mm256_load_si256((const void *)p), _mm256_set1_epi8(-128));
}

static inline void w_store(uint8_t *p, wvec w)
{
    _mm256_store_si256((void *)p, w);
}

static inline wvec w_load(const uint8_t *p)
{
    return _mm256_load_si256((const void *)p);
}

static inline ivec i_start(const float *start, const float *base)
{
    (void)base;
    return _mm256_castps_si256(_mm256_set1_ps(*start));
}

static inline ivec i_dot(ivec sum, wvec w, const int8_t *x)
{
    return I_DPBUSD(sum, w, repeat_codes(x));
}

#else

/* vpmaddubsw multiplies unsigned by signed bytes and adds pairs in 16 bits, where weights 128
 * larger would saturate. So codes get the weights' signs, and weights become magnitudes. As codes
 * are within +-127, no sum of two products overflows.
 *
 * Small levels need no signs: they become unsigned, and 16 bits hold all sums of a group. */
#define HAS_SMALL_LEVELS
enum { GROUP_SUMS = 3, HALVES_SUMS = 3 };

typedef __m256i wtable;
typedef __m256i wvec;

static inline wtable w_codebook(const int8_t *table /* [16] */)
{
    return repeat_table(table);
}

static inline void w_nibbles(const uint8_t *p, wtable table, wvec *low, wvec *high)
{
    split_nibbles(p, low, high);
    *low = _mm256_shuffle_epi8(table, *low);
    *high = _mm256_shuffle_epi8(table, *high);
}

static inline wvec w_bytes(const uint8_t *p)
{
    return _mm256_load_si256((const void *)p);
}

static inline void w_store(uint8_t *p, wvec w)
{
    _mm256_store_si256((void *)p, w);
}

static inline wvec w_load(const uint8_t *p)
{
    return _mm256_load_si256((const void *)p);
}

static inline ivec i_start(const float *start, const float *base)
{
    (void)start;
    return _mm256_castps_si256(_mm256_set1_ps(*base));
}

/* Otherwise gcc reorders the additions and keeps all products in memory: a tenth of the speed. */
static inline ivec in_order(ivec sum)
{
    __asm__("" : "+x"(sum));
    return sum;
}

static inline ivec i_dot(ivec sum, wvec w, const int8_t *x)
{
    __m256i codes = _mm256_sign_epi8(repeat_codes(x), w);
    __m256i pairs = _mm256_maddubs_epi16(_mm256_abs_epi8(w), codes);
    return in_order(_mm256_add_epi32(sum, _mm256_madd_epi16(pairs, _mm256_set1_epi16(1))));
}

static inline ivec i_dot_small(ivec sum16, wvec w, const int8_t *x)
{
    return in_order(_mm256_add_epi16(sum16, _mm256_maddubs_epi16(w, repeat_codes(x))));
}

static inline ivec i_end_small(ivec sum16, vec start)
{
    __m256i sum = _mm256_madd_epi16(sum16, _mm256_set1_epi16(1));
    return _mm256_add_epi32(_mm256_castps_si256(start), sum);
}

#endif

#endif
