/* SPDX-License-Identifier: MIT */
#include "engine/convert_rows.h"

#include <math.h>
#include <string.h>

#include "quant/block.h"

/* ---- strips and floats ----------------------------------------------------------------------- */

/* The scales and offsets of a strip must be finite. */
static int check_numbers(const struct group_format *format, const struct strip_layout *l,
                         const uint8_t *strip, size_t row, struct llama3_error *err)
{
    for (size_t i = 0; i < l->numbers * STRIP; i++) {
        size_t lane = i % STRIP, col = i / STRIP * format->cols;
        float scale = group_scale_at(format, l, strip, lane, col);
        float number = isfinite(scale) ? group_offset_at(format, l, strip, lane, col) : scale;
        if (!isfinite(number))
            return error_input(err,
                               "row %zu, column %zu: expected weights of a finite scale, found %g",
                               row + lane, col, (double)number);
    }
    return 0;
}

int convert_to_strips(const struct matrix *from, const struct matrix *to, size_t first, size_t n,
                      uint8_t *out, struct llama3_error *err)
{
    struct strip_layout l = strip_layout(to->type, &to->groups, to->cols);
    matrix_repack(from, first, n, out);
    for (size_t row = first; row < first + n; row += STRIP, out += l.bytes)
        if (check_numbers(&to->groups, &l, out, row, err) != 0)
            return -1;
    return 0;
}

/* Stores a number as f32, f16 or bf16. Returns the value that was stored. */
static float round_to(enum dtype type, float value, uint8_t *out)
{
    uint16_t half = type == DTYPE_F16 ? f32_to_f16(value) : f32_to_bf16(value);
    if (type == DTYPE_F32) {
        memcpy(out, &value, sizeof value);
        return value;
    }
    memcpy(out, &half, sizeof half);
    return type == DTYPE_F16 ? f16_to_f32(half) : bf16_to_f32(half);
}

int convert_round(const struct convert_rows *r, size_t first, size_t n, uint8_t *out,
                  struct quantize_error *error, struct llama3_error *err)
{
    size_t size = dtype_row_bytes(r->type, 1), cols = r->from->cols;
    for (size_t i = first; i < first + n; i++) {
        size_t row = quantize_source_row(r->interleave, i);
        matrix_row(r->from, row, r->row);
        for (size_t col = 0; col < cols; col++, out += size) {
            float value = r->row[col];
            double off = (double)(round_to(r->type, value, out) - value);
            if (!isfinite(off))
                return error_input(
                    err, "row %zu, column %zu: expected a weight that %s can hold, found %g", row,
                    col, dtype_info(r->type)->name, (double)value);
            error->error += off * off;
            error->norm += (double)value * (double)value;
        }
    }
    return 0;
}

/* ---- blocks ---------------------------------------------------------------------------------- */

bool convert_fits_blocks(const struct matrix *from, enum dtype to)
{
    struct group_format format;
    enum dtype grouped;
    return block_type(to) != NULL && dtype_info(to)->block == GROUP && from->cols % GROUP == 0 &&
           group_from_gguf(to, &grouped, &format) && grouped == from->type &&
           from->groups.scale == format.scale && from->groups.offset == format.offset &&
           from->groups.cols == format.cols &&
           memcmp(from->groups.codebook, format.codebook, sizeof format.codebook) == 0;
}

/* A scale or an offset times the row's. */
static int take_number(const uint8_t *number, float row_scale, uint16_t *out)
{
    float product = row_scale * load_f16(number);
    *out = f32_to_f16(product);
    return f16_to_f32(*out) - product == 0 ? 0 : -1; /* not of infinity either */
}

/* A row of a strip to blocks with the same codes. */
static int unpack_row(const struct convert_rows *r, size_t row, uint8_t *out,
                      struct llama3_error *err)
{
    const struct matrix *from = r->from;
    struct strip_layout l = strip_layout(from->type, &from->groups, from->cols);
    const uint8_t *strip = (const uint8_t *)from->data + row / STRIP * l.bytes;
    size_t lane = row % STRIP;
    const int bias = from->type == DTYPE_INT8 ? -block_type(r->type)->low : 0;
    float row_scale;
    memcpy(&row_scale, strip + lane * sizeof row_scale, sizeof row_scale);
    for (size_t group = 0; group < l.groups; group++, out += dtype_info(r->type)->block_bytes) {
        size_t at = (group * STRIP + lane) * 2;
        struct block_content b = {.dmin = 0};
        if (take_number(strip + l.scales + at, row_scale, &b.d) != 0 ||
            (from->groups.offset && take_number(strip + l.offsets + at, row_scale, &b.dmin) != 0))
            return error_input(err,
                               "row %zu, column %zu: expected a scale that f16 can hold, found "
                               "another",
                               row, group * GROUP);
        for (size_t col = 0; col < GROUP; col++)
            b.codes[col] =
                (uint8_t)(group_code(from->type, &l, strip, lane, group * GROUP + col) + bias);
        block_pack(r->type, &b, out);
    }
    return 0;
}

int convert_to_blocks(const struct convert_rows *r, size_t first, size_t n, uint8_t *out,
                      struct llama3_error *err)
{
    const struct matrix *from = r->from;
    size_t row_bytes = dtype_row_bytes(r->type, from->cols);
    for (size_t i = first; i < first + n; i++, out += row_bytes) {
        size_t row = quantize_source_row(r->interleave, i);
        if (from->type != r->type) {
            if (unpack_row(r, row, out, err) != 0)
                return -1;
            continue;
        }
        memcpy(out, (const uint8_t *)from->data + row * row_bytes, row_bytes);
        dtype_expand(r->type, out, r->row, from->cols);
        for (size_t col = 0; col < from->cols; col++)
            if (!isfinite(r->row[col]))
                return error_input(err,
                                   "row %zu, column %zu: expected weights of a finite scale, "
                                   "found %g",
                                   row, col, (double)r->row[col]);
    }
    return 0;
}
