/* SPDX-License-Identifier: MIT */
/*
 * repack.c: blocks of GGUF's types (expand.c has their layout; unpack.c the others) to strips of
 * groups. Codes, scales and offsets keep their values. Opening a model waits for this, so codes are
 * handled 8 at a time.
 */
#include <string.h>

#include "quant/unpack.h"
#include "quant/words.h"

bool group_from_gguf(enum dtype type, enum dtype *grouped, struct group_format *format)
{
    static const struct {
        enum dtype grouped;
        const int8_t *codebook;
        bool offset;
        enum group_scale scale;
        size_t cols;
    } targets[DTYPE_ROWS] = {
        [DTYPE_Q4_0] = {DTYPE_INT4, group_codebook_signed, false, GROUP_SCALE_F16, 32},
        [DTYPE_Q4_1] = {DTYPE_INT4, group_codebook_unsigned, true, GROUP_SCALE_F16, 32},
        [DTYPE_Q4_K] = {DTYPE_INT4, group_codebook_unsigned, true, GROUP_SCALE_BLOCK, 32},
        [DTYPE_IQ4_NL] = {DTYPE_INT4, group_codebook_iq4_nl, false, GROUP_SCALE_F16, 32},
        [DTYPE_Q5_0] = {DTYPE_INT8, NULL, false, GROUP_SCALE_F16, 32},
        [DTYPE_Q5_1] = {DTYPE_INT8, NULL, true, GROUP_SCALE_F16, 32},
        [DTYPE_Q5_K] = {DTYPE_INT8, NULL, true, GROUP_SCALE_BLOCK, 32},
        [DTYPE_Q8_0] = {DTYPE_INT8, NULL, false, GROUP_SCALE_F16, 32},
        [DTYPE_Q6_K] = {DTYPE_INT8, NULL, false, GROUP_SCALE_BLOCK, 16},
    };
    if (type >= DTYPE_ROWS)
        return false;
    if (targets[type].grouped == DTYPE_F32)
        return unpack_target(type, grouped, format);
    *grouped = targets[type].grouped;
    *format = (struct group_format){
        .scale = targets[type].scale, .offset = targets[type].offset, .cols = targets[type].cols};
    if (targets[type].codebook != NULL)
        memcpy(format->codebook, targets[type].codebook, sizeof format->codebook);
    return true;
}

/* ---- blocks --------------------------------------------------------------------------------- */

enum {
    INT4_WORDS = GROUP / 8, /* of 64 bytes in a group */
    INT8_WORDS = GROUP / 4,
    K_RUNS = 8, /* groups in a block of the k types */
};

/* Where a row's group is written. Word i of its codes (4 words of int4, 8 of int8) lies i * 64
 * bytes on, the scale and offset of its next group STRIP numbers on. The k types have a factor for
 * the scales of a block, and one for its offsets. */
struct group_output {
    uint8_t *codes, *scale, *offset, *factor, *offset_factor;
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

/* A byte for each run of a lane. */
static void scatter(uint64_t bytes, uint8_t *to /* [K_RUNS][STRIP] */)
{
#pragma GCC unroll 8
    for (size_t run = 0; run < K_RUNS; run++)
        to[run * STRIP] = (uint8_t)(bytes >> run * 8);
}

static void store_factor(uint8_t *factors, size_t lane, float factor)
{
    memcpy(factors + lane * sizeof factor, &factor, sizeof factor);
}

/* Scales and offsets of q4_k and q5_k: scale_min_k for all runs at once. */
static void take_numbers_k(const struct row_blocks *blocks, struct group_output to)
{
    const uint8_t *block = blocks->first;
    for (size_t lane = 0; lane < blocks->n; lane++, block += blocks->row_bytes) {
        uint64_t a = load_32(block + 4), b = load_32(block + 8), c = load_32(block + 12);
        uint64_t upper_scales = (c & 0x0f0f0f0f) | (a >> 2 & 0x30303030);
        uint64_t upper_mins = (c >> 4 & 0x0f0f0f0f) | (b >> 2 & 0x30303030);
        scatter((a & 0x3f3f3f3f) | upper_scales << 32, to.scale + lane);
        scatter((b & 0x3f3f3f3f) | upper_mins << 32, to.offset + lane);
        store_factor(to.factor, lane, load_f16(block));
        store_factor(to.offset_factor, lane, -load_f16(block + 2));
    }
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

/* 8 numbers from 0 to 63 become -32 to 31. */
static uint64_t minus_32(uint64_t codes)
{
    codes ^= 0x2020202020202020;
    return codes | (codes & 0x2020202020202020) * 6;
}

static void take_6_k(const struct row_blocks *blocks, struct group_output to)
{
    const uint8_t *block = blocks->first;
    for (size_t lane = 0; lane < blocks->n; lane++, block += blocks->row_bytes, to.codes += 4) {
        for (size_t run = 0; run < K_RUNS; run++) {
            const uint8_t *low = block + run / 4 * 64 + run % 2 * 32;
            const uint8_t *high = block + 128 + run / 4 * 32;
            size_t low_shift = run % 4 / 2 * 4, high_shift = run % 4 * 2;
            for (size_t i = 0; i < INT8_WORDS; i += 2) {
                uint64_t upper = load_64(high + i * 4) >> high_shift & 0x0303030303030303;
                uint64_t lower = low_nibbles(load_64(low + i * 4) >> low_shift);
                store_two(to, run * INT8_WORDS + i, minus_32(lower | upper << 4));
            }
        }
        scatter(load_64(block + 192), to.scale + lane);
        scatter(load_64(block + 200), to.scale + K_RUNS * STRIP + lane);
        store_factor(to.factor, lane, load_f16(block + 208));
    }
}

/* ---- strips --------------------------------------------------------------------------------- */

struct repack_strip {
    const uint8_t *rows;
    size_t row_bytes, n;
    uint8_t *out;
    struct group_format format;
    struct strip_layout layout;
};

static size_t number_bytes(const struct repack_strip *s)
{
    return s->format.scale == GROUP_SCALE_F16 ? 2 : 1;
}

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
        size_t at = group * GROUP / s->format.cols * STRIP * number_bytes(s);
        size_t factor = group * GROUP / GROUP_BLOCK * STRIP * sizeof(float);
        struct group_output to = {s->out + l->codes + group * words * 64, s->out + l->scales + at,
                                  s->out + l->offsets + at, s->out + l->block_scales + factor,
                                  s->out + l->block_offsets + factor};
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
        take_strip(s, type, INT8_WORDS, take_6_k, NULL);
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
    size_t bytes = l->numbers * STRIP * number_bytes(s);
    size_t scales = l->scales + bytes, offsets = l->offsets + bytes;
    if (s->n < STRIP) {
        memset(s->out, 0, l->bytes);
        return;
    }
    memset(s->out + scales, 0, l->offsets - scales);
    if (s->format.offset)
        memset(s->out + offsets, 0, l->block_scales - offsets);
}

void group_repack(enum dtype type, const void *rows, size_t row_bytes, size_t n, size_t cols,
                  void *strip)
{
    struct group_format format;
    enum dtype grouped;
    if (unpack_target(type, &grouped, &format)) {
        unpack_repack(type, &format, rows, row_bytes, n, cols, strip);
        return;
    }
    if (!group_from_gguf(type, &grouped, &format))
        return;
    const struct repack_strip s = {rows,  row_bytes, n,
                                   strip, format,    strip_layout(grouped, &format, cols)};
    const float row_scale = 1;
    clear_rest(&s);
    for (size_t lane = 0; lane < n; lane++)
        memcpy(s.out + lane * sizeof row_scale, &row_scale, sizeof row_scale);
    take_rows(&s, type);
}
