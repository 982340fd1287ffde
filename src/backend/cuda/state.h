/* SPDX-License-Identifier: MIT */
/* state.h: what the files of this folder share. */
#ifndef BACKEND_CUDA_STATE_H
#define BACKEND_CUDA_STATE_H

#include "backend/cuda/cuda.h"
#include "backend/cuda/kernels.h"
#include "backend/cuda/layout.h"
#include "backend/pages.h"

enum {
    GRAPH_ROWS = 64, /* of a batch at most, whose passes are recorded */
    MAX_GRAPHS = 32,
    BLAS_ROWS = 128,  /* of a batch at least, that cuBLAS multiplies */
    STAGING = 4 << 20 /* bytes of pinned memory for copies between host and device */
};

struct weight {
    struct matrix host;          /* as the engine has it */
    bool on_host;                /* rows are expanded there */
    struct device_matrix matrix; /* of memory */
    float *vector;               /* memory of a norm, or of an adapter's factor */
    uint32_t *order;             /* [cols] of columns, on the device; NULL: as they are */
    void *memory;
};

struct buffer {
    struct device_rows rows;
    size_t n_rows, cols;
    unsigned char *memory;
    int forms;             /* the narrow forms that agree with the values, */
    const uint32_t *order; /* whose columns have this order, */
    unsigned long at;      /* in the run of this number */
};

struct cuda_page {
    struct page base;
    uint8_t *memory; /* on the device */
};

/* A pass, beside its operations. */
struct pass {
    int n_rows, n_logit_rows, n_tiles, n_groups;
    int one_each; /* whether no sequence has more than one row */
    int n_pages; /* at least those of any row, if a row's pages are attended side by side; else 0 */
    float *states; /* then */
};

enum op_kind { OP_EMBED, OP_ADD_NORM, OP_LINEAR, OP_ROPE_STORE, OP_ATTEND, OP_SWIGLU, OP_ADAPT };

/* An operation as it was issued; unused fields are zero. */
struct op {
    enum op_kind kind;
    enum rows rows;
    size_t layer, n, adapter;
    const struct buffer
        *in[2];            /* linear, adapt: x; add_norm: d; rope_store: v; attend: q; swiglu: up */
    struct buffer *out[3]; /* linear, adapt: y; add_norm: x, y; rope_store: q, k; the others: it */
    const struct weight *w[3], *b[3]; /* adapt: a, b */
};

/* kernels.h, which C++ includes too, repeats these. */
_Static_assert((int)PAGE_TOKENS == (int)KV_PAGE, "positions of a page");
_Static_assert((int)BLOCK_COLS == (int)GROUP, "columns of a group");

struct graph;  /* graph.c */
struct cublas; /* cublas.c */

struct cuda {
    struct backend base;
    struct backend_shape shape;
    struct device_heads heads;
    char name[160]; /* "cuda (NVIDIA H200)" */
    int device, processors;
    struct team *team;              /* threads of the host that shuffle matrices */
    int threads;                    /* of the team */
    size_t shared_bytes;            /* of a thread block at most */
    cudaStream_t stream, kv_stream; /* of passes; of kv_reserve, export and import */
    unsigned char *staging;         /* [STAGING], pinned, of passes, */
    unsigned char *kv_staging;      /* and of KV */
    void *pinned;                   /* memory that the device writes directly, or NULL */
    size_t pinned_bytes;

    /* The first failure is kept. */
    cudaError_t failed;
    const char *failed_at;          /* the operation, */
    char failed_ops[64];            /* or the range of operations */
    const char *first_op, *last_op; /* since the last wait */
    bool lacks_token;               /* a token that the embedding lacks */

    struct page_pool pool;
    struct page *free_pages;
    void **slabs; /* [n_slabs] memory of pages */
    size_t n_slabs, slab_room;

    /* The batch: a pinned image on the host of what the device has. */
    unsigned char *image, *batch_memory;
    size_t image_bytes;
    cudaEvent_t image_copied;
    struct device_batch batch;
    float *inv_freq; /* on the device: [head_dim / 2] */
    float *angles;
    int *arrived;    /* as in struct device_batch */
    float *thin;     /* as in struct device_factors */
    int32_t *tokens; /* [max_rows] on the host */
    struct pass pass;
    size_t state_bytes; /* that pass.states has */
    float *states;

    struct op *ops; /* [MAX_OPS] recorded in this run */
    size_t n_ops;
    unsigned long n_runs;
    struct graph *graphs; /* [MAX_GRAPHS] */
    size_t n_graphs;
    float *embedded; /* pinned: [max_rows][embedded_cols] rows that the host expanded */
    size_t embedded_cols;

    struct cublas *blas; /* NULL: not asked for */
};

enum { MAX_OPS = 8192 };

/* cuda.c */
/* The backend; makes its device the thread's current one. */
struct cuda *cuda_enter(const struct backend *backend);
void cuda_check(struct cuda *cuda, cudaError_t error, const char *op);
/* Device memory. what: its name in an error. */
void *cuda_alloc(size_t bytes, const char *what, struct llama3_error *err);
/* Copies to the device through the staging memory; waits. */
cudaError_t cuda_upload(void *to, const void *from, size_t bytes, unsigned char *staging,
                        cudaStream_t stream);
int cuda_error(struct llama3_error *err, const char *op, cudaError_t error);
int cuda_processors(int device); /* multiprocessors of a device; 0 if it can't be asked */

/* weight.c */
struct weight *cuda_weight(struct backend *backend, const struct matrix *matrix,
                           enum weight_use use, struct llama3_error *err);
void cuda_weight_free(struct backend *backend, struct weight *weight);
bool cuda_weight_is_copy(const struct backend *backend, const struct weight *weight);
uint64_t cuda_weight_bytes(const struct backend_options *options, const struct matrix *matrix,
                           enum weight_use use);

/* kv.c */
struct device_heads heads_of(const struct backend_shape *shape);
void cuda_pool_open(struct cuda *cuda);
void cuda_pool_close(struct cuda *cuda);
int cuda_kv_reserve(struct backend *backend, struct kv *kv, size_t from, size_t to,
                    struct llama3_error *err);
int cuda_kv_export(struct backend *backend, struct kv *kv, size_t layer, size_t from, size_t to,
                   void *k, void *v, struct llama3_error *err);
int cuda_kv_import(struct backend *backend, struct kv *kv, size_t layer, size_t from, size_t to,
                   const void *k, const void *v, struct llama3_error *err);
uint64_t cuda_kv_page_bytes(const struct backend_shape *shape);

/* batch.c */
uint64_t batch_bytes(const struct backend_shape *shape);
int batch_open(struct cuda *cuda, struct llama3_error *err);
void batch_close(struct cuda *cuda);
int cuda_batch(struct backend *backend, const struct batch *batch, struct llama3_error *err);

/* ops.c: operations are recorded by a run, and carried out at its end. */
void cuda_run(struct backend *backend, void (*fn)(void *arg), void *arg);
void cuda_embed(struct backend *backend, struct buffer *x, const struct weight *w);
void cuda_add_norm(struct backend *backend, enum rows rows, struct buffer *x,
                   const struct buffer *d, const struct weight *w, struct buffer *y);
void cuda_linear(struct backend *backend, enum rows rows, struct buffer *const y[],
                 const struct weight *const w[], size_t n, const struct buffer *x);
void cuda_adapt(struct backend *backend, enum rows rows, struct buffer *const y[],
                const struct weight *const a[], const struct weight *const b[], size_t n,
                size_t adapter, const struct buffer *x);
void cuda_rope_store(struct backend *backend, size_t layer, struct buffer *q, struct buffer *k,
                     const struct buffer *v);
void cuda_attend(struct backend *backend, size_t layer, const struct buffer *q, struct buffer *y);
void cuda_swiglu(struct backend *backend, struct buffer *gate, const struct buffer *up);

/* execute.c */
const char *op_name(enum op_kind kind);
/* The host's part of an operation, both when it is launched and when it is replayed. */
void op_prepare(struct cuda *cuda, const struct op *op);
/* Launches operation i of n, together with those after it that are fused with it; returns how many.
 * Which forms it makes of its output depends on the next operation. */
size_t op_launch(struct cuda *cuda, const struct op *ops, size_t i, size_t n);

/* graph.c */
/* Runs the recorded operations, by a graph if there is one of the same list. */
void graph_run(struct cuda *cuda);
/* Drops all graphs. Before memory that they refer to is freed. */
void graph_forget(struct cuda *cuda);

/* cublas.c: products in bf16 by cuBLAS, which is loaded when it is asked for. */
uint64_t cublas_bytes(void);
struct cublas *cublas_open(cudaStream_t stream, struct llama3_error *err);
void cublas_close(struct cublas *blas);
/* y = m x for n_rows rows, whose plain bf16 form x has; false if the library fails. */
bool cublas_linear(struct cublas *blas, cudaStream_t stream, const struct device_matrix *m,
                   const struct device_rows *x, int n_rows, float *y, int y_stride);

#endif
