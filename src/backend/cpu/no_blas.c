/* no_blas.c: stands in for blas.c in a build without OpenBLAS; nothing calls blas_linear then. */
#include "backend/cpu/cpu.h"

bool blas_available(void)
{
    return false;
}

void blas_open(size_t threads)
{
    (void)threads;
}

void blas_linear(const float *w, size_t w_stride, size_t rows, size_t cols, const float *x,
                 size_t n, float *y, size_t y_stride)
{
    kernels_scalar.dot_f32(w, w_stride * sizeof *w, rows, x, cols, n, cols, y, y_stride);
}
