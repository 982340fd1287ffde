/* SPDX-License-Identifier: MIT */
/*
 * attend.cuh: attention over KV pages. The unit is a page of 64 positions: its largest score, its
 * sum of weights and its sums of weights times V make a state (Milakov and Gimelshein 2018,
 * arXiv:1805.02867). A row merges the states of its pages in ascending order. For few rows all
 * states are computed side by side (flash-decoding: attend_decode.cu), for many rows one after
 * another (attend_prefill.cu): the same arithmetic, so the same bits.
 *
 * Tensor cores compute states (attend_tensor.cuh) if K and V are f16 and heads have at most 128
 * dimensions; otherwise attend_floats.cu does.
 *
 * Weights are powers of two: scores are scaled by log2(e) / sqrt(head_dim).
 */
#ifndef BACKEND_CUDA_ATTEND_CUH
#define BACKEND_CUDA_ATTEND_CUH

#include "backend/cuda/kv.cuh"

enum { WARP_QUERIES = 16, WIDEST = 128 };

/* The factor of a state whose largest score is max, merged to a state whose largest is `merged`.
 * They are not both -infinity, and NaN only if a score is. */
static __device__ __forceinline__ float shrink(float max, float merged)
{
    return exp2f(__fsub_rn(max, merged));
}

static __device__ __forceinline__ float merge(float total, float a, float other, float b)
{
    return __fmaf_rn(total, a, __fmul_rn(other, b));
}

/* y of a sum. + 0 turns -0 into +0, as the kernels that skip pages have it. */
static __device__ __forceinline__ float finish(float sum, float weights)
{
    return __fadd_rn(sum / weights, 0);
}

/* Where the state of a row's page is stored. */
static __device__ __forceinline__ float *state_of(const device_batch &batch,
                                                  const device_heads &heads, float *states, int row,
                                                  int head, int page)
{
    int pages = batch.positions[row] / PAGE_TOKENS + 1;
    size_t index = batch.states[row] + (size_t)head * pages + page;
    return states + index * heads.state_floats;
}

/* ---- which ------------------------------------------------------------------------------- */

static inline bool has_tensors(const device_heads &heads)
{
    return heads.kv_type == LLAMA3_KV_F16 && heads.padded_dim <= WIDEST;
}

static inline int tiles_per_row(const device_heads &heads)
{
    return (heads.n_group + WARP_QUERIES - 1) / WARP_QUERIES;
}

/* attend_floats.cu: a thread block for each row, head and page; and one for each row and head. */
void split_floats(cudaStream_t stream, const device_batch &batch, const device_heads &heads,
                  int layer, int n_rows, int n_pages, const device_rows &q, float *states);
void attend_floats(cudaStream_t stream, const device_batch &batch, const device_heads &heads,
                   int layer, int n_rows, const device_rows &q, const device_rows &y);

#endif
