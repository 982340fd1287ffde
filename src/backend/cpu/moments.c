/* SPDX-License-Identifier: MIT */
/* moments.c: H, and the factors of it that quantizing needs. */
#include "backend/moments.h"

#include <math.h>
#include <stdlib.h>

#include "backend/cpu/cpu.h"
#include "base/size.h"

/* Added to the diagonal, in parts of its mean: GPTQ's. Multiplied by 10 until H has a factor. */
static const float DAMPING = 0.01f;
enum { MAX_TRIES = 4 };

struct moments {
    size_t cols, n; /* n: inputs */
    int threads;
    double *squares;   /* [cols] sums */
    float *importance; /* [cols] */
    size_t block;      /* columns of each block but the last */
    float *h; /* a [block][block] for each; NULL without BLAS; H's upper triangle, then U */
};

/* Blocks of the same width, as far as groups allow. */
static size_t block_cols(size_t cols)
{
    size_t n = (cols + MOMENTS_BLOCK - 1) / MOMENTS_BLOCK, groups = (cols + GROUP - 1) / GROUP;
    return (groups + n - 1) / n * GROUP;
}

static size_t width(const struct moments *m, size_t first)
{
    return m->cols - first < m->block ? m->cols - first : m->block;
}

static float *h_of(const struct moments *m, size_t first)
{
    return m->h + first * m->block;
}

const char *moments_lack(int threads)
{
    return blas_load(threads);
}

struct moments *moments_open(size_t cols, int threads, struct llama3_error *err)
{
    struct moments *m = size_alloc(1, sizeof *m);
    bool has_blas = moments_lack(threads) == NULL;
    if (m != NULL) {
        *m = (struct moments){.cols = cols, .threads = threads, .block = block_cols(cols)};
        m->squares = size_alloc(cols, sizeof *m->squares);
        m->importance = size_alloc(cols, sizeof *m->importance);
        if (has_blas)
            m->h = size_alloc((cols + m->block - 1) / m->block, m->block * m->block * sizeof *m->h);
    }
    if (m == NULL || m->squares == NULL || m->importance == NULL || (has_blas && m->h == NULL)) {
        error_memory(err, "what inputs have in common", cols * block_cols(cols) * sizeof *m->h);
        moments_close(m);
        return NULL;
    }
    return m;
}

void moments_close(struct moments *m)
{
    if (m == NULL)
        return;
    free(m->squares);
    free(m->importance);
    free(m->h);
    free(m);
}

void moments_add(struct moments *m, const float *x, size_t n)
{
    for (size_t i = 0; i < n; i++)
        for (size_t col = 0; col < m->cols; col++)
            m->squares[col] += (double)x[i * m->cols + col] * (double)x[i * m->cols + col];
    m->n += n;
    for (size_t first = 0; m->h != NULL && first < m->cols; first += m->block)
        blas_products(x + first, m->cols, n, width(m, first), h_of(m, first), m->threads);
}

/* Rows and columns in opposite order: an upper triangle becomes a lower one. */
static void turn(float *h, size_t cols)
{
    for (float *a = h, *b = h + cols * cols - 1; a < b; a++, b--) {
        float kept = *a;
        *a = *b;
        *b = kept;
    }
}

/* Of the block that begins with a column, H = R R^T with R upper triangular: Cholesky's factor of H
 * turned round. Its other triangle keeps H for another try. */
static int factor(struct moments *m, size_t first, double mean, struct llama3_error *err)
{
    size_t n = width(m, first);
    float *h = h_of(m, first), damping = DAMPING * (float)mean;

    turn(h, n);
    for (size_t i = 0; i < n; i++)
        for (size_t j = 0; j < i; j++)
            h[j * n + i] = h[i * n + j];
    for (int i = 0; i < MAX_TRIES; i++, damping *= 10) {
        for (size_t row = 0; row < n; row++)
            h[row * n + row] = (float)m->squares[first + n - 1 - row] + damping;
        if (blas_cholesky(h, n, m->threads)) {
            turn(h, n);
            return 0;
        }
        for (size_t row = 0; row < n; row++)
            for (size_t col = 0; col < row; col++)
                h[row * n + col] = h[col * n + row];
    }
    return error_set(err, LLAMA3_EINPUT,
                     "calibration: expected inputs with a Cholesky factor, found none");
}

/* R to U and D: U[j][k] = R[j][k] / R[k][k], D[k] = R[k][k]^2. */
static void divide(struct moments *m, size_t first)
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

int moments_solve(struct moments *m, struct llama3_error *err)
{
    size_t n = m->cols;
    double sum = 0;
    for (size_t i = 0; i < n; i++)
        sum += m->squares[i];
    if (!isfinite(sum) || !(sum > 0))
        return error_set(err, LLAMA3_EINPUT,
                         "calibration: expected finite activations, found a sum of squares of %g",
                         sum);
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

void moments_apply(const struct moments *m, struct quantize_options *options)
{
    options->importance = m->importance;
    options->feedback = m->h;
    options->block_cols = m->block;
}
