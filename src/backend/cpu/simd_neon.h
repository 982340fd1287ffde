/* simd_neon.h: what kernels_simd.inc needs, with 4 lanes; AArch64's base instruction set. */
#include <arm_neon.h>

enum { LANES = 4 };
typedef float32x4_t vf;

static inline vf v_set(float a)
{
    return vdupq_n_f32(a);
}
static inline vf v_load(const float *p)
{
    return vld1q_f32(p);
}
static inline void v_store(float *p, vf a)
{
    vst1q_f32(p, a);
}
static inline vf v_fma(vf a, vf b, vf c)
{
    return vfmaq_f32(c, a, b);
}
static inline vf v_max(vf a, vf b)
{
    return vmaxq_f32(a, b);
}
static inline vf v_min(vf a, vf b)
{
    return vminq_f32(a, b);
}
static inline float v_sum(vf a)
{
    return vaddvq_f32(a);
}
static inline float v_greatest(vf a)
{
    return vmaxvq_f32(a);
}
static inline vf v_load_f32(const void *p)
{
    return vreinterpretq_f32_u8(vld1q_u8(p));
}
static inline vf v_load_f16(const void *p)
{
    return vcvt_f32_f16(vreinterpret_f16_u8(vld1_u8(p)));
}
static inline vf v_load_bf16(const void *p)
{
    return vreinterpretq_f32_u32(vshll_n_u16(vreinterpret_u16_u8(vld1_u8(p)), 16));
}
/* a where x >= y, else 0 */
static inline vf v_keep_ge(vf a, vf x, vf y)
{
    return vreinterpretq_f32_u32(vandq_u32(vreinterpretq_u32_f32(a), vcgeq_f32(x, y)));
}
static inline vf v_round(vf a)
{
    return vrndnq_f32(a);
}
/* 2^a for integral a in -126..127 */
static inline vf v_exp2i(vf a)
{
    int32x4_t bits = vaddq_s32(vcvtnq_s32_f32(a), vdupq_n_s32(127));
    return vreinterpretq_f32_s32(vshlq_n_s32(bits, 23));
}
