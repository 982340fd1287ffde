/*
 * linear.c: y = W x. Every thread takes a share of the rows of W; types that `dot` cannot read as
 * they are stored are expanded a tile of rows at a time. Where BLAS computes, W goes to it whole,
 * or in tiles of f32.
 */
#include "backend/cpu/cpu.h"

struct linear_args {
    size_t n; /* rows of x and y */
    struct buffer *y;
    const struct weight *w;
    const struct buffer *x;
};

static const uint8_t *row_of(const struct weight *w, size_t r)
{
    return (const uint8_t *)w->matrix.data + r * w->row_bytes;
}

static dot_kernel *dot_for(const struct kernels *kernels, enum dtype type)
{
    switch (type) {
    case DTYPE_F32:
        return kernels->dot_f32;
    case DTYPE_F16:
        return kernels->dot_f16;
    case DTYPE_BF16:
        return kernels->dot_bf16;
    default:
        return NULL;
    }
}

/* A thread's rows, by tiles small enough to stay in its cache while all of x passes by. */
static void linear(struct cpu *cpu, struct team team, const void *args)
{
    const struct linear_args *a = args;
    const struct matrix *m = &a->w->matrix;
    dot_kernel *dot = dot_for(cpu->kernels, m->type);
    float *tile = cpu->scratch[team.id].tile;
    size_t end, from = team_share(team, m->rows, TILE_ROWS, &end);

    for (size_t r = from; r < end; r += TILE_ROWS) {
        size_t n = end - r < TILE_ROWS ? end - r : TILE_ROWS;
        if (dot != NULL) {
            dot(row_of(a->w, r), a->w->row_bytes, n, a->x->data, a->x->cols, a->n, m->cols,
                a->y->data + r, a->y->cols);
            continue;
        }
        for (size_t i = 0; i < n; i++)
            cpu->kernels->expand(m->type, row_of(a->w, r + i), tile + i * m->cols, m->cols);
        cpu->kernels->dot_f32(tile, m->cols * sizeof *tile, n, a->x->data, a->x->cols, a->n,
                              m->cols, a->y->data + r, a->y->cols);
    }
}

struct expand_args {
    const struct weight *w;
    size_t first, n; /* rows */
};

static void expand(struct cpu *cpu, struct team team, const void *args)
{
    const struct expand_args *a = args;
    const struct matrix *m = &a->w->matrix;
    for (size_t i = team.id; i < a->n; i += team.size)
        cpu->kernels->expand(m->type, row_of(a->w, a->first + i), cpu->blas_tile + i * m->cols,
                             m->cols);
}

static void linear_blas(struct cpu *cpu, const struct linear_args *a)
{
    const struct matrix *m = &a->w->matrix;
    if (m->type == DTYPE_F32 && (uintptr_t)m->data % sizeof(float) == 0) {
        blas_linear(m->data, m->cols, m->rows, m->cols, a->x->data, a->n, a->y->data, a->y->cols);
        return;
    }
    for (size_t r = 0; r < m->rows; r += BLAS_TILE) {
        size_t n = m->rows - r < BLAS_TILE ? m->rows - r : BLAS_TILE;
        cpu_each(cpu, true, expand, &(struct expand_args){a->w, r, n});
        blas_linear(cpu->blas_tile, m->cols, n, m->cols, a->x->data, a->n, a->y->data + r,
                    a->y->cols);
    }
}

void cpu_linear(struct backend *backend, enum rows rows, struct buffer *const y[],
                const struct weight *const w[], size_t n, const struct buffer *x)
{
    struct cpu *cpu = cpu_of(backend);
    for (size_t i = 0; i < n; i++) {
        struct linear_args args = {cpu_rows(cpu, rows), y[i], w[i], x};
        if (cpu->alone && w[i]->blas && args.n >= BLAS_MIN_ROWS)
            linear_blas(cpu, &args);
        else
            cpu_each(cpu, i == 0, linear, &args); /* one wait is enough for all that read x */
    }
}
