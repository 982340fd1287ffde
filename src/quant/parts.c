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

static inline float number_of_index(const struct numbers *n, size_t index)
{
    if (n->places != NULL)
        index = index / 8 * 8 + n->places[index % 8];
    float value = stored_number(n->type, n->data, index), factor;
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
    return number_of_index(n, index_of(n, row / n->rows, col / n->cols));
}

/* The numbers of n columns of a row, `step` columns apart. */
static void numbers_of_row(const struct numbers *n, size_t row, size_t col, size_t step,
                           size_t count, float *out /* [count] */)
{
    size_t block = col / n->cols, within = col % n->cols;
    for (size_t i = 0; i < count; i++) {
        out[i] = number_of_index(n, index_of(n, row / n->rows, block));
        for (within += step; within >= n->cols; within -= n->cols)
            block++;
    }
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
            float code = number_of_index(&p->codes, index_of(&p->codes, row, at));
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

/* The longest groups that so many columns are a multiple of; 0: there are none. */
static size_t group_cols(size_t cols)
{
    size_t most = GROUP; /* which all kernels take */
    while (most >= GROUP && cols % most != 0)
        most /= 2;
    return most < GROUP ? 0 : most;
}

/* One scale for a row is its row scale; the others become f16. */
bool parts_target(const struct matrix *m, enum dtype *type, struct group_format *format)
{
    const struct parts *p = m->parts;
    bool table = p->codes.table != NULL, float8 = p->codes.type == NUMBER_E4M3;
    bool by_row = p->scales.cols >= m->cols;
    size_t cols = by_row ? GROUP : group_cols(p->scales.cols);
    if (p->codes.type > NUMBER_E4M3 || (table && p->codes.type != NUMBER_U4) || cols == 0)
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

enum { SOME = 64 }; /* numbers at once */

struct repack_parts {
    const struct matrix *m;
    enum dtype type;
    struct group_format format;
    struct strip_layout layout;
    float step;
};

/* What a row's scales are divided by: f16 holds the quotients. One scale for all of a row divides
 * itself. Else it is a power of two that takes the largest to 1 to 2, so that small ones keep their
 * bits; times the unit of scales, if they have one. */
static float divisor_of_row(const struct repack_parts *r, size_t row)
{
    const struct parts *p = r->m->parts;
    float largest = 0, some[SOME];
    size_t cols = p->scales.cols, n = (r->m->cols + cols - 1) / cols, count;
    if (cols >= r->m->cols)
        return number_at(&p->scales, row, 0);
    for (size_t first = 0; first < n; first += count) {
        count = n - first < SOME ? n - first : SOME;
        numbers_of_row(&p->scales, row, first * cols, cols, count, some);
        for (size_t i = 0; i < count; i++)
            largest = fabsf(some[i]) > largest ? fabsf(some[i]) : largest;
    }
    return p->unit > 0 ? power_below(largest / p->unit) * p->unit : power_below(largest);
}

/* The scales and offsets of `count` groups of a lane. */
static void put_numbers(const struct repack_parts *r, size_t row, size_t first, size_t count,
                        const float *scales /* [count] */, uint8_t *strip, size_t lane)
{
    float middle = (float)middle_of(r->m->parts);
    for (size_t i = 0; i < count; i++) {
        size_t at = (first + i) * STRIP + lane;
        uint16_t half = f32_to_f16(scales[i]);
        if (r->format.scale == GROUP_SCALE_INT8)
            strip[r->layout.scales + at] = 1;
        else
            memcpy(strip + r->layout.scales + 2 * at, &half, sizeof half);
        if (!r->format.offset)
            continue;
        float zero = zero_at(r->m->parts, row, (first + i) * r->format.cols);
        half = f32_to_f16((middle - zero) * scales[i]);
        memcpy(strip + r->layout.offsets + 2 * at, &half, sizeof half);
    }
}

/* Scales and offsets of one lane of a strip. */
static void take_numbers(const struct repack_parts *r, size_t row, uint8_t *strip, size_t lane)
{
    const struct parts *p = r->m->parts;
    bool one = p->scales.cols >= r->m->cols;
    size_t step = r->format.cols, n = (r->m->cols + step - 1) / step, count;
    float divisor = divisor_of_row(r, row), row_scale = divisor * r->step, some[SOME];
    memcpy(strip + lane * sizeof row_scale, &row_scale, sizeof row_scale);
    for (size_t first = 0; first < n; first += count) {
        count = n - first < SOME ? n - first : SOME;
        if (!one)
            numbers_of_row(&p->scales, row, first * step, step, count, some);
        for (size_t i = 0; i < count; i++)
            some[i] = one ? 1 : some[i] / divisor;
        put_numbers(r, row, first, count, some, strip, lane);
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
    for (size_t row = first, end = first + n; row < end; row += STRIP, strip += r.layout.bytes) {
        size_t lanes = end - row < STRIP ? end - row : STRIP;
        memset(strip, 0, r.layout.bytes);
        if (m->parts->codes.type != NUMBER_E4M3)
            parts_codes(m, row, lanes, middle_of(m->parts), &r.layout, strip);
        for (size_t lane = 0; lane < lanes; lane++)
            take_numbers(&r, row + lane, strip, lane);
    }
    if (m->parts->codes.type == NUMBER_E4M3)
        float8_repack(m, first, n, &r.layout, strips);
}
