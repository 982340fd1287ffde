/* ops.c: the operations that work element by element, split over threads. */
#include "backend/cpu/cpu.h"

#include <string.h>

#include "base/threads.h"
#include "quant/dtype.h"

void cpu_share(size_t n, size_t unit, size_t *first, size_t *end)
{
    size_t units = (n + unit - 1) / unit, threads = thread_count(), thread = thread_index();
    size_t each = units / threads, more = units % threads;
    size_t from = thread * each + (thread < more ? thread : more);
    size_t to = from + each + (thread < more);

    *first = from * unit < n ? from * unit : n;
    *end = to * unit < n ? to * unit : n;
}

void cpu_embed(struct backend *backend, struct buffer *x, const struct weight *w)
{
    struct cpu *cpu = (struct cpu *)backend;
    const struct matrix *m = &w->matrix;
    size_t first, end;

    cpu_share(cpu->n_rows, 1, &first, &end);
    for (size_t row = first; row < end; row++) {
        size_t token = (size_t)cpu->rows[row].token;
        float *out = x->data + row * x->stride;
        if (token < m->rows)
            cpu_expand(cpu, w, token, 0, m->cols, out);
        else
            atomic_store(&cpu->failed, true);
    }
    thread_barrier();
}

void cpu_add_norm(struct backend *backend, enum rows rows, struct buffer *x, const struct buffer *d,
                  const struct weight *w, struct buffer *y)
{
    struct cpu *cpu = (struct cpu *)backend;
    const struct kernels *kernels = cpu->kernels;
    size_t first, end;

    /* A thread normalizes the rows that it added; the packed row is the number of rows before that
     * want logits. */
    cpu_share(cpu->n_rows, 1, &first, &end);
    size_t packed = 0;
    while (packed < cpu->n_logit_rows && cpu->logit_rows[packed] < first)
        packed++;
    for (size_t row = first; row < end; row++) {
        float *in = x->data + row * x->stride;
        if (d != NULL)
            kernels->add(in, d->data + row * d->stride, x->stride);
        if (rows == ROWS_ALL)
            kernels->norm(in, w->vector, cpu->shape.rms_eps, y->data + row * y->stride, x->cols);
        else if (cpu->rows[row].wants_logits)
            kernels->norm(in, w->vector, cpu->shape.rms_eps, y->data + packed++ * y->stride,
                          x->cols);
    }
    thread_barrier();
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

/* As it is stored: f32 as it stands, or f16 in scratch. */
static const char *stored_head(const struct cpu *cpu, const struct scratch *scratch,
                               const float *head)
{
    if (cpu->shape.kv_type == LLAMA3_KV_F32)
        return (const char *)head;
    memcpy(scratch->head, head, cpu->shape.head_dim * sizeof *head);
    cpu->kernels->to_f16(scratch->head, scratch->half, cpu->padded_dim);
    return (const char *)scratch->half;
}

static void store_head(const struct cpu *cpu, size_t layer, size_t row, size_t head, const float *k,
                       const float *v)
{
    const struct scratch *scratch = &cpu->scratch[thread_index()];
    size_t position = (size_t)cpu->rows[row].position, slot = position % KV_PAGE;
    struct page *page = cpu->row_pages[row][position / KV_PAGE];
    size_t size = cpu->kv_size, dim = cpu->shape.head_dim;

    const char *stored = stored_head(cpu, scratch, k);
    unsigned char *column = page_k(cpu, page, layer, head) + slot * size;
    if (size == 2)
        for (size_t i = 0; i < dim; i++)
            memcpy(column + i * KV_PAGE * 2, stored + i * 2, 2);
    else
        for (size_t i = 0; i < dim; i++)
            memcpy(column + i * KV_PAGE * 4, stored + i * 4, 4);
    stored = stored_head(cpu, scratch, v);
    memcpy(page_v(cpu, page, layer, head) + slot * cpu->padded_dim * size, stored, dim * size);
}

void cpu_rope_store(struct backend *backend, size_t layer, struct buffer *q, struct buffer *k,
                    const struct buffer *v)
{
    struct cpu *cpu = (struct cpu *)backend;
    size_t kv_heads = cpu->shape.n_kv_heads, dim = cpu->shape.head_dim;
    size_t first, end;

    cpu_share(cpu->n_rows * kv_heads, 1, &first, &end);
    for (size_t i = first; i < end; i++) {
        size_t row = i / kv_heads, head = i % kv_heads;
        float *queries = q->data + row * q->stride + head * cpu->group * dim;
        for (size_t j = 0; j < cpu->group; j++)
            rotate(cpu, row, queries + j * dim);
        float *key = k->data + row * k->stride + head * dim;
        rotate(cpu, row, key);
        store_head(cpu, layer, row, head, key, v->data + row * v->stride + head * dim);
    }
    thread_barrier();
}

void cpu_swiglu(struct backend *backend, struct buffer *gate, const struct buffer *up)
{
    const struct cpu *cpu = (const struct cpu *)backend;
    size_t first, end;

    /* Split along columns as well, so that one row is enough for all threads. */
    cpu_share(cpu->n_rows * gate->stride, LANES, &first, &end);
    while (first < end) {
        size_t row = first / gate->stride, col = first % gate->stride;
        size_t n = gate->stride - col < end - first ? gate->stride - col : end - first;
        cpu->kernels->swiglu(gate->data + row * gate->stride + col,
                             up->data + row * up->stride + col, n);
        first += n;
    }
    thread_barrier();
}
