/* SPDX-License-Identifier: MIT */
/* common.cuh: what kernels share: reductions, rows of activations, and reading matrices. */
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

/* Sums and maxima over groups of `width` lanes. By a butterfly, so that every lane gets the same
 * bits. NaN wins a maximum. */
static __device__ __forceinline__ float warp_sum(float x, int width = WARP)
{
    for (int bit = width / 2; bit > 0; bit /= 2)
        x = __fadd_rn(x, __shfl_xor_sync((unsigned)ALL_LANES, x, bit));
    return x;
}

static __device__ __forceinline__ float warp_max(float x, int width = WARP)
{
    for (int bit = width / 2; bit > 0; bit /= 2)
        x = larger(x, __shfl_xor_sync((unsigned)ALL_LANES, x, bit));
    return x;
}

/* Over all threads of a block. scratch: [WARP] in shared memory, in use until the next barrier. */
template <bool max> static __device__ float block_reduce(float x, float *scratch)
{
    int warps = (int)(blockDim.x / WARP);
    x = max ? warp_max(x) : warp_sum(x);
    if (lane_index() == 0)
        scratch[warp_index()] = x;
    __syncthreads();
    x = lane_index() < warps ? scratch[lane_index()] : max ? -INFINITY : 0;
    return max ? warp_max(x) : warp_sum(x);
}

/* ---- rows of activations ----------------------------------------------------------------- */

/* Threads of a block share a row by fours: a thread has 4 columns at 4 threadIdx.x of every 4
 * blockDim.x. */
enum { HELD = GEMV_NORM_SLICE / 4 }; /* fours of a row that a thread holds in registers */

static __device__ __forceinline__ int first_col()
{
    return 4 * (int)threadIdx.x;
}

static __device__ __forceinline__ int col_step()
{
    return 4 * (int)blockDim.x;
}

/* Zeros beyond the end. Rows are padded to whole blocks of columns, vectors of weights to fours. */
static __device__ __forceinline__ void load_four(const float *row, int col, int cols, float (&v)[4])
{
    float4 x = col < cols ? *(const float4 *)(row + col) : float4{0, 0, 0, 0};
    v[0] = x.x;
    v[1] = col + 1 < cols ? x.y : 0;
    v[2] = col + 2 < cols ? x.z : 0;
    v[3] = col + 3 < cols ? x.w : 0;
}

/* The same of a row whose columns are read in an order; NULL: as they are. */
static __device__ __forceinline__ void load_four(const float *row, const uint32_t *order, int col,
                                                 int cols, float (&v)[4])
{
    if (order == NULL) {
        load_four(row, col, cols, v);
        return;
    }
    uint4 at = col < cols ? *(const uint4 *)(order + col) : uint4{0, 0, 0, 0};
    v[0] = col < cols ? row[at.x] : 0;
    v[1] = col + 1 < cols ? row[at.y] : 0;
    v[2] = col + 2 < cols ? row[at.z] : 0;
    v[3] = col + 3 < cols ? row[at.w] : 0;
}

static __device__ __forceinline__ void store_four(float *row, int col, const float (&v)[4])
{
    *(float4 *)(row + col) = {v[0], v[1], v[2], v[3]};
}

/* Back to where load_four() took them from. */
static __device__ __forceinline__ void store_four(float *row, const uint32_t *order, int col,
                                                  int cols, const float (&v)[4])
{
    if (order == NULL)
        store_four(row, col, v);
    for (int j = 0; j < 4 && order != NULL; j++)
        if (col + j < cols)
            row[order[col + j]] = v[j];
}

static __device__ __forceinline__ float largest_of(const float (&v)[4], float so_far)
{
    for (int i = 0; i < 4; i++)
        so_far = larger(fabsf(v[i]), so_far);
    return so_far;
}

/* RMSNorm (Zhang and Sennrich 2019, arXiv:1910.07467): a thread's sum of squares, and the factor.
 * */
static __device__ __forceinline__ float square_sum(const float (&v)[4], float sum)
{
    for (int i = 0; i < 4; i++)
        sum = __fmaf_rn(v[i], v[i], sum);
    return sum;
}

static __device__ __forceinline__ float norm_scale(float sum, int cols, float eps, float *scratch)
{
    sum = block_reduce<false>(sum, scratch);
    return 1 / sqrtf(__fadd_rn(sum / (float)cols, eps));
}

static __device__ __forceinline__ void norm_four(float (&v)[4], float scale, const float (&w)[4])
{
    for (int i = 0; i < 4; i++)
        v[i] = __fmul_rn(__fmul_rn(v[i], scale), w[i]);
}

static __device__ __forceinline__ float gated(float z, float up)
{
    return __fmul_rn(z / __fadd_rn(1, expf(-z)), up);
}

struct row_scale {
    float scale, factor; /* of a row's codes; its inverse, or 0 if all codes are 0 */
};

static __device__ __forceinline__ row_scale scale_of(float largest)
{
    float scale = activation_scale(largest);
    return {scale, scale > 0 ? 1 / scale : 0};
}

/* Four values to int8, in a group with 2^-k = down. An addition rounds them and leaves the code in
 * its lowest byte. sum: of the codes. */
static __device__ __forceinline__ uint32_t codes_of(const float (&v)[4], const row_scale &row,
                                                    float down, float *sum)
{
    const float round = 0x1.8p23f;
    uint32_t words[4];
    *sum = 0;
    for (int i = 0; i < 4; i++) {
        float code = __fadd_rn(__fmul_rn(__fmul_rn(v[i], row.factor), down), round);
        words[i] = __float_as_uint(code);
        *sum = __fadd_rn(*sum, __fsub_rn(code, round));
    }
    uint32_t codes =
        permute(permute(words[0], words[1], 0x0040), permute(words[2], words[3], 0x0040), 0x5410);
    *sum = row.factor > 0 ? *sum : 0;
    return row.factor > 0 ? codes : 0;
}

/* k of a group with that largest magnitude. */
static __device__ __forceinline__ int power_of(float largest, const row_scale &row)
{
    int k = activation_power(largest, row.scale);
    return row.factor > 0 ? k : ACT_LEAST;
}

/* Four of the 32 columns of a block as int8; seven neighbouring lanes have the others. */
struct narrow_four {
    uint32_t codes;
    float base, total; /* the block's, in all eight lanes */
};

static __device__ __forceinline__ narrow_four quantize_four(const float (&v)[4],
                                                            const row_scale &row)
{
    float sum;
    int k = power_of(warp_max(largest_of(v, 0), 8), row);
    uint32_t codes = codes_of(v, row, power_of_two(-k), &sum);
    return {codes, activation_base(k), __fmul_rn(warp_sum(sum, 8), power_of_two(k))};
}

/* The index of a token's block of 32 columns in the narrow forms of activations. */
static __device__ __forceinline__ size_t cell_index(const device_rows &x, int token, int block)
{
    return ((size_t)(token / TILE_TOKENS) * x.blocks + block) * TILE_TOKENS + token % TILE_TOKENS;
}

/* ---- tiles and slices of matrices -------------------------------------------------------- */

/* A tile of one of a linear's matrices. */
struct tile_index {
    int matrix, tile;
};

static __host__ __device__ inline int tiles_of(const device_linear &l)
{
    int tiles = 0;
    for (int i = 0; i < l.n; i++)
        tiles += l.m[i].tiles;
    return tiles;
}

/* Tiles count on from matrix to matrix; matrix n: no such tile. */
static __device__ __forceinline__ void carry_tile(const device_linear &l, tile_index &at)
{
    while (at.matrix < l.n && at.tile >= l.m[at.matrix].tiles)
        at.tile -= l.m[at.matrix++].tiles;
}

/* The blocks of columns of a warp's slice. */
struct block_range {
    int first, end;
};

static __device__ __forceinline__ block_range find_slice(const device_matrix &m)
{
    int first = warp_index() * m.slice, end = first + m.slice;
    return {first, end < m.blocks ? end : m.blocks};
}

/* The sum over slices, in ascending order, for a row and token. partials: [slices][apart]. */
template <int most>
static __device__ __forceinline__ float add_up(const float *partials, int slices, int apart)
{
    float y = partials[0], of_slice[MAX_SLICES];
#pragma unroll
    for (int slice = 1; slice < MAX_SLICES; slice++)
        of_slice[slice] = slice < most || slice < slices ? partials[slice * apart] : 0;
#pragma unroll
    for (int slice = 1; slice < MAX_SLICES; slice++)
        y = slice < most || slice < slices ? __fadd_rn(y, of_slice[slice]) : y;
    return y;
}

static __device__ __forceinline__ float add_slices(const float *partials, int slices, int apart)
{
    return slices == MAX_SLICES ? add_up<MAX_SLICES>(partials, slices, apart)
                                : add_up<1>(partials, slices, apart);
}

enum { RESERVED = 1024 }; /* bytes of a thread block's shared memory that CUDA keeps */

/* Shared memory of a thread block so that a multiprocessor takes `each` of them and no more, which
 * would leave others with fewer. Allocated by 128 bytes. */
static inline size_t own_share(size_t needed, int each, size_t shared_bytes)
{
    size_t least = (shared_bytes + RESERVED) / (each + 1) - RESERVED + 128;
    return needed < least && least <= shared_bytes ? least : needed;
}

/* Where a unit of a row's block of columns lies. */
static __device__ __forceinline__ const uint8_t *unit_of(const device_matrix &m, int units, int row,
                                                         int block, int unit)
{
    size_t index = (size_t)(row / TILE_ROWS) * m.padded_blocks + block;
    return m.units + ((index * units + unit) * TILE_ROWS + row % TILE_ROWS) * UNIT_BYTES;
}

/* The index of the scales of a row's quad of blocks, in quads of the matrix. */
static __device__ __forceinline__ size_t quad_index(const device_matrix &m, int row, int block)
{
    size_t tile = row / TILE_ROWS;
    return (tile * (m.padded_blocks / QUAD) + block / QUAD) * TILE_ROWS + row % TILE_ROWS;
}

/* ---- tensor cores ------------------------------------------------------------------------ */

enum { FRAGMENTS = 2 }; /* of 16 rows, a tile of the matrix */

template <int tiles>
static __device__ __forceinline__ void clear(float (&sums)[FRAGMENTS][tiles][4])
{
#pragma unroll
    for (int k = 0; k < FRAGMENTS; k++)
        for (int tile = 0; tile < tiles; tile++)
            for (int j = 0; j < 4; j++)
                sums[k][tile][j] = 0;
}

/* The narrow activations for a matrix of groups, or one in bf16. */
static __device__ __forceinline__ const void *narrow_of(const device_rows &x, bool grouped)
{
    return grouped ? (const void *)x.codes : (const void *)x.bf16;
}

/* The row's place in a block's [units][TILE_ROWS] units in shared memory: permuted so that lanes of
 * different units read from different banks. */
template <int units> static __device__ __forceinline__ int dealt(int row, int unit)
{
    return row ^ unit * (8 / units);
}

/* ---- floats as they are stored ----------------------------------------------------------- */

/* The weights of a unit: f32, */
static __device__ __forceinline__ void unit_floats(uint4 unit, float *w)
{
    w[0] = __uint_as_float(unit.x);
    w[1] = __uint_as_float(unit.y);
    w[2] = __uint_as_float(unit.z);
    w[3] = __uint_as_float(unit.w);
}

/* f16 or bf16. */
template <matrix_form form> static __device__ __forceinline__ void unit_halves(uint4 unit, float *w)
{
    uint32_t pairs[4] = {unit.x, unit.y, unit.z, unit.w};
#pragma unroll
    for (int i = 0; i < 8; i++) {
        uint32_t half = pairs[i / 2] >> (i % 2 * 16) & 65535;
        w[i] = form == MATRIX_F16 ? f16_to_float(half) : bf16_to_float(half);
    }
}

/* ---- codes ------------------------------------------------------------------------------- */

/* Four codes of 4 bits to levels: looked up in both halves of the codebook, then chosen by their
 * upper bits. */
static __device__ __forceinline__ uint32_t look_up(const uint32_t (&codebook)[4], uint32_t codes,
                                                   uint32_t turned, uint32_t choice)
{
    return permute(permute(codebook[0], codebook[1], codes),
                   permute(codebook[2], codebook[3], turned), choice);
}

/* Eight codes, the lower ones first. */
static __device__ __forceinline__ uint2 look_up_eight(const uint32_t (&codebook)[4], uint32_t codes)
{
    uint32_t turned = codes ^ 0x88888888;
    uint32_t choice = ((codes & 0x88888888) >> 1) + 0x32103210;
    return {look_up(codebook, codes, turned, choice),
            look_up(codebook, codes >> 16, turned >> 16, choice >> 16)};
}

/* An int8 to a float without a conversion, which is slow: the byte + 128 becomes the lowest byte of
 * a float around 2^23, where floats are 1 apart. */
enum : uint32_t { TURN_BYTES = 0x80808080 };

static __device__ __forceinline__ float byte_to_float(uint32_t turned, int i)
{
    const uint32_t zero = 0x4b000000; /* 2^23 */
    return __fsub_rn(__uint_as_float(permute(turned, zero, 0x7440 | (uint32_t)i)), 0x1p23f + 128);
}

/* Scales and offsets of a row's quad of groups, as stored: int8 without offsets, which we quantize
 * to, or f16 with or without offsets. An offset that isn't there is -0, which adds nothing to any
 * weight; +0 would make +0 of a weight of -0. */
const uint32_t NO_OFFSETS = 0x80008000; /* two of f16 */

template <bool halves> struct quad_numbers;

template <> struct quad_numbers<false> {
    uint32_t scales;

    __device__ __forceinline__ void load(const device_matrix &m, int row, int block)
    {
        scales = load_once((const uint32_t *)m.scales + quad_index(m, row, block));
    }
    /* Copies them in the background. */
    __device__ __forceinline__ void copy(const uint8_t *from, const uint8_t *)
    {
        copy_async<4>(&scales, from);
    }
    __device__ __forceinline__ float scale(int i) const
    {
        return byte_to_float(scales ^ TURN_BYTES, i);
    }
    __device__ __forceinline__ float offset(int) const
    {
        return -0.0f;
    }
};

template <> struct quad_numbers<true> {
    uint2 scales, offsets;

    __device__ __forceinline__ void load(const device_matrix &m, int row, int block)
    {
        size_t quad = quad_index(m, row, block);
        scales = load_once((const uint2 *)m.scales + quad);
        offsets = m.offsets != NULL ? load_once((const uint2 *)m.offsets + quad)
                                    : uint2{NO_OFFSETS, NO_OFFSETS};
    }
    __device__ __forceinline__ void copy(const uint8_t *from, const uint8_t *from_offsets)
    {
        copy_async<8>(&scales, from);
        if (from_offsets != NULL)
            copy_async<8>(&offsets, from_offsets);
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

#endif
