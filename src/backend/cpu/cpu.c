/* SPDX-License-Identifier: MIT */
/* cpu.c: opening and closing, memory, weights and buffers, and the batch. */
#include "config.h"

#include "backend/cpu/cpu.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/numa.h"
#include "base/size.h"

/* Scratch of all threads in one block. Every array starts on its own cache line. */
static int allocate_scratch(struct cpu *cpu, struct llama3_error *err)
{
    size_t queries = cpu->tile_rows * cpu->group;
    size_t states = round_up(queries * cpu->state_size, LANES);
    size_t q = round_up(queries * cpu->shape.head_dim, LANES);
    size_t head = cpu->padded_dim, page = 2 * KV_PAGE * cpu->padded_dim;
    size_t panel = (size_t)PANEL_ROWS * PANEL_COLS;
    size_t partial = (size_t)PANEL_ROWS * PANEL_TOKENS * LANES;
    size_t groups = sizeof(struct group_scratch) / sizeof(float);
    size_t floats =
        panel + partial + q + page + 2 * states + 3 * head + groups + cpu->piece_numbers;
    size_t threads = (size_t)cpu->threads;

    cpu->scratch = size_alloc(threads, sizeof *cpu->scratch);
    cpu->scratch_memory = size_alloc_aligned(threads, floats * sizeof(float));
    if (cpu->scratch == NULL || cpu->scratch_memory == NULL)
        return error_memory(err, "the threads' scratch", threads * floats * sizeof(float));
    float *next = (float *)(void *)cpu->scratch_memory;
    for (size_t i = 0; i < threads; i++) {
        struct scratch *scratch = &cpu->scratch[i];
        scratch->panel = next;
        scratch->partial = scratch->panel + panel;
        scratch->q = scratch->partial + partial;
        scratch->page = scratch->q + q;
        scratch->chunk = scratch->page + page;
        scratch->total = scratch->chunk + states;
        scratch->head = scratch->total + states;
        scratch->stored_k = scratch->head + head;
        scratch->stored_v = scratch->head + 2 * head;
        scratch->groups = (struct group_scratch *)(void *)(scratch->head + 3 * head);
        scratch->out = scratch->head + 3 * head + groups;
        next += floats;
        numa_place(cpu->numa, numa_node(cpu->numa, i), scratch->panel, floats * sizeof(float));
    }
    return 0;
}

static int allocate_batch(struct cpu *cpu, struct llama3_error *err)
{
    const struct backend_shape *shape = &cpu->shape;
    size_t rows = shape->max_rows, half = shape->head_dim / 2;

    cpu->inv_freq = size_alloc(half, sizeof *cpu->inv_freq);
    cpu->rows = size_alloc(rows, sizeof *cpu->rows);
    cpu->logit_rows = size_alloc(shape->max_logit_rows, sizeof *cpu->logit_rows);
    cpu->row_pages = size_alloc(rows, sizeof *cpu->row_pages);
    cpu->cosine = size_alloc(rows, half * sizeof *cpu->cosine);
    cpu->sine = size_alloc(rows, half * sizeof *cpu->sine);
    cpu->tiles = size_alloc(rows, sizeof *cpu->tiles);
    cpu->thin_rank = round_up(shape->max_rank, LANES);
    cpu->scales = size_alloc(shape->max_seqs, shape->n_adapters * sizeof *cpu->scales);
    cpu->thin = size_alloc_aligned(rows > shape->max_logit_rows ? rows : shape->max_logit_rows,
                                   3 * cpu->thin_rank * sizeof *cpu->thin);
    if (cpu->inv_freq == NULL || cpu->rows == NULL || cpu->logit_rows == NULL ||
        cpu->row_pages == NULL || cpu->cosine == NULL || cpu->sine == NULL || cpu->tiles == NULL ||
        cpu->scales == NULL || cpu->thin == NULL)
        return error_memory(err, "a batch", rows * (half * 2 * sizeof(float) + 64));
    memcpy(cpu->inv_freq, shape->inv_freq, half * sizeof *cpu->inv_freq);
    cpu->shape.inv_freq = cpu->inv_freq;
    return 0;
}

static void cpu_close(struct backend *backend)
{
    struct cpu *cpu = (struct cpu *)backend;
    if (cpu == NULL)
        return;
    team_close(cpu->team);
    numa_close(cpu->numa);
    free(cpu->scratch);
    free(cpu->scratch_memory);
    free(cpu->inv_freq);
    free(cpu->rows);
    free(cpu->logit_rows);
    free(cpu->row_pages);
    free(cpu->cosine);
    free(cpu->sine);
    free(cpu->tiles);
    free(cpu->scales);
    free(cpu->thin);
    free(cpu->chunk_states);
    free(cpu->blas_panels);
    free(cpu->narrow_memory);
    free(cpu->ordered.data);
    free(cpu);
}

/* The memory nodes, and the description that names them. */
static void find_nodes(struct cpu *cpu, bool wanted)
{
    char note[NUMA_NOTE] = "", nodes[NUMA_NOTE + 64] = "";
    cpu->numa = wanted ? numa_open((size_t)cpu->threads, note) : NULL;
    if (cpu->numa != NULL)
        snprintf(nodes, sizeof nodes, ", %zu memory nodes", numa_nodes(cpu->numa));
    else if (note[0] != '\0')
        snprintf(nodes, sizeof nodes, ", memory nodes used as one: %s", note);
    const char *name = cpu->kernels->description;
    snprintf(cpu->description, sizeof cpu->description, "%.*s%s)", (int)strlen(name) - 1, name,
             nodes);
}

static struct backend *cpu_open(const struct backend_options *options,
                                const struct backend_shape *shape, struct llama3_error *err)
{
    enum { SHARING = 192 }; /* queries attended together, where a KV head has fewer */
    const struct kernels *kernels = kernels_choose(err);
    if (kernels == NULL)
        return NULL;
    struct cpu *cpu = size_alloc_for(1, sizeof *cpu, "a backend", err);
    if (cpu == NULL)
        return NULL;

    cpu->base.ops = &cpu_ops;
    cpu->kernels = kernels;
    cpu->shape = *shape;
    cpu->threads = options->threads;
    /* The scalar table, asked for by name, is what everything is compared with. */
    cpu->use_blas =
        !options->no_blas && (kernels != &kernels_scalar || getenv("LLAMA3_CPU") == NULL);
    cpu->group = shape->n_heads / shape->n_kv_heads;
    cpu->padded_dim = round_up(shape->head_dim, LANES);
    cpu->kv_size = kv_number_bytes(shape->kv_type);
    cpu->scale_size = kv_key_bytes(shape->kv_type, 0);
    cpu->k_bytes = KV_PAGE * kv_key_bytes(shape->kv_type, shape->head_dim);
    cpu->v_bytes = KV_PAGE * kv_value_bytes(shape->kv_type, cpu->padded_dim);
    kv_open_pool(cpu);
    cpu->tile_rows = cpu->group < SHARING ? SHARING / cpu->group : 1;
    cpu->piece_numbers =
        UNIT_ROWS * shape->max_rows > PIECE_NUMBERS ? UNIT_ROWS * shape->max_rows : PIECE_NUMBERS;
    cpu->state_size = round_up(cpu->padded_dim + 2, LANES);
    find_nodes(cpu, options->numa);
    cpu->team = team_open(cpu->threads, cpu->numa, err);
    if (cpu->team == NULL || allocate_scratch(cpu, err) != 0 || allocate_batch(cpu, err) != 0) {
        cpu_close(&cpu->base);
        return NULL;
    }
    return &cpu->base;
}

static const char *cpu_describe(const struct backend *backend, const char **exactness)
{
    const struct cpu *cpu = (const struct cpu *)backend;
    if (exactness != NULL)
        *exactness = cpu->blas_cols > 0
                         ? "bit-identical for any threads, chunks and batches, except where "
                           "OpenBLAS reads prompts with f32 or f16 weights: there to rounding"
                     : cpu->lack[0] != '\0' ? cpu->lack
                                            : "bit-identical for any threads, chunks and batches";
    return cpu->description;
}

static bool cpu_weight_is_copy(const struct backend *backend, const struct weight *weight)
{
    (void)backend;
    return weight->memory != NULL || weight->vector != NULL;
}

static void cpu_run(struct backend *backend, void (*fn)(void *arg), void *arg)
{
    numa_run(((struct cpu *)backend)->numa, 0, fn, arg);
}

static struct buffer *cpu_buffer(struct backend *backend, enum rows rows, size_t cols,
                                 struct llama3_error *err)
{
    const struct cpu *cpu = (const struct cpu *)backend;
    struct buffer *buffer = size_alloc(1, sizeof *buffer);
    size_t n = rows == ROWS_LOGITS ? cpu->shape.max_logit_rows : cpu->shape.max_rows;
    size_t row_bytes = round_up(cols, LANES) * sizeof(float);

    if (buffer != NULL)
        buffer->data = size_alloc_aligned(n, row_bytes);
    if (buffer == NULL || buffer->data == NULL) {
        free(buffer);
        error_memory(err, "activations", n * row_bytes);
        return NULL;
    }
    buffer->rows = n;
    buffer->cols = cols;
    buffer->stride = round_up(cols, LANES);
    return buffer;
}

static void cpu_buffer_free(struct backend *backend, struct buffer *buffer)
{
    (void)backend;
    if (buffer == NULL)
        return;
    free(buffer->data);
    free(buffer);
}

/* Takes over one row of the batch. */
static void take_row(struct cpu *cpu, const struct batch *batch, size_t i)
{
    const struct batch_row *row = &batch->rows[i];
    const struct kv *kv = batch->seqs[row->seq];

    cpu->rows[i] = *row;
    cpu->row_pages[i] = kv != NULL ? kv->pages : NULL;
    if (row->wants_logits)
        cpu->logit_rows[cpu->n_logit_rows++] = i;
    float scale = backend_rope_scale(&cpu->shape);
    size_t half = cpu->shape.n_layers > 0 ? cpu->shape.head_dim / 2 : 0; /* where any is rotated */
    for (size_t j = 0; j < half; j++) {
        float angle = (float)row->position * cpu->inv_freq[j];
        cpu->cosine[i * half + j] = cosf(angle) * scale;
        cpu->sine[i * half + j] = sinf(angle) * scale;
    }
}

static int cpu_batch(struct backend *backend, const struct batch *batch, struct llama3_error *err)
{
    struct cpu *cpu = (struct cpu *)backend;

    cpu->n_rows = cpu->n_logit_rows = cpu->n_tiles = cpu->n_split = cpu->n_jobs = 0;
    atomic_store(&cpu->failed, false);
    if (pages_check_batch(&cpu->pool, &cpu->shape, batch, err) != 0)
        return -1;
    for (size_t i = 0; i < batch->n_rows; i++)
        take_row(cpu, batch, i);
    for (size_t i = 0; i < batch->n_seqs * cpu->shape.n_adapters; i++)
        cpu->scales[i] = batch->scales != NULL ? batch->scales[i] : 0;
    cpu->n_rows = batch->n_rows;
    if (cpu->shape.n_layers > 0 && attend_plan(cpu, err) != 0) {
        cpu->n_rows = cpu->n_logit_rows = cpu->n_tiles = cpu->n_split = cpu->n_jobs = 0;
        return -1;
    }
    return 0;
}

static void cpu_write(struct backend *backend, enum rows rows, struct buffer *buffer,
                      const float *data)
{
    size_t n = cpu_rows((struct cpu *)backend, rows);
    for (size_t i = 0; i < n; i++)
        memcpy(buffer->data + i * buffer->stride, data + i * buffer->cols,
               buffer->cols * sizeof *data);
}

static int cpu_read(struct backend *backend, enum rows rows, const struct buffer *buffer,
                    float *data, struct llama3_error *err)
{
    const struct cpu *cpu = (const struct cpu *)backend;
    if (atomic_load(&cpu->failed))
        return error_input(err, "a token of the batch is not in the vocabulary");
    size_t n = cpu_rows(cpu, rows);
    for (size_t i = 0; i < n; i++)
        memcpy(data + i * buffer->cols, buffer->data + i * buffer->stride,
               buffer->cols * sizeof *data);
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
    .weight_is_copy = cpu_weight_is_copy,
    .weight_load = cpu_weight_load,
    .weight_place = cpu_weight_place,
    .buffer = cpu_buffer,
    .buffer_free = cpu_buffer_free,
    .kv_open = pages_kv_open,
    .kv_close = pages_kv_close,
    .kv_reserve = pages_reserve,
    .kv_truncate = pages_truncate,
    .kv_missing = pages_missing,
    .kv_fork = pages_fork,
    .kv_share = pages_share,
    .kv_export = cpu_kv_export,
    .kv_import = cpu_kv_import,
    .kv_bytes = pages_bytes,
    .kv_page_size = pages_size,
    .kv_page = cpu_kv_page,
    .kv_lend = pages_lend,
    .kv_check = pages_check_lent,
    .batch = cpu_batch,
    .embed = cpu_embed,
    .add_norm = cpu_add_norm,
    .linear = cpu_linear,
    .adapt = cpu_adapt,
    .rope_store = cpu_rope_store,
    .attend = cpu_attend,
    .swiglu = cpu_swiglu,
    .write = cpu_write,
    .read = cpu_read,
};
