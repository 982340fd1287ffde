/* SPDX-License-Identifier: MIT */
/*
 * cublas.c: prompts in bf16 by cuBLAS, which is loaded only when it is asked for. Rows of a matrix
 * are expanded a piece at a time, just before they are multiplied. That is cheap beside the
 * products for a prompt of 2048 tokens; an expanded copy would take four times the memory of 4
 * bits.
 */
#include <dlfcn.h>
#include <stdlib.h>

#include "backend/cuda/state.h"
#include "base/size.h"

/* Bytes of expanded rows at a time: enough for any matrix of an 8B, since a product of few rows
 * leaves multiprocessors idle at its end. */
enum { PIECE = 128 << 20, PIECE_ROWS = 256 /* a piece has a multiple of these */ };

/* Constants of cublas_api.h, so that a build does not need the header. */
enum { OP_N = 0, OP_T = 1, REAL_F32 = 0, REAL_BF16 = 14, COMPUTE_F32 = 68, DEFAULT_GEMM = -1 };
typedef struct cublasContext *handle_t;

struct cublas {
    void *library;
    handle_t handle;
    uint16_t *piece;
    int (*create)(handle_t *handle);
    int (*destroy)(handle_t handle);
    int (*set_stream)(handle_t handle, cudaStream_t stream);
    int (*gemm)(handle_t handle, int op_a, int op_b, int m, int n, int k, const void *alpha,
                const void *a, int a_type, int lda, const void *b, int b_type, int ldb,
                const void *beta, void *c, int c_type, int ldc, int compute, int algorithm);
};

uint64_t cublas_bytes(void)
{
    enum { WORKSPACE = 64 << 20 }; /* of the library, about */
    return PIECE + WORKSPACE;
}

/* A function of the library; POSIX lets the address of one stand in a pointer to data. */
static bool find(struct cublas *blas, const char *name, void *function)
{
    void *address = dlsym(blas->library, name);
    *(void **)function = address;
    return address != NULL;
}

static int load(struct cublas *blas, struct llama3_error *err)
{
    static const char *const names[] = {"libcublas.so.13", "libcublas.so.12", "libcublas.so"};
    for (size_t i = 0; i < sizeof names / sizeof names[0] && blas->library == NULL; i++)
        blas->library = dlopen(names[i], RTLD_NOW | RTLD_LOCAL);
    if (blas->library == NULL)
        return error_set(err, LLAMA3_EDEVICE,
                         "cuBLAS, for prompts in bf16: expected libcublas.so.13 or .12, found "
                         "neither");
    if (!find(blas, "cublasCreate_v2", &blas->create) ||
        !find(blas, "cublasDestroy_v2", &blas->destroy) ||
        !find(blas, "cublasSetStream_v2", &blas->set_stream) ||
        !find(blas, "cublasGemmEx", &blas->gemm))
        return error_set(err, LLAMA3_EDEVICE, "cuBLAS: expected cublasGemmEx in it, found none");
    return 0;
}

struct cublas *cublas_open(cudaStream_t stream, struct llama3_error *err)
{
    struct cublas *blas = size_alloc_for(1, sizeof *blas, "cuBLAS", err);
    if (blas == NULL)
        return NULL;
    if (load(blas, err) != 0) {
        cublas_close(blas);
        return NULL;
    }
    int status = blas->create(&blas->handle);
    if (status == 0)
        status = blas->set_stream(blas->handle, stream);
    if (status != 0)
        error_set(err, LLAMA3_EDEVICE, "cuBLAS can't be started: status %d", status);
    else
        blas->piece = cuda_alloc(PIECE, "prompts in bf16", err);
    if (blas->piece == NULL) {
        cublas_close(blas);
        return NULL;
    }
    return blas;
}

void cublas_close(struct cublas *blas)
{
    if (blas == NULL)
        return;
    if (blas->handle != NULL)
        blas->destroy(blas->handle);
    cudaFree(blas->piece);
    if (blas->library != NULL)
        dlclose(blas->library);
    free(blas);
}

bool cublas_linear(struct cublas *blas, cudaStream_t stream, const struct device_matrix *m,
                   const struct device_rows *x, int n_rows, float *y, int y_stride)
{
    const float one = 1, zero = 0;
    int width = m->padded_blocks * BLOCK_COLS;
    int most = PIECE / (int)sizeof *blas->piece / width;
    most = most > PIECE_ROWS ? most / PIECE_ROWS * PIECE_ROWS : most;

    for (int first = 0; first < m->rows; first += most) {
        int n = m->rows - first < most ? m->rows - first : most;
        device_expand(stream, m, first, n, blas->piece);
        /* In the library's order of columns: y^T [n][n_rows] = piece^T x^T. */
        if (blas->gemm(blas->handle, OP_T, OP_N, n, n_rows, m->cols, &one, blas->piece, REAL_BF16,
                       width, x->bf16, REAL_BF16, x->stride, &zero, y + first, REAL_F32, y_stride,
                       COMPUTE_F32, DEFAULT_GEMM) != 0)
            return false;
    }
    return true;
}
