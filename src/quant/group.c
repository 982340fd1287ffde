/* SPDX-License-Identifier: MIT */
/* group.c: the layout of group-quantized matrices, and their scalar definition. */
#include "quant/group.h"

#include <string.h>

enum { ALIGNMENT = 64 };

const int8_t group_codebook_signed[16] = {-8, -7, -6, -5, -4, -3, -2, -1, 0, 1, 2, 3, 4, 5, 6, 7};

const int8_t group_codebook_unsigned[16] = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};

const int8_t group_codebook_iq4_nl[16] = {-127, -104, -83, -65, -49, -35, -22, -10,
                                          1,    13,   25,  38,  53,  69,  89,  113};

/* By Lloyd's algorithm, 80 rounds: quant/search.h finds scales and codes, then each level becomes
 * the weighted mean of the weights that take it, divided by their scales. Then rounded. */
const int8_t group_codebook[16] = {-127, -102, -81, -64, -49, -35, -22, -10,
                                   2,    14,   26,  38,  51,  67,  84,  108};

static size_t pad(size_t n, size_t multiple)
{
    return (n + multiple - 1) / multiple * multiple;
}

struct strip_layout strip_layout(enum dtype type, const struct group_format *format, size_t cols)
{
    struct strip_layout l = {.groups = (cols + GROUP - 1) / GROUP};
    size_t code_bytes = (size_t)STRIP * GROUP / (type == DTYPE_INT4 ? 2 : 1);
    size_t scale_bytes = format->scale == GROUP_SCALE_INT8 ? 1 : 2;

    l.codes = pad(STRIP * sizeof(float), ALIGNMENT);
    l.scales = l.codes + l.groups * code_bytes;
    l.offsets = l.scales + pad(l.groups * STRIP * scale_bytes, ALIGNMENT);
    l.bytes = l.offsets + (format->offset ? pad(l.groups * STRIP * 2, ALIGNMENT) : 0);
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

void group_expand(enum dtype type, const struct group_format *format, size_t cols,
                  const void *strip, size_t lane, size_t first, size_t n, float *out)
{
    const uint8_t *bytes = strip;
    struct strip_layout l = strip_layout(type, format, cols);
    float row_scale;

    memcpy(&row_scale, bytes + lane * sizeof row_scale, sizeof row_scale);
    for (size_t i = 0; i < n; i++) {
        size_t col = first + i, group = col / GROUP * STRIP + lane;
        float scale = format->scale == GROUP_SCALE_INT8 ? (float)(int8_t)bytes[l.scales + group]
                                                        : load_f16(bytes + l.scales + 2 * group);
        float offset = format->offset ? load_f16(bytes + l.offsets + 2 * group) : 0;
        int code = group_code(type, &l, strip, lane, col);
        float level = (float)(type == DTYPE_INT4 ? format->codebook[code] : code);
        out[i] = row_scale * (scale * level + offset);
    }
}
