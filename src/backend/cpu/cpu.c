/* cpu.c: opening, handles, and the batch. */
#include "backend/cpu/cpu.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/size.h"

/* ---- opening --------------------------------------------------------------------------- */

static void cpu_close(struct backend *backend)
{
    struct cpu *cpu = cpu_of(backend);
    for (size_t t = 0; cpu->scratch != NULL && t < cpu->threads; t++) {
        struct scratch *s = &cpu->scratch[t];
        free(s->tile);
        free(s->q);
        free(s->whole.max);
        free(s->part.max);
    }
    free(cpu->scratch);
    free(cpu->inv_freq);
    free(cpu->blas_tile);
    free(cpu->rows);
    free(cpu->seqs);
    free(cpu->cos);
    free(cpu->sin);
    free(cpu->parts);
    free(cpu);
}

static bool open_attention(struct attention *state, size_t group, size_t head_dim)
{
    float *memory = size_alloc_aligned(group * (head_dim + 2), sizeof *memory);
    *state = (struct attention){.max = memory};
    if (memory == NULL)
        return false;
    state->sum = memory + group;
    state->acc = memory + 2 * group;
    return true;
}

static bool open_memory(struct cpu *cpu)
{
    const struct backend_shape *s = &cpu->shape;
    size_t half = s->head_dim / 2;

    cpu->scratch = size_alloc(cpu->threads, sizeof *cpu->scratch);
    cpu->inv_freq = size_alloc(half, sizeof *cpu->inv_freq);
    cpu->rows = size_alloc(s->max_rows, sizeof *cpu->rows);
    cpu->seqs = size_alloc(s->max_seqs, sizeof(struct kv *));
    cpu->cos = size_alloc(s->max_rows, half * sizeof *cpu->cos);
    cpu->sin = size_alloc(s->max_rows, half * sizeof *cpu->sin);
    if (cpu->scratch == NULL || cpu->inv_freq == NULL || cpu->rows == NULL || cpu->seqs == NULL ||
        cpu->cos == NULL || cpu->sin == NULL)
        return false;
    memcpy(cpu->inv_freq, s->inv_freq, half * sizeof *cpu->inv_freq);
    for (size_t t = 0; t < cpu->threads; t++) {
        struct scratch *scratch = &cpu->scratch[t];
        scratch->q = size_alloc_aligned(cpu->group * s->head_dim, sizeof *scratch->q);
        if (scratch->q == NULL || !open_attention(&scratch->whole, cpu->group, s->head_dim) ||
            !open_attention(&scratch->part, cpu->group, s->head_dim))
            return false;
    }
    return true;
}

static struct backend *cpu_open(const struct backend_options *options,
                                const struct backend_shape *shape, struct llama3_error *err)
{
    const struct kernels *kernels = kernels_choose(err);
    if (kernels == NULL)
        return NULL;
    struct cpu *cpu = size_alloc(1, sizeof *cpu);
    if (cpu == NULL) {
        error_memory(err, "the CPU backend", sizeof *cpu);
        return NULL;
    }
    cpu->base.ops = &cpu_ops;
    cpu->shape = *shape;
    cpu->shape.inv_freq = NULL;
    cpu->kernels = kernels;
    cpu->threads = (size_t)options->threads;
    cpu->group = shape->n_heads / shape->n_kv_heads;
    cpu->kv_element = shape->kv_type == LLAMA3_KV_F32 ? sizeof(float) : sizeof(uint16_t);
    cpu->page_bytes =
        shape->n_layers * shape->n_kv_heads * 2 * shape->head_dim * KV_PAGE * cpu->kv_element;
    /* The scalar table is the reference: it rounds as it says, whatever the batch. */
    cpu->may_blas = blas_available() && !options->no_blas && kernels != &kernels_scalar;
    if (cpu->may_blas)
        blas_open(cpu->threads);
    cpu->shape.inv_freq = shape->inv_freq;
    if (!open_memory(cpu)) {
        error_memory(err, "the CPU backend", shape->max_rows * shape->head_dim * sizeof(float));
        cpu_close(&cpu->base);
        return NULL;
    }
    cpu->shape.inv_freq = cpu->inv_freq;
    return &cpu->base;
}

static const char *cpu_describe(const struct backend *backend, const char **exactness)
{
    static const char *const names[] = {"cpu (scalar)", "cpu (avx2)", "cpu (avx512)", "cpu (neon)"};
    const struct cpu *cpu = (const struct cpu *)backend;
    *exactness = cpu->has_blas_weights
                     ? "bit-identical for any threads; prompts go through OpenBLAS in chunks and "
                       "agree to rounding"
                     : "bit-identical for any threads, chunks, batches and reused prefixes";
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++)
        if (strstr(names[i], cpu->kernels->name) != NULL)
            return names[i];
    return "cpu";
}

static void cpu_run(struct backend *backend, void (*fn)(void *arg), void *arg)
{
    struct cpu *cpu = cpu_of(backend);
    if (cpu->alone)
        fn(arg);
    else
        team_run(cpu->threads, fn, arg);
}

/* ---- handles --------------------------------------------------------------------------- */

/* Room for expanding a tile of this weight, on every thread or for BLAS. */
static int reserve_tiles(struct cpu *cpu, const struct weight *w, struct llama3_error *err)
{
    size_t cols = w->matrix.cols;
    bool stored =
        w->matrix.type == DTYPE_F32 || w->matrix.type == DTYPE_F16 || w->matrix.type == DTYPE_BF16;
    if (!stored && cols > cpu->max_cols) {
        for (size_t t = 0; t < cpu->threads; t++) {
            free(cpu->scratch[t].tile);
            cpu->scratch[t].tile = size_alloc_aligned(TILE_ROWS * cols, sizeof(float));
            if (cpu->scratch[t].tile == NULL)
                return error_memory(err, "a tile of weights", TILE_ROWS * cols * sizeof(float));
        }
        cpu->max_cols = cols;
    }
    if (w->blas && cols > cpu->blas_cols) {
        free(cpu->blas_tile);
        cpu->blas_tile = size_alloc_aligned(BLAS_TILE * cols, sizeof(float));
        if (cpu->blas_tile == NULL)
            return error_memory(err, "a tile of weights", BLAS_TILE * cols * sizeof(float));
        cpu->blas_cols = cols;
    }
    return 0;
}

static struct weight *cpu_weight(struct backend *backend, const struct matrix *matrix,
                                 enum weight_use use, struct llama3_error *err)
{
    struct cpu *cpu = cpu_of(backend);
    struct weight *w = size_alloc(1, sizeof *w);
    if (w == NULL) {
        error_memory(err, "a weight", sizeof *w);
        return NULL;
    }
    w->matrix = *matrix;
    w->row_bytes = dtype_row_bytes(matrix->type, matrix->cols);
    if (use == WEIGHT_VECTOR) {
        w->vector = size_alloc_aligned(matrix->cols, sizeof *w->vector);
        if (w->vector == NULL) {
            error_memory(err, "a norm", matrix->cols * sizeof *w->vector);
            free(w);
            return NULL;
        }
        dtype_expand(matrix->type, matrix->data, w->vector, matrix->cols);
        return w;
    }
    w->blas = cpu->may_blas && (matrix->type == DTYPE_F32 || matrix->type == DTYPE_F16);
    if (reserve_tiles(cpu, w, err) < 0) {
        free(w);
        return NULL;
    }
    cpu->has_blas_weights |= w->blas;
    return w;
}

static void cpu_weight_free(struct backend *backend, struct weight *w)
{
    (void)backend;
    free(w->vector);
    free(w);
}

static struct buffer *cpu_buffer(struct backend *backend, enum rows rows, size_t cols,
                                 struct llama3_error *err)
{
    const struct backend_shape *shape = &cpu_of(backend)->shape;
    size_t n = rows == ROWS_ALL ? shape->max_rows : shape->max_logit_rows, size = 0;
    struct buffer *b = size_alloc(1, sizeof *b);
    float *data = size_mul(n, cols, &size) ? size_alloc_aligned(size, sizeof *data) : NULL;
    if (b == NULL || data == NULL) {
        error_memory(err, "activations", size * sizeof *data);
        free(b);
        free(data);
        return NULL;
    }
    *b = (struct buffer){rows, cols, data};
    return b;
}

static void cpu_buffer_free(struct backend *backend, struct buffer *b)
{
    (void)backend;
    free(b->data);
    free(b);
}

/* ---- the batch ------------------------------------------------------------------------- */

static int check_row(const struct cpu *cpu, const struct batch *batch, size_t r,
                     struct llama3_error *err)
{
    const struct batch_row *row = &batch->rows[r];
    if (row->token < 0 || row->position < 0 || row->seq < 0 || (size_t)row->seq >= batch->n_seqs ||
        (size_t)row->position >= cpu->shape.max_context)
        return error_set(err, LLAMA3_EINPUT,
                         "row %zu: token %d, position %d, sequence %d is out of range", r,
                         (int)row->token, (int)row->position, (int)row->seq);
    if (cpu->shape.n_layers > 0 &&
        (size_t)row->position >= batch->seqs[row->seq]->n_pages * KV_PAGE)
        return error_set(err, LLAMA3_EINPUT, "row %zu: position %d was not reserved", r,
                         (int)row->position);
    return 0;
}

/* In float, as transformers computes the angle. */
static void turn(struct cpu *cpu, size_t r)
{
    size_t half = cpu->shape.head_dim / 2;
    for (size_t i = 0; i < half; i++) {
        float angle = (float)cpu->rows[r].position * cpu->inv_freq[i];
        cpu->cos[r * half + i] = (float)cos((double)angle);
        cpu->sin[r * half + i] = (float)sin((double)angle);
    }
}

static int cpu_batch(struct backend *backend, const struct batch *batch, struct llama3_error *err)
{
    struct cpu *cpu = cpu_of(backend);
    size_t n_logits = 0;

    if (batch->n_rows == 0 || batch->n_rows > cpu->shape.max_rows ||
        batch->n_seqs > cpu->shape.max_seqs)
        return error_set(err, LLAMA3_EINPUT,
                         "a batch has 1 to %zu rows of at most %zu sequences, found %zu of %zu",
                         cpu->shape.max_rows, cpu->shape.max_seqs, batch->n_rows, batch->n_seqs);
    for (size_t r = 0; r < batch->n_rows; r++) {
        if (check_row(cpu, batch, r, err) < 0)
            return -1;
        n_logits += batch->rows[r].wants_logits;
    }
    if (n_logits > cpu->shape.max_logit_rows)
        return error_set(err, LLAMA3_EINPUT, "a batch wants logits of at most %zu rows, found %zu",
                         cpu->shape.max_logit_rows, n_logits);

    memcpy(cpu->rows, batch->rows, batch->n_rows * sizeof *cpu->rows);
    memcpy(cpu->seqs, batch->seqs, batch->n_seqs * sizeof(struct kv *));
    cpu->n_rows = batch->n_rows;
    cpu->n_logits = n_logits;
    cpu->alone = cpu->has_blas_weights && batch->n_rows >= BLAS_MIN_ROWS;
    for (size_t r = 0; r < cpu->n_rows; r++)
        turn(cpu, r);
    return cpu_attend_prepare(cpu, err);
}

static void cpu_write(struct backend *backend, enum rows rows, struct buffer *buffer,
                      const float *data)
{
    memcpy(buffer->data, data, cpu_rows(cpu_of(backend), rows) * buffer->cols * sizeof *data);
}

static int cpu_read(struct backend *backend, enum rows rows, const struct buffer *buffer,
                    float *data, struct llama3_error *err)
{
    (void)err;
    size_t n = cpu_rows(cpu_of(backend), rows) * buffer->cols;
    if (n > 0)
        memcpy(data, buffer->data, n * sizeof *data);
    return 0;
}

const struct backend_ops cpu_ops = {
    .name = "cpu",
    .open = cpu_open,
    .close = cpu_close,
    .describe = cpu_describe,
    .run = cpu_run,
    .weight = cpu_weight,
    .weight_free = cpu_weight_free,
    .buffer = cpu_buffer,
    .buffer_free = cpu_buffer_free,
    .kv_open = cpu_kv_open,
    .kv_close = cpu_kv_close,
    .kv_reserve = cpu_kv_reserve,
    .kv_truncate = cpu_kv_truncate,
    .kv_fork = cpu_kv_fork,
    .kv_export = cpu_kv_export,
    .kv_import = cpu_kv_import,
    .kv_bytes = cpu_kv_bytes,
    .batch = cpu_batch,
    .embed = cpu_embed,
    .add_norm = cpu_add_norm,
    .linear = cpu_linear,
    .rope_store = cpu_rope_store,
    .attend = cpu_attend,
    .swiglu = cpu_swiglu,
    .write = cpu_write,
    .read = cpu_read,
};
