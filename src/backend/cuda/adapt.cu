/* SPDX-License-Identifier: MIT */
/*
 * adapt.cu: what adapters (LoRA) add to linears, in two thin products. A thread block makes one
 * number of the first for one row of activations, and a thread one of the second. So no sum depends
 * on what else is in the batch.
 */
#include "backend/cuda/common.cuh"

enum { ADAPT_THREADS = 128 };

/* A row's place in x and y, and its scale in the adapter. */
static __device__ __forceinline__ int find_row(const device_factors &d, float *scale)
{
    int row = (int)blockIdx.y;
    *scale = d.scales[(size_t)row * d.n_adapters];
    return d.packed == nullptr ? row : d.packed[row];
}

/* The matrix of number `at` of all their rows, and *at in it. */
static __device__ __forceinline__ int find_matrix(const int *rows, int n, int *at)
{
    int i = 0;
    while (i < n && *at >= rows[i])
        *at -= rows[i++];
    return i;
}

static __global__ void thin_kernel(const __grid_constant__ device_factors d)
{
    int k = (int)blockIdx.x, i = find_matrix(d.rank, d.n, &k);
    float scale, sum = 0, *scratch = (float *)shared_memory();
    let_next_begin();
    wait_for_inputs();
    int row = find_row(d, &scale);
    if (row < 0 || scale == 0)
        return;
    const float *a = d.a[i] + (size_t)k * d.cols, *x = d.x + (size_t)row * d.x_stride;
    for (int col = (int)threadIdx.x; col < d.cols; col += ADAPT_THREADS)
        sum = __fmaf_rn(a[col], x[col], sum);
    sum = block_reduce<false>(sum, scratch);
    if (threadIdx.x == 0)
        d.thin[((size_t)row * MAX_MATRICES + i) * d.max_rank + k] = __fmul_rn(sum, scale);
}

static __global__ void wide_kernel(const __grid_constant__ device_factors d)
{
    int j = (int)(blockIdx.x * ADAPT_THREADS + threadIdx.x), i = find_matrix(d.rows, d.n, &j);
    float scale, sum = 0;
    let_next_begin();
    wait_for_inputs();
    int row = find_row(d, &scale);
    if (i == d.n || row < 0 || scale == 0)
        return;
    const float *b = d.b[i] + j;
    const float *thin = d.thin + ((size_t)row * MAX_MATRICES + i) * d.max_rank;
    for (int k = 0; k < d.rank[i]; k++)
        sum = __fmaf_rn(b[(size_t)k * d.rows[i]], thin[k], sum);
    float *y = d.y[i] + (size_t)row * d.y_stride[i] + j;
    *y = __fadd_rn(*y, sum);
}

void device_adapt(cudaStream_t stream, const struct device_factors *d, int n_rows)
{
    int thin = 0, wide = 0;
    for (int i = 0; i < d->n; i++) {
        thin += d->rank[i];
        wide += d->rows[i];
    }
    launch(stream, dim3(thin, n_rows), ADAPT_THREADS, WARP * sizeof(float), thin_kernel, *d);
    launch(stream, dim3((wide + ADAPT_THREADS - 1) / ADAPT_THREADS, n_rows), ADAPT_THREADS, 0,
           wide_kernel, *d);
}
