/* SPDX-License-Identifier: MIT */
/* rope.cu: rotates q and k by their positions, and stores k and v in their pages. */
#include "backend/cuda/kv.cuh"

static __global__ void angles_kernel(const int32_t *positions, const float *inv_freq, int half,
                                     float scale, float *angles)
{
    int row = (int)blockIdx.x;
    let_next_begin();
    wait_for_inputs();
    for (int i = (int)threadIdx.x; i < half; i += (int)blockDim.x) {
        float angle = __fmul_rn((float)positions[row], inv_freq[i]);
        angles[2 * ((size_t)row * half + i)] = __fmul_rn(cosf(angle), scale);
        angles[2 * ((size_t)row * half + i) + 1] = __fmul_rn(sinf(angle), scale);
    }
}

void device_angles(cudaStream_t stream, const int32_t *positions, const float *inv_freq, int n_rows,
                   int half, float scale, float *angles)
{
    launch(stream, dim3(n_rows), 64, 0, angles_kernel, positions, inv_freq, half, scale, angles);
}

enum { ROPE_THREADS = 256, PAIRS_AT_ONCE = 8 };

/* Rotates the heads of a row of q; the threads of a block share out their pairs. */
static __device__ void rotate_row(const device_heads &heads, float *row, const float *angles)
{
    int half = heads.head_dim / 2, n = heads.n_heads * half, apart = pair_apart(heads);
    for (int first = (int)threadIdx.x; first < n; first += PAIRS_AT_ONCE * ROPE_THREADS) {
        rope_pair x[PAIRS_AT_ONCE];
        float *at[PAIRS_AT_ONCE];
#pragma unroll
        for (int i = 0; i < PAIRS_AT_ONCE; i++) {
            int index = first + i * ROPE_THREADS < n ? first + i * ROPE_THREADS : first;
            at[i] = row + index / half * heads.head_dim + pair_begin(heads, index % half);
            x[i] = {at[i][0], at[i][apart]};
        }
#pragma unroll
        for (int i = 0; i < PAIRS_AT_ONCE && first + i * ROPE_THREADS < n; i++) {
            const float *angle = angles + 2 * ((first + i * ROPE_THREADS) % half);
            rope_pair turned = rotated(x[i], angle[0], angle[1]);
            at[i][0] = turned.a;
            at[i][apart] = turned.b;
        }
    }
}

/* A block for each row. */
static __global__ void __launch_bounds__(ROPE_THREADS)
    rope_store_kernel(const __grid_constant__ device_batch batch,
                      const __grid_constant__ device_heads heads, int layer,
                      const __grid_constant__ device_rows q, const __grid_constant__ device_rows k,
                      const __grid_constant__ device_rows v)
{
    int row = (int)blockIdx.x, padded = heads.padded_dim;
    let_next_begin();
    wait_for_inputs();
    rotate_row(heads, q.values + (size_t)row * q.stride,
               batch.angles + (size_t)row * heads.head_dim);
    for (int at = (int)threadIdx.x; at < heads.n_kv_heads * padded; at += ROPE_THREADS) {
        int head = at / padded, i = at % padded;
        store_kv(batch, heads, layer, row, head, make_kv(batch, heads, row, head, k, v, i), i);
    }
}

void device_rope_store(cudaStream_t stream, const device_batch *batch, const device_heads *heads,
                       int layer, int n_rows, const device_rows *q, const device_rows *k,
                       const device_rows *v)
{
    launch(stream, dim3(n_rows), ROPE_THREADS, 0, rope_store_kernel, *batch, *heads, layer, *q, *k,
           *v);
}
