/*
 * blas.c: OpenBLAS, for many rows. Each of our threads calls it for rows of its own, on that thread
 * alone: OpenBLAS's threads would spin for the cores that ours compute on.
 *
 * How many threads a call may use is one number for the whole process. It belongs to the
 * application, so it is set for the time of our calls and put back after them.
 */
#include "backend/cpu/cpu.h"

#include <cblas.h>
#include <pthread.h>

/* LAPACK's, which OpenBLAS brings; its C header is another package. */
void spotrf_(const char *uplo, const blasint *n, float *a, const blasint *lda, blasint *info,
             size_t uplo_length);

const bool blas_available = true;

static struct {
    pthread_mutex_t lock;
    size_t users; /* between blas_begin() and blas_end() */
    int before;   /* the application's number */
} calls = {.lock = PTHREAD_MUTEX_INITIALIZER};

void blas_begin(void)
{
    pthread_mutex_lock(&calls.lock);
    if (calls.users++ == 0) {
        calls.before = openblas_get_num_threads();
        openblas_set_num_threads(1);
    }
    pthread_mutex_unlock(&calls.lock);
}

void blas_end(void)
{
    pthread_mutex_lock(&calls.lock);
    if (--calls.users == 0)
        openblas_set_num_threads(calls.before);
    pthread_mutex_unlock(&calls.lock);
}

/* As begin and end, for one call on several threads. */
static int set_threads(int threads)
{
    int before = openblas_get_num_threads();
    openblas_set_num_threads(threads);
    return before;
}

void blas_linear(const float *w, size_t w_stride, const float *x, size_t x_stride, float *y,
                 size_t y_stride, size_t rows, size_t tokens, size_t cols)
{
    cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasTrans, (blasint)tokens, (blasint)rows,
                (blasint)cols, 1, x, (blasint)x_stride, w, (blasint)w_stride, 0, y,
                (blasint)y_stride);
}

void blas_transposed(const float *a, size_t a_stride, const float *b, size_t b_stride, float *c,
                     size_t c_stride, size_t m, size_t n, size_t k)
{
    cblas_sgemm(CblasRowMajor, CblasTrans, CblasNoTrans, (blasint)m, (blasint)n, (blasint)k, 1, a,
                (blasint)a_stride, b, (blasint)b_stride, 1, c, (blasint)c_stride);
}

void blas_products(const float *x, size_t n, size_t cols, float *h, int threads)
{
    int before = set_threads(threads);
    cblas_ssyrk(CblasRowMajor, CblasUpper, CblasTrans, (blasint)cols, (blasint)n, 1, x,
                (blasint)cols, 1, h, (blasint)cols);
    set_threads(before);
}

/* What is the lower triangle by rows is the upper one by columns. */
bool blas_cholesky(float *h, size_t n, int threads)
{
    blasint order = (blasint)n, info = 0;
    int before = set_threads(threads);
    spotrf_("U", &order, h, &order, &info, 1);
    set_threads(before);
    return info == 0;
}
