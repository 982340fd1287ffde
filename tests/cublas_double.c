/* SPDX-License-Identifier: MIT */
/*
 * cublas_double.c: stands for src/backend/cuda/cublas.c on an emulated device: its own source, but
 * the library that it loads is a plain product here.
 */
#include <dlfcn.h>
#include <stdint.h>
#include <string.h>

static void *load_double(const char *name, int mode);
static void *find_double(void *library, const char *name);
#define dlopen           load_double
#define dlsym            find_double
#define dlclose(library) ((void)0)
#include "backend/cuda/cublas.c"

#include "quant/dtype.h"
#include "test_cuda.h"

bool cublas_is_missing;
long cublas_products;

struct product {
    int m, n, k, lda, ldb, ldc;
    const uint16_t *a, *b;
    float *c;
};

/* c = a^T b in columns: column i of a is row i of a matrix, column j of b a token. */
static void multiply(void *arg)
{
    struct product *p = arg;
    for (int j = 0; j < p->n; j++)
        for (int i = 0; i < p->m; i++) {
            float sum = 0;
            for (int k = 0; k < p->k; k++)
                sum += bf16_to_f32(p->a[(size_t)i * (size_t)p->lda + (size_t)k]) *
                       bf16_to_f32(p->b[(size_t)j * (size_t)p->ldb + (size_t)k]);
            p->c[(size_t)j * (size_t)p->ldc + (size_t)i] = sum;
        }
    free(p);
}

static cudaStream_t stream_of_handle;

static int create(handle_t *handle)
{
    *handle = (handle_t)&stream_of_handle;
    return 0;
}

static int destroy(handle_t handle)
{
    return handle == (handle_t)&stream_of_handle ? 0 : 1;
}

static int set_stream(handle_t handle, cudaStream_t stream)
{
    stream_of_handle = stream;
    return destroy(handle);
}

static int gemm(handle_t handle, int op_a, int op_b, int m, int n, int k, const void *alpha,
                const void *a, int a_type, int lda, const void *b, int b_type, int ldb,
                const void *beta, void *c, int c_type, int ldc, int compute, int algorithm)
{
    struct product *p = size_alloc(1, sizeof *p);
    if (destroy(handle) != 0 || op_a != OP_T || op_b != OP_N || a_type != REAL_BF16 ||
        b_type != REAL_BF16 || c_type != REAL_F32 || compute != COMPUTE_F32 || algorithm != -1 ||
        *(const float *)alpha != 1 || *(const float *)beta != 0 || lda < k || ldb < k || ldc < m)
        return 7; /* CUBLAS_STATUS_INVALID_VALUE */
    *p = (struct product){m, n, k, lda, ldb, ldc, a, b, c};
    cudaLaunchHostFunc(stream_of_handle, multiply, p);
    cublas_products++;
    return 0;
}

static void *load_double(const char *name, int mode)
{
    (void)mode;
    return cublas_is_missing || strcmp(name, "libcublas.so.12") != 0 ? NULL : &stream_of_handle;
}

static void *find_double(void *library, const char *name)
{
    void *address = NULL;
    (void)library;
    if (strcmp(name, "cublasCreate_v2") == 0)
        address = (void *)(uintptr_t)create;
    if (strcmp(name, "cublasDestroy_v2") == 0)
        address = (void *)(uintptr_t)destroy;
    if (strcmp(name, "cublasSetStream_v2") == 0)
        address = (void *)(uintptr_t)set_stream;
    if (strcmp(name, "cublasGemmEx") == 0)
        address = (void *)(uintptr_t)gemm;
    return address;
}
