/* common.cuh: what kernels share: sums over a block of threads, reading matrices and pages. */
#ifndef BACKEND_CUDA_COMMON_CUH
#define BACKEND_CUDA_COMMON_CUH

#include "backend/cuda/kernels.h"
#include "backend/cuda/ptx.h"

#define ACTIVATION_FUNCTION static __device__ inline
#include "quant/activation.h"

enum { WARP = 32, ALL_LANES = -1 };

static __device__ __forceinline__ int lane_index()
{
    return (int)(threadIdx.x % WARP);
}

static __device__ __forceinline__ int warp_index()
{
    return (int)(threadIdx.x / WARP);
}

/* Sums and maxima over lanes that differ in the bits below `width`, in all of them; by a tree, so
 * that every lane has the same bits. NaN wins a maximum. */
static __device__ __forceinline__ float warp_sum(float x, int width = WARP)
{
    for (int bit = width / 2; bit > 0; bit /= 2)
        x = __fadd_rn(x, __shfl_xor_sync((unsigned)ALL_LANES, x, bit));
    return x;
}

static __device__ __forceinline__ float larger(float a, float b)
{
    return a > b || a != a ? a : b;
}

static __device__ __forceinline__ float warp_max(float x, int width = WARP)
{
    for (int bit = width / 2; bit > 0; bit /= 2)
        x = larger(x, __shfl_xor_sync((unsigned)ALL_LANES, x, bit));
    return x;
}

/* Over all threads of a block; room: [WARP] in shared memory, free again after the next barrier. */
template <bool max> static __device__ float block_reduce(float x, float *room)
{
    int warps = (int)(blockDim.x / WARP);
    x = max ? warp_max(x) : warp_sum(x);
    if (lane_index() == 0)
        room[warp_index()] = x;
    __syncthreads();
    x = lane_index() < warps ? room[lane_index()] : max ? -INFINITY : 0;
    return max ? warp_max(x) : warp_sum(x);
}

/* Where a token's block of 32 columns stands among the narrow forms of activations. */
static __device__ __forceinline__ size_t cell_index(const device_rows &x, int token, int block)
{
    return ((size_t)(token / TILE_TOKENS) * x.blocks + block) * TILE_TOKENS + token % TILE_TOKENS;
}

/* Where a row's unit of a block of columns lies. */
static __device__ __forceinline__ const uint8_t *unit_of(const device_matrix &m, int units, int row,
                                                         int block, int unit)
{
    size_t index = (size_t)(row / TILE_ROWS) * m.padded_blocks + block;
    return m.units + ((index * units + unit) * TILE_ROWS + row % TILE_ROWS) * UNIT_BYTES;
}

/* Where the scales of a row's quad of blocks lie, in quads of the whole matrix. */
static __device__ __forceinline__ size_t quad_index(const device_matrix &m, int row, int block)
{
    size_t tile = row / TILE_ROWS;
    return (tile * (m.padded_blocks / QUAD) + block / QUAD) * TILE_ROWS + row % TILE_ROWS;
}

/* Scales and offsets of a row's quad of groups, as they are stored: in bytes without offsets, which
 * is what we quantize to, or in f16, with offsets or without. */
template <bool halves> struct quad_numbers;

template <> struct quad_numbers<false> {
    uint32_t scales;

    __device__ __forceinline__ void load(const device_matrix &m, int row, int block)
    {
        scales = load_once((const uint32_t *)m.scales + quad_index(m, row, block));
    }
    __device__ __forceinline__ float scale(int i) const
    {
        return (float)(int8_t)(scales >> (8 * i) & 255);
    }
    __device__ __forceinline__ float offset(int) const
    {
        return 0;
    }
};

template <> struct quad_numbers<true> {
    uint2 scales, offsets;

    __device__ __forceinline__ void load(const device_matrix &m, int row, int block)
    {
        size_t quad = quad_index(m, row, block);
        scales = load_once((const uint2 *)m.scales + quad);
        offsets = m.offsets != NULL ? load_once((const uint2 *)m.offsets + quad) : uint2{0, 0};
    }
    static __device__ __forceinline__ float half(uint2 words, int i)
    {
        return f16_to_float((i < 2 ? words.x : words.y) >> (16 * (i % 2)) & 65535);
    }
    __device__ __forceinline__ float scale(int i) const
    {
        return half(scales, i);
    }
    __device__ __forceinline__ float offset(int i) const
    {
        return half(offsets, i);
    }
};

/* The page of a row that holds a position, of one KV head of a layer. */
static __device__ __forceinline__ uint8_t *page_of(const device_batch &batch,
                                                   const device_heads &heads, int layer, int row,
                                                   int page, int kv_head)
{
    size_t head_bytes = heads.layer_bytes / heads.n_kv_heads;
    return batch.pages[batch.page_rows[row] + page] + layer * heads.layer_bytes +
           kv_head * head_bytes;
}

/* Bytes of K of a head in a page, after which V follows. */
static __device__ __forceinline__ size_t page_k_bytes(const device_heads &heads)
{
    return (size_t)PAGE_TOKENS * heads.padded_dim * (heads.half ? 2 : 4);
}

#endif
