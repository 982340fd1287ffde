/*
 * kernels.h: the leaf kernels, a table for each instruction set, and what they have in common.
 *
 * A kernel works on one thread and on memory that it is given; ops.c, linear.c and attend.c cut the
 * work. The result of one element never depends on what is computed beside it, so that any cut
 * gives the same bits: sums run over LANES-wide or narrower lanes in ascending order, and lanes are
 * added up by a fixed tree. Between tables the order differs, and results agree to rounding.
 *
 * Rows of f32 are 64-byte aligned and padded with zeros to a multiple of LANES, so there are no
 * tails; weights and KV pages are read as they are stored, at any alignment.
 */
#ifndef BACKEND_CPU_KERNELS_H
#define BACKEND_CPU_KERNELS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "backend/backend.h"

enum {
    LANES = 16,     /* floats in the widest vector of any table */
    ROW_TILE = 4,   /* rows of W that a kernel keeps in registers at least */
    FEW_TOKENS = 3, /* up to here any table's linear reads each weight once */
    TYPES_READ = 3  /* f32, f16 and bf16 weights are read as stored */
};

static inline size_t round_up(size_t n, size_t multiple)
{
    return (n + multiple - 1) / multiple * multiple;
}

/* A block of y = W x: `cols` of the columns of some rows and tokens. */
struct linear_block {
    const void *w; /* [rows], w_stride bytes apart */
    size_t w_stride;
    const float *x; /* [tokens], x_stride floats apart */
    size_t x_stride;
    size_t rows, tokens;
    size_t cols; /* a multiple of LANES */
    /* Partial sums between the blocks of a row, as the table likes to keep them. */
    float *partial; /* [round_up(rows, ROW_TILE)][tokens][LANES] */
    bool first;     /* start from zero, not from the partial sums */
    bool last;      /* add the lanes up into y */
    float *y;       /* y[token * y_stride + row] */
    size_t y_stride;
};

/* A step of online softmax (Milakov and Gimelshein 2018, arXiv:1805.02867): queries that share a KV
 * head meet the first `count` positions of a page. */
struct attend_page {
    const void *k; /* [head_dim][KV_PAGE] */
    const void *v; /* [KV_PAGE][padded_dim] */
    size_t head_dim, padded_dim;
    size_t count; /* 1..KV_PAGE */
    size_t n_queries;
    const float *q; /* [n_queries][head_dim] */
    float scale;    /* of the scores */
    /* [n_queries][state_size]: padded_dim sums of exp(score - max) * V, then the largest score max
     * so far (-infinity at first), then the sum of exp(score - max). */
    float *states;
    size_t state_size;
};

struct kernels {
    const char *name;
    const char *description; /* "cpu (avx2)" */

    /* W as stored. */
    void (*linear[TYPES_READ])(const struct linear_block *block);
    /* Weights to f32, bit by bit what dtype_expand gives, which does it where this is NULL.
     * n: a multiple of the type's block. */
    void (*expand[DTYPE_ROWS])(const void *blocks, float *out /* [n] */, size_t n);
    /* x += d */
    void (*add)(float *x, const float *d, size_t n);
    /* y = x * w / sqrt(mean(x^2) + eps), the mean over n; padded as n is. */
    void (*norm)(const float *x, const float *w, float eps, float *y, size_t n);
    /* gate = gate / (1 + exp(-gate)) * up; n: a multiple of LANES. */
    void (*swiglu)(float *gate, const float *up, size_t n);
    /* By enum llama3_kv_type. */
    void (*attend[2])(const struct attend_page *page);
    void (*to_f16)(const float *in, uint16_t *out, size_t n); /* n: a multiple of LANES */
};

/* The table that $LLAMA3_CPU names, else the best that this CPU and operating system can run. */
const struct kernels *kernels_choose(struct llama3_error *err);

extern const struct kernels kernels_scalar, kernels_avx2, kernels_avx512, kernels_neon;

#endif
