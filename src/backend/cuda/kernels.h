/* SPDX-License-Identifier: MIT */
/*
 * kernels.h: what the host asks of the device, and the layout of data there. Functions enqueue on a
 * stream and return at once; errors are found by cudaGetLastError and by waiting.
 *
 * Contract 1 on this device: a sum over columns is cut into slices, whose number depends on the
 * columns alone (slice_blocks). Inside a slice, one thread or one row of a tensor core adds the
 * blocks of 32 columns in ascending order. Slices are added in ascending order. The kernels for one
 * row, for few and for many share this order, so they give the same bits.
 */
#ifndef BACKEND_CUDA_KERNELS_H
#define BACKEND_CUDA_KERNELS_H

#include <cuda_runtime_api.h>
#include <stdbool.h>
#include <stdint.h>

#include "llama3.h"

#ifdef __cplusplus
extern "C" {
#endif

enum {
    BLOCK_COLS = 32,      /* columns of a block: a group of group-quantized weights */
    TILE_ROWS = 32,       /* rows of a matrix that lie together: the threads of a warp */
    TILE_TOKENS = 8,      /* tokens whose activations lie together: the columns of an mma */
    UNIT_BYTES = 16,      /* what a thread loads at once */
    QUAD = 4,             /* blocks whose scales lie together */
    MAX_SLICES = 16,      /* of a sum over columns: the warps of a thread block */
    PAGE_TOKENS = 64,     /* positions of a KV page */
    MAX_MATRICES = 3,     /* that one linear multiplies */
    GEMV_NORM_SLICE = 16, /* blocks of a slice at most, where gemv also computes the norm */
    SMALL_ROWS = 64       /* of activations at most, where reading the matrix is the limit */
};

enum matrix_form { MATRIX_F32, MATRIX_F16, MATRIX_BF16, MATRIX_INT4, MATRIX_INT8, MATRIX_FORMS };

/* Bytes of a row's block of columns, a multiple of UNIT_BYTES. */
static inline int block_bytes(enum matrix_form form)
{
    static const int bytes[MATRIX_FORMS] = {4 * BLOCK_COLS, 2 * BLOCK_COLS, 2 * BLOCK_COLS,
                                            BLOCK_COLS / 2, BLOCK_COLS};
    return bytes[form];
}

/* Blocks of a slice, for a row of so many: whole quads, and at most MAX_SLICES slices. */
static inline int slice_blocks(int blocks)
{
    int each = (blocks + MAX_SLICES - 1) / MAX_SLICES;
    each = (each + QUAD - 1) / QUAD * QUAD;
    return each > 2 * QUAD ? each : 2 * QUAD;
}

static inline int slice_count(int blocks)
{
    return (blocks + slice_blocks(blocks) - 1) / slice_blocks(blocks);
}

/* Threads of a block that has a row of activations: a warp for each slice. A function of the
 * columns alone, since the bits of RMSNorm's sum depend on it. */
static inline int row_threads(int blocks)
{
    return 32 * slice_count(blocks);
}

/* A matrix on the device, shuffled by layout.h. Rows are padded with zeros to whole tiles, columns
 * to whole quads of blocks. */
struct device_matrix {
    enum matrix_form form;
    int rows, cols, blocks, padded_blocks, tiles;
    int slice;            /* slice_blocks */
    const uint8_t *units; /* [tiles][padded_blocks][block_bytes / UNIT_BYTES][TILE_ROWS][16] */
    /* Of groups: */
    const uint8_t *scales;   /* [tiles][quads][TILE_ROWS][QUAD] int8, or f16: */
    bool half_scales;        /* always true if there are offsets */
    const uint8_t *offsets;  /* the same of f16, NULL: none */
    const float *row_scales; /* [rows] */
    /* Of int4: levels 0..7 and 8..15, a byte each. above: 1 in each byte if the first eight are
     * negative, 0 if none is (see dot_nibbles). */
    uint32_t codebook[4], above;
};

/* Forms of activations that a linear may need: a set of bits. */
enum { FORM_INT8 = 1, FORM_BF16 = 2, FORM_PLAIN_BF16 = 4, FORM_MAXIMA = 8 };

/* Activations. Narrow forms are [tokens / TILE_TOKENS][blocks][TILE_TOKENS][...]; plain bf16, in
 * the same memory as bf16, is [tokens][stride]. */
struct device_rows {
    float *values; /* [tokens][stride] */
    int cols, stride, blocks;
    int8_t *codes;  /* [..][BLOCK_COLS] */
    float *bases;   /* activation_base of the group */
    float *totals;  /* the codes' sum * 2^k */
    float *scales;  /* [tokens] */
    float *maxima;  /* [tokens][blocks] the largest magnitudes */
    uint16_t *bf16; /* [..][BLOCK_COLS] */
};

/* What changes from pass to pass: one piece of device memory, which `batch` writes. */
struct device_batch {
    const int32_t *tokens;    /* [max_rows] */
    const int32_t *positions; /* [max_rows] */
    const int32_t *packed;    /* [max_rows] number of the row among those that want logits, or -1 */
    const int32_t *page_rows; /* [max_rows] where the row's page table begins in pages */
    const uint64_t *states;   /* [max_rows] where the row's softmax states begin, in states */
    const int32_t *tile_rows; /* [max_rows][2] first row and number of rows of a tile */
    const int32_t *tile_groups; /* [max_rows][2] first tile and number of tiles of a group */
    uint8_t *const *pages;      /* page tables of the sequences */
    const float *angles; /* [max_rows][head_dim / 2][2] cosine and sine, made on the device */
    const float *scales; /* [max_rows][n_adapters] */
    int *arrived; /* [tiles][n_kv_heads] thread blocks of an attention that are done; 0 between
                     attentions */
};

struct device_heads {
    int n_heads, n_kv_heads, head_dim;
    int n_group;    /* heads of a KV head */
    int padded_dim; /* head_dim rounded up to 32 */
    enum llama3_kv_type kv_type;
    bool interleaved;  /* RoPE's pairs */
    float score_scale; /* log2(e) / sqrt(head_dim) */
    size_t head_bytes; /* of a page's KV head: K as [64][padded_dim], V as [padded_dim][64] */
    int state_floats;  /* of a query's softmax state of a page: padded_dim sums of weights times V,
                          the largest score, the sum of weights; padded to 16 bytes */
};

/* ---- element by element: elements.cu ----------------------------------------------------- */

void device_angles(cudaStream_t stream, const int32_t *positions, const float *inv_freq, int n_rows,
                   int half, float scale, float *angles);
/* The host has checked that tokens are rows of the matrix. */
void device_embed(cudaStream_t stream, const struct device_matrix *m, const int32_t *tokens,
                  int n_rows, const struct device_rows *x);
/* packed NULL: all rows. forms: those of y that it makes as well, with columns in an order; NULL:
 * as they are. Only codes may have one. */
void device_add_norm(cudaStream_t stream, const struct device_rows *x, const struct device_rows *d,
                     const float *w, float eps, const int32_t *packed, int n_rows,
                     const struct device_rows *y, int forms, const uint32_t *order);
void device_swiglu(cudaStream_t stream, const struct device_rows *gate,
                   const struct device_rows *up, int n_rows, int forms, const uint32_t *order);
/* have: FORM_MAXIMA if x.maxima are known. */
void device_narrow(cudaStream_t stream, const struct device_rows *x, int n_rows, int forms,
                   int have, const uint32_t *order);
void device_rope_store(cudaStream_t stream, const struct device_batch *batch,
                       const struct device_heads *heads, int layer, int n_rows,
                       const struct device_rows *q, const struct device_rows *k,
                       const struct device_rows *v);

/* ---- products ---------------------------------------------------------------------------- */

/* y[i] = m[i] x, for matrices of one form and one kind of scales; x has the forms that they need.
 * */
struct device_linear {
    struct device_matrix m[MAX_MATRICES];
    float *y[MAX_MATRICES];
    int y_stride[MAX_MATRICES];
    int n, n_rows; /* rows: of x */
    struct device_rows x;
};

/* One row times matrices of groups, with what comes before and after fused into the kernel. The row
 * is x.values; the kernel quantizes it, with columns in an order; NULL: as they are. */
struct device_gemv {
    struct device_linear linear;
    const uint32_t *order;
    /* First x = RMSNorm(source) * norm; NULL: x is there. */
    const float *source, *norm;
    float eps;
    float *residual; /* NULL, or += y[0] */
    bool gated;      /* y[0] = silu(y[0]) y[1], for two matrices with equally many rows */
    float *maxima;   /* of the gated y[0] */
    bool has_maxima; /* of x, where no norm is computed, without an order */
};

/* Bytes of shared memory that the kernel needs for a matrix. */
size_t device_gemv_shared(const struct device_matrix *m);
void device_linear_gemv(cudaStream_t stream, const struct device_gemv *one, int processors,
                        size_t shared_bytes);                                  /* gemv.cu */
void device_linear_floats(cudaStream_t stream, const struct device_linear *l); /* gemv.cu */
/* On tensor cores: any number of rows with bf16 weights, several rows with groups. maxima: NULL;
 * or, for up to SMALL_ROWS rows and two matrices with equally many rows, y[0] becomes silu(y[0])
 * y[1], and its largest magnitudes go there, [n_rows][m[0].tiles]. processors: of the device. */
void device_linear_gemm(cudaStream_t stream, const struct device_linear *l, float *maxima,
                        int processors, size_t shared_bytes); /* gemm.cu */
void device_linear_gemm_small(cudaStream_t stream, const struct device_linear *l, float *maxima,
                              int processors, size_t shared_bytes); /* gemm_small.cu */
/* Rows [first, first + n) as bf16, [n][padded_blocks * BLOCK_COLS]: elements.cu */
void device_expand(cudaStream_t stream, const struct device_matrix *m, int first, int n,
                   uint16_t *out);

/* ---- adapters: adapt.cu ------------------------------------------------------------------ */

/* y[i] += b[i]^T (scale a[i] x), for rows whose scale is not 0. */
struct device_factors {
    const float *a[MAX_MATRICES]; /* [rank][cols] */
    const float *b[MAX_MATRICES]; /* [rank][rows] */
    int rank[MAX_MATRICES], rows[MAX_MATRICES];
    float *y[MAX_MATRICES];
    int y_stride[MAX_MATRICES];
    int n, cols;
    const float *x;
    int x_stride;
    float *thin; /* [rows of x][MAX_MATRICES][max_rank] scale a[i] x */
    int max_rank;
    const float *scales; /* [rows of the batch][n_adapters], this adapter's first */
    int n_adapters;
    const int32_t *packed; /* NULL: all rows; else where they are in x and y, or -1 */
};

void device_adapt(cudaStream_t stream, const struct device_factors *d, int n_rows);

/* ---- attention: attend_decode.cu, attend_prefill.cu -------------------------------------- */

/* Attends to the pages of a row side by side. Their states go to `states`, [n_heads][pages of the
 * row][state_floats] for each row, and are merged in ascending order. k and v: NULL; or, if
 * device_attend_takes() them, not yet stored, and q not yet rotated: the kernel does both, for
 * sequences with one row each. n_pages: at least those of any row; processors: of the device. */
void device_attend_split(cudaStream_t stream, int processors, const struct device_batch *batch,
                         const struct device_heads *heads, int layer, int n_tiles, int n_rows,
                         int n_pages, float *states, const struct device_rows *q,
                         const struct device_rows *k, const struct device_rows *v,
                         const struct device_rows *y);
bool device_attend_takes(const struct device_heads *heads);
/* Attends to the pages of a row one after another. */
void device_attend(cudaStream_t stream, const struct device_batch *batch,
                   const struct device_heads *heads, int layer, int n_groups, int n_rows,
                   const struct device_rows *q, const struct device_rows *y);
/* Rows of a tile at most, and tiles of a group at most: consecutive rows of one sequence. */
int device_attend_rows(const struct device_heads *heads);
int device_attend_tiles(const struct device_heads *heads);

#ifdef __cplusplus
}
#endif

#endif
