/* SPDX-License-Identifier: MIT */
/* execute.c: operations become launches; several may be fused into one. */
#include <string.h>

#include "backend/cuda/state.h"

const char *op_name(enum op_kind kind)
{
    static const char *const names[] = {"embed",  "add_norm", "linear", "rope_store",
                                        "attend", "swiglu",   "adapt"};
    return names[kind];
}

static int rows_of(const struct cuda *cuda, enum rows rows)
{
    return rows == ROWS_LOGITS ? cuda->pass.n_logit_rows : cuda->pass.n_rows;
}

static bool by_library(const struct cuda *cuda, enum rows rows)
{
    return cuda->blas != NULL && rows_of(cuda, rows) >= BLAS_ROWS;
}

static bool alike(const struct device_matrix *a, const struct device_matrix *b)
{
    return a->form == b->form && a->half_scales == b->half_scales &&
           (a->offsets == NULL) == (b->offsets == NULL);
}

static bool in_floats(const struct device_matrix *m)
{
    return m->form == MATRIX_F32 || m->form == MATRIX_F16;
}

/* ---- one row, with its neighbours -------------------------------------------------------- */

/* Whether it is a linear of one row and of groups only: its kernel quantizes the row itself. */
static bool is_gemv(const struct cuda *cuda, const struct op *op)
{
    if (op->kind != OP_LINEAR || rows_of(cuda, op->rows) != 1)
        return false;
    for (size_t i = 0; i < op->n; i++) {
        const struct device_matrix *m = &op->w[i]->matrix;
        if ((m->form != MATRIX_INT4 && m->form != MATRIX_INT8) ||
            device_gemv_shared(m) > cuda->shared_bytes)
            return false;
    }
    return true;
}

/* Whether the kernel of linear i also adds its product to the residual, */
static bool is_added(const struct cuda *cuda, const struct op *ops, size_t i, size_t n)
{
    return cuda->pass.n_rows == 1 && i + 1 < n && is_gemv(cuda, &ops[i]) && ops[i].n == 1 &&
           ops[i + 1].kind == OP_ADD_NORM && ops[i + 1].in[0] == ops[i].out[0];
}

/* whether an adapter reads what linear i reads, and so needs it in memory, */
static bool is_adapted(const struct cuda *cuda, const struct op *ops, size_t i, size_t n)
{
    return cuda->shape.n_adapters > 0 && (i + 1 == n || ops[i + 1].kind == OP_ADAPT);
}

/* whether norm i is computed by the kernel of the next linear, */
static bool is_normed(const struct cuda *cuda, const struct op *ops, size_t i, size_t n)
{
    return cuda->pass.n_rows == 1 && i + 1 < n && is_gemv(cuda, &ops[i + 1]) &&
           !is_adapted(cuda, ops, i + 1, n) && ops[i + 1].in[0] == ops[i].out[1] &&
           ops[i + 1].w[0]->matrix.slice <= GEMV_NORM_SLICE &&
           (ops[i].in[0] == NULL || (i > 0 && is_added(cuda, ops, i - 1, n)));
}

/* and whether the kernel of linear i, for few rows as well, computes the swiglu after it. */
static bool is_gated(const struct cuda *cuda, const struct op *ops, size_t i, size_t n)
{
    const struct op *op = &ops[i];
    return cuda->pass.n_rows <= SMALL_ROWS && i + 1 < n && op->kind == OP_LINEAR &&
           op->rows == ROWS_ALL && op->n == 2 && alike(&op->w[0]->matrix, &op->w[1]->matrix) &&
           op->w[0]->matrix.rows == op->w[1]->matrix.rows && !in_floats(&op->w[0]->matrix) &&
           ops[i + 1].kind == OP_SWIGLU && ops[i + 1].out[0] == op->out[0] &&
           ops[i + 1].in[0] == op->out[1];
}

/* The forms of its input that a linear needs. */
static int forms_read(const struct cuda *cuda, const struct op *op)
{
    static const int forms[MATRIX_FORMS] = {
        [MATRIX_BF16] = FORM_BF16, [MATRIX_INT4] = FORM_INT8, [MATRIX_INT8] = FORM_INT8};
    int all = 0;
    if (is_gemv(cuda, op))
        return 0;
    if (by_library(cuda, op->rows))
        return FORM_PLAIN_BF16;
    for (size_t i = 0; i < op->n; i++)
        all |= forms[op->w[i]->matrix.form];
    return all;
}

/* The forms that the next operation needs of what operation i makes, and their order. */
static int forms_ahead(const struct cuda *cuda, const struct op *ops, size_t i, size_t n,
                       const struct buffer *made, const uint32_t **order)
{
    *order = NULL;
    if (i + 1 == n || ops[i + 1].kind != OP_LINEAR || ops[i + 1].in[0] != made)
        return 0;
    *order = ops[i + 1].w[0]->order;
    return forms_read(cuda, &ops[i + 1]) & (*order != NULL ? FORM_INT8 : ~0);
}

static void made_in_order(const struct cuda *cuda, struct buffer *buffer, int forms,
                          const uint32_t *order)
{
    buffer->forms = forms;
    buffer->order = order;
    buffer->at = cuda->n_runs;
}

static void made(const struct cuda *cuda, struct buffer *buffer, int forms)
{
    made_in_order(cuda, buffer, forms, NULL);
}

/* A buffer's narrow forms are known within one run only. Maxima are of columns as they are. */
static int forms_of(const struct cuda *cuda, const struct buffer *buffer, const uint32_t *order)
{
    if (buffer->at != cuda->n_runs)
        return 0;
    return buffer->order == order ? buffer->forms : buffer->forms & FORM_MAXIMA;
}

/* Makes the forms of a linear's input that it does not have yet. */
static void narrow(const struct cuda *cuda, const struct op *op, int forms)
{
    struct buffer *x = (struct buffer *)(uintptr_t)op->in[0];
    const uint32_t *order = op->w[0]->order;
    int have = forms_of(cuda, x, order);
    if ((forms & ~have) == 0)
        return;
    device_narrow(cuda->stream, &x->rows, rows_of(cuda, op->rows), forms & ~have,
                  have & FORM_MAXIMA, order);
    /* Both layouts of bf16 share their memory. */
    if (forms & (FORM_BF16 | FORM_PLAIN_BF16))
        have &= ~(FORM_BF16 | FORM_PLAIN_BF16);
    made_in_order(cuda, x, have | forms, order);
}

static void launch_linear(const struct cuda *cuda, const struct device_linear *l, float *maxima)
{
    if (in_floats(&l->m[0]))
        device_linear_floats(cuda->stream, l);
    else
        device_linear_gemm(cuda->stream, l, maxima, cuda->processors, cuda->shared_bytes);
}

static void by_blas(struct cuda *cuda, const struct op *op)
{
    for (size_t i = 0; i < op->n; i++) {
        const struct device_rows *y = &op->out[i]->rows;
        if (!cublas_linear(cuda->blas, cuda->stream, &op->w[i]->matrix, &op->in[0]->rows,
                           rows_of(cuda, op->rows), y->values, y->stride))
            cuda_check(cuda, cudaErrorUnknown, "linear (cuBLAS)");
    }
}

/* Linear i; normed: its kernel computes norm i - 1 first. Returns how many operations it covered,
 * from i on. */
static size_t linear(struct cuda *cuda, const struct op *ops, size_t i, size_t n, bool normed)
{
    const struct op *op = &ops[i];
    struct device_gemv gemv = {.linear = {.n_rows = rows_of(cuda, op->rows), .x = op->in[0]->rows},
                               .order = op->w[0]->order};
    struct device_linear *l = &gemv.linear;

    for (size_t k = 0; k < op->n; k++)
        made(cuda, op->out[k], 0);
    if (l->n_rows == 0)
        return 1;
    narrow(cuda, op, forms_read(cuda, op));
    if (by_library(cuda, op->rows)) {
        by_blas(cuda, op);
        return 1;
    }
    if (normed) {
        gemv.source = ops[i - 1].out[0]->rows.values;
        gemv.norm = ops[i - 1].w[0]->vector;
        gemv.eps = cuda->shape.rms_eps;
    }
    if (is_added(cuda, ops, i, n))
        gemv.residual = ops[i + 1].out[0]->rows.values;
    gemv.gated = is_gated(cuda, ops, i, n);
    gemv.maxima = op->out[0]->rows.maxima;
    gemv.has_maxima =
        !normed && gemv.order == NULL && (forms_of(cuda, op->in[0], NULL) & FORM_MAXIMA);
    for (size_t k = 0; k < op->n; k++) {
        const struct device_matrix *m = &op->w[k]->matrix;
        l->m[l->n] = *m;
        l->y[l->n] = op->out[k]->rows.values;
        l->y_stride[l->n++] = op->out[k]->rows.stride;
        if (k + 1 < op->n && alike(m, &op->w[k + 1]->matrix))
            continue;
        if (is_gemv(cuda, op))
            device_linear_gemv(cuda->stream, &gemv, cuda->processors, cuda->shared_bytes);
        else
            launch_linear(cuda, l, gemv.gated ? gemv.maxima : NULL);
        l->n = 0;
    }
    if (gemv.gated)
        made(cuda, op->out[0], FORM_MAXIMA);
    return gemv.gated ? 2 : 1;
}

static size_t add_norm(struct cuda *cuda, const struct op *ops, size_t i, size_t n)
{
    const struct op *op = &ops[i];
    const struct buffer *d = i > 0 && is_added(cuda, ops, i - 1, n) ? NULL : op->in[0];

    made(cuda, op->out[0], 0);
    made(cuda, op->out[1], 0);
    if (is_normed(cuda, ops, i, n))
        return 1 + linear(cuda, ops, i + 1, n, true);
    const uint32_t *order;
    int forms = forms_ahead(cuda, ops, i, n, op->out[1], &order);
    device_add_norm(cuda->stream, &op->out[0]->rows, d != NULL ? &d->rows : NULL, op->w[0]->vector,
                    cuda->shape.rms_eps, op->rows == ROWS_LOGITS ? cuda->batch.packed : NULL,
                    cuda->pass.n_rows, &op->out[1]->rows, forms, order);
    made_in_order(cuda, op->out[1], forms, order);
    return 1;
}

/* Whether the attention after rope_store i also rotates and stores. */
static bool is_fresh(const struct cuda *cuda, const struct op *ops, size_t i, size_t n)
{
    return cuda->pass.n_pages > 0 && cuda->pass.one_each && device_attend_takes(&cuda->heads) &&
           i + 1 < n && ops[i + 1].kind == OP_ATTEND && ops[i + 1].layer == ops[i].layer &&
           ops[i + 1].in[0] == ops[i].out[0];
}

/* fresh: the rope_store that is fused with it, or NULL. */
static void attend(const struct cuda *cuda, const struct op *op, const struct op *fresh)
{
    const struct device_rows *q = &op->in[0]->rows, *y = &op->out[0]->rows;
    const struct device_rows *k = fresh != NULL ? &fresh->out[1]->rows : NULL;
    const struct device_rows *v = fresh != NULL ? &fresh->in[0]->rows : NULL;
    const struct pass *p = &cuda->pass;
    if (p->n_pages > 0)
        device_attend_split(cuda->stream, cuda->processors, &cuda->batch, &cuda->heads,
                            (int)op->layer, p->n_tiles, p->n_rows, p->n_pages, p->states, q, k, v,
                            y);
    else
        device_attend(cuda->stream, &cuda->batch, &cuda->heads, (int)op->layer, p->n_groups,
                      p->n_rows, q, y);
    made(cuda, op->out[0],
         p->n_pages > 0 && cuda->heads.head_dim % BLOCK_COLS == 0 ? FORM_MAXIMA : 0);
}

static size_t rope_store(const struct cuda *cuda, const struct op *ops, size_t i, size_t n)
{
    const struct op *op = &ops[i];
    made(cuda, op->out[0], 0);
    if (is_fresh(cuda, ops, i, n)) {
        attend(cuda, &ops[i + 1], op);
        return 2;
    }
    device_rope_store(cuda->stream, &cuda->batch, &cuda->heads, (int)op->layer, cuda->pass.n_rows,
                      &op->out[0]->rows, &op->out[1]->rows, &op->in[0]->rows);
    return 1;
}

static void adapt(struct cuda *cuda, const struct op *op)
{
    const struct device_rows *x = &op->in[0]->rows;
    struct device_factors d = {
        .n = (int)op->n,
        .cols = x->cols,
        .x = x->values,
        .x_stride = x->stride,
        .thin = cuda->thin,
        .max_rank = (int)cuda->shape.max_rank,
        .scales = cuda->batch.scales + op->adapter,
        .n_adapters = (int)cuda->shape.n_adapters,
        .packed = op->rows == ROWS_LOGITS ? cuda->batch.packed : NULL,
    };
    for (size_t i = 0; i < op->n; i++) {
        d.a[i] = op->w[i]->vector;
        d.b[i] = op->b[i]->vector;
        d.rank[i] = (int)op->w[i]->host.rows;
        d.rows[i] = (int)op->b[i]->host.cols;
        d.y[i] = op->out[i]->rows.values;
        d.y_stride[i] = op->out[i]->rows.stride;
        made(cuda, op->out[i], 0);
    }
    device_adapt(cuda->stream, &d, cuda->pass.n_rows);
}

static void embed(struct cuda *cuda, const struct op *op)
{
    const struct device_rows *x = &op->out[0]->rows;
    size_t width = op->w[0]->host.cols * sizeof(float);
    if (op->w[0]->on_host)
        cuda_check(cuda,
                   cudaMemcpy2DAsync(x->values, (size_t)x->stride * sizeof(float), cuda->embedded,
                                     width, width, (size_t)cuda->pass.n_rows,
                                     cudaMemcpyHostToDevice, cuda->stream),
                   "embed");
    else
        device_embed(cuda->stream, &op->w[0]->matrix, cuda->batch.tokens, cuda->pass.n_rows, x);
    made(cuda, op->out[0], 0);
}

void op_prepare(struct cuda *cuda, const struct op *op)
{
    if (op->kind != OP_EMBED)
        return;
    const struct weight *w = op->w[0];
    if (w->on_host) /* rows of the last pass may still be copied */
        cuda_check(cuda, cudaStreamSynchronize(cuda->stream), "embed");
    for (int i = 0; i < cuda->pass.n_rows && !cuda->lacks_token; i++) {
        size_t token = (size_t)cuda->tokens[i];
        if (token >= w->host.rows)
            cuda->lacks_token = true;
        else if (w->on_host)
            matrix_row(&w->host, token, cuda->embedded + (size_t)i * w->host.cols);
    }
}

size_t op_launch(struct cuda *cuda, const struct op *ops, size_t i, size_t n)
{
    const struct op *op = &ops[i];
    const uint32_t *order;
    int forms, n_rows = cuda->pass.n_rows;
    size_t done = 1;

    switch (op->kind) {
    case OP_EMBED:
        embed(cuda, op);
        break;
    case OP_ADD_NORM:
        done = add_norm(cuda, ops, i, n);
        break;
    case OP_LINEAR:
        done = linear(cuda, ops, i, n, false);
        break;
    case OP_ROPE_STORE:
        done = rope_store(cuda, ops, i, n);
        break;
    case OP_ATTEND:
        attend(cuda, op, NULL);
        break;
    case OP_ADAPT:
        adapt(cuda, op);
        break;
    case OP_SWIGLU:
        forms = forms_ahead(cuda, ops, i, n, op->out[0], &order);
        device_swiglu(cuda->stream, &op->out[0]->rows, &op->in[0]->rows, n_rows, forms, order);
        made_in_order(cuda, op->out[0], forms, order);
        break;
    }
    cuda_check(cuda, cudaGetLastError(), op_name(op->kind));
    return done;
}
