/* SPDX-License-Identifier: MIT */
/*
 * repack.c: blocks of GGUF's types (expand.c has their layout) to strips of groups. Codes keep
 * their values; only q6_k's, whose groups are half as long, are rounded again. Opening a model
 * waits for this, so codes are handled 8 at a time, and compilers can vectorize the loops over
 * numbers.
 */
#include <math.h>
#include <string.h>

#include "quant/group.h"

bool group_from_gguf(enum dtype type, enum dtype *grouped, struct group_format *format)
{
    static const struct {
        enum dtype grouped;
        const int8_t *codebook;
        bool offset;
    } targets[DTYPE_ROWS] = {
        [DTYPE_Q4_0] = {DTYPE_INT4, group_codebook_signed, false},
        [DTYPE_Q4_1] = {DTYPE_INT4, group_codebook_unsigned, true},
        [DTYPE_Q4_K] = {DTYPE_INT4, group_codebook_unsigned, true},
        [DTYPE_IQ4_NL] = {DTYPE_INT4, group_codebook_iq4_nl, false},
        [DTYPE_Q5_0] = {DTYPE_INT8, NULL, false},
        [DTYPE_Q5_1] = {DTYPE_INT8, NULL, true},
        [DTYPE_Q5_K] = {DTYPE_INT8, NULL, true},
        [DTYPE_Q8_0] = {DTYPE_INT8, NULL, false},
        [DTYPE_Q6_K] = {DTYPE_INT8, NULL, false},
    };
    if (type >= DTYPE_ROWS || targets[type].grouped == DTYPE_F32)
        return false;
    *grouped = targets[type].grouped;
    *format = (struct group_format){
        .scale = GROUP_SCALE_F16, .offset = targets[type].offset, .cols = GROUP};
    if (targets[type].codebook != NULL)
        memcpy(format->codebook, targets[type].codebook, sizeof format->codebook);
    return true;
}

/* ---- blocks --------------------------------------------------------------------------------- */

/* Scales of the k types are products, rounded to f16. Those of small weights would be subnormal, so
 * group scales are multiplied by 2^10 and the row scale is 2^-10, which is exact. A product may be
 * up to 64. */
#define K_ROW_SCALE 0x1p-10f

enum {
    INT4_WORDS = GROUP / 8, /* of 64 bytes in a group */
    INT8_WORDS = GROUP / 4,
    K_RUNS = 8, /* groups in a block of the k types */
};

/* Where a row's group is written. Word i of its codes (4 words of int4, 8 of int8) lies i * 64
 * bytes on, the scale and offset of its next group STRIP numbers on. */
struct group_output {
    uint8_t *codes, *scale, *offset;
};

/* Group `run` of a block; of the k types also the next one, whose nibbles are in the same bytes. */
typedef void take_block(const uint8_t *block, size_t run, struct group_output to);

/* The same block of each row of a strip. */
struct row_blocks {
    const uint8_t *first;
    size_t row_bytes, n;
};

/* Handles all rows at once, so that compilers can vectorize it. */
typedef void take_blocks(const struct row_blocks *blocks, struct group_output to);

static uint32_t load_32(const uint8_t *bytes)
{
    uint32_t word;
    memcpy(&word, bytes, sizeof word);
    return word;
}

static uint64_t load_64(const uint8_t *bytes)
{
    uint64_t words;
    memcpy(&words, bytes, sizeof words);
    return words;
}

/* One f16. */
static void copy_16(uint8_t *to, const uint8_t *from)
{
    memcpy(to, from, sizeof(uint16_t));
}

static void store_32(uint8_t *to, uint32_t word)
{
    memcpy(to, &word, sizeof word);
}

static void store_word(struct group_output to, size_t i, uint32_t word)
{
    store_32(to.codes + i * 64, word);
}

/* Two consecutive words. */
static void store_two(struct group_output to, size_t i, uint64_t words)
{
    store_word(to, i, (uint32_t)words);
    store_word(to, i + 1, (uint32_t)(words >> 32));
}

/* The nibbles of 8 bytes. */
static uint64_t low_nibbles(uint64_t bytes)
{
    return bytes & 0x0f0f0f0f0f0f0f0f;
}

static uint64_t high_nibbles(uint64_t bytes)
{
    return bytes >> 4 & 0x0f0f0f0f0f0f0f0f;
}

/* Packs 8 codes of 4 bits, a byte each, into a word: the second four in the high nibbles. */
static uint32_t pair(uint64_t codes)
{
    return (uint32_t)(codes | codes >> 28);
}

#define FIFTH_BITS 0x1010101010101010

/* 8 bits to the fifth bits of 8 bytes. */
static uint64_t spread(uint32_t bits)
{
    uint64_t one_each = (uint64_t)(bits & 255) * 0x0101010101010101 & 0x8040201008040201;
    return (one_each + 0x7f7f7f7f7f7f7f7f) >> 3 & FIFTH_BITS;
}

/* 16 bytes whose low nibbles are the first half of the group. */
static void put_nibbles(const uint8_t *bytes, struct group_output to)
{
    for (size_t i = 0; i < 2; i++) {
        uint64_t eight = load_64(bytes + i * 8);
        store_word(to, i, pair(low_nibbles(eight)));
        store_word(to, i + 2, pair(high_nibbles(eight)));
    }
}

/* q4_0, iq4_nl */
static void take_4_0(const uint8_t *block, size_t run, struct group_output to)
{
    (void)run;
    copy_16(to.scale, block);
    put_nibbles(block + 2, to);
}

static void take_4_1(const uint8_t *block, size_t run, struct group_output to)
{
    (void)run;
    copy_16(to.scale, block);
    copy_16(to.offset, block + 2);
    put_nibbles(block + 4, to);
}

/* 4 bytes with the fifth bits of 32 codes, then 16 with nibbles. Signed codes are 16 less: the
 * inverted fifth bit becomes their sign. */
static void put_5(const uint8_t *bytes, bool is_signed, struct group_output to)
{
    uint32_t fifth = load_32(bytes);
    for (size_t i = 0; i < 2; i++) {
        uint64_t eight = load_64(bytes + 4 + i * 8);
        uint64_t low = spread(fifth >> i * 8), high = spread(fifth >> (16 + i * 8));
        if (is_signed) {
            low = (low ^ FIFTH_BITS) * 15;
            high = (high ^ FIFTH_BITS) * 15;
        }
        store_two(to, i * 2, low_nibbles(eight) | low);
        store_two(to, i * 2 + 4, high_nibbles(eight) | high);
    }
}

static void take_5_0(const uint8_t *block, size_t run, struct group_output to)
{
    (void)run;
    copy_16(to.scale, block);
    put_5(block + 2, true, to);
}

static void take_5_1(const uint8_t *block, size_t run, struct group_output to)
{
    (void)run;
    copy_16(to.scale, block);
    copy_16(to.offset, block + 2);
    put_5(block + 4, false, to);
}

static void take_8_0(const uint8_t *block, size_t run, struct group_output to)
{
    (void)run;
    copy_16(to.scale, block);
    for (size_t i = 0; i < GROUP / 4; i++)
        store_word(to, i, load_32(block + 2 + i * 4));
}

/* Zero for rows that do not exist. */
static void put_numbers(const float *numbers /* [STRIP] */, uint8_t *to)
{
    uint32_t wide[STRIP];
    uint16_t halves[STRIP];
    for (int lane = 0; lane < STRIP; lane++)
        wide[lane] = f32_to_wide_f16(numbers[lane]);
    for (int lane = 0; lane < STRIP; lane++)
        halves[lane] = (uint16_t)wide[lane];
    memcpy(to, halves, sizeof halves);
}

static void put_multiples(const float *factors /* [STRIP] */,
                          const uint8_t *multiples /* [K_RUNS][STRIP] */, uint8_t *to)
{
    for (size_t run = 0; run < K_RUNS; run++, multiples += STRIP, to += STRIP * 2) {
        float numbers[STRIP];
        for (int lane = 0; lane < STRIP; lane++)
            numbers[lane] = factors[lane] * (float)multiples[lane];
        put_numbers(numbers, to);
    }
}

/* A byte for each run of a lane. */
static void scatter(uint64_t bytes, uint8_t *to /* [K_RUNS][STRIP] */)
{
#pragma GCC unroll 8
    for (size_t run = 0; run < K_RUNS; run++)
        to[run * STRIP] = (uint8_t)(bytes >> run * 8);
}

/* Scales and offsets of q4_k and q5_k: scale_min_k for all runs at once. */
static void take_numbers_k(const struct row_blocks *blocks, struct group_output to)
{
    float d[STRIP] = {0}, dmin[STRIP] = {0};
    uint8_t scales[K_RUNS * STRIP] = {0}, mins[K_RUNS * STRIP] = {0};
    const uint8_t *block = blocks->first;
    for (size_t lane = 0; lane < blocks->n; lane++, block += blocks->row_bytes) {
        uint64_t a = load_32(block + 4), b = load_32(block + 8), c = load_32(block + 12);
        uint64_t upper_scales = (c & 0x0f0f0f0f) | (a >> 2 & 0x30303030);
        uint64_t upper_mins = (c >> 4 & 0x0f0f0f0f) | (b >> 2 & 0x30303030);
        scatter((a & 0x3f3f3f3f) | upper_scales << 32, scales + lane);
        scatter((b & 0x3f3f3f3f) | upper_mins << 32, mins + lane);
        d[lane] = load_f16(block) / K_ROW_SCALE;
        dmin[lane] = -load_f16(block + 2) / K_ROW_SCALE;
    }
    put_multiples(d, scales, to.scale);
    put_multiples(dmin, mins, to.offset);
}

static void take_4_k(const uint8_t *block, size_t run, struct group_output to)
{
#pragma GCC unroll 4
    for (size_t i = 0; i < INT4_WORDS; i++) {
        uint64_t eight = load_64(block + 16 + run * 16 + i * 8);
        store_word(to, i, pair(low_nibbles(eight)));
        store_word(to, INT4_WORDS + i, pair(high_nibbles(eight)));
    }
}

static void take_5_k(const uint8_t *block, size_t run, struct group_output to)
{
#pragma GCC unroll 4
    for (size_t i = 0; i < INT8_WORDS; i += 2) {
        uint64_t eight = load_64(block + 48 + run * 16 + i * 4);
        uint64_t fifth = load_64(block + 16 + i * 4) >> run;
        uint64_t low = fifth << 4 & FIFTH_BITS, high = fifth << 3 & FIFTH_BITS;
        store_two(to, i, low_nibbles(eight) | low);
        store_two(to, INT8_WORDS + i, high_nibbles(eight) | high);
    }
}

/* The codes of a block of q6_k, from 0 to 63. */
static void codes_6(const uint8_t *block, uint8_t *codes /* [K_RUNS][GROUP] */)
{
    for (size_t run = 0; run < K_RUNS; run++) {
        const uint8_t *low = block + run / 4 * 64 + run % 2 * 32;
        const uint8_t *high = block + 128 + run / 4 * 32;
        size_t low_shift = run % 4 / 2 * 4, high_shift = run % 4 * 2;
        for (size_t i = 0; i < GROUP; i += 8, codes += 8) {
            uint64_t upper = load_64(high + i) >> high_shift & 0x0303030303030303;
            uint64_t eight = low_nibbles(load_64(low + i) >> low_shift) | upper << 4;
            memcpy(codes, &eight, sizeof eight);
        }
    }
}

/* A group's codes times their two scales. Returns the largest magnitude. */
static int multiply_6(const uint8_t *codes, const int8_t *scales, int16_t *products /* [GROUP] */)
{
    int16_t largest = 0, first = scales[0], second = scales[1];
    for (int i = 0; i < GROUP / 2; i++) {
        int16_t low = (int16_t)((codes[i] - 32) * first);
        int16_t high = (int16_t)((codes[i + GROUP / 2] - 32) * second);
        products[i] = low;
        products[i + GROUP / 2] = high;
        low = (int16_t)(low < 0 ? -low : low);
        high = (int16_t)(high < 0 ? -high : high);
        low = low > high ? low : high;
        largest = low > largest ? low : largest;
    }
    return largest;
}

/* The nearest integer multiple of the scale, ties to even, from -127 to 127. Adding 1.5 * 2^23
 * rounds and leaves the integer in the low bits. A scale is the largest weight / 127, or rounded up
 * to the smallest f16, or zero, so no integer comes near 2^15. */
static void round_6(const int16_t *products, float d, const uint8_t *scales, uint8_t *codes)
{
    int16_t numbers[K_RUNS * GROUP];
    for (size_t run = 0; run < K_RUNS; run++) {
        float step = load_f16(scales + run * STRIP * 2);
        float steps = step > 0 ? d / step : 0; /* of a product of 1 */
        for (size_t i = 0; i < GROUP; i++)
            numbers[run * GROUP + i] =
                (int16_t)f32_bits((float)products[run * GROUP + i] * steps + 0x1.8p23f);
    }
    for (int i = 0; i < K_RUNS * GROUP; i++) {
        int16_t code = numbers[i];
        code = code > 127 ? 127 : code;
        code = code < -127 ? -127 : code;
        codes[i] = (uint8_t)code;
    }
}

/* The two scales of 16 weights each become one, and codes are rounded to it. Weights are d times
 * integers, exactly. */
static void take_rows_6(const struct row_blocks *blocks, struct group_output to)
{
    int16_t products[STRIP][K_RUNS * GROUP];
    float d[STRIP] = {0}, largest[K_RUNS][STRIP] = {0};
    uint8_t codes[K_RUNS * GROUP];
    const uint8_t *block = blocks->first;
    for (size_t lane = 0; lane < blocks->n; lane++, block += blocks->row_bytes) {
        const int8_t *scales = (const int8_t *)block + 192;
        d[lane] = load_f16(block + 208) / K_ROW_SCALE;
        codes_6(block, codes);
        for (size_t i = 0; i < K_RUNS; i++) {
            int16_t *run = products[lane] + i * GROUP;
            largest[i][lane] = (float)multiply_6(codes + i * GROUP, scales + i * 2, run);
        }
    }
    for (size_t run = 0; run < K_RUNS; run++) {
        float numbers[STRIP];
        for (int lane = 0; lane < STRIP; lane++)
            numbers[lane] = fabsf(d[lane] * largest[run][lane]) / 127;
        put_numbers(numbers, to.scale + run * STRIP * 2);
    }
    for (size_t lane = 0; lane < blocks->n; lane++, to.codes += 4, to.scale += 2) {
        round_6(products[lane], d[lane], to.scale, codes);
        for (size_t i = 0; i < K_RUNS * INT8_WORDS; i++)
            store_word(to, i, load_32(codes + i * 4));
    }
}

/* ---- strips --------------------------------------------------------------------------------- */

struct repack_strip {
    const uint8_t *rows;
    size_t row_bytes, n;
    uint8_t *out;
    struct strip_layout layout;
};

static inline __attribute__((always_inline)) void take_lanes(const struct repack_strip *s,
                                                             const uint8_t *block, size_t run,
                                                             struct group_output to, size_t words,
                                                             take_block *take)
{
    to.codes += run * words * 64;
    for (size_t lane = 0; lane < s->n; lane++, block += s->row_bytes) {
        take(block, run, to);
        to.codes += 4;
        to.scale += 2;
        to.offset += 2;
    }
}

/* Block by block and group by group, so that writes stay close together: q4_k and q5_k took a
 * quarter longer with a whole block of a row before the next row. Inlined for each type, since a
 * call of `take` costs as much as its work. */
static inline __attribute__((always_inline)) void take_strip(const struct repack_strip *s,
                                                             enum dtype type, size_t words,
                                                             take_blocks *take_all,
                                                             take_block *take)
{
    const struct dtype_info *info = dtype_info(type);
    const struct strip_layout *l = &s->layout;
    size_t runs = info->block / GROUP;
    for (size_t group = 0; group < l->groups; group += runs) {
        const uint8_t *block = s->rows + group / runs * info->block_bytes;
        size_t at = group * STRIP * 2;
        struct group_output to = {s->out + l->codes + group * words * 64, s->out + l->scales + at,
                                  s->out + l->offsets + at};
        if (take_all != NULL)
            take_all(&(struct row_blocks){block, s->row_bytes, s->n}, to);
        if (take == NULL)
            continue;
        for (size_t run = 0; run < runs; run += 2)
            take_lanes(s, block, run, to, words, take);
    }
}

static void take_rows(const struct repack_strip *s, enum dtype type)
{
    switch (type) {
    case DTYPE_Q4_0:
    case DTYPE_IQ4_NL:
        take_strip(s, type, INT4_WORDS, NULL, take_4_0);
        break;
    case DTYPE_Q4_1:
        take_strip(s, type, INT4_WORDS, NULL, take_4_1);
        break;
    case DTYPE_Q4_K:
        take_strip(s, type, INT4_WORDS, take_numbers_k, take_4_k);
        break;
    case DTYPE_Q5_0:
        take_strip(s, type, INT8_WORDS, NULL, take_5_0);
        break;
    case DTYPE_Q5_1:
        take_strip(s, type, INT8_WORDS, NULL, take_5_1);
        break;
    case DTYPE_Q5_K:
        take_strip(s, type, INT8_WORDS, take_numbers_k, take_5_k);
        break;
    case DTYPE_Q6_K:
        take_strip(s, type, INT8_WORDS, take_rows_6, NULL);
        break;
    case DTYPE_Q8_0:
        take_strip(s, type, INT8_WORDS, NULL, take_8_0);
        break;
    default:
        break;
    }
}

/* Clears what no group fills: a strip with missing rows, or the padding of scales and offsets. */
static void clear_rest(const struct repack_strip *s)
{
    const struct strip_layout *l = &s->layout;
    size_t scales = l->scales + l->groups * STRIP * 2, offsets = l->offsets + l->groups * STRIP * 2;
    if (s->n < STRIP) {
        memset(s->out, 0, l->bytes);
        return;
    }
    memset(s->out + scales, 0, l->offsets - scales);
    if (offsets < l->bytes)
        memset(s->out + offsets, 0, l->bytes - offsets);
}

void group_repack(enum dtype type, const void *rows, size_t row_bytes, size_t n, size_t cols,
                  void *strip)
{
    struct group_format format;
    enum dtype grouped;
    if (!group_from_gguf(type, &grouped, &format))
        return;
    const struct repack_strip s = {rows, row_bytes, n, strip, strip_layout(grouped, &format, cols)};
    const float row_scale = dtype_info(type)->block > GROUP ? K_ROW_SCALE : 1;
    clear_rest(&s);
    for (size_t lane = 0; lane < n; lane++)
        memcpy(s.out + lane * sizeof row_scale, &row_scale, sizeof row_scale);
    take_rows(&s, type);
}
