/* blas.c: OpenBLAS, where it is the best tool. It is called outside parallel regions: Debian's
 * build brings threads of its own. */
#include <cblas.h>

#include "backend/cpu/cpu.h"

bool blas_available(void)
{
    return true;
}

void blas_open(size_t threads)
{
    openblas_set_num_threads((int)threads);
}

void blas_linear(const float *w, size_t w_stride, size_t rows, size_t cols, const float *x,
                 size_t n, float *y, size_t y_stride)
{
    cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasTrans, (blasint)n, (blasint)rows, (blasint)cols,
                1, x, (blasint)cols, w, (blasint)w_stride, 0, y, (blasint)y_stride);
}
