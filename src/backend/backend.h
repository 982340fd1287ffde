/* SPDX-License-Identifier: MIT */
/*
 * backend: the seam between what Llama is (src/engine) and what computes it.
 *
 * A backend is a table of stage-sized operations on handles. The engine knows shapes only: the
 * backend keeps weights, activations and KV where it wants, and `read` copies to the host. `batch`
 * hands over all that changes from pass to pass (tokens, positions, page tables), so that a device
 * can replay a recorded graph.
 *
 * Contract:
 *  - The operations from `embed` to `swiglu` never allocate and never fail. `buffer`, `kv_reserve`
 *    and `batch` reserve the memory. The first failure is kept, and `read` reports it.
 *  - The engine's thread issues them, inside a function given to `run`, which does nothing else.
 *    They may be executed as late as `read`.
 *  - The caller serializes kv_* calls. They may overlap a pass over other sequences.
 *  - A row's results depend on its token, position and sequence alone: not on the other rows of the
 *    batch, on how rows are cut into batches, on threads, or on shared pages (contract 1).
 */
#ifndef BACKEND_BACKEND_H
#define BACKEND_BACKEND_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"
#include "checkpoint/model.h"

struct backend;
struct weight; /* a matrix as the backend keeps it: mapped, repacked or uploaded */
struct buffer; /* activations, [rows][cols] f32, and what the backend derives from them */
struct kv;     /* the KV pages of one sequence */

enum { KV_PAGE = 64 }; /* positions in a page */

/* Pages for so many positions. */
static inline size_t kv_pages(size_t positions)
{
    return positions / KV_PAGE + (positions % KV_PAGE > 0);
}

/* What K and V are stored as. A new type is an entry here, in the CPU's kernels (`kv` in
 * cpu/kernels.h), and in read_kv() and write_kv() of cuda/kv.cuh, or refused by cuda_open(). */
enum { KV_TYPES = LLAMA3_KV_INT4 + 1 }; /* LLAMA3_KV_AUTO is none of a backend's */

/* Whether numbers are codes of heads that were spread (kv_spread() in pages.h). */
static inline bool kv_is_coded(enum llama3_kv_type type)
{
    return type >= LLAMA3_KV_INT8;
}

/* Bytes of a number of K, and of V but in int4. */
static inline size_t kv_number_bytes(enum llama3_kv_type type)
{
    static const size_t bytes[KV_TYPES] = {
        [LLAMA3_KV_F16] = 2, [LLAMA3_KV_F32] = 4, [LLAMA3_KV_INT8] = 1, [LLAMA3_KV_INT4] = 1};
    return bytes[type];
}

/* Bytes of one position's K of a head: its numbers, and a scale in f32 where they are codes. */
static inline size_t kv_key_bytes(enum llama3_kv_type type, size_t head_dim)
{
    return head_dim * kv_number_bytes(type) + (kv_is_coded(type) ? sizeof(float) : 0);
}

/* In int4, groups of KV_GROUP numbers of V are (step * code + KV_BASE * base) * scale: codes of 4
 * bits, step and base in int8, and a scale in f32 for the head. Groups come in twos, whose codes
 * share bytes. */
enum { KV_GROUP = 16, KV_BASE = 8, KV_STEP_BYTES = 2 };

/* Columns of V with those that fill up two groups. */
static inline size_t kv_group_columns(size_t head_dim)
{
    return (head_dim + 2 * KV_GROUP - 1) / (2 * KV_GROUP) * (2 * KV_GROUP);
}

/* Bytes of one position's V of a head. int4: [columns / 32][16] bytes, the first group's code in
 * the low bits, the second one's in the high bits; [columns / 16] steps and bases; the scale. */
static inline size_t kv_value_bytes(enum llama3_kv_type type, size_t head_dim)
{
    size_t columns = kv_group_columns(head_dim);
    return type != LLAMA3_KV_INT4
               ? kv_key_bytes(type, head_dim)
               : columns / 2 + columns / KV_GROUP * KV_STEP_BYTES + sizeof(float);
}

/* Shapes of the layers that this backend holds. */
struct backend_shape {
    size_t n_heads, n_kv_heads, head_dim;
    size_t n_layers;       /* layers whose KV lives here, numbered 0..n_layers-1 by the caller */
    size_t max_rows;       /* of one batch */
    size_t max_logit_rows; /* of these, rows whose logits may be wanted */
    size_t max_seqs;       /* sequences in one batch */
    size_t max_context;    /* positions of one sequence */
    size_t n_adapters;     /* whose factors `adapt` gets, */
    size_t max_rank;       /* and the rows that a factor A has at most */
    enum llama3_kv_type kv_type;
    const float *inv_freq; /* [head_dim/2] RoPE frequencies; copied by open */
    bool rope_interleaved;
    float rope_scale; /* of cosines and sines; 0 is 1 */
    float rms_eps;
};

static inline float backend_rope_scale(const struct backend_shape *shape)
{
    return shape->rope_scale > 0 ? shape->rope_scale : 1;
}

struct backend_options {
    const char *name; /* NULL: the CPU's */
    int threads;      /* >= 1 */
    bool no_blas;
    bool numa;        /* on several memory nodes, each thread's part is on its own (base/numa.h) */
    int device;       /* number of the device, of those that have memory of their own */
    bool bf16_prompt; /* such a device may multiply prompts in bf16, with a library */
};

/* A device with memory of its own. */
struct backend_device {
    char name[128];
    uint64_t free_bytes, total_bytes;
};

enum weight_use {
    WEIGHT_MATRIX, /* `linear` and `embed`, [rows][cols] */
    WEIGHT_TABLE,  /* `embed` alone */
    WEIGHT_FACTOR, /* `adapt`, f32 */
    WEIGHT_VECTOR  /* the norm of `add_norm`, [1][cols] */
};

enum rows {
    ROWS_ALL,   /* all rows of the batch */
    ROWS_LOGITS /* those with wants_logits, packed, in order */
};

/* A page of KV in memory that is somebody else's. */
struct kv_lent {
    const void *data; /* 64-byte aligned */
    int (*check)(const struct kv_lent *lent, struct llama3_error *err);
    void (*release)(struct kv_lent *lent); /* once no sequence holds the page */
};

struct batch_row {
    int32_t token;
    int32_t position;
    int32_t seq; /* index into batch.seqs */
    bool wants_logits;
};

/* Rows of one sequence are in ascending order of position. The memory is the caller's, who may
 * change it once `batch` has returned. */
struct batch {
    size_t n_rows;
    const struct batch_row *rows; /* [n_rows] */
    size_t n_seqs;
    struct kv *const *seqs; /* [n_seqs], pages reserved up to the last position named */
    const float *scales;    /* [n_seqs][n_adapters] of the adapters; NULL: 0 */
};

struct backend_ops {
    const char *name;

    /* The device that the options name; -1 if it can't be used. NULL where the backend computes in
     * the host's memory; so are the next four then. They say how many bytes of the device's memory
     * a weight, a buffer, a page of KV of all layers, and the backend itself will take. */
    int (*device)(const struct backend_options *options, struct backend_device *device,
                  struct llama3_error *err);
    uint64_t (*weight_bytes)(const struct backend_options *options, const struct matrix *matrix,
                             enum weight_use use);
    uint64_t (*buffer_bytes)(const struct backend_shape *shape, enum rows rows, size_t cols);
    uint64_t (*kv_page_bytes)(const struct backend_shape *shape);
    uint64_t (*own_bytes)(const struct backend_options *options, const struct backend_shape *shape);

    struct backend *(*open)(const struct backend_options *options,
                            const struct backend_shape *shape, struct llama3_error *err);
    void (*close)(struct backend *backend); /* after all handles were freed */

    /* What --info prints: "cpu (avx512)", "cpu (avx512, 2 memory nodes)", and, unless NULL, a
     * sentence on exactness. The strings last as long as the backend. */
    const char *(*describe)(const struct backend *backend, const char **exactness);

    /* Calls fn(arg) once; it issues the operations of a span. */
    void (*run)(struct backend *backend, void (*fn)(void *arg), void *arg);

    /* The matrix's data must outlive the weight. */
    struct weight *(*weight)(struct backend *backend, const struct matrix *matrix,
                             enum weight_use use, struct llama3_error *err);
    void (*weight_free)(struct backend *backend, struct weight *weight);
    /* Whether the matrix's data will not be read again. */
    bool (*weight_is_copy)(const struct backend *backend, const struct weight *weight);
    /* Copies at most so many bytes more of a matrix that is read where it is mapped; the last ones
     * make it a copy. Between passes. How many bytes are left, 0 also of what can't be copied; -1
     * without memory. NULL: all weights are copies. */
    ptrdiff_t (*weight_load)(struct backend *backend, struct weight *weight, size_t most);
    /* Moves at most so many bytes more of a matrix that stays where it is to the memory nodes whose
     * threads read them (base/numa.h); a mapped file is read. Between passes. How many bytes are
     * left, 0 also where nothing is to be moved. NULL where weight_load is. */
    ptrdiff_t (*weight_place)(struct backend *backend, struct weight *weight, size_t most);
    /* Room for max_rows or max_logit_rows rows. */
    struct buffer *(*buffer)(struct backend *backend, enum rows rows, size_t cols,
                             struct llama3_error *err);
    void (*buffer_free)(struct backend *backend, struct buffer *buffer);

    struct kv *(*kv_open)(struct backend *backend, struct llama3_error *err);
    void (*kv_close)(struct backend *backend, struct kv *kv);
    /* The bytes that kv_reserve would add to kv_bytes. kv NULL: of an empty sequence. */
    uint64_t (*kv_missing)(const struct backend *backend, const struct kv *kv, size_t from,
                           size_t to);
    /* Pages for the positions [from, to), owned by this sequence alone: shared ones are copied.
     * Positions before `from` stay as they are. On failure the sequence is unchanged. */
    int (*kv_reserve)(struct backend *backend, struct kv *kv, size_t from, size_t to,
                      struct llama3_error *err);
    /* Drops the pages that hold no position below n. */
    void (*kv_truncate)(struct backend *backend, struct kv *kv, size_t n);
    /* A new sequence that shares the pages of the first n positions. */
    struct kv *(*kv_fork)(struct backend *backend, struct kv *kv, size_t n,
                          struct llama3_error *err);
    /* Both sequences hold the same tokens at their first n positions: whole pages of these become
     * those of `from`, and kv's own are dropped. */
    void (*kv_share)(struct backend *backend, struct kv *kv, const struct kv *from, size_t n);
    /* K and V of one layer as stored, positions [from, to): each [to - from][n_kv_heads]
     * [kv_key_bytes() or kv_value_bytes()], K already rotated. import: kv_reserve first. */
    int (*kv_export)(struct backend *backend, struct kv *kv, size_t layer, size_t from, size_t to,
                     void *k, void *v, struct llama3_error *err);
    int (*kv_import)(struct backend *backend, struct kv *kv, size_t layer, size_t from, size_t to,
                     const void *k, const void *v, struct llama3_error *err);
    uint64_t (*kv_bytes)(const struct backend *backend); /* held by all sequences now */
    /* The next four are NULL where KV isn't in the host's memory. A page's bytes as the backend
     * lays them out, and how many. */
    size_t (*kv_page_size)(const struct backend *backend);
    const void *(*kv_page)(const struct backend *backend, const struct kv *kv, size_t page);
    /* The page, of those that the sequence has or the next one, becomes lent memory with such
     * bytes. Before it is written it is copied, as a shared one. On failure it isn't taken over. */
    int (*kv_lend)(struct backend *backend, struct kv *kv, size_t page, struct kv_lent *lent,
                   struct llama3_error *err);
    /* -1 if lent memory of the sequence is no longer what it was. */
    int (*kv_check)(const struct backend *backend, const struct kv *kv, struct llama3_error *err);

    /* What the next operations work on. Checks that rows, positions and tokens are within bounds.
     */
    int (*batch)(struct backend *backend, const struct batch *batch, struct llama3_error *err);

    /* x[r] = row tokens[r] of w. */
    void (*embed)(struct backend *backend, struct buffer *x, const struct weight *w);
    /* x += d (d may be NULL), then y = x / rms(x) * w for the rows asked for: ROWS_LOGITS packs
     * them. RMSNorm: Zhang and Sennrich 2019, y = x * w / sqrt(mean(x^2) + eps). */
    void (*add_norm)(struct backend *backend, enum rows rows, struct buffer *x,
                     const struct buffer *d, const struct weight *w, struct buffer *y);
    /* y[i] = w[i] x for i in [0, n), n <= 3. Strips whose columns have an order (quant/matrix.h)
     * are multiplied with x in that order; all w[i] have the same one, or none has one. */
    void (*linear)(struct backend *backend, enum rows rows, struct buffer *const y[],
                   const struct weight *const w[], size_t n, const struct buffer *x);
    /* y[i] += b[i]^T (scale a[i] x) for i in [0, n), n <= 3: what an adapter (LoRA) adds. Both
     * factors have the adapter's rank as rows. The scale is that of the row's sequence; 0 changes
     * nothing. */
    void (*adapt)(struct backend *backend, enum rows rows, struct buffer *const y[],
                  const struct weight *const a[], const struct weight *const b[], size_t n,
                  size_t adapter, const struct buffer *x);
    /* Rotates q and k by their rows' positions, and stores k and v in the layer's pages. The
     * layer's attend has to come next; q and k are undefined for any other operation. */
    void (*rope_store)(struct backend *backend, size_t layer, struct buffer *q, struct buffer *k,
                       const struct buffer *v);
    /* y[r] = softmax(q K^T / sqrt(head_dim)) V over the positions 0..position[r], K and V as
     * stored; query head h reads KV head h / (n_heads / n_kv_heads). */
    void (*attend)(struct backend *backend, size_t layer, const struct buffer *q, struct buffer *y);
    /* gate = silu(gate) * up. */
    void (*swiglu)(struct backend *backend, struct buffer *gate, const struct buffer *up);

    /* Activations of the batch's rows, host <-> backend: [rows][cols]. `write` is called between
     * spans, outside `run`, and has read data when it returns. `read` waits for all operations and
     * reports any failure. `pin` names memory that `read` will fill often, so that a device can
     * write to it directly; it must last until `close`. NULL: of no use here. */
    void (*write)(struct backend *backend, enum rows rows, struct buffer *buffer,
                  const float *data);
    int (*read)(struct backend *backend, enum rows rows, const struct buffer *buffer, float *data,
                struct llama3_error *err);
    void (*pin)(struct backend *backend, void *memory, size_t bytes);
};

/* Every backend's struct begins with this. */
struct backend {
    const struct backend_ops *ops;
    struct page_pool *pool; /* pages.h */
};

/* The backend of that name, NULL for the CPU's. */
const struct backend_ops *backend_find(const char *name, struct llama3_error *err);
/* The one whose devices have memory of their own; NULL where none was compiled in. */
const struct backend_ops *backend_device_ops(void);

#endif
