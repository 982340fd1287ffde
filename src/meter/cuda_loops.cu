/* SPDX-License-Identifier: MIT */
/* cuda_loops.cu: loops that do nothing but what one unit of the device is the limit of. */
#include "meter/cuda_loops.h"

#include "backend/cuda/common.cuh"

enum {
    THREADS = 256,
    CHAINS = 8, /* independent sums of a thread: more than the units are long */
    LOADS = 8   /* on their way at once */
};

/* What is summed up is written where it never is, so that it can't be left out. */
template <typename T> static __device__ void keep(T sum, float *out)
{
    if (sum == (T)12345678)
        *out = (float)sum;
}

static __global__ void __launch_bounds__(THREADS) int8_kernel(int rounds, float *out)
{
    wait_for_inputs();
    uint32_t a[4] = {threadIdx.x, 1, 2, 3};
    int sums[CHAINS][4] = {};
    for (int i = 0; i < rounds; i++)
#pragma unroll
        for (int j = 0; j < CHAINS; j++)
            mma_s8(sums[j], a, threadIdx.x, (uint32_t)j, sums[j]);
    int sum = 0;
    for (int j = 0; j < CHAINS; j++)
        sum ^= sums[j][0] ^ sums[j][1] ^ sums[j][2] ^ sums[j][3];
    keep(sum, out);
}

static __global__ void __launch_bounds__(THREADS) bf16_kernel(int rounds, float *out)
{
    wait_for_inputs();
    uint32_t a[4] = {threadIdx.x, 1, 2, 3};
    float sums[CHAINS][4] = {}, sum = 0;
    for (int i = 0; i < rounds; i++)
#pragma unroll
        for (int j = 0; j < CHAINS; j++)
            mma_bf16(sums[j], a, threadIdx.x, (uint32_t)j);
    for (int j = 0; j < CHAINS; j++)
        sum += sums[j][0] + sums[j][1] + sums[j][2] + sums[j][3];
    keep(sum, out);
}

static __global__ void __launch_bounds__(THREADS) f32_kernel(int rounds, float *out)
{
    wait_for_inputs();
    float sums[CHAINS] = {}, x = (float)threadIdx.x, sum = 0;
    for (int i = 0; i < rounds; i++)
#pragma unroll
        for (int j = 0; j < CHAINS; j++)
            sums[j] = __fmaf_rn(sums[j], x, 0.5f);
    for (int j = 0; j < CHAINS; j++)
        sum += sums[j];
    keep(sum, out);
}

double loop_macs(mac_loop loop)
{
    static const double of_warp[MAC_LOOPS] = {16 * 8 * 32, 16 * 8 * 16, WARP};
    return of_warp[loop] * CHAINS * (THREADS / WARP);
}

void loop_run(cudaStream_t stream, mac_loop loop, int blocks, int rounds, float *out)
{
    static void (*const kernels[MAC_LOOPS])(int, float *) = {int8_kernel, bf16_kernel, f32_kernel};
    launch(stream, dim3(blocks), (int)THREADS, 0, kernels[loop], rounds, out);
}

static __global__ void __launch_bounds__(THREADS)
    read_kernel(const uint4 *units, size_t n, float *out)
{
    wait_for_inputs();
    size_t step = (size_t)gridDim.x * THREADS;
    uint32_t sum = 0;
    for (size_t at = (size_t)blockIdx.x * THREADS + threadIdx.x; at < n; at += LOADS * step) {
        uint4 unit[LOADS];
#pragma unroll
        for (int i = 0; i < LOADS; i++)
            unit[i] = at + i * step < n ? load_once(units + at + i * step) : uint4{0, 0, 0, 0};
#pragma unroll
        for (int i = 0; i < LOADS; i++)
            sum ^= unit[i].x ^ unit[i].y ^ unit[i].z ^ unit[i].w;
    }
    keep(sum, out);
}

void loop_read(cudaStream_t stream, const void *units, size_t n, int blocks, float *out)
{
    launch(stream, dim3(blocks), (int)THREADS, 0, read_kernel, (const uint4 *)units, n, out);
}
