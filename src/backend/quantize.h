/* SPDX-License-Identifier: MIT */
/*
 * quantize.h: floats to group-quantized strips, or to rows of GGUF's blocks, on all threads and
 * with the fastest kernels. The bits are the same for any number of threads and any instruction
 * set; for strips the scalar code in src/quant is the definition.
 */
#ifndef BACKEND_QUANTIZE_H
#define BACKEND_QUANTIZE_H

#include "base/error.h"
#include "checkpoint/model.h"

struct quantize_options {
    enum dtype type; /* DTYPE_INT4, DTYPE_INT8, or one that block_type() knows, whose block the
                        columns are a multiple of */
    int threads;     /* >= 1 */
    /* Rows of a head, if q or k goes from Hugging Face's order of rows to GGUF's; 0: rows stay
     * where they are. */
    size_t interleave;
    /* [cols] mean squares of the activations of each column: they multiply the weights that
     * quant/search.h gives the squared errors. NULL: 1. */
    const float *importance;
    /* NULL, or U of hessian.h for each block of columns: [width][width], of which the part above
     * the diagonal is read, block_cols^2 floats apart. importance is D then. */
    const float *feedback;
    size_t block_cols; /* of each block but the last, which may have fewer; a multiple of GROUP */
};

/* Sums over the matrix of squared errors and of squared weights. */
struct quantize_error {
    double error, norm;
};

/* The row that goes to `row`. The rows of a head are pairs for rotary positions: (i, i +
 * head_dim/2) in Hugging Face's order, (2i, 2i + 1) in GGUF's. */
static inline size_t quantize_source_row(size_t interleave, size_t row)
{
    size_t in_head = interleave > 0 ? row % interleave : 0;
    return row - in_head + in_head / 2 + in_head % 2 * (interleave / 2);
}

/* The format that we quantize to: int8 scales, no offsets, our codebook. */
struct group_format quantize_format(enum dtype type);

/* Rows [first, first + n) of `in` (any type), n at most what is left, first a multiple of STRIP,
 * into out: group_bytes(type, format, n, cols), or n rows of blocks, 64-byte aligned. Adds to
 * *error (may be NULL). -1 if memory lacks, or a weight is not finite, or beyond f16 for blocks
 * (names its row and column). */
int quantize_rows(const struct matrix *in, size_t first, size_t n,
                  const struct quantize_options *options, void *out, struct quantize_error *error,
                  struct llama3_error *err);

#endif
