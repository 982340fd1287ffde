/* SPDX-License-Identifier: MIT */
/*
 * unpack.c: a block of 256 weights is decoded to what a strip holds of a row: int4 codes, a scale
 * for each group, and factors of the block. The scalar definition multiplies these. In the order of
 * the fields of a block, with numbers of more than a byte little-endian:
 *
 *   q2_k     16 x (scale, min) of 4 bits, 256 x 2 bits, d f16, dmin f16   w = d scale q - dmin min
 *   q3_k     256 upper bits, 256 x 2 bits, 16 scales of 6 bits, d f16   w = d (scale - 32) (q - 4)
 *   iq4_xs   d f16, 8 scales of 6 bits in two arrays, nibbles   w = d (scale - 32) codebook[q]
 *   iq3_s    d f16, 64 x 8 bits of an index, 64 ninth bits, 256 signs, 8 scales of 4 bits
 *   iq3_xxs  d f16, 64 indices, 8 x (4 x 7 signs, 4 bits of scale)
 *   iq2_s    d f16, 32 x 8 bits of an index, 256 signs, 32 x 2 upper bits, 16 scales of 4 bits
 *   iq2_xs   d f16, 32 x (9 bits of an index, 7 signs), 16 scales of 4 bits
 *   iq2_xxs  d f16, 8 x (4 indices, 4 x 7 signs, 4 bits of scale)
 *   iq1_s    d f16, 32 x 8 bits of an index, 8 x (4 x 3 upper bits, 3 bits of scale, delta's sign)
 *   iq1_m    32 x 8 bits of an index, 32 x (3 upper bits, delta's sign), 16 scales of 3 bits, and d
 *   tq1_0    5 codes of 3 values in a byte, 4 in the last 4 bytes, d f16   w = d (q - 1)
 *   tq2_0    256 x 2 bits, d f16                                           w = d (q - 1)
 *
 * An index is that of a point of a grid (grids.h), a level for each of 4 or 8 weights. iq3 and iq2:
 * w = d (2 scale + 1) / f x, where x is a level with its sign, and f is 1 for iq3_s, 4 for iq3_xxs
 * and 8 for iq2. Where 8 weights have 7 signs, the eighth makes the number of minus signs even.
 * iq1: w = d (2 scale + 1) (x + delta), where delta is 1/8 or -1/8. In a strip levels are 8 x + 1
 * or 8 x - 1, and the factor is d / 8.
 *
 * All products are exact in f32, so their order doesn't matter. Strips of the other types, of
 * expand.c, are exact too.
 */
#include "quant/unpack.h"

#include "quant/grids.h"
#include "quant/words.h"

/* Levels of a sign and an index: negative ones first. The last are of indices that no point has. */
static const int8_t levels_iq2[16] = {-8, -25, -43, -43, -43, -43, -43, -43,
                                      8,  25,  43,  43,  43,  43,  43,  43};
static const int8_t levels_iq3_xxs[16] = {-4, -12, -20, -28, -36, -44, -52, -62,
                                          4,  12,  20,  28,  36,  44,  52,  62};
static const int8_t levels_iq3_s[16] = {-1, -3, -5, -7, -9, -11, -13, -15,
                                        1,  3,  5,  7,  9,  11,  13,  15};
/* 2 x + 5 or 2 x + 6 is the code of 8 x - 1 or 8 x + 1, of x from 0 to 2 for -1 to 1. */
static const int8_t levels_iq1[16] = {-9, -9, -9, -9, -9, -9, -7, -1, 1, 7, 9, 9, 9, 9, 9, 9};

static const struct {
    const int8_t *codebook; /* NULL: int8, or not one of ours */
    size_t cols;            /* 0: not one of ours */
    bool offset, halves;    /* halves: scales are f16 */
} kinds[DTYPE_COUNT] = {
    [DTYPE_Q2_K] = {group_codebook_unsigned, 16, .offset = true},
    [DTYPE_Q3_K] = {group_codebook_signed, 16, .offset = false},
    [DTYPE_IQ4_XS] = {group_codebook_iq4_nl, 32, .offset = false},
    [DTYPE_IQ3_S] = {levels_iq3_s, 32, .offset = false},
    [DTYPE_IQ3_XXS] = {levels_iq3_xxs, 32, .offset = false},
    [DTYPE_IQ2_S] = {levels_iq2, 16, .offset = false},
    [DTYPE_IQ2_XS] = {levels_iq2, 16, .offset = false},
    [DTYPE_IQ2_XXS] = {levels_iq2, 32, .offset = false},
    [DTYPE_IQ1_S] = {levels_iq1, 32, .offset = false},
    [DTYPE_IQ1_M] = {levels_iq1, 16, .offset = false},
    [DTYPE_TQ1_0] = {group_codebook_signed, 128, .offset = false},
    [DTYPE_TQ2_0] = {group_codebook_signed, 128, .offset = false},
    [DTYPE_Q8_K] = {NULL, 128, .offset = false},
    [DTYPE_GGUF_MXFP4] = {group_codebook_fp4, 32, .halves = true},
    [DTYPE_GGUF_NVFP4] = {group_codebook_fp4, 16, .halves = true},
};

bool unpack_target(enum dtype type, enum dtype *grouped, struct group_format *format)
{
    if (kinds[type].cols == 0)
        return false;
    *grouped = kinds[type].codebook != NULL ? DTYPE_INT4 : DTYPE_INT8;
    *format =
        (struct group_format){.scale = kinds[type].halves ? GROUP_SCALE_F16 : GROUP_SCALE_BLOCK,
                              .offset = kinds[type].offset,
                              .cols = kinds[type].cols};
    if (kinds[type].codebook != NULL)
        memcpy(format->codebook, kinds[type].codebook, sizeof format->codebook);
    return true;
}

/* ---- blocks ---------------------------------------------------------------------------------- */

enum { WORDS = GROUP_BLOCK / 8, MOST_GROUPS = GROUP_BLOCK / GROUP_COLS_LEAST };

/* A row's part of a strip. */
struct decoded {
    uint32_t words[WORDS]; /* 8 codes: 4 in the low nibbles of bytes, then 4 in the high ones */
    int8_t scales[MOST_GROUPS], offsets[MOST_GROUPS];
    float factor, offset_factor;
};

static uint32_t load_16(const uint8_t *bytes)
{
    return bytes[0] | (uint32_t)bytes[1] << 8;
}

static int nibble(const uint8_t *bytes, size_t i)
{
    return bytes[i / 2] >> i % 2 * 4 & 15;
}

/* Codes of 2 bits: four runs of 32 share 32 bytes. */
static uint64_t two_bits(const uint8_t *bytes, size_t word)
{
    size_t run = word / 4;
    return load_64(bytes + run / 4 * 32 + word % 4 * 8) >> run % 4 * 2 & 0x0303030303030303;
}

static inline void decode_q2_k(const uint8_t *block, struct decoded *out)
{
    for (size_t i = 0; i < WORDS; i++)
        out->words[i] = pair(two_bits(block + 16, i));
    for (size_t i = 0; i < 16; i++) {
        out->scales[i] = (int8_t)(block[i] & 15);
        out->offsets[i] = (int8_t)(block[i] >> 4);
    }
    out->factor = load_f16(block + 80);
    out->offset_factor = -load_f16(block + 82);
}

static inline void decode_q3_k(const uint8_t *block, struct decoded *out)
{
    const uint8_t *scales = block + 96;
    for (size_t i = 0; i < WORDS; i++) {
        uint64_t upper = load_64(block + i % 4 * 8) >> i / 4 & 0x0101010101010101;
        out->words[i] = pair(two_bits(block + 32, i) + upper * 4 + 0x0404040404040404);
    }
    for (size_t i = 0; i < 16; i++) {
        int low = scales[i % 8] >> i / 8 * 4 & 15, high = scales[8 + i % 4] >> i / 4 * 2 & 3;
        out->scales[i] = (int8_t)((low | high << 4) - 32);
    }
    out->factor = load_f16(block + 108);
}

static inline void decode_iq4_xs(const uint8_t *block, struct decoded *out)
{
    uint32_t high = load_16(block + 2);
    for (size_t i = 0; i < 8; i++) {
        for (size_t half = 0; half < 2; half++) {
            uint64_t eight = load_64(block + 8 + i * 16 + half * 8);
            out->words[i * 4 + half] = pair(eight & 0x0f0f0f0f0f0f0f0f);
            out->words[i * 4 + 2 + half] = pair(eight >> 4 & 0x0f0f0f0f0f0f0f0f);
        }
        out->scales[i] = (int8_t)((nibble(block + 4, i) | (int)(high >> i * 2 & 3) << 4) - 32);
    }
    out->factor = load_f16(block);
}

/* 8 signs, to the upper bits of a word's nibbles: set for plus. */
static uint32_t pluses(uint32_t signs)
{
    uint32_t low = (signs & 15) * 0x204081 & 0x01010101,
             high = (signs >> 4) * 0x204081 & 0x01010101;
    return (low << 3 | high << 7) ^ 0x88888888;
}

/* The eighth of 8 signs. */
static uint32_t with_eighth(uint32_t seven)
{
    return seven | (uint32_t)__builtin_parity(seven) << 7;
}

/* Two points of 4 levels. */
static uint32_t two_points(uint32_t first, uint32_t second)
{
    uint64_t both = first | (uint64_t)second << 32;
    both = (both | both << 8) & 0x00ff00ff00ff00ff;
    both = (both | both << 4) & 0x0f0f0f0f0f0f0f0f;
    return (uint32_t)(both | both >> 28);
}

/* A point of 8 levels. */
static uint32_t point(uint32_t levels)
{
    levels = (levels | levels << 8) & 0x00ff00ff;
    levels = (levels | levels << 4) & 0x0f0f0f0f;
    return (levels | levels << 2) & 0x33333333;
}

static inline void decode_iq3_s(const uint8_t *block, struct decoded *out)
{
    const uint8_t *low = block + 2, *high = block + 66, *signs = block + 74;
    for (size_t i = 0; i < WORDS; i++) {
        uint32_t upper = (uint32_t)high[i / 4] >> i % 4 * 2;
        uint32_t first = grid_iq3_s[low[i * 2] | (upper & 1) << 8];
        uint32_t second = grid_iq3_s[low[i * 2 + 1] | (upper & 2) << 7];
        out->words[i] = two_points(first, second) | pluses(signs[i]);
    }
    for (size_t i = 0; i < 8; i++)
        out->scales[i] = (int8_t)(nibble(block + 106, i) * 2 + 1);
    out->factor = load_f16(block);
}

static inline void decode_iq3_xxs(const uint8_t *block, struct decoded *out)
{
    for (size_t i = 0; i < 8; i++) {
        const uint8_t *indices = block + 2 + i * 8;
        uint32_t signs = load_32(block + 66 + i * 4);
        out->scales[i] = (int8_t)((signs >> 28) * 2 + 1);
#pragma GCC unroll 4
        for (size_t j = 0; j < 4; j++)
            out->words[i * 4 + j] =
                two_points(grid_iq3_xxs[indices[j * 2]], grid_iq3_xxs[indices[j * 2 + 1]]) |
                pluses(with_eighth(signs >> j * 7 & 127));
    }
    out->factor = load_f16(block) / 4;
}

static inline void decode_iq2_s(const uint8_t *block, struct decoded *out)
{
    const uint8_t *low = block + 2, *signs = block + 34, *high = block + 66;
    for (size_t i = 0; i < WORDS; i++) {
        uint32_t index = low[i] | ((uint32_t)high[i / 4] >> i % 4 * 2 & 3) << 8;
        out->words[i] = point(grid_iq2_s[index]) | pluses(signs[i]);
    }
    for (size_t i = 0; i < 16; i++)
        out->scales[i] = (int8_t)(nibble(block + 74, i) * 2 + 1);
    out->factor = load_f16(block) / 8;
}

static inline void decode_iq2_xs(const uint8_t *block, struct decoded *out)
{
    for (size_t i = 0; i < WORDS; i++) {
        uint32_t code = load_16(block + 2 + i * 2);
        out->words[i] = point(grid_iq2_xs[code & 511]) | pluses(with_eighth(code >> 9));
    }
    for (size_t i = 0; i < 16; i++)
        out->scales[i] = (int8_t)(nibble(block + 66, i) * 2 + 1);
    out->factor = load_f16(block) / 8;
}

static inline void decode_iq2_xxs(const uint8_t *block, struct decoded *out)
{
    for (size_t i = 0; i < 8; i++) {
        const uint8_t *indices = block + 2 + i * 8;
        uint32_t signs = load_32(indices + 4);
        out->scales[i] = (int8_t)((signs >> 28) * 2 + 1);
#pragma GCC unroll 4
        for (size_t j = 0; j < 4; j++)
            out->words[i * 4 + j] =
                point(grid_iq2_xxs[indices[j]]) | pluses(with_eighth(signs >> j * 7 & 127));
    }
    out->factor = load_f16(block) / 8;
}

/* Levels become the codes of these and their delta, negative where `minus` is 1. */
static inline void put_deltas(const uint32_t levels[WORDS], const uint32_t minus[WORDS],
                              uint32_t words[WORDS])
{
    for (size_t i = 0; i < WORDS; i++)
        words[i] = point(levels[i]) * 2 + 0x66666666 - (-minus[i] & 0x11111111);
}

static inline void decode_iq1_s(const uint8_t *block, struct decoded *out)
{
    uint32_t levels[WORDS], minus[WORDS];
    for (size_t i = 0; i < 8; i++) {
        uint32_t high = load_16(block + 34 + i * 2);
        out->scales[i] = (int8_t)((high >> 12 & 7) * 2 + 1);
#pragma GCC unroll 4
        for (size_t j = 0; j < 4; j++) {
            levels[i * 4 + j] = grid_iq1[block[2 + i * 4 + j] | (high >> j * 3 & 7) << 8];
            minus[i * 4 + j] = high >> 15;
        }
    }
    put_deltas(levels, minus, out->words);
    out->factor = load_f16(block) / 8;
}

static inline void decode_iq1_m(const uint8_t *block, struct decoded *out)
{
    uint32_t levels[WORDS], minus[WORDS];
    uint32_t d = 0; /* 4 bits of it above the scales of each 64 weights */
    for (size_t i = 0; i < WORDS; i += 2) {
        uint32_t high = block[32 + i / 2];
        levels[i] = grid_iq1[block[i] | (high & 7) << 8];
        levels[i + 1] = grid_iq1[block[i + 1] | (high << 4 & 0x700)];
        minus[i] = high >> 3 & 1;
        minus[i + 1] = high >> 7;
    }
    put_deltas(levels, minus, out->words);
    for (size_t i = 0; i < 4; i++) {
        uint32_t scales = load_16(block + 48 + i * 2);
        d |= scales >> 12 << i * 4;
#pragma GCC unroll 4
        for (size_t j = 0; j < 4; j++)
            out->scales[i * 4 + j] = (int8_t)((scales >> j * 3 & 7) * 2 + 1);
    }
    out->factor = f16_to_f32((uint16_t)d) / 8;
}

#define EVEN_BYTES 0x00ff00ff00ff00ffU

/* The codes of 8 bytes, whose even and odd ones lie apart so that each has 16 bits: what is left of
 * a byte times 3 is the byte of the next code. */
static uint32_t next_of_five(uint64_t *even, uint64_t *odd)
{
    uint64_t codes = (*even * 3 >> 8 & EVEN_BYTES) | (*odd * 3 & ~EVEN_BYTES);
    *even = *even * 3 & EVEN_BYTES;
    *odd = *odd * 3 & EVEN_BYTES;
    return pair(codes + 0x0707070707070707);
}

static inline void decode_tq1_0(const uint8_t *block, struct decoded *out)
{
    for (size_t i = 0; i < 6; i++) { /* 32 bytes, then 16: a run of so many columns for each code */
        uint64_t even = load_64(block + i * 8) & EVEN_BYTES;
        uint64_t odd = load_64(block + i * 8) >> 8 & EVEN_BYTES;
        for (size_t j = 0; j < 5; j++)
            out->words[i < 4 ? i + j * 4 : 16 + i + j * 2] = next_of_five(&even, &odd);
    }
    /* 4 bytes, whose first and third codes begin words. The second and fourth end them, so a byte
     * times 3 lies beside each. */
    uint64_t even = load_32(block + 48) & EVEN_BYTES, odd = load_32(block + 48) >> 8 & EVEN_BYTES;
    even |= (even * 3 & EVEN_BYTES) << 32;
    odd |= (odd * 3 & EVEN_BYTES) << 32;
    out->words[30] = next_of_five(&even, &odd);
    next_of_five(&even, &odd);
    out->words[31] = next_of_five(&even, &odd);
    out->scales[0] = out->scales[1] = 1;
    out->factor = load_f16(block + 52);
}

static inline void decode_tq2_0(const uint8_t *block, struct decoded *out)
{
    for (size_t i = 0; i < WORDS; i++)
        out->words[i] = pair(two_bits(block, i) + 0x0707070707070707);
    out->scales[0] = out->scales[1] = 1;
    out->factor = load_f16(block + 64);
}

/* ---- what they become ------------------------------------------------------------------------ */

static inline __attribute__((always_inline)) void decode(enum dtype type, const uint8_t *block,
                                                         struct decoded *out)
{
    switch (type) {
    case DTYPE_Q2_K:
        decode_q2_k(block, out);
        break;
    case DTYPE_Q3_K:
        decode_q3_k(block, out);
        break;
    case DTYPE_IQ4_XS:
        decode_iq4_xs(block, out);
        break;
    case DTYPE_IQ3_S:
        decode_iq3_s(block, out);
        break;
    case DTYPE_IQ3_XXS:
        decode_iq3_xxs(block, out);
        break;
    case DTYPE_IQ2_S:
        decode_iq2_s(block, out);
        break;
    case DTYPE_IQ2_XS:
        decode_iq2_xs(block, out);
        break;
    case DTYPE_IQ2_XXS:
        decode_iq2_xxs(block, out);
        break;
    case DTYPE_IQ1_S:
        decode_iq1_s(block, out);
        break;
    case DTYPE_IQ1_M:
        decode_iq1_m(block, out);
        break;
    case DTYPE_TQ1_0:
        decode_tq1_0(block, out);
        break;
    default:
        decode_tq2_0(block, out);
    }
}

void unpack_expand(enum dtype type, const uint8_t *block, float *out)
{
    const size_t cols = kinds[type].cols;
    struct decoded decoded = {.factor = 0};
    decode(type, block, &decoded);
    for (size_t i = 0; i < GROUP_BLOCK; i++) {
        uint32_t code = decoded.words[i / 8] >> (i % 4 * 8 + i / 4 % 2 * 4) & 15;
        float scale = (float)decoded.scales[i / cols] * decoded.factor;
        out[i] = scale * (float)kinds[type].codebook[code];
        if (kinds[type].offset)
            out[i] += (float)decoded.offsets[i / cols] * decoded.offset_factor;
    }
}

/* ---- strips ---------------------------------------------------------------------------------- */

struct repack {
    enum dtype type;
    struct strip_layout layout;
    uint8_t *strip;
};

static void store_f32(uint8_t *floats, size_t i, float value)
{
    memcpy(floats + i * sizeof value, &value, sizeof value);
}

static void put_decoded(const struct repack *r, const struct decoded *from, size_t block,
                        size_t lane)
{
    const struct strip_layout *l = &r->layout;
    const size_t groups = GROUP_BLOCK / kinds[r->type].cols;
    uint8_t *codes = r->strip + l->codes + block * WORDS * 64 + lane * sizeof *from->words;
    size_t first = block * groups * STRIP + lane;
    for (size_t i = 0; i < WORDS; i++)
        memcpy(codes + i * 64, &from->words[i], sizeof *from->words);
    for (size_t i = 0; i < groups; i++)
        r->strip[l->scales + first + i * STRIP] = (uint8_t)from->scales[i];
    store_f32(r->strip + l->block_scales, block * STRIP + lane, from->factor);
    if (!kinds[r->type].offset)
        return;
    for (size_t i = 0; i < groups; i++)
        r->strip[l->offsets + first + i * STRIP] = (uint8_t)from->offsets[i];
    store_f32(r->strip + l->block_offsets, block * STRIP + lane, from->offset_factor);
}

static void put_q8_k(const struct repack *r, const uint8_t *block, size_t i, size_t lane)
{
    const struct strip_layout *l = &r->layout;
    uint8_t *codes = r->strip + l->codes + i * GROUP_BLOCK * STRIP + lane * 4;
    for (size_t word = 0; word < GROUP_BLOCK / 4; word++)
        memcpy(codes + word * 64, block + 4 + word * 4, 4);
    for (size_t group = i * 2; group < i * 2 + 2; group++)
        r->strip[l->scales + group * STRIP + lane] = 1;
    memcpy(r->strip + l->block_scales + (i * STRIP + lane) * sizeof(float), block, sizeof(float));
}

/* 8 nibbles of a byte each, as fp4_code() does. */
static uint64_t fp4_codes(uint64_t codes)
{
    codes ^= 0x0808080808080808;
    uint64_t others = codes + 0x0f0f0f0f0f0f0f0f; /* than 0 have bit 4 */
    return codes | (~others >> 1 & 0x0808080808080808);
}

/* The 16 codes of 8 bytes. */
static void put_fp4(const struct repack *r, const uint8_t *nibbles, size_t col, size_t lane,
                    size_t step)
{
    uint8_t *codes = r->strip + r->layout.codes + col / 8 * 64 + lane * 4;
    uint64_t eight = load_64(nibbles);
    uint32_t words[] = {pair(fp4_codes(eight & 0x0f0f0f0f0f0f0f0f)),
                        pair(fp4_codes(eight >> 4 & 0x0f0f0f0f0f0f0f0f))};
    memcpy(codes, &words[0], sizeof words[0]);
    memcpy(codes + step * 64, &words[1], sizeof words[1]);
}

static void put_half(const struct repack *r, size_t i, size_t lane, float scale)
{
    uint16_t half = f32_to_f16(scale);
    memcpy(r->strip + r->layout.scales + (i * STRIP + lane) * sizeof half, &half, sizeof half);
}

static void put_nvfp4(const struct repack *r, const uint8_t *block, size_t i, size_t lane)
{
    for (size_t group = 0; group < 4; group++) {
        put_fp4(r, block + 4 + group * 8, i * 64 + group * 16, lane, 1);
        put_half(r, i * 4 + group, lane, nvfp4_scale(block[group]));
    }
}

static void put_block(const struct repack *r, const uint8_t *block, size_t i, size_t lane)
{
    struct decoded decoded;
    if (r->type == DTYPE_Q8_K) {
        put_q8_k(r, block, i, lane);
    } else if (r->type == DTYPE_GGUF_NVFP4) {
        put_nvfp4(r, block, i, lane);
    } else {
        decode(r->type, block, &decoded);
        put_decoded(r, &decoded, i, lane);
    }
}

/* A row's largest scale becomes 2^15, so that others are exact down to 2^-39 of it. */
static void put_mxfp4(const struct repack *r, const uint8_t *row, size_t lane)
{
    const size_t blocks = r->layout.groups, block_bytes = dtype_info(DTYPE_GGUF_MXFP4)->block_bytes;
    uint8_t largest = 0;
    for (size_t i = 0; i < blocks; i++)
        if (row[i * block_bytes] > largest)
            largest = row[i * block_bytes];
    float row_scale = mxfp4_scale(largest) * 0x1p-15f;
    store_f32(r->strip, lane, row_scale);
    for (size_t i = 0; i < blocks; i++, row += block_bytes) {
        put_half(r, i, lane, mxfp4_scale(row[0]) / row_scale);
        put_fp4(r, row + 1, i * GROUP, lane, 2);
        put_fp4(r, row + 9, i * GROUP + 8, lane, 2);
    }
}

void unpack_repack(enum dtype type, const struct group_format *format, const uint8_t *rows,
                   size_t row_bytes, size_t n, size_t cols, uint8_t *strip)
{
    const struct dtype_info *info = dtype_info(type);
    enum dtype grouped = type == DTYPE_Q8_K ? DTYPE_INT8 : DTYPE_INT4;
    const struct repack r = {type, strip_layout(grouped, format, cols), strip};
    if (n < STRIP)
        memset(strip, 0, r.layout.bytes);
    else /* their padding */
        memset(strip + r.layout.scales, 0, r.layout.bytes - r.layout.scales);
    for (size_t lane = 0; lane < n; lane++)
        store_f32(strip, lane, 1);
    for (size_t lane = 0; type == DTYPE_GGUF_MXFP4 && lane < n; lane++)
        put_mxfp4(&r, rows + lane * row_bytes, lane);
    for (size_t i = 0; type != DTYPE_GGUF_MXFP4 && i < cols / info->block; i++)
        for (size_t lane = 0; lane < n; lane++)
            put_block(&r, rows + lane * row_bytes + i * info->block_bytes, i, lane);
}
