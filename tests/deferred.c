/* SPDX-License-Identifier: MIT */
#include "deferred.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "backend/cpu/cpu.h"
#include "base/size.h"

enum { MAX_OPS = 1 << 14, MAX_HANDLES = 1 << 12 };

enum op { OP_EMBED, OP_ADD_NORM, OP_LINEAR, OP_ROPE_STORE, OP_ATTEND, OP_SWIGLU, OP_ADAPT };

/* Handles as they were given out, never looked behind. */
struct record {
    enum op op;
    enum rows rows;
    size_t layer, n, adapter;
    struct buffer *a[4];
    const struct weight *w[6];
};

struct deferred {
    struct backend base;
    const struct backend_ops *inner_ops;
    struct backend *inner;
    void *behind[MAX_HANDLES]; /* what a handle stands for in the inner backend */
    void *memory[MAX_HANDLES]; /* copies of weights */
    size_t n_handles;
    struct record records[MAX_OPS];
    size_t n_records;
    struct backend_shape shape;
    uint64_t bytes[MAX_HANDLES]; /* of the device's memory, by handle */
    uint64_t own_bytes, kv_bytes;
    char failure[64]; /* of the first operation that failed: sticks */
};

static size_t pending;
struct deferred_device deferred_device;

size_t deferred_pending(void)
{
    return pending;
}

static struct deferred *of(struct backend *backend)
{
    return (struct deferred *)backend;
}

/* Handle number i, as a pointer that must never be followed. */
static void *give_handle(struct deferred *d, void *behind)
{
    size_t i = 0;
    while (i < d->n_handles && d->behind[i] != NULL) /* those of closed sequences are free */
        i++;
    if (behind == NULL || i == MAX_HANDLES)
        return NULL;
    d->n_handles += i == d->n_handles;
    d->behind[i] = behind;
    return (void *)(uintptr_t)(i + 1);
}

static void *look(const struct deferred *d, const void *handle)
{
    return handle != NULL ? d->behind[(uintptr_t)handle - 1] : NULL;
}

/* ---- the device's memory ------------------------------------------------------------------ */

static int deferred_find_device(const struct backend_options *options,
                                struct backend_device *device, struct llama3_error *err)
{
    if (deferred_device.absent != NULL)
        return error_set(err, LLAMA3_EDEVICE, "%s", deferred_device.absent);
    if (options->device != 0)
        return error_set(err, LLAMA3_EDEVICE, "deferred: expected device 0, found %d",
                         options->device);
    *device = (struct backend_device){.name = "Deferred 1",
                                      .free_bytes = deferred_device.free_bytes > 0
                                                        ? deferred_device.free_bytes -
                                                              deferred_device.used_bytes
                                                        : UINT64_MAX,
                                      .total_bytes = deferred_device.total_bytes};
    return 0;
}

/* Pieces as a device's allocator gives them out. */
static uint64_t pieces(uint64_t bytes)
{
    return (bytes + 255) / 256 * 256;
}

static uint64_t deferred_weight_bytes(const struct backend_options *options,
                                      const struct matrix *matrix, enum weight_use use)
{
    (void)options;
    return pieces(matrix_bytes(matrix)) + (use == WEIGHT_MATRIX ? 256 : 0);
}

static uint64_t deferred_buffer_bytes(const struct backend_shape *shape, enum rows rows,
                                      size_t cols)
{
    return pieces(sizeof(float) * cols *
                  (rows == ROWS_ALL ? shape->max_rows : shape->max_logit_rows));
}

static uint64_t deferred_kv_page_bytes(const struct backend_shape *shape)
{
    return pieces((uint64_t)shape->n_layers * shape->n_kv_heads * KV_PAGE *
                  (kv_key_bytes(shape->kv_type, shape->head_dim) +
                   kv_value_bytes(shape->kv_type, shape->head_dim)));
}

static uint64_t deferred_own_bytes(const struct backend_options *options,
                                   const struct backend_shape *shape)
{
    (void)options;
    return 4096 + pieces(16 * shape->max_context);
}

static int hold(uint64_t bytes, struct llama3_error *err)
{
    struct deferred_device *device = &deferred_device;
    if (device->free_bytes > 0 && bytes > device->free_bytes - device->used_bytes)
        return error_set(err, LLAMA3_ENOMEM, "deferred: %llu bytes asked for, %llu of %llu in use",
                         (unsigned long long)bytes, (unsigned long long)device->used_bytes,
                         (unsigned long long)device->free_bytes);
    device->used_bytes += bytes;
    if (device->used_bytes > device->most_bytes)
        device->most_bytes = device->used_bytes;
    return 0;
}

static void let_go(uint64_t bytes)
{
    deferred_device.used_bytes -= bytes;
}

/* After the inner backend took or gave back pages. */
static int count_pages(struct deferred *d, struct llama3_error *err)
{
    struct backend_shape shape = d->shape;
    size_t padded = (shape.head_dim + 15) / 16 * 16; /* as the CPU lays pages out */
    uint64_t inner_page =
        shape.n_layers * shape.n_kv_heads * KV_PAGE *
        (kv_key_bytes(shape.kv_type, shape.head_dim) + kv_value_bytes(shape.kv_type, padded));
    uint64_t bytes =
        d->inner_ops->kv_bytes(d->inner) / inner_page * deferred_kv_page_bytes(&d->shape);
    int status = 0;
    if (bytes > d->kv_bytes)
        status = hold(bytes - d->kv_bytes, err);
    else
        let_go(d->kv_bytes - bytes);
    if (status == 0)
        d->kv_bytes = bytes;
    return status;
}

/* ---- opening and handles --------------------------------------------------------------- */

static struct backend *deferred_open(const struct backend_options *options,
                                     const struct backend_shape *shape, struct llama3_error *err)
{
    struct deferred *d = size_alloc(1, sizeof *d);
    if (d == NULL)
        return NULL;
    struct backend_options inner = *options;
    inner.no_blas = true;
    d->base.ops = &deferred_ops;
    d->shape = *shape;
    d->own_bytes = deferred_own_bytes(options, shape);
    if (hold(d->own_bytes, err) < 0) {
        free(d);
        return NULL;
    }
    d->inner_ops = backend_find("cpu", err);
    d->inner = d->inner_ops->open(&inner, shape, err);
    if (d->inner == NULL) {
        let_go(d->own_bytes);
        free(d);
        return NULL;
    }
    return &d->base;
}

static void deferred_close(struct backend *backend)
{
    struct deferred *d = of(backend);
    pending -= d->n_records;
    let_go(d->own_bytes);
    d->inner_ops->close(d->inner);
    for (size_t i = 0; i < d->n_handles; i++)
        free(d->memory[i]);
    free(d);
}

static const char *deferred_describe(const struct backend *backend, const char **exactness)
{
    (void)backend;
    if (exactness != NULL)
        *exactness = "as the CPU's";
    return "deferred (Deferred 1)";
}

static void deferred_run(struct backend *backend, void (*fn)(void *arg), void *arg)
{
    (void)backend;
    fn(arg);
}

/* A matrix whose bytes are the device's own. Returns them. */
static void *copy_matrix(const struct matrix *matrix, struct matrix *moved)
{
    struct span_of_bytes spans[MATRIX_SPANS];
    size_t n = matrix_spans(matrix, 0, matrix->rows, spans), bytes = 0, at = 0;
    for (size_t i = 0; i < n; i++)
        bytes += (spans[i].bytes + 63) / 64 * 64;
    *moved = *matrix;
    uint8_t *copy = size_alloc_aligned(bytes + sizeof(struct parts), 1);
    struct parts *parts = (struct parts *)(void *)(copy + bytes);
    if (copy == NULL)
        return NULL;
    for (size_t i = 0; i < n; at += (spans[i].bytes + 63) / 64 * 64, i++)
        memcpy(copy + at, spans[i].data, spans[i].bytes);
    moved->data = copy;
    if (matrix->parts == NULL)
        return copy;
    *parts = *matrix->parts;
    moved->parts = parts;
    struct numbers *const all[] = {&parts->codes, &parts->scales, &parts->zeros};
    at = 0;
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        if (all[i]->data != NULL) {
            all[i]->data = copy + at;
            at += (all[i]->bytes + 63) / 64 * 64;
        }
    return copy;
}

static struct weight *deferred_weight(struct backend *backend, const struct matrix *matrix,
                                      enum weight_use use, struct llama3_error *err)
{
    struct deferred *d = of(backend);
    uint64_t held = deferred_weight_bytes(NULL, matrix, use);
    if (hold(held, err) < 0)
        return NULL;
    struct matrix moved;
    void *copy = copy_matrix(matrix, &moved);
    if (copy == NULL) {
        let_go(held);
        error_memory(err, "a weight", matrix_bytes(matrix));
        return NULL;
    }
    struct weight *handle = give_handle(d, d->inner_ops->weight(d->inner, &moved, use, err));
    if (handle == NULL) {
        let_go(held);
        free(copy);
    } else {
        d->memory[(uintptr_t)handle - 1] = copy;
        d->bytes[(uintptr_t)handle - 1] = held;
    }
    return handle;
}

static bool deferred_weight_is_copy(const struct backend *backend, const struct weight *weight)
{
    (void)backend;
    (void)weight;
    return true;
}

static void deferred_weight_free(struct backend *backend, struct weight *weight)
{
    struct deferred *d = of(backend);
    let_go(d->bytes[(uintptr_t)weight - 1]);
    d->inner_ops->weight_free(d->inner, look(d, weight));
}

static struct buffer *deferred_buffer(struct backend *backend, enum rows rows, size_t cols,
                                      struct llama3_error *err)
{
    struct deferred *d = of(backend);
    uint64_t held = deferred_buffer_bytes(&d->shape, rows, cols);
    if (hold(held, err) < 0)
        return NULL;
    struct buffer *handle = give_handle(d, d->inner_ops->buffer(d->inner, rows, cols, err));
    if (handle == NULL)
        let_go(held);
    else
        d->bytes[(uintptr_t)handle - 1] = held;
    return handle;
}

static void deferred_buffer_free(struct backend *backend, struct buffer *buffer)
{
    struct deferred *d = of(backend);
    let_go(d->bytes[(uintptr_t)buffer - 1]);
    d->inner_ops->buffer_free(d->inner, look(d, buffer));
}

/* ---- KV: at once, as a device's allocator would ------------------------------------------ */

static struct kv *deferred_kv_open(struct backend *backend, struct llama3_error *err)
{
    struct deferred *d = of(backend);
    return give_handle(d, d->inner_ops->kv_open(d->inner, err));
}

static void deferred_kv_close(struct backend *backend, struct kv *kv)
{
    struct deferred *d = of(backend);
    d->inner_ops->kv_close(d->inner, look(d, kv));
    if (kv != NULL)
        d->behind[(uintptr_t)kv - 1] = NULL;
    count_pages(d, NULL);
}

static void deferred_kv_truncate(struct backend *backend, struct kv *kv, size_t n)
{
    struct deferred *d = of(backend);
    d->inner_ops->kv_truncate(d->inner, look(d, kv), n);
    count_pages(d, NULL);
}

static int deferred_kv_reserve(struct backend *backend, struct kv *kv, size_t from, size_t to,
                               struct llama3_error *err)
{
    struct deferred *d = of(backend);
    if (d->inner_ops->kv_reserve(d->inner, look(d, kv), from, to, err) < 0)
        return -1;
    if (count_pages(d, err) == 0)
        return 0;
    deferred_kv_truncate(backend, kv, from);
    return -1;
}

static uint64_t deferred_kv_missing(const struct backend *backend, const struct kv *kv, size_t from,
                                    size_t to)
{
    const struct deferred *d = (const struct deferred *)backend;
    return d->inner_ops->kv_missing(d->inner, kv != NULL ? look(d, kv) : NULL, from, to);
}

static void deferred_kv_share(struct backend *backend, struct kv *kv, const struct kv *from,
                              size_t n)
{
    struct deferred *d = of(backend);
    d->inner_ops->kv_share(d->inner, look(d, kv), look(d, from), n);
    count_pages(d, NULL);
}

static struct kv *deferred_kv_fork(struct backend *backend, struct kv *kv, size_t n,
                                   struct llama3_error *err)
{
    struct deferred *d = of(backend);
    return give_handle(d, d->inner_ops->kv_fork(d->inner, look(d, kv), n, err));
}

static int deferred_kv_export(struct backend *backend, struct kv *kv, size_t layer, size_t from,
                              size_t to, void *k, void *v, struct llama3_error *err)
{
    struct deferred *d = of(backend);
    return d->inner_ops->kv_export(d->inner, look(d, kv), layer, from, to, k, v, err);
}

static int deferred_kv_import(struct backend *backend, struct kv *kv, size_t layer, size_t from,
                              size_t to, const void *k, const void *v, struct llama3_error *err)
{
    struct deferred *d = of(backend);
    return d->inner_ops->kv_import(d->inner, look(d, kv), layer, from, to, k, v, err);
}

static uint64_t deferred_kv_bytes(const struct backend *backend)
{
    const struct deferred *d = (const struct deferred *)backend;
    return d->inner_ops->kv_bytes(d->inner);
}

/* ---- recording ------------------------------------------------------------------------- */

/* The inner backend copies rows and sequences; the handles of sequences are looked up here. */
static int deferred_batch(struct backend *backend, const struct batch *batch,
                          struct llama3_error *err)
{
    struct deferred *d = of(backend);
    struct kv **seqs = size_alloc(batch->n_seqs, sizeof(struct kv *));
    if (seqs == NULL)
        return -1;
    for (size_t s = 0; s < batch->n_seqs; s++)
        seqs[s] = look(d, batch->seqs[s]);
    struct batch moved = *batch;
    moved.seqs = seqs;
    int status = d->inner_ops->batch(d->inner, &moved, err);
    free(seqs);
    pending -= d->n_records;
    d->n_records = 0; /* of a pass that was abandoned */
    return status;
}

static void record(struct backend *backend, struct record r)
{
    struct deferred *d = of(backend);
    if (d->n_records == MAX_OPS) {
        snprintf(d->failure, sizeof d->failure, "more operations than it can record");
        return;
    }
    d->records[d->n_records++] = r;
    pending++;
}

static void deferred_embed(struct backend *b, struct buffer *x, const struct weight *w)
{
    record(b, (struct record){.op = OP_EMBED, .a = {x}, .w = {w}});
}

static void deferred_add_norm(struct backend *b, enum rows rows, struct buffer *x,
                              const struct buffer *delta, const struct weight *w, struct buffer *y)
{
    record(b, (struct record){.op = OP_ADD_NORM,
                              .rows = rows,
                              .a = {x, (struct buffer *)(uintptr_t)delta, y},
                              .w = {w}});
}

static void deferred_linear(struct backend *b, enum rows rows, struct buffer *const y[],
                            const struct weight *const w[], size_t n, const struct buffer *x)
{
    struct record r = {.op = OP_LINEAR, .rows = rows, .n = n};
    for (size_t i = 0; i < n; i++) {
        r.a[i] = y[i];
        r.w[i] = w[i];
    }
    r.a[3] = (struct buffer *)(uintptr_t)x;
    record(b, r);
}

static void deferred_adapt(struct backend *b, enum rows rows, struct buffer *const y[],
                           const struct weight *const first[], const struct weight *const second[],
                           size_t n, size_t adapter, const struct buffer *x)
{
    struct record r = {.op = OP_ADAPT, .rows = rows, .n = n, .adapter = adapter};
    for (size_t i = 0; i < n; i++) {
        r.a[i] = y[i];
        r.w[i] = first[i];
        r.w[3 + i] = second[i];
    }
    r.a[3] = (struct buffer *)(uintptr_t)x;
    record(b, r);
}

static void deferred_rope_store(struct backend *b, size_t layer, struct buffer *q, struct buffer *k,
                                const struct buffer *v)
{
    record(b, (struct record){
                  .op = OP_ROPE_STORE, .layer = layer, .a = {q, k, (struct buffer *)(uintptr_t)v}});
}

static void deferred_attend(struct backend *b, size_t layer, const struct buffer *q,
                            struct buffer *y)
{
    record(b, (struct record){
                  .op = OP_ATTEND, .layer = layer, .a = {(struct buffer *)(uintptr_t)q, y}});
}

static void deferred_swiglu(struct backend *b, struct buffer *gate, const struct buffer *up)
{
    record(b, (struct record){.op = OP_SWIGLU, .a = {gate, (struct buffer *)(uintptr_t)up}});
}

/* ---- carrying out ---------------------------------------------------------------------- */

static void replay(const struct deferred *d, const struct record *r)
{
    const struct backend_ops *ops = d->inner_ops;
    struct backend *b = d->inner;
    struct buffer *a[4];
    const struct weight *w[6];
    for (size_t i = 0; i < 4; i++)
        a[i] = look(d, r->a[i]);
    for (size_t i = 0; i < 6; i++)
        w[i] = look(d, r->w[i]);

    switch (r->op) {
    case OP_EMBED:
        ops->embed(b, a[0], w[0]);
        break;
    case OP_ADD_NORM:
        ops->add_norm(b, r->rows, a[0], a[1], w[0], a[2]);
        break;
    case OP_LINEAR:
        ops->linear(b, r->rows, a, w, r->n, a[3]);
        break;
    case OP_ADAPT:
        ops->adapt(b, r->rows, a, w, w + 3, r->n, r->adapter, a[3]);
        break;
    case OP_ROPE_STORE:
        ops->rope_store(b, r->layer, a[0], a[1], a[2]);
        break;
    case OP_ATTEND:
        ops->attend(b, r->layer, a[0], a[1]);
        break;
    case OP_SWIGLU:
        ops->swiglu(b, a[0], a[1]);
        break;
    }
}

static void replay_all(void *arg)
{
    const struct deferred *d = arg;
    for (size_t i = 0; i < d->n_records; i++)
        replay(d, &d->records[i]);
}

/* After a failure nothing is carried out any more. */
static void flush(struct deferred *d)
{
    static const char *const names[] = {"embed",  "add_norm", "linear", "rope_store",
                                        "attend", "swiglu",   "adapt"};
    size_t *left = &deferred_device.fail_after;
    if (d->failure[0] == '\0' && *left > 0 && d->n_records >= *left) {
        snprintf(d->failure, sizeof d->failure, "%s: the device fell off the bus",
                 names[d->records[*left - 1].op]);
        *left = 0;
    } else if (*left > 0) {
        *left -= d->n_records;
    }
    if (d->failure[0] == '\0')
        d->inner_ops->run(d->inner, replay_all, d);
    pending -= d->n_records;
    d->n_records = 0;
}

/* Written data is ordered among the operations: what came before is carried out first. */
static void deferred_write(struct backend *backend, enum rows rows, struct buffer *buffer,
                           const float *data)
{
    struct deferred *d = of(backend);
    flush(d);
    d->inner_ops->write(d->inner, rows, look(d, buffer), data);
}

static int deferred_read(struct backend *backend, enum rows rows, const struct buffer *buffer,
                         float *data, struct llama3_error *err)
{
    struct deferred *d = of(backend);
    flush(d);
    if (d->failure[0] != '\0')
        return error_set(err, LLAMA3_EDEVICE, "deferred: %s", d->failure);
    return d->inner_ops->read(d->inner, rows, look(d, buffer), data, err);
}

const struct backend_ops deferred_ops = {
    .name = "deferred",
    .device = deferred_find_device,
    .weight_bytes = deferred_weight_bytes,
    .buffer_bytes = deferred_buffer_bytes,
    .kv_page_bytes = deferred_kv_page_bytes,
    .own_bytes = deferred_own_bytes,
    .open = deferred_open,
    .close = deferred_close,
    .describe = deferred_describe,
    .run = deferred_run,
    .weight = deferred_weight,
    .weight_free = deferred_weight_free,
    .weight_is_copy = deferred_weight_is_copy,
    .buffer = deferred_buffer,
    .buffer_free = deferred_buffer_free,
    .kv_open = deferred_kv_open,
    .kv_close = deferred_kv_close,
    .kv_reserve = deferred_kv_reserve,
    .kv_truncate = deferred_kv_truncate,
    .kv_missing = deferred_kv_missing,
    .kv_fork = deferred_kv_fork,
    .kv_share = deferred_kv_share,
    .kv_export = deferred_kv_export,
    .kv_import = deferred_kv_import,
    .kv_bytes = deferred_kv_bytes,
    .batch = deferred_batch,
    .embed = deferred_embed,
    .add_norm = deferred_add_norm,
    .linear = deferred_linear,
    .adapt = deferred_adapt,
    .rope_store = deferred_rope_store,
    .attend = deferred_attend,
    .swiglu = deferred_swiglu,
    .write = deferred_write,
    .read = deferred_read,
};
