/* simd_avx512.h: what kernels_simd.inc needs, with 16 lanes. */
#include <immintrin.h>

enum { LANES = 16 };
typedef __m512 vf;

static inline vf v_set(float a)
{
    return _mm512_set1_ps(a);
}
static inline vf v_load(const float *p)
{
    return _mm512_loadu_ps(p);
}
static inline void v_store(float *p, vf a)
{
    _mm512_storeu_ps(p, a);
}
static inline vf v_fma(vf a, vf b, vf c)
{
    return _mm512_fmadd_ps(a, b, c);
}
static inline vf v_max(vf a, vf b)
{
    return _mm512_max_ps(a, b);
}
static inline vf v_min(vf a, vf b)
{
    return _mm512_min_ps(a, b);
}
static inline float v_sum(vf a)
{
    return _mm512_reduce_add_ps(a);
}
static inline float v_greatest(vf a)
{
    return _mm512_reduce_max_ps(a);
}
static inline vf v_load_f32(const void *p)
{
    return _mm512_loadu_ps(p);
}
static inline vf v_load_f16(const void *p)
{
    return _mm512_cvtph_ps(_mm256_loadu_si256(p));
}
static inline vf v_load_bf16(const void *p)
{
    __m512i wide = _mm512_cvtepu16_epi32(_mm256_loadu_si256(p));
    return _mm512_castsi512_ps(_mm512_slli_epi32(wide, 16));
}
/* a where x >= y, else 0 */
static inline vf v_keep_ge(vf a, vf x, vf y)
{
    return _mm512_maskz_mov_ps(_mm512_cmp_ps_mask(x, y, _CMP_GE_OQ), a);
}
static inline vf v_round(vf a)
{
    return _mm512_roundscale_ps(a, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
}
/* 2^a for integral a in -126..127 */
static inline vf v_exp2i(vf a)
{
    __m512i bits = _mm512_add_epi32(_mm512_cvtps_epi32(a), _mm512_set1_epi32(127));
    return _mm512_castsi512_ps(_mm512_slli_epi32(bits, 23));
}
