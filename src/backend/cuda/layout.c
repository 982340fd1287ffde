/* SPDX-License-Identifier: MIT */
#include "backend/cuda/layout.h"

#include <string.h>

static size_t pad(size_t n, size_t multiple)
{
    return (n + multiple - 1) / multiple * multiple;
}

static bool all_within(const int8_t *levels, int from, int to)
{
    for (int i = 0; i < 8; i++)
        if (levels[i] < from || levels[i] > to)
            return false;
    return true;
}

/* Whether the kernels' lookup of 4 bits works for a codebook (dot_nibbles in gemv.cu): no level is
 * negative; or exactly the lower eight are, and the others may be 1 larger. */
static bool has_lookup(const int8_t levels[16])
{
    return (all_within(levels, -128, -1) && all_within(levels + 8, 0, 126)) ||
           (all_within(levels, 0, 127) && all_within(levels + 8, 0, 127));
}

static enum matrix_form form_of(enum dtype type)
{
    switch (type) {
    case DTYPE_F32:
        return MATRIX_F32;
    case DTYPE_F16:
        return MATRIX_F16;
    case DTYPE_BF16:
        return MATRIX_BF16;
    default:
        return type == DTYPE_INT4 ? MATRIX_INT4 : MATRIX_INT8;
    }
}

struct layout layout_of(const struct matrix *m)
{
    struct layout l = {.grouped = m->type, .format = m->groups, .rows = m->rows, .cols = m->cols};
    bool grouped = is_grouped(m->type) || matrix_target(m, &l.grouped, &l.format);

    l.form = form_of(l.grouped);
    if (l.form == MATRIX_INT4 && !has_lookup(l.format.codebook))
        l.form = MATRIX_INT8;
    l.blocks = (m->cols + BLOCK_COLS - 1) / BLOCK_COLS;
    l.padded_blocks = pad(l.blocks, QUAD);
    l.tiles = (m->rows + TILE_ROWS - 1) / TILE_ROWS;
    l.tile_units = l.padded_blocks * TILE_ROWS * (size_t)block_bytes(l.form);
    if (grouped) {
        size_t numbers = l.padded_blocks * TILE_ROWS;
        l.half_scales = l.format.scale == GROUP_SCALE_F16 || l.format.offset;
        l.tile_scales = numbers * (l.half_scales ? 2 : 1);
        l.tile_offsets = l.format.offset ? numbers * 2 : 0;
        l.tile_row_scales = TILE_ROWS * sizeof(float);
    }
    l.scales = pad(l.tiles * l.tile_units, 256);
    l.offsets = pad(l.scales + l.tiles * l.tile_scales, 256);
    l.row_scales = pad(l.offsets + l.tiles * l.tile_offsets, 256);
    l.bytes = l.row_scales + pad(l.tiles * l.tile_row_scales, 256);
    return l;
}

size_t layout_scratch(const struct layout *l)
{
    return l->tile_scales > 0 ? strip_layout(l->grouped, &l->format, l->cols).bytes : 0;
}

/* Packs the low nibbles of a word's four bytes. */
static uint32_t squeeze(uint32_t word)
{
    word &= 0x0f0f0f0f;
    word = (word | word >> 4) & 0x00ff00ff;
    return (word | word >> 8) & 0xffff;
}

/* The codes of a row's group, from a strip: 8 words of int8, or 4 where they stay packed. */
static void take_codes(const struct layout *l, const struct strip_layout *s, const uint8_t *strip,
                       size_t lane, size_t group, uint32_t *out)
{
    const uint8_t *codes = strip + s->codes + lane * 4;
    if (l->form == MATRIX_INT4) {
        for (size_t i = 0; i < 4; i++) {
            uint32_t word; /* columns 8 i .. 8 i + 3 in the low nibbles, then 4 more */
            memcpy(&word, codes + (group * 4 + i) * 64, sizeof word);
            out[i] = squeeze(word) | squeeze(word >> 4) << 16;
        }
        return;
    }
    int8_t bytes[GROUP];
    for (size_t i = 0; i < GROUP; i++) {
        int code = group_code(l->grouped, s, strip, lane, group * GROUP + i);
        bytes[i] = l->grouped == DTYPE_INT4 ? l->format.codebook[code] : (int8_t)code;
    }
    memcpy(out, bytes, sizeof bytes);
}

/* Scale i of a strip becomes scale `to` of a tile. An int8 converts to f16 exactly. */
static void take_scale(const struct layout *l, const uint8_t *from, size_t i, uint8_t *scales,
                       size_t to)
{
    uint16_t half;
    if (!l->half_scales) {
        scales[to] = from[i];
        return;
    }
    if (l->format.scale == GROUP_SCALE_INT8)
        half = f32_to_f16((float)(int8_t)from[i]);
    else
        memcpy(&half, from + 2 * i, sizeof half);
    memcpy(scales + 2 * to, &half, sizeof half);
}

/* A strip of 16 rows into the rows [row, row + STRIP) of a tile. */
static void take_strip(const struct layout *l, const uint8_t *strip, size_t row, uint8_t *units,
                       uint8_t *scales, uint8_t *offsets, uint8_t *row_scales)
{
    struct strip_layout s = strip_layout(l->grouped, &l->format, l->cols);
    size_t n = (size_t)block_bytes(l->form) / UNIT_BYTES;
    uint32_t words[GROUP / 4];

    memcpy(row_scales + row * sizeof(float), strip, STRIP * sizeof(float));
    for (size_t group = 0; group < s.groups; group++)
        for (size_t lane = 0; lane < STRIP; lane++) {
            size_t at = row + lane, quad = (group / QUAD * TILE_ROWS + at) * QUAD + group % QUAD;
            take_codes(l, &s, strip, lane, group, words);
            for (size_t i = 0; i < n; i++)
                memcpy(units + ((group * n + i) * TILE_ROWS + at) * UNIT_BYTES, words + 4 * i,
                       UNIT_BYTES);
            take_scale(l, strip + s.scales, group * STRIP + lane, scales, quad);
            if (l->tile_offsets > 0)
                memcpy(offsets + quad * 2, strip + s.offsets + (group * STRIP + lane) * 2, 2);
        }
}

static void take_groups(const struct layout *l, const struct matrix *m, size_t tile, uint8_t *units,
                        uint8_t *scales, uint8_t *offsets, uint8_t *row_scales, void *scratch)
{
    struct strip_layout s = strip_layout(l->grouped, &l->format, l->cols);
    size_t end = (tile + 1) * TILE_ROWS < l->rows ? (tile + 1) * TILE_ROWS : l->rows;

    for (size_t row = tile * TILE_ROWS; row < end; row += STRIP) {
        const uint8_t *strip = scratch;
        if (is_grouped(m->type)) {
            strip = (const uint8_t *)m->data + row / STRIP * s.bytes;
        } else {
            matrix_repack(m, row, end - row < STRIP ? end - row : STRIP, scratch);
        }
        take_strip(l, strip, row % TILE_ROWS, units, scales, offsets, row_scales);
    }
}

void layout_tile(const struct layout *l, const struct matrix *m, size_t tile, uint8_t *units,
                 uint8_t *scales, uint8_t *offsets, uint8_t *row_scales, void *scratch)
{
    memset(units, 0, l->tile_units);
    if (l->tile_scales > 0) {
        memset(scales, 0, l->tile_scales);
        if (l->tile_offsets > 0)
            memset(offsets, 0, l->tile_offsets);
        memset(row_scales, 0, l->tile_row_scales);
        take_groups(l, m, tile, units, scales, offsets, row_scales, scratch);
        return;
    }
    size_t row_bytes = dtype_row_bytes(m->type, m->cols);
    for (size_t lane = 0; lane < TILE_ROWS && tile * TILE_ROWS + lane < l->rows; lane++) {
        const uint8_t *row = (const uint8_t *)m->data + (tile * TILE_ROWS + lane) * row_bytes;
        for (size_t at = 0; at < row_bytes; at += UNIT_BYTES)
            memcpy(units + (at / UNIT_BYTES * TILE_ROWS + lane) * UNIT_BYTES, row + at,
                   row_bytes - at < UNIT_BYTES ? row_bytes - at : UNIT_BYTES);
    }
}

struct device_matrix layout_view(const struct layout *l, const uint8_t *memory)
{
    struct device_matrix m = {
        .form = l->form,
        .rows = (int)l->rows,
        .cols = (int)l->cols,
        .blocks = (int)l->blocks,
        .padded_blocks = (int)l->padded_blocks,
        .tiles = (int)l->tiles,
        .slice = slice_blocks((int)l->blocks),
        .units = memory,
    };
    if (l->tile_scales > 0) {
        m.scales = memory + l->scales;
        m.offsets = l->tile_offsets > 0 ? memory + l->offsets : NULL;
        m.row_scales = (const float *)(const void *)(memory + l->row_scales);
        m.half_scales = l->half_scales;
    }
    if (l->form == MATRIX_INT4) {
        memcpy(m.codebook, l->format.codebook, sizeof m.codebook);
        m.above = l->format.codebook[0] < 0 ? 0x01010101 : 0;
    }
    return m;
}
