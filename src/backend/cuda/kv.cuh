/* SPDX-License-Identifier: MIT */
/* kv.cuh: K and V of a position: rotated, stored in a page, and read from it. */
#ifndef BACKEND_CUDA_KV_CUH
#define BACKEND_CUDA_KV_CUH

#include "backend/cuda/common.cuh"

/* The page of a row that holds a position, of one KV head of a layer. */
static __device__ __forceinline__ uint8_t *page_of(const device_batch &batch,
                                                   const device_heads &heads, int layer, int row,
                                                   int page, int kv_head)
{
    return batch.pages[batch.page_rows[row] + page] +
           (layer * heads.n_kv_heads + kv_head) * heads.head_bytes;
}

/* ---- positions --------------------------------------------------------------------------- */

/* Two elements of a head that are rotated together (Su et al. 2021, arXiv:2104.09864). */
struct rope_pair {
    float a, b;
};

static __device__ __forceinline__ rope_pair rotated(const rope_pair &x, float cosine, float sine)
{
    return {__fsub_rn(__fmul_rn(x.a, cosine), __fmul_rn(x.b, sine)),
            __fadd_rn(__fmul_rn(x.b, cosine), __fmul_rn(x.a, sine))};
}

/* Where pair i of a head begins, and how far apart its elements are. */
static __device__ __forceinline__ int pair_begin(const device_heads &heads, int i)
{
    return heads.interleaved ? 2 * i : i;
}

static __device__ __forceinline__ int pair_apart(const device_heads &heads)
{
    return heads.interleaved ? 1 : heads.head_dim / 2;
}

/* Element i of a head, rotated. */
static __device__ __forceinline__ float rotated(const float *head, const float *angles, int i,
                                                const device_heads &heads)
{
    int half = heads.head_dim / 2, n = heads.interleaved ? i / 2 : i < half ? i : i - half;
    const float *at = head + pair_begin(heads, n);
    rope_pair turned = rotated({at[0], at[pair_apart(heads)]}, angles[2 * n], angles[2 * n + 1]);
    bool second = heads.interleaved ? i % 2 == 1 : i >= half;
    return second ? turned.b : turned.a;
}

/* Bytes of a head's K in a page; V follows. */
static __device__ __forceinline__ size_t page_k_bytes(const device_heads &heads)
{
    return heads.head_bytes / 2;
}

/* Element i of stored K or V. */
static __device__ __forceinline__ float read_kv(const uint8_t *from, size_t i, llama3_kv_type type)
{
    return type == LLAMA3_KV_F16 ? f16_to_float(((const uint16_t *)from)[i])
                                 : ((const float *)from)[i];
}

static __device__ __forceinline__ void write_kv(uint8_t *to, size_t i, float value,
                                                llama3_kv_type type)
{
    if (type == LLAMA3_KV_F16)
        ((uint16_t *)to)[i] = float_to_f16(value);
    else
        ((float *)to)[i] = value;
}

/* Element i of a row's K, rotated, and of its V, for a KV head, */
struct kv_element {
    float k, v;
};

static __device__ __forceinline__ kv_element make_kv(const device_batch &batch,
                                                     const device_heads &heads, int row,
                                                     int kv_head, const device_rows &k,
                                                     const device_rows &v, int i)
{
    int dim = heads.head_dim;
    const float *head = k.values + (size_t)row * k.stride + (size_t)kv_head * dim;
    if (i >= dim)
        return {0, 0};
    return {rotated(head, batch.angles + (size_t)row * dim, i, heads),
            v.values[(size_t)row * v.stride + (size_t)kv_head * dim + i]};
}

/* stored to its slot in a page. */
static __device__ __forceinline__ void store_kv(const device_batch &batch,
                                                const device_heads &heads, int layer, int row,
                                                int kv_head, const kv_element &x, int i)
{
    int position = batch.positions[row], slot = position % PAGE_TOKENS;
    uint8_t *page = page_of(batch, heads, layer, row, position / PAGE_TOKENS, kv_head);
    write_kv(page, (size_t)slot * heads.padded_dim + i, x.k, heads.kv_type);
    write_kv(page + page_k_bytes(heads), (size_t)i * PAGE_TOKENS + slot, x.v, heads.kv_type);
}

#endif
