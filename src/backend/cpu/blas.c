/* SPDX-License-Identifier: MIT */
/*
 * blas.c: OpenBLAS, for many rows. Each of our threads calls it for its own rows, single-threaded:
 * OpenBLAS's threads would spin on the cores that ours compute on.
 *
 * The first model that needs it loads it, not the program's start: its constructor starts threads,
 * and where memory for their buffers can't be mapped it retries for ever.
 *
 * The number of threads of a call is one setting for the whole process. It belongs to the
 * application, so it is changed for our calls and restored after them.
 */
#include "config.h"

#include "backend/cpu/cpu.h"

#include <cblas.h>
#include <dlfcn.h>
#include <pthread.h>
#include <stdio.h>
#include <sys/mman.h>
#include <unistd.h>

/* LAPACK's, which OpenBLAS brings; its C header is another package. */
void spotrf_(const char *uplo, const blasint *n, float *a, const blasint *lda, blasint *info,
             size_t uplo_length);

static struct {
    int (*get_threads)(void);
    void (*set_threads)(int threads);
    __typeof__(&cblas_sgemm) sgemm;
    __typeof__(&cblas_ssyrk) ssyrk;
    __typeof__(&spotrf_) spotrf;
} blas;

/* ---- loading --------------------------------------------------------------------------------- */

/* How many pieces, up to n, can be mapped at once. Maps and unmaps them; a piece's first word
 * points to the one before. */
static size_t room_for(size_t n, size_t bytes)
{
    void **last = NULL;
    size_t had = 0;
    for (; had < n; had++) {
        void **piece =
            mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        if (piece == MAP_FAILED)
            break;
        *piece = last;
        last = piece;
    }
    while (last != NULL) {
        void **before = *last;
        munmap(last, bytes);
        last = before;
    }
    return had;
}

/* OpenBLAS 0.3.21 on x86-64 maps 38 MiB; a stack and 128 MiB for each of its own threads, one less
 * than there are processors or than a call may use; and 128 MiB for each of our threads. The same
 * again is left for the model. */
static const char *lacks_room(int threads)
{
    enum { PIECE = 128 << 20 };
    static char text[160];
    long processors = sysconf(_SC_NPROCESSORS_ONLN);
    size_t own = processors > threads ? (size_t)processors : (size_t)threads, stack = 0;
    pthread_attr_t attr;
    if (pthread_attr_init(&attr) == 0) {
        pthread_attr_getstacksize(&attr, &stack);
        pthread_attr_destroy(&attr);
    }
    size_t n = 2 * (own + (size_t)threads), had = room_for(n, PIECE + stack);
    if (had == n)
        return NULL;
    snprintf(text, sizeof text,
             "expected room for %zu MiB of memory to map, found less than %zu (see ulimit -v)",
             n * ((PIECE + stack) >> 20), (had + 1) * ((PIECE + stack) >> 20));
    return text;
}

/* A function of the library; POSIX lets the address of one stand in a pointer to data. */
static bool find(void *library, const char *name, void *function)
{
    void *address = dlsym(library, name);
    *(void **)function = address;
    return address != NULL;
}

/* Never unloaded: its threads run its code. */
static const char *load(int threads)
{
    const char *lack = lacks_room(threads);
    if (lack != NULL)
        return lack;
    void *library = dlopen(OPENBLAS_LIBRARY, RTLD_NOW | RTLD_LOCAL);
    if (library == NULL)
        return "expected the library " OPENBLAS_LIBRARY ", found none that can be loaded";
    if (!find(library, "openblas_get_num_threads", &blas.get_threads) ||
        !find(library, "openblas_set_num_threads", &blas.set_threads) ||
        !find(library, "cblas_sgemm", &blas.sgemm) || !find(library, "cblas_ssyrk", &blas.ssyrk) ||
        !find(library, "spotrf_", &blas.spotrf))
        return "expected cblas_sgemm, cblas_ssyrk and spotrf_ in " OPENBLAS_LIBRARY
               ", found a library without";
    return NULL;
}

const char *blas_load(int threads)
{
    static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
    static bool tried;
    static const char *lack;
    pthread_mutex_lock(&lock);
    if (!tried)
        lack = load(threads);
    tried = true;
    pthread_mutex_unlock(&lock);
    return lack;
}

/* ---- how many threads ------------------------------------------------------------------------ */

static struct {
    pthread_mutex_t lock;
    size_t users; /* between blas_begin() and blas_end() */
    int before;   /* the application's number */
} calls = {.lock = PTHREAD_MUTEX_INITIALIZER};

void blas_begin(void)
{
    pthread_mutex_lock(&calls.lock);
    if (calls.users++ == 0) {
        calls.before = blas.get_threads();
        blas.set_threads(1);
    }
    pthread_mutex_unlock(&calls.lock);
}

void blas_end(void)
{
    pthread_mutex_lock(&calls.lock);
    if (--calls.users == 0)
        blas.set_threads(calls.before);
    pthread_mutex_unlock(&calls.lock);
}

/* For one call on several threads; returns the setting before. */
static int set_threads(int threads)
{
    int before = blas.get_threads();
    blas.set_threads(threads);
    return before;
}

/* ---- calls ----------------------------------------------------------------------------------- */

void blas_linear(const float *w, size_t w_stride, const float *x, size_t x_stride, float *y,
                 size_t y_stride, size_t rows, size_t tokens, size_t cols)
{
    blas.sgemm(CblasRowMajor, CblasNoTrans, CblasTrans, (blasint)tokens, (blasint)rows,
               (blasint)cols, 1, x, (blasint)x_stride, w, (blasint)w_stride, 0, y,
               (blasint)y_stride);
}

void blas_transposed(const float *a, size_t a_stride, const float *b, size_t b_stride, float *c,
                     size_t c_stride, size_t m, size_t n, size_t k)
{
    blas.sgemm(CblasRowMajor, CblasTrans, CblasNoTrans, (blasint)m, (blasint)n, (blasint)k, 1, a,
               (blasint)a_stride, b, (blasint)b_stride, 1, c, (blasint)c_stride);
}

void blas_products(const float *x, size_t x_stride, size_t n, size_t cols, float *h, int threads)
{
    int before = set_threads(threads);
    blas.ssyrk(CblasRowMajor, CblasUpper, CblasTrans, (blasint)cols, (blasint)n, 1, x,
               (blasint)x_stride, 1, h, (blasint)cols);
    set_threads(before);
}

/* The lower triangle by rows is the upper one by columns. */
bool blas_cholesky(float *h, size_t n, int threads)
{
    blasint order = (blasint)n, info = 0;
    int before = set_threads(threads);
    blas.spotrf("U", &order, h, &order, &info, 1);
    set_threads(before);
    return info == 0;
}
