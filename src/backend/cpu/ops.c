/* SPDX-License-Identifier: MIT */
/* ops.c: element-wise operations, split over threads. */
#include "backend/cpu/cpu.h"

#include <string.h>

#include "quant/dtype.h"

void cpu_share(const struct cpu *cpu, size_t n, size_t least, piece_fn *piece, void *arg)
{
    team_share(cpu->team, n, least, n, false, piece, arg);
}

struct embedding {
    struct cpu *cpu;
    struct buffer *x;
    const struct weight *w;
};

static void embed_rows(void *arg, size_t first, size_t end)
{
    const struct embedding *e = arg;
    const struct matrix *m = &e->w->matrix;
    for (size_t row = first; row < end; row++) {
        size_t token = (size_t)e->cpu->rows[row].token;
        if (token < m->rows)
            cpu_expand(e->cpu, e->w, token, 0, m->cols, e->x->data + row * e->x->stride);
        else
            atomic_store(&e->cpu->failed, true);
    }
}

void cpu_embed(struct backend *backend, struct buffer *x, const struct weight *w)
{
    struct cpu *cpu = (struct cpu *)backend;
    cpu_share(cpu, cpu->n_rows, cpu_worth(x->stride), embed_rows, &(struct embedding){cpu, x, w});
}

struct norm {
    struct cpu *cpu;
    bool packed; /* rows that want logits only */
    struct buffer *x;
    const struct buffer *d;
    const struct weight *w;
    struct buffer *y;
};

static void norm_rows(void *arg, size_t first, size_t end)
{
    const struct norm *n = arg;
    const struct cpu *cpu = n->cpu;
    const struct kernels *kernels = cpu->kernels;

    /* The packed row: how many rows before this one want logits. */
    size_t packed = 0;
    while (packed < cpu->n_logit_rows && cpu->logit_rows[packed] < first)
        packed++;
    for (size_t row = first; row < end; row++) {
        float *in = n->x->data + row * n->x->stride;
        if (n->d != NULL)
            kernels->add(in, n->d->data + row * n->d->stride, n->x->stride);
        if (n->packed && !cpu->rows[row].wants_logits)
            continue;
        size_t to = n->packed ? packed++ : row;
        kernels->norm(in, n->w->vector, cpu->shape.rms_eps, n->y->data + to * n->y->stride,
                      n->x->cols);
    }
}

void cpu_add_norm(struct backend *backend, enum rows rows, struct buffer *x, const struct buffer *d,
                  const struct weight *w, struct buffer *y)
{
    struct cpu *cpu = (struct cpu *)backend;
    struct norm norm = {cpu, rows == ROWS_LOGITS, x, d, w, y};
    cpu_share(cpu, cpu->n_rows, cpu_worth(x->stride), norm_rows, &norm);
}

/* Rotates one head by its row's position (Su et al. 2021, arXiv:2104.09864). */
static void rotate(const struct cpu *cpu, size_t row, float *head /* [head_dim] */)
{
    size_t half = cpu->shape.head_dim / 2;
    const float *cosine = cpu->cosine + row * half, *sine = cpu->sine + row * half;
    size_t step = cpu->shape.rope_interleaved ? 2 : 1, apart = step == 2 ? 1 : half;

    for (size_t i = 0; i < half; i++) {
        float a = head[i * step], b = head[i * step + apart];
        head[i * step] = a * cosine[i] - b * sine[i];
        head[i * step + apart] = b * cosine[i] + a * sine[i];
    }
}

/* A head as it is stored: itself, or converted by `store` to `out`. */
static const void *stored_head(const struct cpu *cpu,
                               void (*store)(const float *in, void *out, size_t n),
                               const float *head, void *out)
{
    float *padded = cpu->scratch[thread_index()].head;
    size_t dim = cpu->shape.head_dim;
    if (store == NULL)
        return head;
    memcpy(padded, head, dim * sizeof *head);
    if (cpu->scale_size > 0)
        kv_spread(padded, dim);
    store(padded, out, dim);
    return out;
}

static void store_head(const struct cpu *cpu, size_t layer, size_t row, size_t head, const float *k,
                       const float *v)
{
    const struct scratch *scratch = &cpu->scratch[thread_index()];
    size_t position = (size_t)cpu->rows[row].position;
    enum llama3_kv_type type = cpu->shape.kv_type;
    kv_put(cpu, cpu->row_pages[row][position / KV_PAGE], layer, head, position % KV_PAGE,
           stored_head(cpu, cpu->kernels->kv[type].store_k, k, scratch->stored_k),
           stored_head(cpu, cpu->kernels->kv[type].store_v, v, scratch->stored_v));
}

struct rotation {
    struct cpu *cpu;
    size_t layer;
    struct buffer *q, *k;
    const struct buffer *v;
};

/* KV heads of rows. */
static void rope_heads(void *arg, size_t first, size_t end)
{
    const struct rotation *r = arg;
    const struct cpu *cpu = r->cpu;
    size_t kv_heads = cpu->shape.n_kv_heads, dim = cpu->shape.head_dim;

    for (size_t i = first; i < end; i++) {
        size_t row = i / kv_heads, head = i % kv_heads;
        float *queries = r->q->data + row * r->q->stride + head * cpu->group * dim;
        for (size_t j = 0; j < cpu->group; j++) {
            rotate(cpu, row, queries + j * dim);
            if (cpu->scale_size > 0)
                kv_spread(queries + j * dim, dim);
        }
        float *key = r->k->data + row * r->k->stride + head * dim;
        rotate(cpu, row, key);
        store_head(cpu, r->layer, row, head, key, r->v->data + row * r->v->stride + head * dim);
    }
}

void cpu_rope_store(struct backend *backend, size_t layer, struct buffer *q, struct buffer *k,
                    const struct buffer *v)
{
    struct cpu *cpu = (struct cpu *)backend;
    size_t numbers = (cpu->group + 2) * cpu->shape.head_dim;
    struct rotation rope = {cpu, layer, q, k, v};
    cpu_share(cpu, cpu->n_rows * cpu->shape.n_kv_heads, cpu_worth(numbers), rope_heads, &rope);
}

struct swiglu {
    const struct cpu *cpu;
    struct buffer *gate;
    const struct buffer *up;
};

/* Vectors of LANES. */
static void swiglu_lanes(void *arg, size_t first, size_t end)
{
    const struct swiglu *s = arg;
    size_t stride = s->gate->stride, i = first * LANES;

    while (i < end * LANES) {
        size_t row = i / stride, col = i % stride, left = end * LANES - i;
        size_t n = stride - col < left ? stride - col : left;
        s->cpu->kernels->swiglu(s->gate->data + row * stride + col,
                                s->up->data + row * s->up->stride + col, n);
        i += n;
    }
}

void cpu_swiglu(struct backend *backend, struct buffer *gate, const struct buffer *up)
{
    const struct cpu *cpu = (const struct cpu *)backend;
    struct swiglu swiglu = {cpu, gate, up};
    cpu_share(cpu, cpu->n_rows * gate->stride / LANES, cpu_worth(LANES), swiglu_lanes, &swiglu);
}
