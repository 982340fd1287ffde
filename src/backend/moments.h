/* SPDX-License-Identifier: MIT */
/*
 * moments.h: what the inputs of a matrix look like over a text, and what follows for quantizing it.
 *
 * The error of y = W x over all inputs x is, for each row of W, e H e^T with e = W - Q and H the
 * sum of x x^T. Codes are chosen a column at a time, and what was lost so far can be made up for by
 * the columns that follow (GPTQ: Frantar et al. 2022, arXiv:2210.17323; in the form of LDLQ: Chee
 * et al. 2023, arXiv:2307.13304): with H = U D U^T, U upper triangular of unit diagonal and D
 * diagonal, the error is the sum of D[k] times the squared rounding error of column k if its
 * target is W[k] + sum over j < k of e[j] U[j][k].
 *
 * Wide inputs are cut into blocks of columns, and what columns of different blocks have in common
 * is taken for nothing: a few thousand inputs say little about it, and the work grows with the
 * square of a block's width.
 *
 * Products and factors are BLAS's work. Where it lacks, H is taken for its diagonal alone.
 */
#ifndef BACKEND_MOMENTS_H
#define BACKEND_MOMENTS_H

#include "backend/quantize.h"

enum { MOMENTS_BLOCK = 4096 }; /* columns of a block at most */

struct moments;

/* NULL, or why there is no BLAS for so many threads. */
const char *moments_lack(int threads);

/* Of inputs with that many columns; threads >= 1. With BLAS a square of floats for
 * each block. */
struct moments *moments_open(size_t cols, int threads, struct llama3_error *err);
void moments_close(struct moments *moments);

/* n more inputs, [n][cols]. */
void moments_add(struct moments *moments, const float *x, size_t n);

/* After the last: gives an error if nothing finite was added. */
int moments_solve(struct moments *moments, struct llama3_error *err);
/* Sets importance and feedback, which point into the moments. After moments_solve. */
void moments_apply(const struct moments *moments, struct quantize_options *options);

#endif
