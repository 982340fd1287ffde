/*
 * blas.c: OpenBLAS, for many rows. Each of our threads calls it for rows of its own: calls of
 * OpenBLAS's own threads would have to be made outside the region, from one thread, and its threads
 * and ours would wait for the same cores.
 */
#include "backend/cpu/cpu.h"

#include <cblas.h>

const bool blas_available = true;

void blas_open(void)
{
    openblas_set_num_threads(1);
}

void blas_linear(const float *w, size_t w_stride, const float *x, size_t x_stride, float *y,
                 size_t y_stride, size_t rows, size_t tokens, size_t cols)
{
    cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasTrans, (blasint)tokens, (blasint)rows,
                (blasint)cols, 1, x, (blasint)x_stride, w, (blasint)w_stride, 0, y,
                (blasint)y_stride);
}
