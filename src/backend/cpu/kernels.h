/*
 * kernels.h: the leaf loops of the CPU backend, one table for each instruction set. The scalar one
 * is their definition; the others are compiled from kernels_simd.inc, each with its own flags.
 *
 * Contract 1 begins here: an output of `dot` depends on its own row, its own token and the columns
 * alone. `lanes` partial sums run over k in ascending steps of `lanes`, columns beyond the end
 * counting as zero, and are added up by a fixed tree: how many rows and tokens a call covers, and
 * where they stand in a tile, changes nothing.
 */
#ifndef BACKEND_CPU_KERNELS_H
#define BACKEND_CPU_KERNELS_H

#include <stddef.h>
#include <stdint.h>

#include "backend/backend.h"

/* y[t * y_stride + r] = sum over k of w[r][k] * x[t][k]. Strides of w in bytes, of x and y in
 * floats; w of any alignment. */
typedef void dot_kernel(const void *w, size_t w_stride, size_t n_rows, const float *x,
                        size_t x_stride, size_t n_tokens, size_t cols, float *y, size_t y_stride);

/* Softmax in progress over the positions of a sequence (Milakov and Gimelshein 2018), for the
 * query heads that share a KV head. */
struct attention {
    float *max; /* [group] greatest score */
    float *sum; /* [group] of exp(score - max) */
    float *acc; /* [group][head_dim] of exp(score - max) * V */
};

/* Goes over the first n positions (1..KV_PAGE) of a page. q: [group][head_dim], scaled; k:
 * [head_dim][KV_PAGE], v: [KV_PAGE][head_dim] as stored. */
typedef void attend_kernel(const float *q, size_t group, size_t head_dim, const void *k,
                           const void *v, size_t n, struct attention *state);

struct kernels {
    const char *name;
    dot_kernel *dot_f32, *dot_f16, *dot_bf16;
    attend_kernel *attend_f16, *attend_f32;
    /* dtype_expand, compiled for this instruction set: the same bits. */
    void (*expand)(enum dtype type, const void *blocks, float *out, size_t n);
    /* y = x / sqrt(mean(x^2) + eps) * w, [n] each. */
    void (*rms_norm)(const float *x, const float *w, float eps, float *y, size_t n);
    /* x += d, [n]. */
    void (*add)(float *x, const float *d, size_t n);
    /* gate = gate / (1 + exp(-gate)) * up, [n]. */
    void (*swiglu)(float *gate, const float *up, size_t n);
};

extern const struct kernels kernels_scalar, kernels_avx2, kernels_avx512, kernels_neon;

/* The table that $LLAMA3_CPU names, else the best that this processor runs. */
const struct kernels *kernels_choose(struct llama3_error *err);

/* What two parts of one softmax make together: `part`, which covers later positions, goes into
 * `whole`. Both [group]. */
void attention_reset(struct attention *state, size_t group, size_t head_dim);
void attention_merge(struct attention *whole, const struct attention *part, size_t group,
                     size_t head_dim);

#endif
