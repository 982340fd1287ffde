/* SPDX-License-Identifier: MIT */
/* no_blas.c: in place of blas.c where there is no OpenBLAS. */
#include "backend/cpu/cpu.h"

const char *blas_load(int threads)
{
    (void)threads;
    return "this build has none";
}

void blas_begin(void)
{
}

void blas_end(void)
{
}

void blas_linear(const float *w, size_t w_stride, const float *x, size_t x_stride, float *y,
                 size_t y_stride, size_t rows, size_t tokens, size_t cols)
{
    (void)w, (void)w_stride, (void)x, (void)x_stride, (void)y, (void)y_stride;
    (void)rows, (void)tokens, (void)cols;
}

void blas_transposed(const float *a, size_t a_stride, const float *b, size_t b_stride, float *c,
                     size_t c_stride, size_t m, size_t n, size_t k)
{
    (void)a, (void)a_stride, (void)b, (void)b_stride, (void)c, (void)c_stride;
    (void)m, (void)n, (void)k;
}

void blas_products(const float *x, size_t x_stride, size_t n, size_t cols, float *h, int threads)
{
    (void)x, (void)x_stride, (void)n, (void)cols, (void)h, (void)threads;
}

bool blas_cholesky(float *h, size_t n, int threads)
{
    (void)h, (void)n, (void)threads;
    return false;
}
