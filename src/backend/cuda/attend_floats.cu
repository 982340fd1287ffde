/* SPDX-License-Identifier: MIT */
/* attend_floats.cu: attention in f32, for KV in f32 and wide heads. A thread block has one query.
 * */
#include "backend/cuda/attend.cuh"

enum { FLOAT_THREADS = PAGE_TOKENS };

/* The state of a page; last: the last slot that the row sees. A thread has a position, then every
 * PAGE_TOKENS-th column of V. shared: the query [padded_dim], weights [64], reductions [2 * 32],
 * the state's sums [padded_dim]. */
static __device__ void attend_page_floats(const device_heads &heads, const uint8_t *page, int last,
                                          float *shared, float *max, float *weights)
{
    const float *query = shared;
    float *weight = shared + heads.padded_dim, *scratch = weight + PAGE_TOKENS;
    float *sums = scratch + 2 * WARP, score = 0;
    int slot = (int)threadIdx.x;
    const uint8_t *v = page + page_k_bytes(heads);

    for (int i = 0; i < heads.head_dim && slot <= last; i++)
        score = __fmaf_rn(query[i],
                          read_kv(page, (size_t)slot * heads.padded_dim + i, heads.kv_type), score);
    score = slot <= last ? __fmul_rn(score, heads.score_scale) : -INFINITY;
    *max = block_reduce<true>(score, scratch);
    weight[slot] = shrink(score, *max);
    *weights = block_reduce<false>(weight[slot], scratch + WARP);
    for (int col = (int)threadIdx.x; col < heads.head_dim; col += FLOAT_THREADS) {
        float sum = 0;
        for (int i = 0; i <= last && i < PAGE_TOKENS; i++)
            sum =
                __fmaf_rn(weight[i], read_kv(v, (size_t)col * PAGE_TOKENS + i, heads.kv_type), sum);
        sums[col] = sum;
    }
    __syncthreads(); /* weight and scratch are free again */
}

static size_t floats_shared(const device_heads &heads)
{
    return (3 * (size_t)heads.padded_dim + PAGE_TOKENS + 2 * WARP) * sizeof(float);
}

static __device__ float *load_query(const device_heads &heads, const device_rows &q, int row,
                                    int head)
{
    float *shared = (float *)shared_memory();
    const float *from = q.values + (size_t)row * q.stride + (size_t)head * heads.head_dim;
    for (int i = (int)threadIdx.x; i < heads.head_dim; i += FLOAT_THREADS)
        shared[i] = from[i];
    __syncthreads();
    return shared;
}

/* A row (x), head (y) and page (z). */
static __global__ void split_floats_kernel(const __grid_constant__ device_batch batch,
                                           const __grid_constant__ device_heads heads, int layer,
                                           const __grid_constant__ device_rows q, float *states)
{
    int row = (int)blockIdx.x, head = (int)blockIdx.y, page = (int)blockIdx.z;
    int last = batch.positions[row] - page * PAGE_TOKENS;
    float *shared, max, weights;
    let_next_begin();
    wait_for_inputs();
    if (last < 0)
        return;
    shared = load_query(heads, q, row, head);
    const uint8_t *from = page_of(batch, heads, layer, row, page, head / heads.n_group);
    attend_page_floats(heads, from, last, shared, &max, &weights);
    const float *sums = shared + heads.padded_dim + PAGE_TOKENS + 2 * WARP;
    float *out = state_of(batch, heads, states, row, head, page);
    if (threadIdx.x == 0) {
        out[heads.padded_dim] = max;
        out[heads.padded_dim + 1] = weights;
    }
    for (int col = (int)threadIdx.x; col < heads.head_dim; col += FLOAT_THREADS)
        out[col] = sums[col];
}

/* A row (x) and head (y). */
static __global__ void attend_floats_kernel(const __grid_constant__ device_batch batch,
                                            const __grid_constant__ device_heads heads, int layer,
                                            const __grid_constant__ device_rows q,
                                            const __grid_constant__ device_rows y)
{
    int row = (int)blockIdx.x, head = (int)blockIdx.y, position = batch.positions[row];
    let_next_begin();
    wait_for_inputs();
    float *shared = load_query(heads, q, row, head), max = -INFINITY, weights = 0;
    const float *sums = shared + heads.padded_dim + PAGE_TOKENS + 2 * WARP;
    float *total = shared + 2 * heads.padded_dim + PAGE_TOKENS + 2 * WARP;

    for (int col = (int)threadIdx.x; col < heads.head_dim; col += FLOAT_THREADS)
        total[col] = 0;
    for (int page = 0; page <= position / PAGE_TOKENS; page++) {
        const uint8_t *from = page_of(batch, heads, layer, row, page, head / heads.n_group);
        float page_max, page_weights;
        attend_page_floats(heads, from, position - page * PAGE_TOKENS, shared, &page_max,
                           &page_weights);
        float merged = larger(max, page_max);
        float a = shrink(max, merged), b = shrink(page_max, merged);
        max = merged;
        weights = merge(weights, a, page_weights, b);
        for (int col = (int)threadIdx.x; col < heads.head_dim; col += FLOAT_THREADS)
            total[col] = merge(total[col], a, sums[col], b);
    }
    float *out = y.values + (size_t)row * y.stride + (size_t)head * heads.head_dim;
    for (int col = (int)threadIdx.x; col < heads.head_dim; col += FLOAT_THREADS)
        out[col] = finish(total[col], weights);
}

/* ---- launches ---------------------------------------------------------------------------- */

void split_floats(cudaStream_t stream, const device_batch &batch, const device_heads &heads,
                  int layer, int n_rows, int n_pages, const device_rows &q, float *states)
{
    launch(stream, dim3(n_rows, heads.n_heads, n_pages), FLOAT_THREADS, floats_shared(heads),
           split_floats_kernel, batch, heads, layer, q, states);
}

void attend_floats(cudaStream_t stream, const device_batch &batch, const device_heads &heads,
                   int layer, int n_rows, const device_rows &q, const device_rows &y)
{
    launch(stream, dim3(n_rows, heads.n_heads), FLOAT_THREADS, floats_shared(heads),
           attend_floats_kernel, batch, heads, layer, q, y);
}
