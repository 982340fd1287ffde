/* SPDX-License-Identifier: MIT */
/* simd_neon.h: the vectors of kernels_simd.inc for NEON as every AArch64 has it. */
#ifndef BACKEND_CPU_SIMD_NEON_H
#define BACKEND_CPU_SIMD_NEON_H

#include <arm_neon.h>
#include <stdint.h>
#include <string.h>

#include "backend/cpu/inline.h"

enum {
    VL = 4,          /* floats in a vector */
    TOKEN_TILE = 6,  /* tokens of linear in registers, with ROW_TILE rows */
    ATTEND_TILE = 6, /* queries of attend in registers, and vectors of scores or outputs */
    ATTEND_VECTORS = 4,
    PAIR_VECTORS = 2 /* the same of attention to codes */
};

typedef float32x4_t vec;

static inline vec v_set(float x)
{
    return vdupq_n_f32(x);
}

static inline vec v_load(const float *p)
{
    return vld1q_f32(p);
}

static inline void v_store(float *p, vec x)
{
    vst1q_f32(p, x);
}

static inline vec v_load_f16(const uint16_t *p)
{
    return vcvt_f32_f16(vreinterpret_f16_u16(vld1_u16(p)));
}

static inline void v_store_f16(uint16_t *p, vec x)
{
    vst1_u16(p, vreinterpret_u16_f16(vcvt_f16_f32(x)));
}

static inline vec v_load_bf16(const uint16_t *p)
{
    return vreinterpretq_f32_u32(vshll_n_u16(vld1_u16(p), 16));
}

/* VL bytes in the lower half. */
static inline uint8x8_t v_load_bytes(const void *p)
{
    uint32_t bytes;
    memcpy(&bytes, p, sizeof bytes);
    return vcreate_u8(bytes);
}

static inline vec v_load_s8(const int8_t *p)
{
    int16x8_t wide = vmovl_s8(vreinterpret_s8_u8(v_load_bytes(p)));
    return vcvtq_f32_s32(vmovl_s16(vget_low_s16(wide)));
}

static inline vec v_widen_u8(uint8x8_t bytes)
{
    return vcvtq_f32_u32(vmovl_u16(vget_low_u16(vmovl_u8(bytes))));
}

/* The low and the high nibbles of VL bytes. */
static inline void v_load_nibbles(const uint8_t *p, vec *low, vec *high)
{
    uint8x8_t bytes = v_load_bytes(p);
    *low = v_widen_u8(vand_u8(bytes, vdup_n_u8(15)));
    *high = v_widen_u8(vshr_n_u8(bytes, 4));
}

/* a * b + c */
static inline vec v_fma(vec a, vec b, vec c)
{
    return vfmaq_f32(c, a, b);
}

static inline vec v_max(vec a, vec b)
{
    return vmaxq_f32(a, b);
}

static inline vec v_min(vec a, vec b)
{
    return vminq_f32(a, b);
}

static inline vec v_sqrt(vec x)
{
    return vsqrtq_f32(x);
}

/* sum + step where x > bound, else sum */
static inline vec v_add_above(vec sum, float step, vec x, float bound)
{
    uint32x4_t above = vcgtq_f32(x, vdupq_n_f32(bound));
    uint32x4_t steps = vreinterpretq_u32_f32(vdupq_n_f32(step));
    return vaddq_f32(sum, vreinterpretq_f32_u32(vandq_u32(above, steps)));
}

/* values[number of bounds below y]; the last bound is infinity. */
static inline vec v_look_up(const float bounds[16], const float values[16], vec y)
{
    vec value = v_set(values[0]); /* sums of small integers are exact */
    UNROLL
    for (int i = 0; i < 15; i++)
        value = v_add_above(value, values[i + 1] - values[i], y, bounds[i]);
    return value;
}

/* x > bound ? yes : no */
static inline vec v_choose_above(vec x, vec bound, vec yes, vec no)
{
    return vbslq_f32(vcgtq_f32(x, bound), yes, no);
}

static inline vec v_round(vec x)
{
    return vrndnq_f32(x);
}

/* 2^n for integer n in [-126, 127]. */
static inline vec v_pow2(vec n)
{
    int32x4_t exponent = vaddq_s32(vcvtq_s32_f32(n), vdupq_n_s32(127));
    return vreinterpretq_f32_s32(vshlq_n_s32(exponent, 23));
}

/* y, but 0 where x < limit. */
static inline vec v_zero_below(vec y, vec x, float limit)
{
    uint32x4_t below = vcltq_f32(x, vdupq_n_f32(limit));
    return vreinterpretq_f32_u32(vbicq_u32(vreinterpretq_u32_f32(y), below));
}

/* The sums of the lanes of four vectors, each by the same tree. */
static inline void v_sum4(vec a, vec b, vec c, vec d, float out[4])
{
    vst1q_f32(out, vpaddq_f32(vpaddq_f32(a, b), vpaddq_f32(c, d)));
}

static inline float v_max_lanes(vec x)
{
    return vmaxvq_f32(x);
}

static inline vec v_abs(vec x)
{
    return vabsq_f32(x);
}

/* Integers within int8. */
static inline void v_store_s8(int8_t *p, vec x)
{
    int16x4_t words = vmovn_s32(vcvtq_s32_f32(x));
    int8x8_t bytes = vmovn_s16(vcombine_s16(words, words));
    vst1_lane_s32((int32_t *)(void *)p, vreinterpret_s32_s8(bytes), 0);
}

/* Integers within int16. */
static inline void v_store_s16(char *p, vec x)
{
    vst1_u8((uint8_t *)p, vreinterpret_u8_s16(vmovn_s32(vcvtq_s32_f32(x))));
}

/* Pairs of int8 times pairs of int16, added to sums of 32 bits; a sum of two is kept in two. */
typedef int32x4x2_t isum;
typedef int16x8_t ipairs;

static inline isum i_zero(void)
{
    return (isum){{vdupq_n_s32(0), vdupq_n_s32(0)}};
}

static inline ipairs i_load_pairs(const int8_t *p /* [VL][2] */)
{
    return vmovl_s8(vld1_s8(p));
}

static inline isum i_dot_pairs(isum sum, ipairs x, int32_t pair)
{
    int16x8_t pairs = vreinterpretq_s16_s32(vdupq_n_s32(pair));
    sum.val[0] = vmlal_s16(sum.val[0], vget_low_s16(x), vget_low_s16(pairs));
    sum.val[1] = vmlal_high_s16(sum.val[1], x, pairs);
    return sum;
}

static inline vec v_sums(isum sum)
{
    return vcvtq_f32_s32(vpaddq_s32(sum.val[0], sum.val[1]));
}

/* Codes of int4 `shift` bits up in VL words (struct nibble_page), with the steps and bases of two
 * positions. */
static inline ipairs i_load_nibbles(const char *words, const int shift, int32_t steps)
{
    uint32x4_t codes = vreinterpretq_u32_u8(vld1q_u8((const uint8_t *)words)) >> shift;
    int16x8_t both = vreinterpretq_s16_s32(vdupq_n_s32(steps));
    int16x8_t base = vmulq_n_s16(vshrq_n_s16(both, 8), KV_BASE);
    return vmlaq_s16(base, vreinterpretq_s16_u32(vandq_u32(codes, vdupq_n_u32(0x000f000f))),
                     vshrq_n_s16(vshlq_n_s16(both, 8), 8));
}

/* ---- integers ---------------------------------------------------------------------------- */

enum { STRIP_VECTORS = 4 };
enum { GROUP_TILE = 8, GROUP_SUMS = 8, HALVES_SUMS = 8 };
enum { PREFETCH_TOKENS = 0 };

static inline bool prefetches_near(void)
{
    return false;
}

#define GROUP_SIZES(X) X(8) X(7) X(6) X(5) X(4) X(3) X(2) X(1)

typedef int32x4_t ivec;
typedef int8x16_t wtable;
typedef int8x16_t wvec;

static inline wtable w_codebook(const int8_t *table /* [16] */)
{
    return vld1q_s8(table);
}

static inline void w_nibbles(const uint8_t *p, wtable table, wvec *low, wvec *high)
{
    uint8x16_t bytes = vld1q_u8(p);
    *low = vqtbl1q_s8(table, vandq_u8(bytes, vdupq_n_u8(15)));
    *high = vqtbl1q_s8(table, vshrq_n_u8(bytes, 4));
}

static inline wvec w_bytes(const uint8_t *p)
{
    return vreinterpretq_s8_u8(vld1q_u8(p));
}

static inline void w_store(uint8_t *p, wvec w)
{
    vst1q_s8((int8_t *)p, w);
}

static inline wvec w_load(const uint8_t *p)
{
    return vld1q_s8((const int8_t *)p);
}

static inline ivec i_start(const float *start, const float *base)
{
    (void)start;
    return vreinterpretq_s32_f32(vdupq_n_f32(*base));
}

static inline ivec i_dot(ivec sum, wvec w, const int8_t *x)
{
    int32_t four;
    memcpy(&four, x, sizeof four);
    int8x16_t codes = vreinterpretq_s8_s32(vdupq_n_s32(four));
#ifdef __ARM_FEATURE_DOTPROD
    return vdotq_s32(sum, w, codes);
#else
    int32x4_t low = vpaddlq_s16(vmull_s8(vget_low_s8(w), vget_low_s8(codes)));
    int32x4_t high = vpaddlq_s16(vmull_high_s8(w, codes));
    return vaddq_s32(sum, vpaddq_s32(low, high));
#endif
}

#endif
