/*
 * repack.c: blocks of GGUF's types (expand.c says how they are laid out) to strips of groups. Codes
 * stay as they are; only q6_k's, whose groups are half as long, are rounded again.
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

enum { K_RUNS = 8 }; /* groups in a block of the _k types */

/* Scales of the _k types are products, rounded to f16. In f16 the steps of small weights would be
 * subnormal, so the scale is larger and the row's scale makes up for it; exact, being a power of
 * two. A step may be up to 64. */
#define K_ROW_SCALE 0x1p-10f

struct group {
    uint32_t words[GROUP / 4]; /* codes as a lane holds them: 4 words of int4, 8 of int8 */
    uint16_t scale, offset;
};

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

static uint32_t low_nibbles(uint32_t bytes)
{
    return bytes & 0x0f0f0f0f;
}

static uint32_t high_nibbles(uint32_t bytes)
{
    return bytes >> 4 & 0x0f0f0f0f;
}

static uint32_t pack_bytes(const int codes[4])
{
    return (uint32_t)(codes[0] & 255) | (uint32_t)(codes[1] & 255) << 8 |
           (uint32_t)(codes[2] & 255) << 16 | (uint32_t)(codes[3] & 255) << 24;
}

/* 16 bytes whose low nibbles are the first half of the group. */
static void split_nibbles(const uint8_t *bytes, uint32_t *words)
{
    for (int i = 0; i < 2; i++) {
        uint32_t a = load_32(bytes + i * 8), b = load_32(bytes + i * 8 + 4);
        words[i] = low_nibbles(a) | low_nibbles(b) << 4;
        words[i + 2] = high_nibbles(a) | high_nibbles(b) << 4;
    }
}

/* q4_0, q4_1, iq4_nl */
static void take_4(const uint8_t *block, bool offset, struct group *g)
{
    g->scale = load_16(block);
    g->offset = offset ? load_16(block + 2) : 0;
    split_nibbles(block + (offset ? 4 : 2), g->words);
}

/* q5_0, q5_1 */
static void take_5(const uint8_t *block, bool offset, struct group *g)
{
    const uint8_t *bits = block + (offset ? 4 : 2), *nibbles = bits + 4;
    uint32_t high = load_32(bits);
    int bias = offset ? 0 : 16, codes[GROUP];

    g->scale = load_16(block);
    g->offset = offset ? load_16(block + 2) : 0;
    for (int i = 0; i < GROUP / 2; i++) {
        codes[i] = ((nibbles[i] & 15) | (int)(high >> i & 1) << 4) - bias;
        codes[i + 16] = (nibbles[i] >> 4 | (int)(high >> (i + 16) & 1) << 4) - bias;
    }
    for (int i = 0; i < GROUP / 4; i++)
        g->words[i] = pack_bytes(codes + i * 4);
}

static void take_8(const uint8_t *block, struct group *g)
{
    g->scale = load_16(block);
    for (int i = 0; i < GROUP / 4; i++)
        g->words[i] = load_32(block + 2 + i * 4);
}

/* Run j of q4_k or q5_k; high: the fifth bits of the block, or NULL. */
static void take_k(const uint8_t *block, int j, const uint8_t *high, struct group *g)
{
    const uint8_t *nibbles = (high != NULL ? high + 32 : block + 16) + j / 2 * 32;
    int scale, min;
    scale_min_k(block + 4, j, &scale, &min);
    g->scale = f32_to_f16(f16_to_f32(load_16(block)) * (float)scale / K_ROW_SCALE);
    g->offset = f32_to_f16(-f16_to_f32(load_16(block + 2)) * (float)min / K_ROW_SCALE);
    for (int i = 0; i < GROUP / 4; i++) {
        uint32_t bytes = load_32(nibbles + i * 4);
        uint32_t codes = j % 2 == 0 ? low_nibbles(bytes) : high_nibbles(bytes);
        if (high != NULL)
            g->words[i] = codes | (load_32(high + i * 4) >> j & 0x01010101) << 4;
        else if (i % 2 == 0)
            g->words[i / 2] = codes;
        else
            g->words[i / 2] |= codes << 4;
    }
}

/* Run `run` of q6_k: two scales for 16 weights each become one, codes are rounded to its steps. */
static void take_6k(const uint8_t *block, int run, struct group *g)
{
    const int8_t *scales = (const int8_t *)block + 192 + run * 2;
    const uint8_t *low = block + run / 4 * 64 + run % 2 * 32;
    const uint8_t *high = block + 128 + run / 4 * 32;
    float d = f16_to_f32(load_16(block + 208)) / K_ROW_SCALE, weights[GROUP], largest = 0;

    for (int i = 0; i < GROUP; i++) {
        int code = low[i] >> (run % 4 / 2 * 4) & 15;
        code |= (high[i] >> (run % 4 * 2) & 3) << 4;
        weights[i] = d * (float)scales[i / 16] * (float)(code - 32);
        largest = fmaxf(largest, fabsf(weights[i]));
    }
    g->scale = f32_to_f16(largest / 127);
    float scale = f16_to_f32(g->scale);
    for (int i = 0; i < GROUP / 4; i++) {
        int codes[4];
        for (int j = 0; j < 4; j++) {
            float steps = scale > 0 ? weights[i * 4 + j] / scale : 0;
            codes[j] = steps >= 127 ? 127 : steps <= -127 ? -127 : (int)lrintf(steps);
        }
        g->words[i] = pack_bytes(codes);
    }
}

static void take_group(enum dtype type, const uint8_t *row, size_t group, struct group *g)
{
    const struct dtype_info *info = dtype_info(type);
    const uint8_t *block = row + group * GROUP / info->block * info->block_bytes;
    int run = (int)(group % K_RUNS);

    g->offset = 0;
    switch (type) {
    case DTYPE_Q4_0:
    case DTYPE_IQ4_NL:
        take_4(block, false, g);
        break;
    case DTYPE_Q4_1:
        take_4(block, true, g);
        break;
    case DTYPE_Q5_0:
        take_5(block, false, g);
        break;
    case DTYPE_Q5_1:
        take_5(block, true, g);
        break;
    case DTYPE_Q8_0:
        take_8(block, g);
        break;
    case DTYPE_Q4_K:
        take_k(block, run, NULL, g);
        break;
    case DTYPE_Q5_K:
        take_k(block, run, block + 16, g);
        break;
    case DTYPE_Q6_K:
        take_6k(block, run, g);
        break;
    default:
        break;
    }
}

/* ---- strips --------------------------------------------------------------------------------- */

void group_repack(enum dtype type, const void *rows, size_t row_bytes, size_t n, size_t cols,
                  void *strip)
{
    struct group_format format;
    enum dtype grouped;
    if (!group_from_gguf(type, &grouped, &format))
        return;
    struct strip_layout l = strip_layout(grouped, &format, cols);
    uint8_t *out = strip;
    size_t words = grouped == DTYPE_INT4 ? GROUP / 8 : GROUP / 4;
    const float row_scale = dtype_info(type)->block > GROUP ? K_ROW_SCALE : 1;

    memset(out, 0, l.codes);
    for (size_t lane = 0; lane < n; lane++)
        memcpy(out + lane * sizeof row_scale, &row_scale, sizeof row_scale);
    memset(out + l.scales, 0, l.bytes - l.scales);
    for (size_t group = 0; group < l.groups; group++)
        for (size_t lane = 0; lane < STRIP; lane++) {
            struct group g = {0};
            if (lane < n)
                take_group(type, (const uint8_t *)rows + lane * row_bytes, group, &g);
            uint8_t *codes = out + l.codes + group * words * 64 + lane * 4;
            for (size_t i = 0; i < words; i++)
                memcpy(codes + i * 64, &g.words[i], 4);
            size_t at = (group * STRIP + lane) * 2;
            memcpy(out + l.scales + at, &g.scale, 2);
            if (format.offset)
                memcpy(out + l.offsets + at, &g.offset, 2);
        }
}
