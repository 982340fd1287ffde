/* SPDX-License-Identifier: MIT */
/*
 * attend.c: attention over KV pages. Queries of one KV head, of a few consecutive rows of a
 * sequence, are attended together, so that K and V are loaded once for all of them.
 *
 * A row's pages are cut into chunks of CHUNK_PAGES. The softmax states of chunks are always merged
 * in ascending order. So chunks can be split over threads, for few rows with long contexts, and
 * give the same bits as one thread that goes through all of them.
 */
#include "backend/cpu/cpu.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/size.h"

enum { CHUNK_PAGES = 8, CHUNK = CHUNK_PAGES * KV_PAGE };

/* A softmax state is [padded_dim] sums of V, the largest score, the sum of weights. */

static void state_clear(const struct cpu *cpu, float *state)
{
    memset(state, 0, cpu->state_size * sizeof *state);
    state[cpu->padded_dim] = -INFINITY;
}

static void state_merge(const struct cpu *cpu, float *total, const float *other, bool first)
{
    size_t dim = cpu->padded_dim;
    if (first) {
        memcpy(total, other, cpu->state_size * sizeof *total);
        return;
    }
    float max = fmaxf(total[dim], other[dim]);
    float a = expf(total[dim] - max), b = expf(other[dim] - max);
    for (size_t i = 0; i < cpu->shape.head_dim; i++)
        total[i] = total[i] * a + other[i] * b;
    total[dim] = max;
    total[dim + 1] = total[dim + 1] * a + other[dim + 1] * b;
}

static void state_finish(const struct cpu *cpu, const float *state, float *y /* [head_dim] */)
{
    for (size_t i = 0; i < cpu->shape.head_dim; i++)
        y[i] = state[i] / state[cpu->padded_dim + 1];
}

/* Copies a KV head's queries of a tile's rows side by side. */
static void gather_queries(const struct cpu *cpu, struct row_tile tile, size_t kv_head,
                           const struct buffer *q, float *out)
{
    size_t n = cpu->group * cpu->shape.head_dim;
    for (size_t i = 0; i < tile.count; i++)
        memcpy(out + i * n, q->data + (tile.first + i) * q->stride + kv_head * n, n * sizeof *out);
}

/* Attends queries to a page. For many, K and V are expanded once, not for each few of them; the
 * bits are the same. */
static void attend_queries(const struct cpu *cpu, const struct attend_page *page)
{
    enum { MANY = 12 }; /* what pays */
    const struct kernels *kernels = cpu->kernels;
    float *k = cpu->scratch[thread_index()].page, *v = k + page->head_dim * KV_PAGE;
    struct attend_page a = *page;
    if (cpu->shape.kv_type != LLAMA3_KV_F16 || page->n_queries < MANY ||
        kernels->expand[DTYPE_F16] == NULL) {
        kernels->kv[cpu->shape.kv_type].attend(page);
        return;
    }
    kernels->expand[DTYPE_F16](page->k, k, page->head_dim * KV_PAGE);
    kernels->expand[DTYPE_F16](page->v, v, page->padded_dim * KV_PAGE);
    a.k = a.next = k;
    a.v = v;
    kernels->kv[LLAMA3_KV_F32].attend(&a);
}

/* The states of a tile's queries over one chunk of pages. Rows are in ascending order of position;
 * the caller has dropped those that end before the chunk. */
static void attend_chunk(const struct cpu *cpu, size_t layer, size_t kv_head, struct row_tile tile,
                         size_t chunk, const float *q, float *states)
{
    struct attend_page a = {
        .head_dim = cpu->shape.head_dim,
        .padded_dim = cpu->padded_dim,
        .scale = 1.0f / sqrtf((float)cpu->shape.head_dim),
        .state_size = cpu->state_size,
    };
    const struct batch_row *rows = cpu->rows + tile.first;
    size_t last = (size_t)rows[tile.count - 1].position, row = 0;

    for (size_t i = 0; i < tile.count * cpu->group; i++)
        state_clear(cpu, states + i * cpu->state_size);
    for (size_t start = chunk * CHUNK; start <= last && start < (chunk + 1) * CHUNK;
         start += KV_PAGE) {
        struct page *page = cpu->row_pages[tile.first][start / KV_PAGE];
        a.k = page_k(cpu, page, layer, kv_head);
        a.v = page_v(cpu, page, layer, kv_head);
        a.next = start + KV_PAGE > last
                     ? a.k
                     : page_k(cpu, cpu->row_pages[tile.first][start / KV_PAGE + 1], layer, kv_head);
        while (row < tile.count) {
            /* Rows that see the whole page are attended together, the others one by one. */
            size_t seen = (size_t)rows[row].position + 1 - start;
            bool whole = seen >= KV_PAGE;
            a.count = whole ? KV_PAGE : seen;
            a.n_queries = (whole ? tile.count - row : 1) * cpu->group;
            a.q = q + row * cpu->group * a.head_dim;
            a.states = states + row * cpu->group * a.state_size;
            attend_queries(cpu, &a);
            if (whole)
                break;
            row++;
        }
        /* Drops the rows whose last position is this page's last slot. */
        while (row < tile.count && (size_t)rows[row].position < start + KV_PAGE)
            row++;
    }
}

static size_t last_chunk(const struct cpu *cpu, size_t row)
{
    return (size_t)cpu->rows[row].position / CHUNK;
}

/* All chunks of a tile, one after another. */
static void attend_tile(const struct cpu *cpu, size_t layer, struct row_tile tile, size_t kv_head,
                        const struct buffer *q, struct buffer *y)
{
    const struct scratch *scratch = &cpu->scratch[thread_index()];
    size_t group = cpu->group, size = cpu->state_size, dim = cpu->shape.head_dim;
    size_t last = last_chunk(cpu, tile.first + tile.count - 1), done = 0;

    gather_queries(cpu, tile, kv_head, q, scratch->q);
    for (size_t chunk = 0; chunk <= last; chunk++) {
        while (last_chunk(cpu, tile.first + done) < chunk)
            done++;
        struct row_tile rest = {tile.first + done, tile.count - done};
        size_t query = done * group;
        attend_chunk(cpu, layer, kv_head, rest, chunk, scratch->q + query * dim, scratch->chunk);
        for (size_t i = 0; i < rest.count * group; i++)
            state_merge(cpu, scratch->total + (query + i) * size, scratch->chunk + i * size,
                        chunk == 0);
    }
    for (size_t i = 0; i < tile.count * group; i++)
        state_finish(cpu, scratch->total + i * size,
                     y->data + (tile.first + i / group) * y->stride +
                         (kv_head * group + i % group) * dim);
}

/* [n_queries of the KV head][state_size] of one chunk of a row. */
static float *chunk_states(const struct cpu *cpu, size_t row, size_t kv_head, size_t chunk)
{
    size_t index = (row * cpu->shape.n_kv_heads + kv_head) * cpu->n_chunks + chunk;
    return cpu->chunk_states + index * cpu->group * cpu->state_size;
}

struct attention {
    const struct cpu *cpu;
    size_t layer;
    const struct buffer *q;
    struct buffer *y;
};

/* Chunks of KV heads of rows. */
static void attend_chunks(void *arg, size_t first, size_t end)
{
    const struct attention *a = arg;
    const struct cpu *cpu = a->cpu;
    const struct scratch *scratch = &cpu->scratch[thread_index()];
    size_t heads = cpu->shape.n_kv_heads;

    for (size_t i = first; i < end; i++) {
        size_t chunk = i % cpu->n_chunks, head = i / cpu->n_chunks % heads;
        size_t row = i / cpu->n_chunks / heads;
        struct row_tile tile = {row, 1};
        if (chunk > last_chunk(cpu, row))
            continue;
        gather_queries(cpu, tile, head, a->q, scratch->q);
        attend_chunk(cpu, a->layer, head, tile, chunk, scratch->q,
                     chunk_states(cpu, row, head, chunk));
    }
}

/* Merges the chunks of query heads of rows. */
static void merge_chunks(void *arg, size_t first, size_t end)
{
    const struct attention *a = arg;
    const struct cpu *cpu = a->cpu;
    const struct scratch *scratch = &cpu->scratch[thread_index()];
    size_t heads = cpu->shape.n_kv_heads, group = cpu->group, dim = cpu->shape.head_dim;

    for (size_t i = first; i < end; i++) {
        size_t query = i % group, head = i / group % heads, row = i / group / heads;
        for (size_t chunk = 0; chunk <= last_chunk(cpu, row); chunk++)
            state_merge(cpu, scratch->total,
                        chunk_states(cpu, row, head, chunk) + query * cpu->state_size, chunk == 0);
        state_finish(cpu, scratch->total,
                     a->y->data + row * a->y->stride + (head * group + query) * dim);
    }
}

/* KV heads of tiles. */
static void attend_tiles(void *arg, size_t first, size_t end)
{
    const struct attention *a = arg;
    size_t heads = a->cpu->shape.n_kv_heads;
    for (size_t i = first; i < end; i++)
        attend_tile(a->cpu, a->layer, a->cpu->tiles[i / heads], i % heads, a->q, a->y);
}

void cpu_attend(struct backend *backend, size_t layer, const struct buffer *q, struct buffer *y)
{
    const struct cpu *cpu = (const struct cpu *)backend;
    size_t heads = cpu->shape.n_kv_heads, rows = cpu->n_rows;
    struct attention a = {cpu, layer, q, y};

    if (cpu->n_chunks == 0) {
        cpu_share(cpu, cpu->n_tiles * heads, 1, attend_tiles, &a);
        return;
    }
    cpu_share(cpu, rows * heads * cpu->n_chunks, 1, attend_chunks, &a);
    cpu_share(cpu, rows * cpu->shape.n_heads, cpu_worth(cpu->n_chunks * cpu->padded_dim),
              merge_chunks, &a);
}

int attend_plan(struct cpu *cpu, struct llama3_error *err)
{
    size_t chunks = 0;

    cpu->n_tiles = 0;
    for (size_t row = 0; row < cpu->n_rows; row++) {
        struct row_tile *tile = cpu->n_tiles > 0 ? &cpu->tiles[cpu->n_tiles - 1] : NULL;
        if (tile != NULL && tile->count < cpu->tile_rows &&
            cpu->rows[row].seq == cpu->rows[row - 1].seq &&
            cpu->rows[row].position > cpu->rows[row - 1].position)
            tile->count++;
        else
            cpu->tiles[cpu->n_tiles++] = (struct row_tile){row, 1};
        if (last_chunk(cpu, row) + 1 > chunks)
            chunks = last_chunk(cpu, row) + 1;
    }

    /* Fewer than four tasks for each thread would leave some idle. */
    size_t tasks = cpu->n_rows * cpu->shape.n_kv_heads;
    cpu->n_chunks = tasks < 4 * (size_t)cpu->threads && chunks > 1 ? chunks : 0;
    size_t room = cpu->n_rows * cpu->shape.n_heads * cpu->n_chunks * cpu->state_size;
    if (room <= cpu->chunk_room)
        return 0;
    free(cpu->chunk_states);
    cpu->chunk_room = 0;
    cpu->chunk_states = size_alloc_aligned(room, sizeof *cpu->chunk_states);
    if (cpu->chunk_states == NULL)
        return error_memory(err, "attention over a long context", room * sizeof(float));
    cpu->chunk_room = room;
    return 0;
}
