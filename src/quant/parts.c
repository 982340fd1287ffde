/* SPDX-License-Identifier: MIT */
/* parts.c: matrices of several tensors: their weights, and the strips that they become. */
#include <math.h>
#include <string.h>

#include "quant/matrix.h"

/* ---- numbers --------------------------------------------------------------------------------- */

float e4m3_to_f32(uint8_t code)
{
    int exponent = code >> 3 & 15, fraction = code & 7;
    float value = (code & 127) == 127 ? NAN
                  : exponent == 0
                      ? (float)fraction * 0x1p-9f
                      : (float)(8 + fraction) * f32_from_bits((uint32_t)(exponent + 117) << 23);
    return (code & 128) != 0 ? -value : value;
}

static float e8m0_to_f32(uint8_t code)
{
    return code == 255 ? NAN : code == 0 ? 0x1p-127f : f32_from_bits((uint32_t)code << 23);
}

/* What the number at an index is, before a table. */
static inline float stored_number(enum number type, const uint8_t *data, size_t index)
{
    float value;
    uint16_t half;
    switch (type) {
    case NUMBER_U4:
        return (float)(data[index / 2] >> index % 2 * 4 & 15);
    case NUMBER_U8:
        return (float)data[index];
    case NUMBER_S8:
        return (float)(int8_t)data[index];
    case NUMBER_E4M3:
        return e4m3_to_f32(data[index]);
    case NUMBER_E8M0:
        return e8m0_to_f32(data[index]);
    case NUMBER_F16:
        return load_f16(data + 2 * index);
    case NUMBER_BF16:
        memcpy(&half, data + 2 * index, sizeof half);
        return bf16_to_f32(half);
    case NUMBER_F32:
        break;
    }
    memcpy(&value, data + 4 * index, sizeof value);
    return value;
}

static inline __attribute__((always_inline)) float number_of_index(const struct numbers *n,
                                                                   enum number type, size_t index)
{
    if (n->places != NULL)
        index = index / 8 * 8 + n->places[index % 8];
    float value = stored_number(type, n->data, index), factor;
    if (n->table != NULL)
        value = n->table[(size_t)value];
    if (n->factors != NULL) {
        memcpy(&factor, n->factors + index / n->factor_run * sizeof factor, sizeof factor);
        value = value * factor + n->added;
    }
    return value;
}

static inline size_t index_of(const struct numbers *n, size_t r, size_t c)
{
    if (n->flat > 0)
        return (r * n->rows * n->row_step + c * n->cols) / n->flat;
    return r / n->row_run * n->row_step + r % n->row_run + c / n->col_run * n->col_step +
           c % n->col_run;
}

float number_at(const struct numbers *n, size_t row, size_t col)
{
    return number_of_index(n, n->type, index_of(n, row / n->rows, col / n->cols));
}

/* The zero that is subtracted from codes of a row and column. */
static float zero_at(const struct parts *p, size_t row, size_t col)
{
    if (p->zeros.data == NULL)
        return (float)p->zero;
    int zero = (int)number_at(&p->zeros, row, col) + p->zero;
    return (float)(p->zeros.type == NUMBER_S8 ? zero
                                              : zero & (p->zeros.type == NUMBER_U4 ? 15 : 255));
}

/* ---- to f32 ---------------------------------------------------------------------------------- */

void parts_expand(const struct matrix *m, size_t row, size_t first, size_t n, float *out)
{
    const struct parts *p = m->parts;
    for (size_t i = 0; i < n;) {
        size_t col = first + i, left = p->scales.cols - col % p->scales.cols;
        size_t end = i + (left < n - i ? left : n - i);
        float scale = number_at(&p->scales, row, col), zero = zero_at(p, row, col);
        for (; i < end; i++) {
            size_t at = p->order != NULL ? p->order[first + i] : first + i;
            float code = number_of_index(&p->codes, p->codes.type, index_of(&p->codes, row, at));
            out[i] = (code - zero) * scale;
            if (p->last != 0)
                out[i] *= p->last;
        }
    }
}

/* ---- to strips ------------------------------------------------------------------------------- */

/* Codes become levels by a subtraction that is exact: 4 bits through the codebook, 8 bits in the
 * byte. */
static int middle_of(const struct parts *p)
{
    return p->codes.table != NULL       ? 0
           : p->codes.type == NUMBER_U4 ? 8
           : p->codes.type == NUMBER_U8 ? 128
                                        : 0;
}

/* The longest groups, of at most so many columns, that a format's groups are a multiple of; 0:
 * there are none. */
static size_t group_cols(size_t cols, size_t most)
{
    while (most >= GROUP_COLS_LEAST && cols % most != 0)
        most /= 2;
    return most < GROUP_COLS_LEAST ? 0 : most;
}

/* One scale for a row is its row scale; the others become f16. */
bool parts_target(const struct matrix *m, enum dtype *type, struct group_format *format)
{
    const struct parts *p = m->parts;
    bool table = p->codes.table != NULL, float8 = p->codes.type == NUMBER_E4M3;
    bool by_row = p->scales.cols >= m->cols;
    size_t most = float8 ? GROUP : GROUP_COLS_MOST; /* float8_repack() */
    size_t cols = by_row ? most : group_cols(p->scales.cols, most);
    if (p->codes.type > NUMBER_E4M3 || (table && p->codes.type != NUMBER_U4) || cols == 0 ||
        (float8 && cols < GROUP))
        return false;
    *type = p->codes.type == NUMBER_U4 ? DTYPE_INT4 : DTYPE_INT8;
    *format = (struct group_format){.scale = by_row && !float8 ? GROUP_SCALE_INT8 : GROUP_SCALE_F16,
                                    .offset = p->zeros.data != NULL || p->zero != middle_of(p),
                                    .cols = cols};
    if (table)
        table_levels(p->codes.table, format->codebook);
    else if (*type == DTYPE_INT4)
        memcpy(format->codebook, group_codebook_signed, sizeof format->codebook);
    return true;
}

/* The power of two that makes a number 1 to 2; 1 for one that isn't finite, or zero. */
static float power_below(float number)
{
    uint32_t exponent = f32_bits(number) >> 23 & 255;
    return exponent == 0 || exponent == 255 ? 1 : f32_from_bits(exponent << 23);
}

struct repack_parts {
    const struct matrix *m;
    enum dtype type;
    struct group_format format;
    struct strip_layout layout;
    float step;
};

/* Numbers of the rows of a strip. The index of each is a sum of one for the row and one for the
 * column. */
struct strip_numbers {
    const struct numbers *numbers;
    size_t row, lanes, at[STRIP];
};

static struct strip_numbers find_rows(const struct numbers *n, size_t row, size_t lanes)
{
    struct strip_numbers s = {.numbers = n, .row = row, .lanes = lanes};
    for (size_t lane = 0; lane < lanes && n->flat == 0; lane++)
        s.at[lane] = index_of(n, (row + lane) / n->rows, 0);
    return s;
}

/* Inlined for each type, so that the loop has no choice to make. */
static inline __attribute__((always_inline)) void read_lanes(const struct strip_numbers *s,
                                                             enum number type, size_t offset,
                                                             float out[STRIP])
{
    for (size_t lane = 0; lane < s->lanes; lane++)
        out[lane] = number_of_index(s->numbers, type, s->at[lane] + offset);
}

/* Of a column; 0 for lanes beyond the last row. */
static void read_numbers(const struct strip_numbers *s, size_t col, float out[STRIP])
{
    const struct numbers *n = s->numbers;
    size_t offset = n->flat > 0 ? 0 : index_of(n, 0, col / n->cols);
    memset(out, 0, STRIP * sizeof *out);
    if (n->flat > 0)
        for (size_t lane = 0; lane < s->lanes; lane++)
            out[lane] = number_at(n, s->row + lane, col);
    else if (n->type == NUMBER_F16)
        read_lanes(s, NUMBER_F16, offset, out);
    else if (n->type == NUMBER_BF16)
        read_lanes(s, NUMBER_BF16, offset, out);
    else if (n->type == NUMBER_F32)
        read_lanes(s, NUMBER_F32, offset, out);
    else if (n->type == NUMBER_U8)
        read_lanes(s, NUMBER_U8, offset, out);
    else
        read_lanes(s, n->type, offset, out);
}

/* What rows' scales are divided by: f16 holds the quotients. One scale for all of a row divides
 * itself, and f16 stays as it is. Else it is a power of two that takes the largest to 1 to 2, so
 * that small ones keep their bits; times the unit of scales, if they have one. */
static void scales_of_rows(const struct matrix *m, const struct strip_numbers *scales,
                           float out[STRIP])
{
    const struct parts *p = m->parts;
    float some[STRIP], unit = p->unit > 0 ? p->unit : 1;
    read_numbers(scales, 0, out);
    if (p->scales.cols >= m->cols)
        return;
    for (size_t lane = 0; lane < STRIP; lane++)
        out[lane] = p->scales.type == NUMBER_F16 ? 1 : 0;
    for (size_t col = 0; col < m->cols && p->scales.type != NUMBER_F16; col += p->scales.cols) {
        read_numbers(scales, col, some);
        for (size_t lane = 0; lane < STRIP; lane++)
            out[lane] = fmaxf(out[lane], fabsf(some[lane]));
    }
    for (size_t lane = 0; lane < STRIP; lane++)
        out[lane] = power_below(out[lane] / unit) * unit;
}

static void put_halves(const float numbers[STRIP], uint8_t *out)
{
    uint32_t wide[STRIP];
    uint16_t halves[STRIP];
    for (size_t lane = 0; lane < STRIP; lane++)
        wide[lane] = f32_to_wide_f16(numbers[lane]);
    for (size_t lane = 0; lane < STRIP; lane++)
        halves[lane] = (uint16_t)wide[lane];
    memcpy(out, halves, sizeof halves);
}

static void read_zeros(const struct parts *p, const struct strip_numbers *zeros, size_t col,
                       float out[STRIP])
{
    int mask = p->zeros.type == NUMBER_U4 ? 15 : p->zeros.type == NUMBER_U8 ? 255 : -1;
    read_numbers(zeros, col, out);
    for (size_t lane = 0; lane < STRIP; lane++)
        out[lane] = (float)(((int)out[lane] + p->zero) & mask);
}

/* Scales and offsets of a strip. */
static void take_numbers(const struct repack_parts *r, size_t row, size_t lanes, uint8_t *strip)
{
    const struct parts *p = r->m->parts;
    const struct strip_layout *l = &r->layout;
    const struct strip_numbers scales = find_rows(&p->scales, row, lanes);
    struct strip_numbers zeros = scales;
    bool one = p->scales.cols >= r->m->cols, has_zeros = p->zeros.data != NULL;
    float divisors[STRIP], row_scales[STRIP], scale[STRIP], zero[STRIP], offset[STRIP];
    if (has_zeros)
        zeros = find_rows(&p->zeros, row, lanes);
    scales_of_rows(r->m, &scales, divisors);
    for (size_t lane = 0; lane < STRIP; lane++) {
        row_scales[lane] = lane < lanes ? divisors[lane] * r->step : 0;
        scale[lane] = 1;
        zero[lane] = (float)p->zero;
    }
    memcpy(strip, row_scales, sizeof row_scales);
    for (size_t col = 0, at = 0; col < r->m->cols; col += r->format.cols, at += STRIP) {
        if (!one) {
            read_numbers(&scales, col, scale);
            for (size_t lane = 0; lane < lanes; lane++)
                scale[lane] /= divisors[lane];
        }
        if (has_zeros)
            read_zeros(p, &zeros, col, zero);
        if (r->format.scale == GROUP_SCALE_INT8)
            memset(strip + l->scales + at, 1, lanes);
        else
            put_halves(scale, strip + l->scales + 2 * at);
        for (size_t lane = 0; lane < STRIP; lane++)
            offset[lane] = ((float)middle_of(p) - zero[lane]) * scale[lane];
        if (r->format.offset)
            put_halves(offset, strip + l->offsets + 2 * at);
    }
}

/* What a level of 1 stands for, in units of the scales. */
static float step_of(const struct parts *p)
{
    int8_t codebook[16];
    float step = p->codes.table != NULL         ? table_levels(p->codes.table, codebook)
                 : p->codes.type == NUMBER_E4M3 ? 0x1p-9f
                                                : 1.0f;
    return p->last != 0 ? step * p->last : step;
}

void parts_repack(const struct matrix *m, size_t first, size_t n, void *strips)
{
    struct repack_parts r = {.m = m};
    uint8_t *strip = strips;
    if (!parts_target(m, &r.type, &r.format))
        return;
    r.layout = strip_layout(r.type, &r.format, m->cols);
    r.step = step_of(m->parts);
    bool float8 = m->parts->codes.type == NUMBER_E4M3;
    size_t whole = n / STRIP * STRIP;
    if (!parts_words(m, &r.layout, first, n / STRIP, strips))
        whole = 0;
    for (size_t i = 0; i < n; i += STRIP, strip += r.layout.bytes) {
        size_t lanes = n - i < STRIP ? n - i : STRIP;
        bool fills = i < whole || (lanes == STRIP && m->cols % GROUP == 0); /* all codes */
        size_t kept = fills ? r.layout.scales : 0;
        memset(strip + kept, 0, r.layout.bytes - kept);
        if (i >= whole && !float8)
            parts_codes(m, first + i, lanes, middle_of(m->parts), &r.layout, strip);
        take_numbers(&r, first + i, lanes, strip);
    }
    if (float8)
        float8_repack(m, first, n, &r.layout, strips);
}
