/* SPDX-License-Identifier: MIT */
/*
 * hessian.h: the Hessian of a matrix's error over a text, for quantizing it (GPTQ).
 *
 * The error of y = W x over all inputs x is, for each row of W, e H e^T with e = W - Q and H the
 * sum of x x^T. Codes are chosen a column at a time; the columns that follow make up for the error
 * so far (GPTQ: Frantar et al. 2022, arXiv:2210.17323; as LDLQ: Chee et al. 2023,
 * arXiv:2307.13304). With H = U D U^T, U upper triangular with a unit diagonal and D diagonal, the
 * error is the sum of D[k] times the squared rounding error of column k, where column k's target is
 * W[k] + sum over j < k of e[j] U[j][k].
 *
 * Wide inputs are cut into blocks of columns, and H is zero between blocks: a few thousand inputs
 * say little about these entries, and the work grows with the square of a block's width.
 *
 * BLAS computes products and factors. Without it only H's diagonal is used.
 */
#ifndef BACKEND_HESSIAN_H
#define BACKEND_HESSIAN_H

#include "backend/quantize.h"

enum { HESSIAN_BLOCK = 4096 }; /* columns of a block at most */

struct hessian;

/* NULL, or why there is no BLAS for so many threads. */
const char *why_no_hessian(int threads);

/* For inputs of that many columns; threads >= 1. With BLAS it holds a square of floats for each
 * block. */
struct hessian *hessian_open(size_t cols, int threads, struct llama3_error *err);
void hessian_close(struct hessian *hessian);

/* n more inputs, [n][cols]. */
void hessian_add(struct hessian *hessian, const float *x, size_t n);

/* After the last input; an error if their sum is not finite or zero. */
int hessian_solve(struct hessian *hessian, struct llama3_error *err);
/* Sets importance and feedback, which point into the Hessian. After hessian_solve. */
void hessian_apply(const struct hessian *hessian, struct quantize_options *options);

#endif
