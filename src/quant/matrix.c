/* SPDX-License-Identifier: MIT */
/* matrix.c: the three ways in which a matrix is stored. */
#include "quant/matrix.h"

#include <string.h>

static size_t numbers_bits(enum number type)
{
    return type == NUMBER_U4 ? 4 : type < NUMBER_F16 ? 8 : type < NUMBER_F32 ? 16 : 32;
}

static size_t div_up(size_t n, size_t by)
{
    return (n + by - 1) / by;
}

/* Without padding of the tensor. */
static size_t numbers_bytes(const struct numbers *n, size_t rows, size_t cols)
{
    if (n->data == NULL)
        return 0;
    size_t blocks =
        n->flat > 0 ? div_up(rows * cols, n->flat) : div_up(rows, n->rows) * div_up(cols, n->cols);
    size_t factors = n->factors == NULL ? 0 : div_up(blocks, n->factor_run) * sizeof(float);
    return div_up(blocks * numbers_bits(n->type), 8) + factors;
}

size_t matrix_bytes(const struct matrix *m)
{
    const struct parts *p = m->parts;
    if (p != NULL)
        return numbers_bytes(&p->codes, m->rows, m->cols) +
               numbers_bytes(&p->scales, m->rows, m->cols) +
               numbers_bytes(&p->zeros, m->rows, m->cols);
    return is_grouped(m->type) ? group_bytes(m->type, &m->groups, m->rows, m->cols)
                               : m->rows * dtype_row_bytes(m->type, m->cols);
}

const uint8_t *matrix_rows(const struct matrix *matrix, size_t first, size_t n, size_t *bytes)
{
    struct matrix before = *matrix, rows = *matrix;
    before.rows = first;
    rows.rows = n;
    *bytes = matrix_bytes(&rows);
    return (const uint8_t *)matrix->data + matrix_bytes(&before);
}

void matrix_copy_rows(const struct matrix *matrix, size_t first, size_t n, void *out)
{
    size_t bytes;
    const uint8_t *rows = matrix_rows(matrix, first, n, &bytes);
    memcpy(out, rows, bytes);
}

/* Whether a row's codes are consecutive bytes, and rows follow each other. */
static bool are_rows(const struct numbers *n, size_t cols)
{
    return n->row_run == 1 && n->col_run == 1 && n->col_step == 1 && n->row_step == cols &&
           cols * numbers_bits(n->type) % 32 == 0;
}

size_t matrix_spans(const struct matrix *m, size_t first, size_t n,
                    struct span_of_bytes spans[MATRIX_SPANS])
{
    size_t used = 0;
    if (m->parts == NULL) {
        spans[0].data = matrix_rows(m, first, n, &spans[0].bytes);
        return 1;
    }
    const struct numbers *const all[] = {&m->parts->codes, &m->parts->scales, &m->parts->zeros};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) {
        if (all[i]->data == NULL)
            continue;
        struct span_of_bytes span = {all[i]->data, all[i]->bytes};
        if (i == 0 && are_rows(all[i], m->cols)) {
            span.data += numbers_bytes(all[i], first, m->cols);
            span.bytes = numbers_bytes(all[i], n, m->cols);
        }
        spans[used++] = span;
    }
    if (m->parts->scales.factors != NULL)
        spans[used++] =
            (struct span_of_bytes){m->parts->scales.factors, m->parts->scales.factor_bytes};
    return used;
}

void matrix_expand(const struct matrix *m, size_t row, size_t first, size_t n, float *out)
{
    const char *data = m->data;
    if (m->parts != NULL) {
        parts_expand(m, row, first, n, out);
    } else if (is_grouped(m->type)) {
        size_t bytes = strip_layout(m->type, &m->groups, m->cols).bytes;
        group_expand(m->type, &m->groups, m->cols, data + row / STRIP * bytes, row % STRIP, first,
                     n, out);
    } else {
        dtype_expand(m->type,
                     data + row * dtype_row_bytes(m->type, m->cols) +
                         dtype_row_bytes(m->type, first),
                     out, n);
    }
}

void matrix_row(const struct matrix *m, size_t row, float *out)
{
    enum { SOME = 256 };
    const uint32_t *order = m->parts != NULL ? m->parts->order : NULL;
    if (order == NULL) {
        matrix_expand(m, row, 0, m->cols, out);
        return;
    }
    float some[SOME];
    for (size_t first = 0; first < m->cols; first += SOME) {
        size_t n = m->cols - first < SOME ? m->cols - first : SOME;
        matrix_expand(m, row, first, n, some);
        for (size_t i = 0; i < n; i++)
            out[order[first + i]] = some[i];
    }
}

bool matrix_target(const struct matrix *m, enum dtype *type, struct group_format *format)
{
    return m->parts != NULL ? parts_target(m, type, format)
                            : group_from_gguf(m->type, type, format);
}

void matrix_repack(const struct matrix *m, size_t first, size_t n, void *strips)
{
    enum dtype type;
    struct group_format format;
    if (m->parts != NULL) {
        parts_repack(m, first, n, strips);
        return;
    }
    if (!group_from_gguf(m->type, &type, &format))
        return;
    size_t strip_bytes = strip_layout(type, &format, m->cols).bytes;
    size_t row_bytes = dtype_row_bytes(m->type, m->cols);
    uint8_t *out = strips;
    for (size_t row = first, end = first + n; row < end; row += STRIP, out += strip_bytes)
        group_repack(m->type, (const uint8_t *)m->data + row * row_bytes, row_bytes,
                     end - row < STRIP ? end - row : STRIP, m->cols, out);
}
