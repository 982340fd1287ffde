/* SPDX-License-Identifier: MIT */
#include "backend/cuda/layout.h"

#include <math.h>
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

    l.rounded = grouped && l.format.cols < GROUP;
    l.form = l.rounded ? MATRIX_INT8 : form_of(l.grouped);
    if (l.form == MATRIX_INT4 && !has_lookup(l.format.codebook))
        l.form = MATRIX_INT8;
    l.blocks = (m->cols + BLOCK_COLS - 1) / BLOCK_COLS;
    l.padded_blocks = pad(l.blocks, QUAD);
    l.tiles = (m->rows + TILE_ROWS - 1) / TILE_ROWS;
    l.tile_units = l.padded_blocks * TILE_ROWS * (size_t)block_bytes(l.form);
    if (grouped) {
        size_t numbers = l.padded_blocks * TILE_ROWS;
        l.half_scales = l.format.scale != GROUP_SCALE_INT8 || l.format.offset || l.rounded;
        l.tile_scales = numbers * (l.half_scales ? 2 : 1);
        l.tile_offsets = l.format.offset && !l.rounded ? numbers * 2 : 0;
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

/* A power of two that brings the largest scale or offset of a row near 2^13, so that f16 holds what
 * int8 with blocks holds: within its range, rounded to 11 bits. 1 for scales that f16 holds as they
 * are. */
static float row_power(const struct layout *l, const struct strip_layout *s, const uint8_t *strip,
                       size_t lane)
{
    float largest = 0;
    int exponent = 0;
    if (l->format.scale != GROUP_SCALE_BLOCK && !l->rounded)
        return 1;
    for (size_t i = 0; i < s->numbers; i++) {
        size_t col = i * l->format.cols;
        largest = fmaxf(largest, fabsf(group_scale_at(&l->format, s, strip, lane, col)));
        largest = fmaxf(largest, fabsf(group_offset_at(&l->format, s, strip, lane, col)));
    }
    if (!(largest > 0x1p-80f && largest < 0x1p80f))
        return 1;
    frexpf(largest, &exponent);
    return ldexpf(1, 14 - exponent);
}

static void store_half(uint8_t *halves, size_t i, float value)
{
    uint16_t half = f32_to_f16(value);
    memcpy(halves + 2 * i, &half, sizeof half);
}

/* Two groups of 16 columns become one of int8. Returns its scale. */
static float round_codes(const float scales[2], const float offsets[2], int8_t codes[GROUP])
{
    float weights[GROUP], largest = 0;
    for (size_t i = 0; i < GROUP; i++) {
        size_t half = i / (GROUP / 2);
        weights[i] = scales[half] * (float)codes[i] + offsets[half];
        float magnitude = fabsf(weights[i]);
        largest = isnan(largest) || magnitude <= largest ? largest : magnitude;
    }
    float scale = f16_to_f32(f32_to_f16(largest / 127));
    float steps = scale > 0 ? 1 / scale : 0;
    for (size_t i = 0; i < GROUP; i++)
        codes[i] = (int8_t)rintf(fmaxf(-127, fminf(127, weights[i] * steps)));
    return scale;
}

/* The arrays of a tile that a row's groups are written to. */
struct tile_arrays {
    uint8_t *units, *scales, *offsets, *row_scales;
};

/* A group of a strip's row. power: row_power(). */
static void take_group(const struct layout *l, const struct strip_layout *s, const uint8_t *strip,
                       size_t lane, size_t group, float power, size_t row,
                       const struct tile_arrays *to)
{
    size_t n = (size_t)block_bytes(l->form) / UNIT_BYTES, col = group * GROUP;
    size_t quad = (group / QUAD * TILE_ROWS + row) * QUAD + group % QUAD;
    float scales[2], offsets[2];
    uint32_t words[GROUP / 4];

    take_codes(l, s, strip, lane, group, words);
    for (size_t half = 0; half < (l->rounded ? 2 : 1); half++) {
        size_t at = col + half * (GROUP / 2);
        scales[half] = group_scale_at(&l->format, s, strip, lane, at) * power;
        offsets[half] = group_offset_at(&l->format, s, strip, lane, at) * power;
    }
    if (l->rounded) {
        int8_t codes[GROUP];
        memcpy(codes, words, sizeof codes);
        scales[0] = round_codes(scales, offsets, codes);
        memcpy(words, codes, sizeof codes);
    }
    for (size_t i = 0; i < n; i++)
        memcpy(to->units + ((group * n + i) * TILE_ROWS + row) * UNIT_BYTES, words + 4 * i,
               UNIT_BYTES);
    if (l->half_scales)
        store_half(to->scales, quad, scales[0]);
    else
        to->scales[quad] = (uint8_t)(int8_t)scales[0];
    if (l->tile_offsets > 0)
        store_half(to->offsets, quad, offsets[0]);
}

/* A strip of 16 rows into the rows [row, row + STRIP) of a tile. */
static void take_strip(const struct layout *l, const uint8_t *strip, size_t row,
                       const struct tile_arrays *to)
{
    struct strip_layout s = strip_layout(l->grouped, &l->format, l->cols);
    float powers[STRIP], row_scales[STRIP];

    memcpy(row_scales, strip, sizeof row_scales);
    for (size_t lane = 0; lane < STRIP; lane++) {
        powers[lane] = row_power(l, &s, strip, lane);
        row_scales[lane] /= powers[lane];
    }
    memcpy(to->row_scales + row * sizeof(float), row_scales, sizeof row_scales);
    for (size_t group = 0; group < s.groups; group++)
        for (size_t lane = 0; lane < STRIP; lane++)
            take_group(l, &s, strip, lane, group, powers[lane], row + lane, to);
}

static void take_groups(const struct layout *l, const struct matrix *m, size_t tile,
                        const struct tile_arrays *to, void *scratch)
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
        take_strip(l, strip, row % TILE_ROWS, to);
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
        take_groups(l, m, tile, &(struct tile_arrays){units, scales, offsets, row_scales}, scratch);
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
