/* SPDX-License-Identifier: MIT */
/*
 * ops.c: a run records operations and executes them at its end, so that neighbours can be fused. An
 * operation is plain data, zeroed first, since lists of them are compared by memcmp.
 */
#include <string.h>

#include "backend/cuda/state.h"

void cuda_run(struct backend *backend, void (*fn)(void *arg), void *arg)
{
    struct cuda *cuda = cuda_enter(backend);
    cuda->n_ops = 0;
    fn(arg);
    graph_run(cuda);
}

/* The next operation, to be filled in. A full list is executed first. */
static struct op *next_op(struct backend *backend, enum op_kind kind)
{
    struct cuda *cuda = (struct cuda *)backend;
    if (cuda->n_ops == MAX_OPS) {
        graph_run(cuda);
        cuda->n_ops = 0;
    }
    struct op *op = &cuda->ops[cuda->n_ops++];
    memset(op, 0, sizeof *op);
    op->kind = kind;
    return op;
}

void cuda_embed(struct backend *backend, struct buffer *x, const struct weight *w)
{
    struct op *op = next_op(backend, OP_EMBED);
    op->out[0] = x;
    op->w[0] = w;
}

void cuda_add_norm(struct backend *backend, enum rows rows, struct buffer *x,
                   const struct buffer *d, const struct weight *w, struct buffer *y)
{
    struct op *op = next_op(backend, OP_ADD_NORM);
    op->rows = rows;
    op->in[0] = d;
    op->out[0] = x;
    op->out[1] = y;
    op->w[0] = w;
}

void cuda_linear(struct backend *backend, enum rows rows, struct buffer *const y[],
                 const struct weight *const w[], size_t n, const struct buffer *x)
{
    struct op *op = next_op(backend, OP_LINEAR);
    op->rows = rows;
    op->n = n;
    op->in[0] = x;
    for (size_t i = 0; i < n; i++) {
        op->out[i] = y[i];
        op->w[i] = w[i];
    }
}

void cuda_adapt(struct backend *backend, enum rows rows, struct buffer *const y[],
                const struct weight *const a[], const struct weight *const b[], size_t n,
                size_t adapter, const struct buffer *x)
{
    struct op *op = next_op(backend, OP_ADAPT);
    op->rows = rows;
    op->n = n;
    op->adapter = adapter;
    op->in[0] = x;
    for (size_t i = 0; i < n; i++) {
        op->out[i] = y[i];
        op->w[i] = a[i];
        op->b[i] = b[i];
    }
}

void cuda_rope_store(struct backend *backend, size_t layer, struct buffer *q, struct buffer *k,
                     const struct buffer *v)
{
    struct op *op = next_op(backend, OP_ROPE_STORE);
    op->layer = layer;
    op->in[0] = v;
    op->out[0] = q;
    op->out[1] = k;
}

void cuda_attend(struct backend *backend, size_t layer, const struct buffer *q, struct buffer *y)
{
    struct op *op = next_op(backend, OP_ATTEND);
    op->layer = layer;
    op->in[0] = q;
    op->out[0] = y;
}

void cuda_swiglu(struct backend *backend, struct buffer *gate, const struct buffer *up)
{
    struct op *op = next_op(backend, OP_SWIGLU);
    op->in[0] = up;
    op->out[0] = gate;
}
