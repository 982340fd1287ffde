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

enum {
    CHUNK_PAGES = 8,
    CHUNK = CHUNK_PAGES * KV_PAGE,
    PIECES = 4 /* of a thread's share of the work, at least */
};

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
    if (cpu->scale_size > 0)
        kv_spread(y, cpu->shape.head_dim);
}

/* Copies a KV head's queries of a tile's rows side by side, as the kernel wants them. */
static void gather_queries(const struct cpu *cpu, struct row_tile tile, size_t kv_head,
                           const struct buffer *q, float *out)
{
    size_t n = cpu->group * cpu->shape.head_dim;
    void (*prepare)(float *, size_t) = cpu->kernels->kv[cpu->shape.kv_type].prepare;
    for (size_t i = 0; i < tile.count; i++)
        memcpy(out + i * n, q->data + (tile.first + i) * q->stride + kv_head * n, n * sizeof *out);
    for (size_t i = 0; i < tile.count * n && prepare != NULL; i += cpu->shape.head_dim)
        prepare(out + i, cpu->shape.head_dim);
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
        struct row_tile rest = {.first = tile.first + done, .count = tile.count - done};
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

/* [n_queries of the KV head][state_size] of one chunk of a tile that is split. */
static float *chunk_states(const struct cpu *cpu, const struct row_tile *tile, size_t kv_head,
                           size_t chunk)
{
    size_t index = kv_head * tile->chunks + chunk;
    return cpu->chunk_states + (tile->states + index * tile->count * cpu->group) * cpu->state_size;
}

struct attention {
    const struct cpu *cpu;
    size_t layer;
    const struct buffer *q;
    struct buffer *y;
};

/* The tile that a job of a KV head is of. */
static const struct row_tile *tile_of(const struct cpu *cpu, size_t job)
{
    size_t low = 0, high = cpu->n_tiles;
    while (high - low > 1) {
        size_t middle = (low + high) / 2;
        if (cpu->tiles[middle].job <= job)
            low = middle;
        else
            high = middle;
    }
    return &cpu->tiles[low];
}

/* Tiles, or chunks of these, KV head by head: a thread begins with heads that are on its memory
 * node. */
static void attend_jobs(void *arg, size_t first, size_t end)
{
    const struct attention *a = arg;
    const struct cpu *cpu = a->cpu;
    float *q = cpu->scratch[thread_index()].q;

    for (size_t job = first; job < end; job++) {
        size_t head = job / cpu->n_jobs, i = job % cpu->n_jobs, done = 0;
        const struct row_tile *tile = tile_of(cpu, i);
        if (tile->chunks == 0) {
            attend_tile(cpu, a->layer, *tile, head, a->q, a->y);
            continue;
        }
        size_t chunk = i - tile->job;
        while (last_chunk(cpu, tile->first + done) < chunk)
            done++;
        struct row_tile rest = {.first = tile->first + done, .count = tile->count - done};
        gather_queries(cpu, rest, head, a->q, q);
        attend_chunk(cpu, a->layer, head, rest, chunk, q,
                     chunk_states(cpu, tile, head, chunk) + done * cpu->group * cpu->state_size);
    }
}

/* Merges the chunks of query heads of tiles that are split. */
static void merge_chunks(void *arg, size_t first, size_t end)
{
    const struct attention *a = arg;
    const struct cpu *cpu = a->cpu;
    float *total = cpu->scratch[thread_index()].total;
    size_t heads = cpu->shape.n_heads, group = cpu->group, dim = cpu->shape.head_dim;

    for (size_t i = first; i < end; i++) {
        const struct row_tile *tile = &cpu->tiles[i / heads];
        size_t query = i % heads;
        for (size_t row = 0; tile->chunks > 0 && row < tile->count; row++) {
            size_t at = (row * group + query % group) * cpu->state_size;
            for (size_t chunk = 0; chunk <= last_chunk(cpu, tile->first + row); chunk++)
                state_merge(cpu, total, chunk_states(cpu, tile, query / group, chunk) + at,
                            chunk == 0);
            state_finish(cpu, total, a->y->data + (tile->first + row) * a->y->stride + query * dim);
        }
    }
}

void cpu_attend(struct backend *backend, size_t layer, const struct buffer *q, struct buffer *y)
{
    const struct cpu *cpu = (const struct cpu *)backend;
    struct attention a = {cpu, layer, q, y};

    team_share(cpu->team, cpu->shape.n_kv_heads * cpu->n_jobs, 1, cpu->most_jobs, false,
               attend_jobs, &a);
    if (cpu->n_split > 0)
        cpu_share(cpu, cpu->n_tiles * cpu->shape.n_heads, 1, merge_chunks, &a);
}

/* Cuts the batch's rows into tiles; returns how many positions they attend to in all. The larger a
 * tile, the less often K and V are read and expanded, but there must be some for each thread. */
static size_t cut_tiles(struct cpu *cpu)
{
    size_t positions = 0, jobs = 2 * PIECES * (size_t)cpu->threads;
    size_t most = cpu->n_rows * cpu->shape.n_kv_heads / jobs;
    most = most < cpu->tile_rows / 3 ? cpu->tile_rows / 3 : most;
    most = most > cpu->tile_rows ? cpu->tile_rows : most;
    cpu->n_tiles = 0;
    for (size_t row = 0; row < cpu->n_rows; row++) {
        struct row_tile *tile = cpu->n_tiles > 0 ? &cpu->tiles[cpu->n_tiles - 1] : NULL;
        if (tile != NULL && tile->count < most && cpu->rows[row].seq == cpu->rows[row - 1].seq &&
            cpu->rows[row].position > cpu->rows[row - 1].position)
            tile->count++;
        else
            cpu->tiles[cpu->n_tiles++] = (struct row_tile){.first = row, .count = 1};
        positions += (size_t)cpu->rows[row].position + 1;
    }
    return positions;
}

int attend_plan(struct cpu *cpu, struct llama3_error *err)
{
    size_t heads = cpu->shape.n_kv_heads, threads = (size_t)cpu->threads;
    size_t all = cut_tiles(cpu) * heads, states = 0, longest = 1;

    /* A job is no more than a quarter of a thread's share of the work, or one thread waits for the
     * others at the end: such a tile is split into chunks. */
    cpu->n_jobs = cpu->n_split = 0;
    for (size_t i = 0; i < cpu->n_tiles; i++) {
        struct row_tile *tile = &cpu->tiles[i];
        size_t last = tile->first + tile->count - 1, chunks = last_chunk(cpu, last) + 1;
        size_t length = (size_t)cpu->rows[last].position + 1;
        bool split = chunks > 1 && length * PIECES * threads > all;
        size_t work = tile->count * (split ? CHUNK : length);

        tile->chunks = split ? chunks : 0;
        tile->states = states;
        tile->job = cpu->n_jobs;
        states += split ? tile->count * cpu->shape.n_heads * chunks : 0;
        cpu->n_jobs += split ? chunks : 1;
        cpu->n_split += split;
        longest = work > longest ? work : longest;
    }
    cpu->most_jobs = all / (PIECES * threads * longest) + 1;

    size_t room = states * cpu->state_size;
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
