/*
 * repack.c: blocks of GGUF's types (expand.c says how they are laid out) to strips of groups. Codes
 * stay as they are; only q6_k's, whose groups are half as long, are rounded again. What is done to
 * the codes is done to 4 or 8 of them at a time: opening a model waits for it.
 */
#include <math.h>
#include <string.h>

#include "quant/group.h"

bool group_from_gguf(enum dtype type, enum dtype *grouped, struct group_format *format)
{
    static const struct {
        enum dtype grouped;
        const int8_t *levels;
        bool offset;
    } targets[DTYPE_ROWS] = {
        [DTYPE_Q4_0] = {DTYPE_INT4, group_levels_signed, false},
        [DTYPE_Q4_1] = {DTYPE_INT4, group_levels_unsigned, true},
        [DTYPE_Q4_K] = {DTYPE_INT4, group_levels_unsigned, true},
        [DTYPE_IQ4_NL] = {DTYPE_INT4, group_levels_iq4_nl, false},
        [DTYPE_Q5_0] = {DTYPE_INT8, NULL, false},
        [DTYPE_Q5_1] = {DTYPE_INT8, NULL, true},
        [DTYPE_Q5_K] = {DTYPE_INT8, NULL, true},
        [DTYPE_Q8_0] = {DTYPE_INT8, NULL, false},
        [DTYPE_Q6_K] = {DTYPE_INT8, NULL, false},
    };
    if (type >= DTYPE_ROWS || targets[type].grouped == DTYPE_F32)
        return false;
    *grouped = targets[type].grouped;
    *format = (struct group_format){.scale = GROUP_SCALE_F16, .offset = targets[type].offset};
    if (targets[type].levels != NULL)
        memcpy(format->levels, targets[type].levels, sizeof format->levels);
    return true;
}

/* ---- one group of one row ------------------------------------------------------------------- */

/* Scales of the k types are products, rounded to f16. In f16 the steps of small weights would be
 * subnormal, so the scale is larger and the row's scale makes up for it; exact, being a power of
 * two. A step may be up to 64. */
#define K_ROW_SCALE 0x1p-10f

/* Where a row of a strip has its group: word i of the codes, 4 words of int4 or 8 of int8, lies
 * i * 64 bytes on. */
struct place {
    uint8_t *codes, *scale, *offset;
};

/* A block, which of its groups, and where that goes. */
typedef void take_group(const uint8_t *block, size_t run, struct place to);

static uint16_t load_16(const uint8_t *bytes)
{
    return (uint16_t)(bytes[0] | bytes[1] << 8);
}

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

static void store_16(uint8_t *to, uint16_t number)
{
    memcpy(to, &number, sizeof number);
}

static void store_word(struct place to, size_t i, uint32_t word)
{
    memcpy(to.codes + i * 64, &word, sizeof word);
}

/* Of 8 bytes or of 4, the nibbles. */
static uint64_t low_nibbles(uint64_t bytes)
{
    return bytes & 0x0f0f0f0f0f0f0f0f;
}

static uint64_t high_nibbles(uint64_t bytes)
{
    return bytes >> 4 & 0x0f0f0f0f0f0f0f0f;
}

/* 8 codes of 4 bits, a byte each, as a word holds them: the second four in the high nibbles. */
static uint32_t pair(uint64_t codes)
{
    return (uint32_t)(codes | codes >> 28);
}

/* 4 bits to the lowest ones of 4 bytes. */
static uint32_t spread(uint32_t bits)
{
    return (bits & 15) * 0x00204081 & 0x01010101;
}

/* 16 bytes whose low nibbles are the first half of the group. */
static void put_nibbles(const uint8_t *bytes, struct place to)
{
    for (size_t i = 0; i < 2; i++) {
        uint64_t eight = load_64(bytes + i * 8);
        store_word(to, i, pair(low_nibbles(eight)));
        store_word(to, i + 2, pair(high_nibbles(eight)));
    }
}

/* q4_0, iq4_nl */
static void take_4_0(const uint8_t *block, size_t run, struct place to)
{
    (void)run;
    store_16(to.scale, load_16(block));
    put_nibbles(block + 2, to);
}

static void take_4_1(const uint8_t *block, size_t run, struct place to)
{
    (void)run;
    store_16(to.scale, load_16(block));
    store_16(to.offset, load_16(block + 2));
    put_nibbles(block + 4, to);
}

/* 4 bytes with the fifth bits of all 32, then 16 with nibbles. Where the codes are signed, the
 * fifth bit says that 16 is not to be subtracted. */
static void put_5(const uint8_t *bytes, bool is_signed, struct place to)
{
    uint32_t fifth = load_32(bytes);
    for (size_t i = 0; i < 4; i++) {
        uint32_t nibbles = load_32(bytes + 4 + i * 4), half[2];
        half[0] = spread(fifth >> i * 4);
        half[1] = spread(fifth >> (16 + i * 4));
        for (size_t j = 0; j < 2; j++) {
            uint32_t four = nibbles >> j * 4 & 0x0f0f0f0f;
            uint32_t upper = is_signed ? (half[j] ^ 0x01010101) * 0xf0 : half[j] * 0x10;
            store_word(to, i + j * 4, four | upper);
        }
    }
}

static void take_5_0(const uint8_t *block, size_t run, struct place to)
{
    (void)run;
    store_16(to.scale, load_16(block));
    put_5(block + 2, true, to);
}

static void take_5_1(const uint8_t *block, size_t run, struct place to)
{
    (void)run;
    store_16(to.scale, load_16(block));
    store_16(to.offset, load_16(block + 2));
    put_5(block + 4, false, to);
}

static void take_8_0(const uint8_t *block, size_t run, struct place to)
{
    (void)run;
    store_16(to.scale, load_16(block));
    for (size_t i = 0; i < GROUP / 4; i++)
        store_word(to, i, load_32(block + 2 + i * 4));
}

/* Scale and offset of q4_k and q5_k. */
static void put_scale_k(const uint8_t *block, size_t run, struct place to)
{
    int scale, min;
    scale_min_k(block + 4, (int)run, &scale, &min);
    store_16(to.scale, f32_to_f16(f16_to_f32(load_16(block)) * (float)scale / K_ROW_SCALE));
    store_16(to.offset, f32_to_f16(-f16_to_f32(load_16(block + 2)) * (float)min / K_ROW_SCALE));
}

static void take_4_k(const uint8_t *block, size_t run, struct place to)
{
    const uint8_t *nibbles = block + 16 + run / 2 * 32;
    put_scale_k(block, run, to);
    for (size_t i = 0; i < 4; i++)
        store_word(to, i, pair(low_nibbles(load_64(nibbles + i * 8) >> run % 2 * 4)));
}

static void take_5_k(const uint8_t *block, size_t run, struct place to)
{
    const uint8_t *fifth = block + 16, *nibbles = block + 48 + run / 2 * 32;
    put_scale_k(block, run, to);
    for (size_t i = 0; i < GROUP / 4; i++) {
        uint32_t four = load_32(nibbles + i * 4) >> run % 2 * 4 & 0x0f0f0f0f;
        store_word(to, i, four | (load_32(fifth + i * 4) >> run & 0x01010101) << 4);
    }
}

/* 8 codes of 6 bits less 32 each, as int8: below 32 all upper bits are ones. */
static uint64_t minus_32(uint64_t codes)
{
    uint64_t flipped = codes ^ 0x2020202020202020, negative = flipped & 0x2020202020202020;
    return flipped | negative << 1 | negative << 2;
}

/* 16 codes of q6_k to weights; the largest without its sign. */
static float expand_6(const int8_t *codes, float step, float *weights)
{
    int largest = 0;
    for (int i = 0; i < 16; i++) {
        int magnitude = codes[i] < 0 ? -codes[i] : codes[i];
        largest = magnitude > largest ? magnitude : largest;
    }
    for (int i = 0; i < 16; i++)
        weights[i] = step * (float)codes[i];
    return fabsf(step * (float)largest);
}

/* The nearest whole number of steps, ties to even, from -127 to 127. Adding 1.5 * 2^23 rounds, and
 * leaves the number in the lower bits; loops without branches, so that they become vectors. */
static void round_steps(const float *weights, float step, uint8_t *codes /* [GROUP] */)
{
    const int32_t zero = 0x4b400000;
    float sums[GROUP];
    int32_t numbers[GROUP];
    for (int i = 0; i < GROUP; i++)
        sums[i] = weights[i] / step + 0x1.8p23f;
    memcpy(numbers, sums, sizeof numbers);
    for (int i = 0; i < GROUP; i++) {
        int32_t code = numbers[i] - zero;
        code = code > 127 ? 127 : code;
        codes[i] = (uint8_t)(code < -127 ? -127 : code);
    }
}

/* Two scales for 16 weights each become one, codes are rounded to its steps. */
static void take_6_k(const uint8_t *block, size_t run, struct place to)
{
    const int8_t *scales = (const int8_t *)block + 192 + run * 2;
    const uint8_t *low = block + run / 4 * 64 + run % 2 * 32;
    const uint8_t *high = block + 128 + run / 4 * 32;
    size_t low_shift = run % 4 / 2 * 4, high_shift = run % 4 * 2;
    float d = f16_to_f32(load_16(block + 208)) / K_ROW_SCALE, weights[GROUP], largest = 0;
    int8_t codes[GROUP];
    uint8_t rounded[GROUP];

    for (size_t i = 0; i < GROUP; i += 8) {
        uint64_t upper = load_64(high + i) >> high_shift & 0x0303030303030303;
        uint64_t eight = minus_32(low_nibbles(load_64(low + i) >> low_shift) | upper << 4);
        memcpy(codes + i, &eight, sizeof eight);
    }
    for (int half = 0; half < GROUP; half += 16) {
        float most = expand_6(codes + half, d * (float)scales[half / 16], weights + half);
        largest = most <= largest ? largest : most; /* and NaN */
    }
    store_16(to.scale, f32_to_f16(largest / 127));
    float scale = f16_to_f32(load_16(to.scale));
    round_steps(weights, scale > 0 ? scale : INFINITY, rounded);
    for (size_t i = 0; i < GROUP / 4; i++)
        store_word(to, i, load_32(rounded + i * 4));
}

/* ---- strips --------------------------------------------------------------------------------- */

struct strip {
    const uint8_t *rows;
    size_t row_bytes, n;
    uint8_t *out;
    struct strip_layout layout;
};

/* Group by group, so that what is written lies close together. Inlined with `take` for each type:
 * calling it would take as long as all that it does. */
static inline __attribute__((always_inline)) void take_strip(const struct strip *s, enum dtype type,
                                                             size_t words, take_group *take)
{
    const struct dtype_info *info = dtype_info(type);
    const struct strip_layout *l = &s->layout;
    size_t runs = info->block / GROUP;
    for (size_t group = 0; group < l->groups; group++) {
        const uint8_t *block = s->rows + group / runs * info->block_bytes;
        size_t numbers = group * STRIP * 2;
        struct place to = {s->out + l->codes + group * words * 64, s->out + l->scales + numbers,
                           s->out + l->offsets + numbers};
        for (size_t lane = 0; lane < s->n; lane++, block += s->row_bytes) {
            take(block, group % runs, to);
            to.codes += 4;
            to.scale += 2;
            to.offset += 2;
        }
    }
}

static void take_rows(const struct strip *s, enum dtype type)
{
    enum { INT4_WORDS = GROUP / 8, INT8_WORDS = GROUP / 4 };
    switch (type) {
    case DTYPE_Q4_0:
    case DTYPE_IQ4_NL:
        take_strip(s, type, INT4_WORDS, take_4_0);
        break;
    case DTYPE_Q4_1:
        take_strip(s, type, INT4_WORDS, take_4_1);
        break;
    case DTYPE_Q4_K:
        take_strip(s, type, INT4_WORDS, take_4_k);
        break;
    case DTYPE_Q5_0:
        take_strip(s, type, INT8_WORDS, take_5_0);
        break;
    case DTYPE_Q5_1:
        take_strip(s, type, INT8_WORDS, take_5_1);
        break;
    case DTYPE_Q5_K:
        take_strip(s, type, INT8_WORDS, take_5_k);
        break;
    case DTYPE_Q6_K:
        take_strip(s, type, INT8_WORDS, take_6_k);
        break;
    case DTYPE_Q8_0:
        take_strip(s, type, INT8_WORDS, take_8_0);
        break;
    default:
        break;
    }
}

/* What no group fills: everything beside the rows that there are, or what pads the numbers. */
static void clear_rest(const struct strip *s)
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
    const struct strip s = {rows, row_bytes, n, strip, strip_layout(grouped, &format, cols)};
    const float row_scale = dtype_info(type)->block > GROUP ? K_ROW_SCALE : 1;
    clear_rest(&s);
    for (size_t lane = 0; lane < n; lane++)
        memcpy(s.out + lane * sizeof row_scale, &row_scale, sizeof row_scale);
    take_rows(&s, type);
}
