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

/* The scales, or offsets, of a quad of groups as floats. */
static __device__ __forceinline__ void quad_bytes(uint32_t word, float (&out)[QUAD])
{
    for (int i = 0; i < QUAD; i++)
        out[i] = (float)(int8_t)(word >> (8 * i) & 255);
}

static __device__ __forceinline__ void quad_halves(uint2 words, float (&out)[QUAD])
{
    out[0] = f16_to_float(words.x & 65535);
    out[1] = f16_to_float(words.x >> 16);
    out[2] = f16_to_float(words.y & 65535);
    out[3] = f16_to_float(words.y >> 16);
}

static __device__ __forceinline__ void load_scales(const device_matrix &m, int row, int block,
                                                   float (&out)[QUAD])
{
    size_t quad = quad_index(m, row, block);
    if (m.half_scales)
        quad_halves(load_once((const uint2 *)m.scales + quad), out);
    else
        quad_bytes(load_once((const uint32_t *)m.scales + quad), out);
}

static __device__ __forceinline__ void load_offsets(const device_matrix &m, int row, int block,
                                                    float (&out)[QUAD])
{
    quad_halves(load_once((const uint2 *)m.offsets + quad_index(m, row, block)), out);
}

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
