/* no_blas.c: in place of blas.c where there is no OpenBLAS. */
#include "backend/cpu/cpu.h"

const bool blas_available = false;

void blas_open(void)
{
}

void blas_linear(const float *w, size_t w_stride, const float *x, size_t x_stride, float *y,
                 size_t y_stride, size_t rows, size_t tokens, size_t cols)
{
    (void)w, (void)w_stride, (void)x, (void)x_stride, (void)y, (void)y_stride;
    (void)rows, (void)tokens, (void)cols;
}
