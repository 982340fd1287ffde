/* SPDX-License-Identifier: MIT */
/*
 * expand.c: blocks to f32, the scalar definition of every type.
 *
 * A block stores codes q with one or two scales; f16 numbers are little-endian. In the order of
 * the fields of a block:
 *   q4_0    d f16, 16 bytes of nibbles            w = d (q - 8)
 *   q4_1    d f16, m f16, nibbles                 w = d q + m
 *   q5_0    d f16, 32 fifth bits, nibbles         w = d (q - 16)
 *   q5_1    d f16, m f16, 32 fifth bits, nibbles  w = d q + m
 *   q8_0    d f16, 32 int8                        w = d q
 *   iq4_nl  d f16, nibbles                        w = d codebook[q]
 *   q4_k    d f16, dmin f16, 8 x (scale, min) of 6 bits, nibbles      w = d scale q - dmin min
 *   q5_k    the same with 256 fifth bits before the nibbles
 *   q6_k    low nibbles, upper bits, 16 int8 scales, d f16            w = d scale (q - 32)
 *   q8_k    d f32, 256 int8, sums of the codes, which nobody needs    w = d q
 *   mxfp4   8 bits of an exponent e, nibbles                          w = 2^(e - 128) codebook[q]
 *   nvfp4   4 x d, a float of 4 bits of exponent and 3 of fraction, nibbles   w = d / 2 codebook[q]
 * Nibbles of 32 weights: byte i holds weight i (low) and weight i + 16 (high); the _k types pair
 * whole runs of 32 instead, and nvfp4 pairs runs of 8. The products are rounded in the order
 * written. unpack.c has the other types.
 */
#include <string.h>

#include "quant/unpack.h"

static void expand_q4_0(const uint8_t *block, float *out)
{
    float d = load_f16(block);
    for (int i = 0; i < 16; i++) {
        out[i] = d * (float)((block[2 + i] & 15) - 8);
        out[i + 16] = d * (float)((block[2 + i] >> 4) - 8);
    }
}

static void expand_q4_1(const uint8_t *block, float *out)
{
    float d = load_f16(block), m = load_f16(block + 2);
    for (int i = 0; i < 16; i++) {
        out[i] = d * (float)(block[4 + i] & 15) + m;
        out[i + 16] = d * (float)(block[4 + i] >> 4) + m;
    }
}

/* Codes of 5 bits: 32 upper bits, then nibbles. */
static void codes_5(const uint8_t *bytes, int codes[32])
{
    uint32_t high =
        bytes[0] | (uint32_t)bytes[1] << 8 | (uint32_t)bytes[2] << 16 | (uint32_t)bytes[3] << 24;
    for (int i = 0; i < 16; i++) {
        codes[i] = (bytes[4 + i] & 15) | (int)(high >> i & 1) << 4;
        codes[i + 16] = bytes[4 + i] >> 4 | (int)(high >> (i + 16) & 1) << 4;
    }
}

static void expand_q5_0(const uint8_t *block, float *out)
{
    float d = load_f16(block);
    int codes[32];
    codes_5(block + 2, codes);
    for (int i = 0; i < 32; i++)
        out[i] = d * (float)(codes[i] - 16);
}

static void expand_q5_1(const uint8_t *block, float *out)
{
    float d = load_f16(block), m = load_f16(block + 2);
    int codes[32];
    codes_5(block + 4, codes);
    for (int i = 0; i < 32; i++)
        out[i] = d * (float)codes[i] + m;
}

static void expand_q8_0(const uint8_t *block, float *out)
{
    float d = load_f16(block);
    for (int i = 0; i < 32; i++)
        out[i] = (float)(int8_t)block[2 + i] * d;
}

static void expand_iq4_nl(const uint8_t *block, float *out)
{
    float d = load_f16(block);
    for (int i = 0; i < 16; i++) {
        out[i] = d * (float)group_codebook_iq4_nl[block[2 + i] & 15];
        out[i + 16] = d * (float)group_codebook_iq4_nl[block[2 + i] >> 4];
    }
}

void scale_min_k(const uint8_t packed[12], int j, int *scale, int *min)
{
    if (j < 4) {
        *scale = packed[j] & 63;
        *min = packed[j + 4] & 63;
    } else {
        *scale = (packed[j + 4] & 15) | (packed[j - 4] >> 6) << 4;
        *min = packed[j + 4] >> 4 | (packed[j] >> 6) << 4;
    }
}

/* q4_k and q5_k; high: 32 bytes whose bit j belongs to run j, or NULL. */
static void expand_k(const uint8_t *block, const uint8_t *high, const uint8_t *nibbles, float *out)
{
    float d = load_f16(block), dmin = load_f16(block + 2);
    for (int j = 0; j < 8; j++) {
        int scale, min;
        scale_min_k(block + 4, j, &scale, &min);
        float step = d * (float)scale, offset = dmin * (float)min;
        const uint8_t *pair = nibbles + j / 2 * 32;
        for (int i = 0; i < 32; i++) {
            int code = pair[i] >> (j % 2 * 4) & 15;
            if (high != NULL)
                code |= (high[i] >> j & 1) << 4;
            out[j * 32 + i] = step * (float)code - offset;
        }
    }
}

static void expand_q4_k(const uint8_t *block, float *out)
{
    expand_k(block, NULL, block + 16, out);
}

static void expand_q5_k(const uint8_t *block, float *out)
{
    expand_k(block, block + 16, block + 48, out);
}

static void expand_q6_k(const uint8_t *block, float *out)
{
    const int8_t *scales = (const int8_t *)block + 192;
    float d = load_f16(block + 208);
    for (int run = 0; run < 8; run++) { /* four runs of 32 in each half of the block */
        const uint8_t *low = block + run / 4 * 64 + run % 2 * 32;
        const uint8_t *high = block + 128 + run / 4 * 32;
        for (int i = 0; i < 32; i++) {
            int code = low[i] >> (run % 4 / 2 * 4) & 15;
            code |= (high[i] >> (run % 4 * 2) & 3) << 4;
            float step = d * (float)scales[run * 2 + i / 16];
            out[run * 32 + i] = step * (float)(code - 32);
        }
    }
}

static void expand_q8_k(const uint8_t *block, float *out)
{
    float d;
    memcpy(&d, block, sizeof d);
    for (int i = 0; i < 256; i++)
        out[i] = d * (float)(int8_t)block[4 + i];
}

/* n codes in n / 2 bytes. */
static void expand_fp4(const uint8_t *nibbles, float d, float *out, int n)
{
    for (int i = 0; i < n / 2; i++) {
        out[i] = d * (float)group_codebook_fp4[fp4_code(nibbles[i] & 15)];
        out[i + n / 2] = d * (float)group_codebook_fp4[fp4_code(nibbles[i] >> 4)];
    }
}

static void expand_mxfp4(const uint8_t *block, float *out)
{
    expand_fp4(block + 1, mxfp4_scale(block[0]), out, 32);
}

static void expand_nvfp4(const uint8_t *block, float *out)
{
    for (int i = 0; i < 4; i++)
        expand_fp4(block + 4 + i * 8, nvfp4_scale(block[i]), out + i * 16, 16);
}

static void expand_16(const uint8_t *bytes, float *out, size_t n, float (*convert)(uint16_t))
{
    for (size_t i = 0; i < n; i++) {
        uint16_t half;
        memcpy(&half, bytes + 2 * i, sizeof half);
        out[i] = convert(half);
    }
}

void dtype_expand(enum dtype type, const void *blocks, float *out, size_t n)
{
    static void (*const expanders[DTYPE_COUNT])(const uint8_t *block, float *out) = {
        [DTYPE_Q4_0] = expand_q4_0,        [DTYPE_Q4_1] = expand_q4_1,
        [DTYPE_Q5_0] = expand_q5_0,        [DTYPE_Q5_1] = expand_q5_1,
        [DTYPE_Q8_0] = expand_q8_0,        [DTYPE_Q4_K] = expand_q4_k,
        [DTYPE_Q5_K] = expand_q5_k,        [DTYPE_Q6_K] = expand_q6_k,
        [DTYPE_IQ4_NL] = expand_iq4_nl,    [DTYPE_Q8_K] = expand_q8_k,
        [DTYPE_GGUF_MXFP4] = expand_mxfp4, [DTYPE_GGUF_NVFP4] = expand_nvfp4,
    };
    const struct dtype_info *info = dtype_info(type);
    const uint8_t *bytes = blocks;

    switch (type) {
    case DTYPE_F32:
        memcpy(out, bytes, n * sizeof *out);
        break;
    case DTYPE_F16:
        expand_16(bytes, out, n, f16_to_f32);
        break;
    case DTYPE_BF16:
        expand_16(bytes, out, n, bf16_to_f32);
        break;
    default:
        for (size_t i = 0; i < n; i += info->block, bytes += info->block_bytes)
            if (expanders[type] != NULL)
                expanders[type](bytes, out + i);
            else
                unpack_expand(type, bytes, out + i);
    }
}
