/* SPDX-License-Identifier: MIT */
/* lora_merge.c: adapters that never change become part of weights that are floats. */
#include <stdlib.h>
#include <string.h>

#include "base/size.h"
#include "base/threads.h"
#include "checkpoint/lora.h"

enum { BLOCK = 64 }; /* columns at a time, so that the sums stay in registers and the cache */

struct merging {
    const struct lora *loras; /* [n] */
    size_t n;
    struct tensor tensor;
    char *out; /* [rows] of the matrix's type */
};

/* Adds the products of up to BLOCK columns of a row to sums of BLOCK. */
static void add_products(const struct merging *m, size_t row, size_t col, size_t n, float *sums)
{
    for (size_t i = 0; i < m->n; i++) {
        const struct lora_pair *pair = lora_pair(&m->loras[i], m->tensor.kind, m->tensor.layer);
        size_t rank = pair->a.rows;
        for (size_t k = 0; k < rank; k++) {
            const float *a = (const float *)pair->a.data + k * pair->a.cols + col;
            float b = m->loras[i].scale * ((const float *)pair->b.data)[k * pair->b.cols + row];
            if (n == BLOCK)
                for (size_t j = 0; j < BLOCK; j++)
                    sums[j] += b * a[j];
            else
                for (size_t j = 0; j < n; j++)
                    sums[j] += b * a[j];
        }
    }
}

static void store(enum dtype type, const float *in, size_t n, void *out)
{
    uint16_t *halves = out;
    if (type == DTYPE_F32)
        memcpy(out, in, n * sizeof *in);
    for (size_t i = 0; i < n && type != DTYPE_F32; i++)
        halves[i] = type == DTYPE_F16 ? f32_to_f16(in[i]) : f32_to_bf16(in[i]);
}

static void merge_rows(void *arg, size_t first, size_t end)
{
    const struct merging *m = arg;
    const struct matrix *w = m->tensor.matrix;
    size_t row_bytes = dtype_row_bytes(w->type, w->cols);
    for (size_t row = first; row < end; row++)
        for (size_t col = 0; col < w->cols; col += BLOCK) {
            float sums[BLOCK] = {0}, base[BLOCK];
            size_t n = w->cols - col < BLOCK ? w->cols - col : BLOCK;
            size_t at = row * row_bytes + dtype_row_bytes(w->type, col);
            add_products(m, row, col, n, sums);
            dtype_expand(w->type, (const char *)w->data + at, base, n);
            for (size_t j = 0; j < n; j++)
                base[j] += sums[j];
            store(w->type, base, n, m->out + at);
        }
}

static bool is_merged(const struct merging *m, const struct model *base)
{
    const enum dtype type = m->tensor.matrix->type;
    bool any = false;
    for (size_t i = 0; i < m->n; i++) {
        const struct lora_pair *pair = lora_pair(&m->loras[i], m->tensor.kind, m->tensor.layer);
        any |= pair != NULL && pair->a.data != NULL;
    }
    return any && (type == DTYPE_F32 || type == DTYPE_F16 || type == DTYPE_BF16) &&
           !(m->tensor.kind == TENSOR_HEAD && base->config.tied);
}

/* Gives the matrix a copy of its own. */
static int merge_matrix(struct merging *m, struct model *base, struct matrix *matrix, int threads,
                        struct llama3_error *err)
{
    size_t bytes = matrix_bytes(matrix);
    char *out = size_alloc_unset(bytes, 1);
    void **parts = realloc(base->parts, (base->n_parts + 1) * sizeof *parts);
    if (parts != NULL)
        base->parts = parts;
    if (out == NULL || parts == NULL) {
        free(out);
        return error_memory(err, "a matrix with adapters", bytes);
    }
    base->parts[base->n_parts++] = m->out = out;
    if (threads_share(threads, matrix->rows, 1, matrix->rows, merge_rows, m, err) != 0)
        return -1;
    for (size_t i = 0; i < base->n_maps; i++)
        map_drop(&base->maps[i], matrix->data, bytes);
    matrix->data = out;
    for (size_t i = 0; i < m->n; i++)
        lora_pair_drop(lora_pair(&m->loras[i], m->tensor.kind, m->tensor.layer));
    return 0;
}

int lora_merge(struct lora *loras, size_t n, struct model *base, int threads, uint64_t *bytes,
               struct llama3_error *err)
{
    struct merging m = {.loras = loras, .n = n};
    *bytes = 0;
    for (size_t i = 0; i < tensor_count(base); i++) {
        m.tensor = tensor_at(base, i);
        struct matrix *matrix = m.tensor.kind == TENSOR_HEAD ? &base->head : NULL;
        if (tensor_is_layers(m.tensor.kind))
            matrix = layer_matrix(&base->layers[m.tensor.layer], m.tensor.kind);
        if (matrix == NULL || !is_merged(&m, base))
            continue;
        *bytes += matrix_bytes(matrix);
        if (merge_matrix(&m, base, matrix, threads, err) != 0)
            return -1;
    }
    return 0;
}
