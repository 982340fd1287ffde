/* SPDX-License-Identifier: MIT */
/*
 * quant: number formats of weights: the bytes of a row, and how they become f32.
 *
 * dtype.h: the types a checkpoint may hold. The blocks of GGUF's types are specified by ggml's
 * gguf documentation (ggml/docs/gguf.md) and ggml-common.h; ours are spelled out in group.h.
 */
#ifndef QUANT_DTYPE_H
#define QUANT_DTYPE_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

enum dtype {
    DTYPE_F32,
    DTYPE_F16,
    DTYPE_BF16,
    DTYPE_Q4_0,
    DTYPE_Q4_1,
    DTYPE_Q5_0,
    DTYPE_Q5_1,
    DTYPE_Q8_0,
    DTYPE_Q4_K,
    DTYPE_Q5_K,
    DTYPE_Q6_K,
    DTYPE_IQ4_NL,
    DTYPE_Q2_K,
    DTYPE_Q3_K,
    DTYPE_Q8_K,
    DTYPE_IQ4_XS,
    DTYPE_IQ3_S,
    DTYPE_IQ3_XXS,
    DTYPE_IQ2_S,
    DTYPE_IQ2_XS,
    DTYPE_IQ2_XXS,
    DTYPE_IQ1_S,
    DTYPE_IQ1_M,
    DTYPE_TQ1_0,
    DTYPE_TQ2_0,
    DTYPE_GGUF_MXFP4, /* blocks with their scales, unlike DTYPE_MXFP4 */
    DTYPE_GGUF_NVFP4,
    DTYPE_ROWS, /* types before this are stored row by row, the next two in strips: group.h */
    DTYPE_INT4 = DTYPE_ROWS,
    DTYPE_INT8,
    DTYPE_PARTS, /* types from here on are several tensors: matrix.h */
    DTYPE_GPTQ4 = DTYPE_PARTS,
    DTYPE_GPTQ8,
    DTYPE_AWQ,
    DTYPE_W4, /* compressed-tensors */
    DTYPE_W8,
    DTYPE_NF4, /* bitsandbytes */
    DTYPE_FP4,
    DTYPE_LLM_INT8,
    DTYPE_FP8,
    DTYPE_MXFP4,
    DTYPE_NVFP4,
    DTYPE_COUNT
};

struct dtype_info {
    const char *name; /* "q4_1" */
    size_t block;     /* weights per block; columns must be a multiple of it */
    size_t block_bytes;
};

const struct dtype_info *dtype_info(enum dtype type);

/* Bytes of a row. cols is a multiple of the block, and so small that nothing overflows: checkpoint
 * readers check both. Types before DTYPE_ROWS. */
size_t dtype_row_bytes(enum dtype type, size_t cols);

/* Expands n weights (a multiple of the block) to f32: the scalar definition of every type before
 * DTYPE_ROWS. */
void dtype_expand(enum dtype type, const void *blocks, float *out /* [n] */, size_t n);

/* Scale and min of run j of a block of q4_k or q5_k, 6 bits each. The upper two bits of the last
 * four runs are stored beside the first four. */
void scale_min_k(const uint8_t packed[12], int j, int *scale, int *min);

static inline float f32_from_bits(uint32_t bits)
{
    float value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

static inline uint32_t f32_bits(float value)
{
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    return bits;
}

static inline float bf16_to_f32(uint16_t value)
{
    return f32_from_bits((uint32_t)value << 16);
}

static inline float f16_to_f32(uint16_t half)
{
    uint32_t sign = (uint32_t)(half & 0x8000) << 16;
    uint32_t exponent = half >> 10 & 31, fraction = half & 0x3ff;
    if (exponent == 0) { /* zero and subnormals: fraction * 2^-24 is exact */
        float value = (float)fraction * 0x1p-24f;
        return sign != 0 ? -value : value;
    }
    if (exponent == 31)
        return f32_from_bits(sign | 0x7f800000 | fraction << 13);
    return f32_from_bits(sign | (exponent + 112) << 23 | fraction << 13);
}

/* A little-endian f16 at any alignment. */
static inline float load_f16(const void *bytes)
{
    uint16_t half;
    memcpy(&half, bytes, sizeof half);
    return f16_to_f32(half);
}

/* Nearest, ties to even; overflow to infinity. Without branches and in 32 bits, so that compilers
 * vectorize loops. */
static inline uint32_t f32_to_wide_f16(float value)
{
    uint32_t bits = f32_bits(value), sign = bits >> 16 & 0x8000;
    int32_t magnitude = (int32_t)(bits & 0x7fffffff);
    int32_t capped = magnitude < 0x47800000 ? magnitude : 0x47800000; /* 65536 */
    int32_t normal = (capped + 0xfff + (capped >> 13 & 1) - 0x38000000) >> 13;
    /* Below 2^-14: adding 0.5 leaves the subnormal's bits, rounded. */
    int32_t subnormal = (int32_t)f32_bits(f32_from_bits(bits & 0x7fffffff) + 0.5f) - 0x3f000000;
    int32_t half = normal ^ ((normal ^ subnormal) & -(magnitude < 0x38800000));
    /* NaN: quiet, with the upper bits of its payload. */
    int32_t nan = (0x200 | (magnitude >> 13 & 0x1ff)) & -(magnitude > 0x7f800000);
    return sign | (uint32_t)half | (uint32_t)nan;
}

static inline uint16_t f32_to_f16(float value)
{
    return (uint16_t)f32_to_wide_f16(value);
}

/* Nearest, ties to even. Infinity and NaN do not become finite. */
static inline uint16_t f32_to_bf16(float value)
{
    uint32_t bits = f32_bits(value);
    return (uint16_t)((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
}

/* Half of the power of two that scales a block of mxfp4: levels are twice the format's. */
static inline float mxfp4_scale(uint8_t exponent)
{
    return f32_from_bits(exponent < 2 ? 0x200000u << exponent : (uint32_t)(exponent - 1) << 23);
}

/* Half of the scale of 16 weights of nvfp4, which f16 holds too. ggml takes the code of a NaN for
 * zero. */
static inline float nvfp4_scale(uint8_t code)
{
    uint32_t exponent = code >> 3 & 15, fraction = code & 7;
    if (code == 0x7f)
        return 0;
    return exponent == 0 ? (float)fraction * 0x1p-10f
                         : f32_from_bits((exponent + 119) << 23 | fraction << 20);
}

#endif
