/* SPDX-License-Identifier: MIT */
#include "quant/block.h"

const struct block_type *block_type(enum dtype type)
{
    static const struct block_type types[DTYPE_ROWS] = {
        [DTYPE_Q4_0] = {-8, 7, NULL, 32, -128, 128, 0},
        [DTYPE_Q4_1] = {0, 15, NULL, 32, 0, 128, 128},
        [DTYPE_Q5_0] = {-16, 15, NULL, 32, -128, 128, 0},
        [DTYPE_Q5_1] = {0, 31, NULL, 32, 0, 128, 128},
        [DTYPE_Q8_0] = {-127, 127, NULL, 32, -128, 128, 0},
        [DTYPE_Q4_K] = {0, 15, NULL, 32, 0, 63, 63},
        [DTYPE_Q5_K] = {0, 31, NULL, 32, 0, 63, 63},
        [DTYPE_Q6_K] = {-32, 31, NULL, 16, -128, 127, 0},
        [DTYPE_IQ4_NL] = {0, 15, group_codebook_iq4_nl, 32, -128, 128, 0},
    };
    return type < DTYPE_ROWS && types[type].run != 0 ? &types[type] : NULL;
}

static void put_16(uint8_t *out, uint16_t value)
{
    memcpy(out, &value, sizeof value);
}

/* Weight i in the low nibble of byte i, weight i + n in the high one. */
static void put_nibbles(const uint8_t *codes, size_t n, uint8_t *out)
{
    for (size_t i = 0; i < n; i++)
        out[i] = (uint8_t)((codes[i] & 15) | (codes[i + n] & 15) << 4);
}

static void put_fifth_bits(const uint8_t *codes, uint8_t *out)
{
    uint32_t bits = 0;
    for (int i = 0; i < 32; i++)
        bits |= (uint32_t)(codes[i] >> 4 & 1) << i;
    memcpy(out, &bits, sizeof bits);
}

/* What scale_min_k() reads. */
static void put_scale_min_k(const int8_t *scales, const uint8_t *offsets, uint8_t *out)
{
    for (int j = 0; j < 4; j++) {
        out[j] = (uint8_t)((scales[j] & 63) | (scales[j + 4] >> 4 & 3) << 6);
        out[j + 4] = (uint8_t)((offsets[j] & 63) | (offsets[j + 4] >> 4 & 3) << 6);
        out[j + 8] = (uint8_t)((scales[j + 4] & 15) | (offsets[j + 4] & 15) << 4);
    }
}

/* q4_k; q5_k has the fifth bits first. */
static void pack_k(const struct block_content *b, uint8_t *high, uint8_t *nibbles, uint8_t *out)
{
    put_16(out, b->d);
    put_16(out + 2, b->dmin);
    put_scale_min_k(b->scales, b->offsets, out + 4);
    for (int pair = 0; pair < BLOCK_RUNS / 2; pair++)
        put_nibbles(b->codes + pair * 64, 32, nibbles + pair * 32);
    for (int i = 0; high != NULL && i < 32; i++) {
        high[i] = 0;
        for (int run = 0; run < BLOCK_RUNS; run++)
            high[i] |= (uint8_t)((b->codes[run * 32 + i] >> 4 & 1) << run);
    }
}

static void pack_q6_k(const struct block_content *b, uint8_t *out)
{
    for (int half = 0; half < 2; half++) {
        const uint8_t *codes = b->codes + half * 128;
        put_nibbles(codes, 64, out + half * 64);
        for (int i = 0; i < 32; i++)
            out[128 + half * 32 + i] = (uint8_t)(codes[i] >> 4 | codes[i + 32] >> 4 << 2 |
                                                 codes[i + 64] >> 4 << 4 | codes[i + 96] >> 4 << 6);
    }
    memcpy(out + 192, b->scales, 16);
    put_16(out + 208, b->d);
}

void block_pack(enum dtype type, const struct block_content *b, uint8_t *out)
{
    bool offset = type == DTYPE_Q4_1 || type == DTYPE_Q5_1;
    bool fifth = type == DTYPE_Q5_0 || type == DTYPE_Q5_1;
    if (type == DTYPE_Q4_K) {
        pack_k(b, NULL, out + 16, out);
    } else if (type == DTYPE_Q5_K) {
        pack_k(b, out + 16, out + 48, out);
    } else if (type == DTYPE_Q6_K) {
        pack_q6_k(b, out);
    } else {
        put_16(out, b->d);
        out += 2;
        if (offset) {
            put_16(out, b->dmin);
            out += 2;
        }
        if (fifth) {
            put_fifth_bits(b->codes, out);
            out += 4;
        }
        if (type != DTYPE_Q8_0) {
            put_nibbles(b->codes, 16, out);
            return;
        }
        for (int i = 0; i < 32; i++)
            out[i] = (uint8_t)(b->codes[i] - 127); /* the code of level -127 is 0 */
    }
}
