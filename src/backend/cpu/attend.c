/*
 * attend.c: rotary positions, the KV cache's writes, and attention.
 *
 * A row's softmax over its positions is computed in chunks of CHUNK_PAGES pages, merged in
 * ascending order. Chunks are cut at the same positions and merged in the same way whether one
 * thread goes through them or many share them, so that the cut of the work changes no bit.
 */
#include "backend/cpu/cpu.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/size.h"

/* ---- rope_store ------------------------------------------------------------------------ */

/* Su et al. 2021: pairs of dimensions turn by the row's angles. */
static void rotate(const struct cpu *cpu, size_t row, float *head /* [head_dim] */)
{
    size_t half = cpu->shape.head_dim / 2;
    const float *cosine = cpu->cos + row * half, *sine = cpu->sin + row * half;
    size_t step = cpu->shape.rope_interleaved ? 2 : 1;
    size_t apart = cpu->shape.rope_interleaved ? 1 : half;

    for (size_t i = 0; i < half; i++) {
        float a = head[i * step], b = head[i * step + apart];
        head[i * step] = a * cosine[i] - b * sine[i];
        head[i * step + apart] = b * cosine[i] + a * sine[i];
    }
}

static void store(const struct cpu *cpu, size_t row, size_t layer, size_t head, const float *k,
                  const float *v)
{
    size_t position = (size_t)cpu->rows[row].position, slot = position % KV_PAGE;
    size_t head_dim = cpu->shape.head_dim;
    const struct page *page = cpu->seqs[cpu->rows[row].seq]->pages[position / KV_PAGE];
    void *to_k = cpu_page_k(cpu, page, layer, head), *to_v = cpu_page_v(cpu, page, layer, head);

    if (cpu->shape.kv_type == LLAMA3_KV_F32) {
        float *ks = to_k, *vs = (float *)to_v + slot * head_dim;
        for (size_t d = 0; d < head_dim; d++) {
            ks[d * KV_PAGE + slot] = k[d];
            vs[d] = v[d];
        }
    } else {
        uint16_t *ks = to_k, *vs = (uint16_t *)to_v + slot * head_dim;
        for (size_t d = 0; d < head_dim; d++) {
            ks[d * KV_PAGE + slot] = f32_to_f16(k[d]);
            vs[d] = f32_to_f16(v[d]);
        }
    }
}

struct rope_args {
    size_t layer;
    struct buffer *q, *k;
    const struct buffer *v;
};

static void rope_store(struct cpu *cpu, struct team team, const void *args)
{
    const struct rope_args *a = args;
    size_t n_kv = cpu->shape.n_kv_heads, head_dim = cpu->shape.head_dim;

    for (size_t unit = team.id; unit < cpu->n_rows * n_kv; unit += team.size) {
        size_t row = unit / n_kv, head = unit % n_kv;
        float *q = a->q->data + row * a->q->cols + head * cpu->group * head_dim;
        float *k = a->k->data + row * a->k->cols + head * head_dim;
        for (size_t g = 0; g < cpu->group; g++)
            rotate(cpu, row, q + g * head_dim);
        rotate(cpu, row, k);
        store(cpu, row, a->layer, head, k, a->v->data + row * a->v->cols + head * head_dim);
    }
}

void cpu_rope_store(struct backend *backend, size_t layer, struct buffer *q, struct buffer *k,
                    const struct buffer *v)
{
    cpu_each(cpu_of(backend), true, rope_store, &(struct rope_args){layer, q, k, v});
}

/* ---- attend ---------------------------------------------------------------------------- */

struct attend_args {
    size_t layer;
    const struct buffer *q;
    struct buffer *y;
};

/* A row and a KV head, with the query heads that read it. */
struct unit {
    size_t row, head;
    size_t n_positions;
};

static struct unit unit_of(const struct cpu *cpu, size_t i)
{
    size_t row = i / cpu->shape.n_kv_heads;
    return (struct unit){row, i % cpu->shape.n_kv_heads, (size_t)cpu->rows[row].position + 1};
}

static size_t chunks_of(size_t n_positions)
{
    return (n_positions - 1) / (CHUNK_PAGES * KV_PAGE) + 1;
}

/* One chunk of positions, into a fresh state. */
static void attend_chunk(const struct cpu *cpu, const struct attend_args *a, struct unit u,
                         size_t chunk, float *q, struct attention *state)
{
    size_t head_dim = cpu->shape.head_dim, n_q = cpu->group * head_dim;
    const float *from = a->q->data + u.row * a->q->cols + u.head * n_q;
    const struct kv *kv = cpu->seqs[cpu->rows[u.row].seq];
    float scale = 1 / sqrtf((float)head_dim);
    attend_kernel *kernel =
        cpu->shape.kv_type == LLAMA3_KV_F32 ? cpu->kernels->attend_f32 : cpu->kernels->attend_f16;

    for (size_t i = 0; i < n_q; i++)
        q[i] = from[i] * scale;
    attention_reset(state, cpu->group, head_dim);
    for (size_t p = chunk * CHUNK_PAGES; p < (chunk + 1) * CHUNK_PAGES; p++) {
        if (p * KV_PAGE >= u.n_positions)
            break;
        size_t n = u.n_positions - p * KV_PAGE;
        kernel(q, cpu->group, head_dim, cpu_page_k(cpu, kv->pages[p], a->layer, u.head),
               cpu_page_v(cpu, kv->pages[p], a->layer, u.head), n < KV_PAGE ? n : KV_PAGE, state);
    }
}

static void deliver(const struct cpu *cpu, const struct attend_args *a, struct unit u,
                    const struct attention *state)
{
    size_t head_dim = cpu->shape.head_dim;
    float *y = a->y->data + u.row * a->y->cols + u.head * cpu->group * head_dim;
    for (size_t g = 0; g < cpu->group; g++) {
        float scale = 1 / state->sum[g];
        for (size_t d = 0; d < head_dim; d++)
            y[g * head_dim + d] = state->acc[g * head_dim + d] * scale;
    }
}

/* Whole units, one thread each. */
static void attend(struct cpu *cpu, struct team team, const void *args)
{
    struct scratch *s = &cpu->scratch[team.id];
    for (size_t i = team.id; i < cpu->n_rows * cpu->shape.n_kv_heads; i += team.size) {
        struct unit u = unit_of(cpu, i);
        attend_chunk(cpu, args, u, 0, s->q, &s->whole);
        for (size_t c = 1; c < chunks_of(u.n_positions); c++) {
            attend_chunk(cpu, args, u, c, s->q, &s->part);
            attention_merge(&s->whole, &s->part, cpu->group, cpu->shape.head_dim);
        }
        deliver(cpu, args, u, &s->whole);
    }
}

static struct attention part_of(const struct cpu *cpu, size_t unit, size_t chunk)
{
    size_t group = cpu->group;
    float *at = cpu->parts + (unit * cpu->n_chunks + chunk) * group * (cpu->shape.head_dim + 2);
    return (struct attention){.max = at, .sum = at + group, .acc = at + 2 * group};
}

/* Few rows, long contexts: chunks are spread over the threads, ... */
static void attend_parts(struct cpu *cpu, struct team team, const void *args)
{
    size_t n_units = cpu->n_rows * cpu->shape.n_kv_heads;
    for (size_t i = team.id; i < n_units * cpu->n_chunks; i += team.size) {
        struct unit u = unit_of(cpu, i / cpu->n_chunks);
        size_t chunk = i % cpu->n_chunks;
        if (chunk >= chunks_of(u.n_positions))
            continue;
        struct attention state = part_of(cpu, i / cpu->n_chunks, chunk);
        attend_chunk(cpu, args, u, chunk, cpu->scratch[team.id].q, &state);
    }
}

/* ... and merged in the order in which one thread would have gone through them. */
static void attend_merge(struct cpu *cpu, struct team team, const void *args)
{
    for (size_t i = team.id; i < cpu->n_rows * cpu->shape.n_kv_heads; i += team.size) {
        struct unit u = unit_of(cpu, i);
        struct attention whole = part_of(cpu, i, 0);
        for (size_t c = 1; c < chunks_of(u.n_positions); c++) {
            struct attention part = part_of(cpu, i, c);
            attention_merge(&whole, &part, cpu->group, cpu->shape.head_dim);
        }
        deliver(cpu, args, u, &whole);
    }
}

void cpu_attend(struct backend *backend, size_t layer, const struct buffer *q, struct buffer *y)
{
    struct cpu *cpu = cpu_of(backend);
    struct attend_args args = {layer, q, y};
    if (!cpu->split) {
        cpu_each(cpu, true, attend, &args);
        return;
    }
    cpu_each(cpu, true, attend_parts, &args);
    cpu_each(cpu, true, attend_merge, &args);
}

int cpu_attend_prepare(struct cpu *cpu, struct llama3_error *err)
{
    size_t n_units = cpu->n_rows * cpu->shape.n_kv_heads, longest = 1, need;
    for (size_t r = 0; r < cpu->n_rows; r++) {
        size_t n = (size_t)cpu->rows[r].position + 1;
        longest = n > longest ? n : longest;
    }
    cpu->n_chunks = chunks_of(longest);
    /* With this many units per thread an uneven share no longer shows. */
    cpu->split = cpu->n_chunks > 1 && n_units < 8 * cpu->threads;
    if (!cpu->split)
        return 0;

    need = n_units * cpu->n_chunks * cpu->group * (cpu->shape.head_dim + 2);
    if (need <= cpu->parts_capacity)
        return 0;
    free(cpu->parts);
    cpu->parts_capacity = 0;
    cpu->parts = size_alloc_aligned(need, sizeof *cpu->parts);
    if (cpu->parts == NULL)
        return error_memory(err, "attention", need * sizeof *cpu->parts);
    cpu->parts_capacity = need;
    return 0;
}
