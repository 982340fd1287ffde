/* SPDX-License-Identifier: MIT */
/*
 * cpu: the backend that runs everywhere. The only place with BLAS and intrinsics.
 *
 * The engine thread calls the operations. Each is shared out to a team of threads (base/threads.h)
 * and returns when all of it is done. One thread owns each sum, so results do not depend on the
 * split.
 *
 * cpu.h: what the files of this folder share.
 */
#ifndef BACKEND_CPU_CPU_H
#define BACKEND_CPU_CPU_H

#include <stdatomic.h>

#include "backend/backend.h"
#include "backend/cpu/kernels.h"
#include "backend/pages.h"
#include "base/threads.h"

struct numa;

struct weight {
    struct matrix matrix;       /* the matrix as it is mapped, or repacked */
    void *memory;               /* of a repacked or copied one */
    void *coming;               /* memory of a copy that is being made, */
    size_t copied;              /* and its bytes so far */
    size_t placed;              /* bytes that were moved to their memory nodes */
    size_t row_bytes;           /* of types stored row by row */
    struct strip_layout layout; /* of grouped types */
    const uint32_t *order;      /* [cols] of columns; NULL: as they are. The model's */
    float *vector; /* [round_up(cols, LANES)], a WEIGHT_VECTOR converted; NULL for a matrix */
    bool blas;     /* multiplied by BLAS for many rows */
    bool pairs;    /* multiplied by linear_bf16_products */
};

struct buffer {
    float *data; /* [rows][stride], zero beyond cols; 64-byte aligned */
    size_t rows, cols, stride;
};

/* KV_PAGE positions of all layers: [n_kv_heads][n_layers], so that a memory node can hold some of
 * the heads; of each K as [head_dim][KV_PAGE], so that one load serves many positions, then V as
 * [KV_PAGE][padded_dim]. Of int8 and int4, pairs lie side by side, as attend_page says. */
struct cpu_page {
    struct page base;
    struct slab *slab;   /* that it is of, in kv.c */
    unsigned char *data; /* 64-byte aligned */
};

/* Activations as int8 and bf16. */
struct narrow {
    struct quantized int8;
    uint16_t *bf16; /* [rows][round_up(cols, BF16_COLS)] */
};

/* Memory of one thread. */
struct scratch {
    float *panel;              /* [PANEL_ROWS][PANEL_COLS] weights as f32 */
    float *partial;            /* [PANEL_ROWS][PANEL_TOKENS][LANES] */
    float *q;                  /* [max_queries][head_dim] */
    float *page;               /* K and V of a page, expanded: [2][KV_PAGE][padded_dim] */
    float *chunk;              /* softmax states of one chunk of pages, */
    float *total;              /* and of all so far: [max_queries][state_size] */
    float *head;               /* [padded_dim] a head of K or V on its way to a page, */
    void *stored_k, *stored_v; /* [padded_dim] and as they are stored */
    struct group_scratch *groups;
    float *row;        /* a row in the order of a matrix's columns, padded to LANES */
    struct narrow few; /* a few rows, converted by the thread for itself, */
    uint64_t few_of;   /* for the linear operation of this number */
    float *out;        /* [piece_numbers] results of a piece that may be redone */
};

/* Consecutive rows of one sequence that are attended together. */
struct row_tile {
    size_t first, count;
    size_t chunks; /* of pages, if these are shared out to threads; else 0 */
    size_t states; /* of queries that tiles before it have in chunk_states */
    size_t job;    /* its first */
};

struct cpu {
    struct backend base;
    const struct kernels *kernels;
    struct backend_shape shape;
    float *inv_freq; /* [head_dim / 2] */
    struct numa *numa;
    struct team *team;
    int threads;
    bool use_blas;
    char description[256];
    char lack[256];          /* why BLAS is missing, where a matrix needs it; or "" */
    float *blas_panels;      /* [threads][BLAS_ROWS][blas_cols] */
    size_t blas_cols;        /* of the widest matrix that BLAS gets */
    struct scratch *scratch; /* [threads] */
    unsigned char *scratch_memory;
    /* [max_rows or max_logit_rows], for the widest matrix that needs it. Two, since a thread that
     * lost its core may still read one. */
    struct narrow narrow[2];
    bool narrow_held[2];
    size_t narrow_at;     /* the one used last, */
    size_t narrow_robbed; /* and team_done_over() before */
    void *narrow_memory;  /* of these and of the threads' */
    size_t narrow_cols;
    struct buffer ordered; /* rows in the order of columns, for kernels that read floats */
    struct page_pool pool;
    struct slab *slabs; /* with pages that aren't taken */

    /* Derived from shape. */
    size_t group;         /* query heads of a KV head */
    size_t padded_dim;    /* head_dim rounded up to LANES */
    size_t kv_size;       /* bytes of an element of K */
    size_t scale_size;    /* and of a head's scale, if it has one */
    size_t k_bytes;       /* of one KV head and layer in a page: K, */
    size_t v_bytes;       /* and V */
    size_t tile_rows;     /* rows attended together at most */
    size_t piece_numbers; /* results of a piece of a linear operation at most */
    size_t state_size;    /* floats of a query's softmax state: padded_dim sums, max, sum */

    /* The batch. */
    size_t n_rows, n_logit_rows;
    float *scales;    /* [max_seqs][n_adapters] */
    float *thin;      /* [max_rows or max_logit_rows][3][thin_rank] products of an adapter's first
                         factors */
    size_t thin_rank; /* max_rank rounded up to LANES */
    struct batch_row *rows;   /* [max_rows] */
    size_t *logit_rows;       /* [max_logit_rows] */
    struct page ***row_pages; /* [max_rows] page table of the row's sequence */
    float *cosine, *sine;     /* [max_rows][head_dim / 2] */
    struct row_tile *tiles;   /* [max_rows] */
    size_t n_tiles, n_split;  /* all, and those whose chunks are shared out */
    size_t n_jobs, most_jobs; /* of attention: of a KV head, and of a piece at most */
    float *chunk_states; /* for each split tile [n_kv_heads][chunks][count][group][state_size] */
    size_t chunk_room;   /* floats allocated there */
    uint64_t n_linear;   /* linear operations so far */
    atomic_bool failed;  /* a token that the embedding lacks */
};

extern const struct backend_ops cpu_ops;

static inline size_t cpu_rows(const struct cpu *cpu, enum rows rows)
{
    return rows == ROWS_LOGITS ? cpu->n_logit_rows : cpu->n_rows;
}

/* How many items of so many numbers make a piece of about two microseconds. */
static inline size_t cpu_worth(size_t numbers)
{
    return (4096 + numbers - 1) / numbers;
}

/* team_share() without a limit to the size of a piece. */
void cpu_share(const struct cpu *cpu, size_t n, size_t least, piece_fn *piece, void *arg);

static inline unsigned char *page_k(const struct cpu *cpu, struct page *page, size_t layer,
                                    size_t kv_head)
{
    size_t heads = kv_head * cpu->shape.n_layers + layer;
    return ((struct cpu_page *)page)->data + heads * (cpu->k_bytes + cpu->v_bytes);
}

static inline unsigned char *page_v(const struct cpu *cpu, struct page *page, size_t layer,
                                    size_t kv_head)
{
    return page_k(cpu, page, layer, kv_head) + cpu->k_bytes;
}

/* Columns [col, col + n) of a row to f32, by the fastest kernel; as matrix_expand(). */
static inline void cpu_expand(const struct cpu *cpu, const struct weight *w, size_t row, size_t col,
                              size_t n, float *out)
{
    const struct matrix *m = &w->matrix;
    if (m->type < DTYPE_ROWS && cpu->kernels->expand[m->type] != NULL)
        cpu->kernels->expand[m->type](
            (const char *)m->data + row * w->row_bytes + dtype_row_bytes(m->type, col), out, n);
    else
        matrix_expand(m, row, col, n, out);
}

/* ops.c */
void cpu_embed(struct backend *backend, struct buffer *x, const struct weight *w);
void cpu_add_norm(struct backend *backend, enum rows rows, struct buffer *x, const struct buffer *d,
                  const struct weight *w, struct buffer *y);
void cpu_rope_store(struct backend *backend, size_t layer, struct buffer *q, struct buffer *k,
                    const struct buffer *v);
void cpu_swiglu(struct backend *backend, struct buffer *gate, const struct buffer *up);

/* linear.c */
enum {
    PANEL_ROWS = 32,
    PANEL_COLS = 1024, /* a multiple of every type's block and of LANES */
    PANEL_TOKENS = 96,
    UNIT_STRIPS = GROUP_STRIPS, /* of a grouped matrix: the smallest piece */
    UNIT_ROWS = UNIT_STRIPS * STRIP,
    PIECE_BYTES = 256 << 10,  /* of weights that a thread takes at a time, */
    PIECE_NUMBERS = 32 << 10, /* and of results */
    BLAS_ROWS = 128,          /* of W expanded for a call of BLAS */
    BLAS_TOKENS = 32,         /* from which BLAS is called */
    NARROW_FEW = 4            /* rows at most that each thread converts for itself */
};
void cpu_linear(struct backend *backend, enum rows rows, struct buffer *const y[],
                const struct weight *const w[], size_t n, const struct buffer *x);
void cpu_adapt(struct backend *backend, enum rows rows, struct buffer *const y[],
               const struct weight *const a[], const struct weight *const b[], size_t n,
               size_t adapter, const struct buffer *x);

/* weight.c */
static inline size_t weight_units(const struct weight *w)
{
    return (w->matrix.rows + UNIT_ROWS - 1) / UNIT_ROWS;
}
/* The first of these units that is on a memory node. */
size_t weight_start(const struct cpu *cpu, const struct weight *w, size_t node);
struct weight *cpu_weight(struct backend *backend, const struct matrix *matrix, enum weight_use use,
                          struct llama3_error *err);
void cpu_weight_free(struct backend *backend, struct weight *weight);
ptrdiff_t cpu_weight_load(struct backend *backend, struct weight *weight, size_t most);
ptrdiff_t cpu_weight_place(struct backend *backend, struct weight *weight, size_t most);

/* attend.c */
int attend_plan(struct cpu *cpu, struct llama3_error *err); /* after the batch's rows are set */
void cpu_attend(struct backend *backend, size_t layer, const struct buffer *q, struct buffer *y);

/* kv.c */
void kv_open_pool(struct cpu *cpu);
/* A head's K and V to a slot of a page, each [head_dim] as it is stored. */
void kv_put(const struct cpu *cpu, struct page *page, size_t layer, size_t head, size_t slot,
            const void *k, const void *v);
const void *cpu_kv_page(const struct backend *backend, const struct kv *kv, size_t page);
int cpu_kv_export(struct backend *backend, struct kv *kv, size_t layer, size_t from, size_t to,
                  void *k, void *v, struct llama3_error *err);
int cpu_kv_import(struct backend *backend, struct kv *kv, size_t layer, size_t from, size_t to,
                  const void *k, const void *v, struct llama3_error *err);

/* blas.c, or no_blas.c in a build without BLAS. */
/* Loads the library for calls on so many threads: NULL, or why it can't be used. Decided once for
 * the process. Before any call below. */
const char *blas_load(int threads);
/* y[t * y_stride + r] = W x: rows x cols times tokens x cols, on the calling thread alone. */
void blas_linear(const float *w, size_t w_stride, const float *x, size_t x_stride, float *y,
                 size_t y_stride, size_t rows, size_t tokens, size_t cols);
/* c += a^T b: c is m x n, the sum over k, on the calling thread alone. */
void blas_transposed(const float *a, size_t a_stride, const float *b, size_t b_stride, float *c,
                     size_t c_stride, size_t m, size_t n, size_t k);
/* The upper triangle of h, [cols][cols], += that of x^T x, x [n][cols] in rows of x_stride; on so
 * many threads. */
void blas_products(const float *x, size_t x_stride, size_t n, size_t cols, float *h, int threads);
/* h's lower triangle becomes its Cholesky factor; false if it has none. */
bool blas_cholesky(float *h, size_t n, int threads);
/* Between them a BLAS call uses one thread. They nest, and any thread may call them. */
void blas_begin(void);
void blas_end(void);

#endif
