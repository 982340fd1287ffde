/* SPDX-License-Identifier: MIT */
/* group.c: the layout of group-quantized matrices, and their scalar definition. */
#include "quant/group.h"

#include <string.h>

enum { ALIGNMENT = 64 };

const int8_t group_codebook_signed[16] = {-8, -7, -6, -5, -4, -3, -2, -1, 0, 1, 2, 3, 4, 5, 6, 7};

const int8_t group_codebook_unsigned[16] = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};

const int8_t group_codebook_iq4_nl[16] = {-127, -104, -83, -65, -49, -35, -22, -10,
                                          1,    13,   25,  38,  53,  69,  89,  113};

/* The first has no code. It is negative, as the next ones, which the device's lookup wants. */
const int8_t group_codebook_fp4[16] = {-12, -1, -2, -3, -4, -6, -8, -12, 0, 1, 2, 3, 4, 6, 8, 12};

/* By Lloyd's algorithm, 80 rounds: quant/search.h finds scales and codes, then each level becomes
 * the weighted mean of the weights that take it, divided by their scales. Then rounded. */
const int8_t group_codebook[16] = {-127, -102, -81, -64, -49, -35, -22, -10,
                                   2,    14,   26,  38,  51,  67,  84,  108};

const char *const group_scale_names[GROUP_SCALES] = {
    [GROUP_SCALE_INT8] = "int8",
    [GROUP_SCALE_F16] = "f16",
    [GROUP_SCALE_BLOCK] = "block",
};

static size_t pad(size_t n, size_t multiple)
{
    return (n + multiple - 1) / multiple * multiple;
}

struct strip_layout strip_layout(enum dtype type, const struct group_format *format, size_t cols)
{
    struct strip_layout l = {.groups = (cols + GROUP - 1) / GROUP};
    const bool blocks = format->scale == GROUP_SCALE_BLOCK;
    size_t code_bytes = (size_t)STRIP * GROUP / (type == DTYPE_INT4 ? 2 : 1);

    l.numbers = (l.groups * GROUP + format->cols - 1) / format->cols;
    l.blocks = (cols + GROUP_BLOCK - 1) / GROUP_BLOCK;
    size_t bytes = pad(l.numbers * STRIP, ALIGNMENT),
           halves = pad(l.numbers * STRIP * 2, ALIGNMENT);
    size_t block_bytes = blocks ? l.blocks * STRIP * sizeof(float) : 0;
    l.codes = pad(STRIP * sizeof(float), ALIGNMENT);
    l.scales = l.codes + l.groups * code_bytes;
    l.offsets = l.scales + (format->scale == GROUP_SCALE_F16 ? halves : bytes);
    l.block_scales = l.offsets + (!format->offset ? 0 : blocks ? bytes : halves);
    l.block_offsets = l.block_scales + block_bytes;
    l.bytes = l.block_offsets + (format->offset ? block_bytes : 0);
    return l;
}

size_t group_bytes(enum dtype type, const struct group_format *format, size_t rows, size_t cols)
{
    return (rows + STRIP - 1) / STRIP * strip_layout(type, format, cols).bytes;
}

/* The byte of a code, and by how many bits it is shifted there. */
static size_t find_code(enum dtype type, const struct strip_layout *l, size_t lane, size_t col,
                        unsigned *shift)
{
    if (type == DTYPE_INT8) {
        *shift = 0;
        return l->codes + col / 4 * 64 + lane * 4 + col % 4;
    }
    *shift = col / 4 % 2 * 4;
    return l->codes + col / 8 * 64 + lane * 4 + col % 4;
}

int group_code(enum dtype type, const struct strip_layout *layout, const void *strip, size_t lane,
               size_t col)
{
    unsigned shift;
    uint8_t byte = ((const uint8_t *)strip)[find_code(type, layout, lane, col, &shift)];
    return type == DTYPE_INT8 ? (int8_t)byte : byte >> shift & 15;
}

void group_set_code(enum dtype type, const struct strip_layout *layout, void *strip, size_t lane,
                    size_t col, int code)
{
    unsigned shift;
    uint8_t *byte = (uint8_t *)strip + find_code(type, layout, lane, col, &shift);
    *byte = (uint8_t)(type == DTYPE_INT8 ? code : (*byte & (0xf0 >> shift)) | (code & 15) << shift);
}

void group_store(enum dtype type, const struct strip_layout *l, void *strip, size_t group,
                 const uint8_t codes[GROUP][STRIP])
{
    size_t run = type == DTYPE_INT4 ? 8 : 4; /* columns in 64 bytes */
    uint8_t *out = (uint8_t *)strip + l->codes + group * (GROUP / run * 64);
    for (size_t col = 0; col < GROUP; col += run)
        for (size_t lane = 0; lane < STRIP; lane++)
            for (size_t i = 0; i < 4; i++, out++)
                *out = (uint8_t)(type == DTYPE_INT8
                                     ? codes[col + i][lane]
                                     : codes[col + i][lane] | codes[col + 4 + i][lane] << 4);
}

/* Number i of an array; block: the f32 that it is multiplied by, if there are blocks. */
static float number_at(enum group_scale type, const uint8_t *numbers, size_t i,
                       const uint8_t *block)
{
    float factor;
    if (type == GROUP_SCALE_F16)
        return load_f16(numbers + 2 * i);
    if (type == GROUP_SCALE_INT8)
        return (int8_t)numbers[i];
    memcpy(&factor, block, sizeof factor);
    return (float)(int8_t)numbers[i] * factor;
}

float group_scale_at(const struct group_format *format, const struct strip_layout *l,
                     const void *strip, size_t lane, size_t col)
{
    const uint8_t *bytes = strip;
    size_t block = col / GROUP_BLOCK * STRIP + lane;
    return number_at(format->scale, bytes + l->scales, col / format->cols * STRIP + lane,
                     bytes + l->block_scales + block * sizeof(float));
}

float group_offset_at(const struct group_format *format, const struct strip_layout *l,
                      const void *strip, size_t lane, size_t col)
{
    const uint8_t *bytes = strip;
    size_t block = col / GROUP_BLOCK * STRIP + lane;
    if (!format->offset)
        return 0;
    return number_at(format->scale == GROUP_SCALE_BLOCK ? GROUP_SCALE_BLOCK : GROUP_SCALE_F16,
                     bytes + l->offsets, col / format->cols * STRIP + lane,
                     bytes + l->block_offsets + block * sizeof(float));
}

void group_expand(enum dtype type, const struct group_format *format, size_t cols,
                  const void *strip, size_t lane, size_t first, size_t n, float *out)
{
    struct strip_layout l = strip_layout(type, format, cols);
    float row_scale;

    memcpy(&row_scale, (const uint8_t *)strip + lane * sizeof row_scale, sizeof row_scale);
    for (size_t i = 0; i < n; i++) {
        size_t col = first + i;
        int code = group_code(type, &l, strip, lane, col);
        float level = (float)(type == DTYPE_INT4 ? format->codebook[code] : code);
        float weight = group_scale_at(format, &l, strip, lane, col) * level;
        if (format->offset)
            weight += group_offset_at(format, &l, strip, lane, col);
        out[i] = row_scale * weight;
    }
}
