/* ops.c: the operations that work on rows as they stand. Embedding and norm give a thread whole
 * rows, always the same ones, so that one need not wait for the other. */
#include "backend/cpu/cpu.h"

#include <string.h>

struct embed_args {
    struct buffer *x;
    const struct weight *w;
};

static void embed(struct cpu *cpu, struct team team, const void *args)
{
    const struct embed_args *a = args;
    const struct matrix *m = &a->w->matrix;
    for (size_t r = team.id; r < cpu->n_rows; r += team.size)
        cpu->kernels->expand(
            m->type, (const uint8_t *)m->data + (size_t)cpu->rows[r].token * a->w->row_bytes,
            a->x->data + r * a->x->cols, m->cols);
}

void cpu_embed(struct backend *backend, struct buffer *x, const struct weight *w)
{
    cpu_each(cpu_of(backend), false, embed, &(struct embed_args){x, w});
}

struct norm_args {
    enum rows rows;
    struct buffer *x;
    const struct buffer *d;
    const struct weight *w;
    struct buffer *y;
};

static void add_norm(struct cpu *cpu, struct team team, const void *args)
{
    const struct norm_args *a = args;
    size_t cols = a->x->cols, packed = 0;

    for (size_t r = 0; r < cpu->n_rows; r++) {
        bool wanted = a->rows == ROWS_ALL || cpu->rows[r].wants_logits;
        if (r % team.size == team.id) {
            float *x = a->x->data + r * cols;
            if (a->d != NULL)
                cpu->kernels->add(x, a->d->data + r * cols, cols);
            if (wanted)
                cpu->kernels->rms_norm(x, a->w->vector, cpu->shape.rms_eps,
                                       a->y->data + packed * cols, cols);
        }
        packed += wanted;
    }
}

void cpu_add_norm(struct backend *backend, enum rows rows, struct buffer *x, const struct buffer *d,
                  const struct weight *w, struct buffer *y)
{
    cpu_each(cpu_of(backend), true, add_norm, &(struct norm_args){rows, x, d, w, y});
}

struct swiglu_args {
    struct buffer *gate;
    const struct buffer *up;
};

/* The columns that this thread's share of `linear` wrote, so that nobody waits. */
static void swiglu(struct cpu *cpu, struct team team, const void *args)
{
    const struct swiglu_args *a = args;
    size_t cols = a->gate->cols, end, from = team_share(team, cols, TILE_ROWS, &end);
    for (size_t r = 0; r < cpu->n_rows && from < end; r++)
        cpu->kernels->swiglu(a->gate->data + r * cols + from, a->up->data + r * cols + from,
                             end - from);
}

void cpu_swiglu(struct backend *backend, struct buffer *gate, const struct buffer *up)
{
    cpu_each(cpu_of(backend), false, swiglu, &(struct swiglu_args){gate, up});
}
