/* SPDX-License-Identifier: MIT */
/*
 * weight.c: matrices as the CPU reads them. Mapped ones stay where they are. What can become strips
 * of groups (matrix_target()) does so where there are integer kernels for them, on all threads.
 */
#include "config.h"

#include "backend/cpu/cpu.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/numa.h"
#include "base/size.h"

size_t weight_start(const struct cpu *cpu, const struct weight *w, size_t node)
{
    return numa_start(cpu->numa, weight_units(w), node);
}

typedef void place_fn(const struct numa *numa, size_t node, void *memory, size_t bytes);

/* Each memory node gets its rows among the bytes [from, to) of a matrix. */
static void place_rows(const struct cpu *cpu, const struct weight *w, place_fn *place, void *memory,
                       size_t from, size_t to)
{
    const struct matrix *m = &w->matrix;
    size_t unit = is_grouped(m->type) ? w->layout.bytes * UNIT_STRIPS : w->row_bytes * UNIT_ROWS;

    for (size_t i = 0; cpu->numa != NULL && i < numa_nodes(cpu->numa); i++) {
        size_t first = weight_start(cpu, w, i) * unit, end = weight_start(cpu, w, i + 1) * unit;
        first = first < from ? from : first;
        end = end > to ? to : end;
        if (first < end)
            place(cpu->numa, i, (char *)memory + first, end - first);
    }
}

/* Memory that will hold the matrix, before it is written. */
static void place_new(const struct cpu *cpu, const struct weight *w, void *memory)
{
    place_rows(cpu, w, numa_place, memory, 0, matrix_bytes(&w->matrix));
}

ptrdiff_t cpu_weight_place(struct backend *backend, struct weight *w, size_t most)
{
    enum { UNIT = 64 << 10 }; /* whole pages: one that is cut stays where it is */
    const struct cpu *cpu = (const struct cpu *)backend;
    size_t bytes = matrix_bytes(&w->matrix), end = bytes;
    uintptr_t data = (uintptr_t)w->matrix.data;

    if (cpu->numa == NULL || w->memory != NULL || w->vector != NULL || w->matrix.parts != NULL)
        return 0;
    if (bytes - w->placed > most && (data + w->placed + most) / UNIT * UNIT > data + w->placed)
        end = (data + w->placed + most) / UNIT * UNIT - data;
    place_rows(cpu, w, numa_place_mapped, (void *)data, w->placed, end);
    w->placed = end;
    return (ptrdiff_t)(bytes - end);
}

/* OpenBLAS is loaded for the first matrix that it multiplies. */
static bool has_blas(struct cpu *cpu)
{
    const char *lack = cpu->use_blas ? blas_load(cpu->threads) : NULL;
    if (lack != NULL) {
        cpu->use_blas = false;
        snprintf(cpu->lack, sizeof cpu->lack,
                 "bit-identical for any threads, chunks and batches; no OpenBLAS for prompts: %s",
                 lack);
    }
    return cpu->use_blas;
}

/* Makes panels wide enough for another matrix of BLAS's. */
static int widen_panels(struct cpu *cpu, size_t cols, struct llama3_error *err)
{
    size_t rows = (size_t)cpu->threads * BLAS_ROWS;
    if (cols <= cpu->blas_cols)
        return 0;
    float *panels = size_alloc_aligned(rows, cols * sizeof *panels);
    if (panels == NULL)
        return error_memory(err, "panels for BLAS", rows * cols * sizeof *panels);
    free(cpu->blas_panels);
    cpu->blas_panels = panels;
    cpu->blas_cols = cols;
    return 0;
}

/* Where the arrays of struct narrow begin in its memory, after the codes, and its size. */
struct narrow_layout {
    size_t numbers, halves, scales, bf16, bytes;
};

static struct narrow_layout narrow_layout(size_t rows, size_t cols)
{
    struct narrow_layout l;
    size_t groups = rows * ((cols + GROUP - 1) / GROUP);
    l.numbers = round_up(groups * GROUP, 64);
    l.halves = l.numbers + round_up(groups * ACT_NUMBERS * sizeof(float), 64);
    l.scales = l.halves + round_up(groups * 2 * HALF_NUMBERS * sizeof(float), 64);
    l.bf16 = l.scales + round_up(rows * sizeof(float), 64);
    l.bytes = l.bf16 + round_up(rows * round_up(cols, BF16_COLS) * sizeof(uint16_t), 64);
    return l;
}

static struct narrow take_narrow(unsigned char **next, size_t rows, size_t cols)
{
    const struct narrow_layout l = narrow_layout(rows, cols);
    unsigned char *memory = *next;
    *next += l.bytes;
    return (struct narrow){
        .int8 = {.codes = (int8_t *)memory,
                 .numbers = (float *)(void *)(memory + l.numbers),
                 .halves = (float *)(void *)(memory + l.halves),
                 .scales = (float *)(void *)(memory + l.scales)},
        .bf16 = (uint16_t *)(void *)(memory + l.bf16),
    };
}

/* Of any linear. */
static size_t most_rows(const struct cpu *cpu)
{
    const struct backend_shape *shape = &cpu->shape;
    return shape->max_rows > shape->max_logit_rows ? shape->max_rows : shape->max_logit_rows;
}

/* Makes room for narrow activations of another matrix. */
static int widen_narrow(struct cpu *cpu, size_t cols, struct llama3_error *err)
{
    size_t rows = most_rows(cpu), threads = (size_t)cpu->threads, row = round_up(cols, LANES);
    if (cols <= cpu->narrow_cols)
        return 0;
    /* The last tile of tokens may not be full; a tile is at most group_most. */
    rows += cpu->kernels->group_most;
    size_t bytes = 2 * narrow_layout(rows, cols).bytes +
                   threads * (narrow_layout(NARROW_FEW, cols).bytes + row * sizeof(float));
    unsigned char *memory = size_alloc_aligned(bytes, 1), *next = memory;
    if (memory == NULL)
        return error_memory(err, "activations", bytes);
    free(cpu->narrow_memory);
    cpu->narrow_memory = memory;
    cpu->narrow_cols = cols;
    for (size_t i = 0; i < 2; i++)
        cpu->narrow[i] = take_narrow(&next, rows, cols);
    for (size_t i = 0; i < threads; i++, next += row * sizeof(float)) {
        cpu->scratch[i].few = take_narrow(&next, NARROW_FEW, cols);
        cpu->scratch[i].row = (float *)(void *)next;
    }
    return 0;
}

/* Makes room for rows of floats in another matrix's order. */
static int widen_ordered(struct cpu *cpu, size_t cols, struct llama3_error *err)
{
    size_t rows = most_rows(cpu), stride = round_up(cols, LANES);
    if (stride <= cpu->ordered.stride)
        return 0;
    float *data = size_alloc_aligned(rows, stride * sizeof *data);
    if (data == NULL)
        return error_memory(err, "activations", rows * stride * sizeof *data);
    free(cpu->ordered.data);
    cpu->ordered = (struct buffer){data, rows, cols, stride};
    return 0;
}

struct repacking {
    const struct matrix *from;
    struct weight *to;
};

enum { REPACK_STRIPS = REPACK_ROWS / STRIP };

static void repack_rows(void *arg, size_t first, size_t end)
{
    const struct repacking *r = arg;
    for (size_t i = first; i < end; i++) {
        size_t row = i * REPACK_ROWS, left = r->from->rows - row;
        matrix_repack(r->from, row, left < REPACK_ROWS ? left : REPACK_ROWS,
                      (char *)r->to->memory + i * REPACK_STRIPS * r->to->layout.bytes);
    }
}

/* Copies or repacks a matrix for the integer kernels, unless it can be read as it is. */
static int take_groups(struct cpu *cpu, struct weight *w, struct llama3_error *err)
{
    struct matrix from = w->matrix, *m = &w->matrix;
    bool repack = matrix_target(&from, &m->type, &m->groups);
    size_t bytes = group_bytes(m->type, &m->groups, m->rows, m->cols);

    w->layout = strip_layout(m->type, &m->groups, m->cols);
    if (!repack && (uintptr_t)m->data % 64 == 0)
        return 0;
    w->memory = size_alloc_unset(bytes, 1);
    if (w->memory == NULL)
        return error_memory(err, "a matrix", bytes);
    m->data = w->memory;
    m->parts = NULL;
    place_new(cpu, w, w->memory);
    if (repack)
        cpu_share(cpu, (m->rows + REPACK_ROWS - 1) / REPACK_ROWS, 1, repack_rows,
                  &(struct repacking){&from, w});
    else
        memcpy(w->memory, from.data, bytes);
    return 0;
}

static int take_matrix(struct cpu *cpu, struct weight *w, struct llama3_error *err)
{
    struct group_format format;
    enum dtype grouped;
    bool has_table = cpu->kernels->linear_groups != NULL;

    if (has_table && (is_grouped(w->matrix.type) || matrix_target(&w->matrix, &grouped, &format)))
        return take_groups(cpu, w, err) == 0 ? widen_narrow(cpu, w->matrix.cols, err) : -1;
    w->pairs = w->matrix.type == DTYPE_BF16 && w->matrix.cols % BF16_COLS == 0 &&
               cpu->kernels->linear_bf16_products != NULL;
    if (w->pairs)
        return widen_narrow(cpu, w->matrix.cols, err);
    if (w->order != NULL && widen_ordered(cpu, w->matrix.cols, err) != 0)
        return -1;
    w->blas =
        (!has_table || w->matrix.type == DTYPE_F32 || w->matrix.type == DTYPE_F16) && has_blas(cpu);
    return w->blas ? widen_panels(cpu, w->matrix.cols, err) : 0;
}

/* Rows padded with zeros to whole vectors, as activations are. */
static int take_factor(struct weight *w, struct llama3_error *err)
{
    const struct matrix from = w->matrix;
    size_t cols = round_up(from.cols, LANES);
    if (cols == from.cols)
        return 0;
    float *rows = size_alloc_aligned(from.rows, cols * sizeof *rows);
    if (rows == NULL)
        return error_memory(err, "an adapter", from.rows * cols * sizeof *rows);
    for (size_t i = 0; i < from.rows; i++)
        memcpy(rows + i * cols, (const float *)from.data + i * from.cols, w->row_bytes);
    w->memory = rows;
    w->matrix.data = rows;
    w->matrix.cols = cols;
    w->row_bytes = cols * sizeof *rows;
    return 0;
}

static int take_vector(const struct cpu *cpu, struct weight *w, struct llama3_error *err)
{
    size_t cols = w->matrix.cols;
    w->vector = size_alloc_aligned(round_up(cols, LANES), sizeof *w->vector);
    if (w->vector == NULL)
        return error_memory(err, "a vector of weights", cols * sizeof *w->vector);
    cpu_expand(cpu, w, 0, 0, cols, w->vector);
    return 0;
}

struct weight *cpu_weight(struct backend *backend, const struct matrix *matrix, enum weight_use use,
                          struct llama3_error *err)
{
    struct cpu *cpu = (struct cpu *)backend;
    struct weight *w = size_alloc_for(1, sizeof *w, "a weight", err);
    if (w == NULL)
        return NULL;
    w->matrix = *matrix;
    w->order = matrix->parts != NULL ? matrix->parts->order : NULL;
    if (is_grouped(matrix->type))
        w->layout = strip_layout(matrix->type, &matrix->groups, matrix->cols);
    else if (matrix->parts == NULL)
        w->row_bytes = dtype_row_bytes(matrix->type, matrix->cols);
    if ((use == WEIGHT_MATRIX && take_matrix(cpu, w, err) != 0) ||
        (use == WEIGHT_VECTOR && take_vector(cpu, w, err) != 0) ||
        (use == WEIGHT_FACTOR && take_factor(w, err) != 0)) {
        cpu_weight_free(backend, w);
        return NULL;
    }
    return w;
}

struct copying {
    char *to;
    const char *from;
    size_t bytes;
};

enum { COPY_UNIT = 64 << 10 };

static void copy_units(void *arg, size_t first, size_t end)
{
    const struct copying *c = arg;
    size_t from = first * COPY_UNIT, to = end * COPY_UNIT < c->bytes ? end * COPY_UNIT : c->bytes;
    memcpy(c->to + from, c->from + from, to - from);
}

ptrdiff_t cpu_weight_load(struct backend *backend, struct weight *w, size_t most)
{
    struct cpu *cpu = (struct cpu *)backend;
    if (w->memory != NULL || w->vector != NULL || w->matrix.parts != NULL ||
        (uintptr_t)w->matrix.data % sizeof(float) != 0) /* BLAS would get f32 in another way */
        return 0;
    size_t bytes = matrix_bytes(&w->matrix), left = bytes - w->copied,
           n = left < most ? left : most;
    if (w->coming == NULL && (w->coming = size_alloc_unset(bytes, 1)) != NULL)
        place_new(cpu, w, w->coming);
    if (w->coming == NULL)
        return -1;
    cpu_share(cpu, (n + COPY_UNIT - 1) / COPY_UNIT, 1, copy_units,
              &(struct copying){(char *)w->coming + w->copied,
                                (const char *)w->matrix.data + w->copied, n});
    w->copied += n;
    if (w->copied < bytes)
        return (ptrdiff_t)(bytes - w->copied);
    team_settle(cpu->team); /* a late thread may still look at the weight */
    w->matrix.data = w->memory = w->coming;
    w->coming = NULL;
    return 0;
}

void cpu_weight_free(struct backend *backend, struct weight *w)
{
    if (w == NULL)
        return;
    team_settle(((struct cpu *)backend)->team); /* a late thread may still read the matrix */
    free(w->memory);
    free(w->coming);
    free(w->vector);
    free(w);
}
