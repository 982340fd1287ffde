/*
 * cpu: the backend that runs everywhere, and the only place with OpenMP, BLAS and intrinsics.
 *
 * A span of operations runs inside one parallel region: every thread calls every operation, which
 * does that thread's share and waits for the others only where it reads what they wrote. Where
 * BLAS computes, which brings threads of its own, the engine thread alone walks through the span
 * and each operation opens a region for itself.
 *
 * cpu.h: what the files of this folder share.
 */
#ifndef BACKEND_CPU_CPU_H
#define BACKEND_CPU_CPU_H

#include <stdatomic.h>

#include "backend/backend.h"
#include "backend/cpu/kernels.h"

enum {
    TILE_ROWS = 16,    /* rows of W expanded to f32 at a time */
    CHUNK_PAGES = 16,  /* attention is split at multiples of this many pages, whoever computes it */
    BLAS_TILE = 512,   /* rows of W expanded for one call of BLAS */
    BLAS_MIN_ROWS = 32 /* rows of a batch from which BLAS is faster than `dot` */
};

struct weight {
    struct matrix matrix;
    size_t row_bytes;
    float *vector; /* [cols], WEIGHT_VECTOR alone */
    bool blas;     /* BLAS computes it when there are many rows */
};

struct buffer {
    enum rows rows;
    size_t cols;
    float *data; /* [max_rows or max_logit_rows][cols] */
};

/* K as [n_layers][n_kv_heads][head_dim][KV_PAGE], so that one load serves neighbouring positions,
 * each followed by V as [KV_PAGE][head_dim]. */
struct page {
    size_t refs; /* sequences that hold it */
    uint8_t *data;
};

struct kv {
    struct page **pages; /* [capacity], the first n_pages are held */
    size_t n_pages, capacity;
};

/* One thread's. */
struct scratch {
    float *tile; /* [TILE_ROWS][cols of the widest weight] */
    float *q;    /* [group][head_dim] */
    struct attention whole, part;
};

/* A few hundred waits a token: longer than a spin only if some other program has the processor,
 * and then the thread gives way to it. (OpenMP's barrier goes on spinning, against the very thread
 * it waits for: on a busy machine a token took forty times as long.) */
struct team_barrier {
    atomic_uint arrived, generation;
};

struct cpu {
    struct backend base;
    struct backend_shape shape;
    const struct kernels *kernels;
    size_t threads;
    size_t group;      /* query heads of a KV head */
    size_t kv_element; /* bytes */
    size_t page_bytes, pages_held;
    float *inv_freq;         /* [head_dim/2] */
    size_t max_cols;         /* of the weights that are expanded */
    struct scratch *scratch; /* [threads] */
    bool may_blas, has_blas_weights;
    float *blas_tile; /* [BLAS_TILE][max_cols of a f16 weight], NULL without one */
    size_t blas_cols;

    /* The batch. */
    struct batch_row *rows; /* [max_rows] */
    struct kv **seqs;       /* [max_seqs] */
    size_t n_rows, n_logits;
    struct team_barrier barrier;
    bool alone;       /* the span runs on the engine thread; operations open regions */
    float *cos, *sin; /* [max_rows][head_dim/2] */
    bool split;       /* attention is computed in parts */
    size_t n_chunks;  /* of the longest sequence of the batch */
    float *parts;     /* [n_rows][n_kv_heads][n_chunks][group * (head_dim + 2)] if split */
    size_t parts_capacity;
};

static inline struct cpu *cpu_of(struct backend *backend)
{
    return (struct cpu *)backend;
}

static inline size_t cpu_rows(const struct cpu *cpu, enum rows rows)
{
    return rows == ROWS_ALL ? cpu->n_rows : cpu->n_logits;
}

/* ---- team.c: threads ------------------------------------------------------------------- */

struct team {
    size_t id, size;
};

/* fn(arg) on `threads` threads at once. */
void team_run(size_t threads, void (*fn)(void *arg), void *arg);
/* Inside: which thread this is. */
struct team team_here(void);
/* Waits for the whole team; what its threads wrote before can be read after. */
void team_wait(struct team_barrier *barrier, size_t n_threads);

/* Runs a body on the whole team: from every thread that is already there, or in a region opened
 * for it. With `wait`, not before all threads have finished what they did before. */
typedef void team_body(struct cpu *cpu, struct team team, const void *args);
void cpu_each(struct cpu *cpu, bool wait, team_body *body, const void *args);

/* The share of a thread in n things, in steps of `step`. */
static inline size_t team_share(struct team team, size_t n, size_t step, size_t *end)
{
    size_t steps = (n + step - 1) / step;
    size_t from = steps * team.id / team.size * step, to = steps * (team.id + 1) / team.size * step;
    *end = to < n ? to : n;
    return from < n ? from : n;
}

/* ---- kv.c, ops.c, attend.c, linear.c, blas.c -------------------------------------------- */

struct kv *cpu_kv_open(struct backend *backend, struct llama3_error *err);
void cpu_kv_close(struct backend *backend, struct kv *kv);
int cpu_kv_reserve(struct backend *backend, struct kv *kv, size_t from, size_t to,
                   struct llama3_error *err);
void cpu_kv_truncate(struct backend *backend, struct kv *kv, size_t n);
struct kv *cpu_kv_fork(struct backend *backend, struct kv *kv, size_t n, struct llama3_error *err);
int cpu_kv_export(struct backend *backend, struct kv *kv, size_t layer, size_t from, size_t to,
                  void *k, void *v, struct llama3_error *err);
int cpu_kv_import(struct backend *backend, struct kv *kv, size_t layer, size_t from, size_t to,
                  const void *k, const void *v, struct llama3_error *err);
uint64_t cpu_kv_bytes(const struct backend *backend);
/* K and V of one KV head in a page. */
uint8_t *cpu_page_k(const struct cpu *cpu, const struct page *page, size_t layer, size_t head);
uint8_t *cpu_page_v(const struct cpu *cpu, const struct page *page, size_t layer, size_t head);

void cpu_embed(struct backend *backend, struct buffer *x, const struct weight *w);
void cpu_add_norm(struct backend *backend, enum rows rows, struct buffer *x, const struct buffer *d,
                  const struct weight *w, struct buffer *y);
void cpu_swiglu(struct backend *backend, struct buffer *gate, const struct buffer *up);

void cpu_linear(struct backend *backend, enum rows rows, struct buffer *const y[],
                const struct weight *const w[], size_t n, const struct buffer *x);

void cpu_rope_store(struct backend *backend, size_t layer, struct buffer *q, struct buffer *k,
                    const struct buffer *v);
void cpu_attend(struct backend *backend, size_t layer, const struct buffer *q, struct buffer *y);
/* Decides how attention is cut for a batch, and reserves what that needs. */
int cpu_attend_prepare(struct cpu *cpu, struct llama3_error *err);

/* blas.c, or no_blas.c where it was configured out. */
bool blas_available(void);
void blas_open(size_t threads);
/* y = x W^T; W f32, its rows w_stride floats apart. */
void blas_linear(const float *w, size_t w_stride, size_t rows, size_t cols, const float *x,
                 size_t n, float *y, size_t y_stride);

extern const struct backend_ops cpu_ops;

#endif
