/* SPDX-License-Identifier: MIT */
/* hessian.c: the sum of x x^T, and its factors U and D. */
#include "backend/hessian.h"

#include <math.h>
#include <stdlib.h>

#include "backend/cpu/cpu.h"
#include "base/size.h"

/* Added to the diagonal, as a fraction of its mean, as GPTQ does. Times 10 until H has a Cholesky
 * factor. */
static const float DAMPING = 0.01f;
enum { MAX_TRIES = 4 };

struct hessian {
    size_t cols, n; /* n: inputs */
    int threads;
    double *squares;   /* [cols] sums */
    float *importance; /* [cols] */
    size_t block;      /* columns of each block but the last */
    float *h;          /* [blocks][block][block]: H's upper triangle, then U; NULL without BLAS */
};

/* Blocks of equal width, rounded up to whole groups. */
static size_t block_cols(size_t cols)
{
    size_t n = (cols + HESSIAN_BLOCK - 1) / HESSIAN_BLOCK, groups = (cols + GROUP - 1) / GROUP;
    return (groups + n - 1) / n * GROUP;
}

static size_t width(const struct hessian *m, size_t first)
{
    return m->cols - first < m->block ? m->cols - first : m->block;
}

static float *h_of(const struct hessian *m, size_t first)
{
    return m->h + first * m->block;
}

const char *why_no_hessian(int threads)
{
    return blas_load(threads);
}

struct hessian *hessian_open(size_t cols, int threads, struct llama3_error *err)
{
    struct hessian *m = size_alloc(1, sizeof *m);
    bool has_blas = why_no_hessian(threads) == NULL;
    if (m != NULL) {
        *m = (struct hessian){.cols = cols, .threads = threads, .block = block_cols(cols)};
        m->squares = size_alloc(cols, sizeof *m->squares);
        m->importance = size_alloc(cols, sizeof *m->importance);
        if (has_blas)
            m->h = size_alloc((cols + m->block - 1) / m->block, m->block * m->block * sizeof *m->h);
    }
    if (m == NULL || m->squares == NULL || m->importance == NULL || (has_blas && m->h == NULL)) {
        error_memory(err, "the Hessian of inputs", cols * block_cols(cols) * sizeof *m->h);
        hessian_close(m);
        return NULL;
    }
    return m;
}

void hessian_close(struct hessian *m)
{
    if (m == NULL)
        return;
    free(m->squares);
    free(m->importance);
    free(m->h);
    free(m);
}

void hessian_add(struct hessian *m, const float *x, size_t n)
{
    for (size_t i = 0; i < n; i++)
        for (size_t col = 0; col < m->cols; col++)
            m->squares[col] += (double)x[i * m->cols + col] * (double)x[i * m->cols + col];
    m->n += n;
    for (size_t first = 0; m->h != NULL && first < m->cols; first += m->block)
        blas_products(x + first, m->cols, n, width(m, first), h_of(m, first), m->threads);
}

/* Reverses rows and columns: an upper triangle becomes a lower one. */
static void reverse(float *h, size_t cols)
{
    for (float *a = h, *b = h + cols * cols - 1; a < b; a++, b--) {
        float kept = *a;
        *a = *b;
        *b = kept;
    }
}

/* For the block that begins at column `first`: H = R R^T with R upper triangular, the Cholesky
 * factor of the reversed H. The other triangle keeps H for another try. */
static int factor(struct hessian *m, size_t first, double mean, struct llama3_error *err)
{
    size_t n = width(m, first);
    float *h = h_of(m, first), damping = DAMPING * (float)mean;

    reverse(h, n);
    for (size_t i = 0; i < n; i++)
        for (size_t j = 0; j < i; j++)
            h[j * n + i] = h[i * n + j];
    for (int i = 0; i < MAX_TRIES; i++, damping *= 10) {
        for (size_t row = 0; row < n; row++)
            h[row * n + row] = (float)m->squares[first + n - 1 - row] + damping;
        if (blas_cholesky(h, n, m->threads)) {
            reverse(h, n);
            return 0;
        }
        for (size_t row = 0; row < n; row++)
            for (size_t col = 0; col < row; col++)
                h[row * n + col] = h[col * n + row];
    }
    return error_input(err, "calibration: expected inputs with a Cholesky factor, found none");
}

/* R to U and D: U[j][k] = R[j][k] / R[k][k], D[k] = R[k][k]^2. */
static void divide(struct hessian *m, size_t first)
{
    size_t n = width(m, first);
    float *h = h_of(m, first), *inverse = m->importance + first;
    for (size_t k = 0; k < n; k++)
        inverse[k] = 1 / h[k * n + k];
    for (size_t j = 0; j < n; j++)
        for (size_t k = j + 1; k < n; k++)
            h[j * n + k] *= inverse[k];
    for (size_t k = 0; k < n; k++)
        m->importance[first + k] = h[k * n + k] * h[k * n + k] / (float)m->n;
}

int hessian_solve(struct hessian *m, struct llama3_error *err)
{
    size_t n = m->cols;
    double sum = 0;
    for (size_t i = 0; i < n; i++)
        sum += m->squares[i];
    if (!isfinite(sum) || !(sum > 0))
        return error_input(
            err, "calibration: expected finite activations, found a sum of squares of %g", sum);
    double scale = (double)m->n;
    for (size_t i = 0; i < n; i++)
        m->importance[i] = (float)(m->squares[i] / scale);
    if (m->h == NULL)
        return 0;
    for (size_t first = 0; first < n; first += m->block) {
        if (factor(m, first, sum / (double)n, err) < 0)
            return -1;
        divide(m, first);
    }
    return 0;
}

void hessian_apply(const struct hessian *m, struct quantize_options *options)
{
    options->importance = m->importance;
    options->feedback = m->h;
    options->block_cols = m->block;
}
