/*
 * dot.cu: products without tensor cores: groups for one row, floats for any number. A warp has a
 * tile of 32 rows of the matrix, a row in each lane, and one slice of the columns; a block of
 * threads has all slices of a tile.
 */
#include "backend/cuda/common.cuh"

/* The matrix and tile of a block of threads. */
struct place {
    int matrix, tile;
};

static __device__ __forceinline__ int tiles_of(const device_matrix &m)
{
    return (m.rows + TILE_ROWS - 1) / TILE_ROWS;
}

static __device__ __forceinline__ place find_place(const device_linear &l)
{
    place at = {0, (int)blockIdx.x};
    while (at.tile >= tiles_of(l.m[at.matrix]))
        at.tile -= tiles_of(l.m[at.matrix++]);
    return at;
}

static dim3 grid_of(const device_linear &l, int n_rows)
{
    int tiles = 0;
    for (int i = 0; i < l.n; i++)
        tiles += (l.m[i].rows + TILE_ROWS - 1) / TILE_ROWS;
    return dim3(tiles, n_rows);
}

/* The sum over slices, in ascending order, of a row and token; parts: [slices][apart]. */
static __device__ __forceinline__ float add_slices(const float *parts, int slices, int apart)
{
    float y = parts[0];
    for (int slice = 1; slice < slices; slice++)
        y = __fadd_rn(y, parts[slice * apart]);
    return y;
}

/* ---- groups ------------------------------------------------------------------------------ */

/* The codes of a group as they are loaded. */
template <int units> struct group_codes {
    uint4 unit[units];
};

template <int units>
static __device__ __forceinline__ group_codes<units> load_codes(const device_matrix &m, int row,
                                                                int block)
{
    group_codes<units> codes;
    for (int i = 0; i < units; i++)
        codes.unit[i] = load_once((const uint4 *)unit_of(m, units, row, block, i));
    return codes;
}

/* Eight codes of 4 bits. permute() finds the bytes of eight levels by the lower three bits of a
 * nibble; where the upper one is set it gives the byte's sign instead, 0 or -1 in all bits. So a
 * lookup in the lower levels adds -1 for every code of the upper half if those are negative, and
 * the upper levels are taken 1 larger then; a lookup there, upper bits turned round, adds 0 for
 * every code of the lower half, since they are positive. */
static __device__ __forceinline__ int dot_nibbles(uint32_t codes, uint32_t x0, uint32_t x1,
                                                  const uint32_t (&levels)[4], int sum)
{
    uint32_t turned = codes ^ 0x88888888;
    sum = dot4(permute(levels[0], levels[1], codes), x0, sum);
    sum = dot4(permute(levels[2], levels[3], turned), x0, sum);
    sum = dot4(permute(levels[0], levels[1], codes >> 16), x1, sum);
    return dot4(permute(levels[2], levels[3], turned >> 16), x1, sum);
}

/* The products of a group, on top of sum. x: its 32 activations. */
static __device__ __forceinline__ int dot_group(const group_codes<1> &w, const uint4 (&x)[2],
                                                const uint32_t (&levels)[4], int sum)
{
    sum = dot_nibbles(w.unit[0].x, x[0].x, x[0].y, levels, sum);
    sum = dot_nibbles(w.unit[0].y, x[0].z, x[0].w, levels, sum);
    sum = dot_nibbles(w.unit[0].z, x[1].x, x[1].y, levels, sum);
    return dot_nibbles(w.unit[0].w, x[1].z, x[1].w, levels, sum);
}

static __device__ __forceinline__ int dot_group(const group_codes<2> &w, const uint4 (&x)[2],
                                                const uint32_t (&)[4], int sum)
{
    for (int i = 0; i < 2; i++) {
        sum = dot4(w.unit[i].x, x[i].x, sum);
        sum = dot4(w.unit[i].y, x[i].y, sum);
        sum = dot4(w.unit[i].z, x[i].z, sum);
        sum = dot4(w.unit[i].w, x[i].w, sum);
    }
    return sum;
}

/* A slice of a row times token 0. Codes are on their way QUAD groups ahead, scales as far. */
template <int units, bool halves>
static __device__ float dot_slice(const device_matrix &m, const device_rows &x, int row, int first,
                                  int end)
{
    uint32_t levels[4] = {m.levels[0], m.levels[1], m.levels[2] + m.above, m.levels[3] + m.above};
    group_codes<units> codes[QUAD];
    quad_numbers<halves> numbers, next;
    float y = 0;

    next.load(m, row, first);
#pragma unroll
    for (int i = 0; i < QUAD; i++)
        if (first + i < end)
            codes[i] = load_codes<units>(m, row, first + i);
    for (int block = first; block < end; block += QUAD) {
        numbers = next;
        if (block + QUAD < end)
            next.load(m, row, block + QUAD);
#pragma unroll
        for (int i = 0; i < QUAD; i++) {
            if (block + i >= end)
                break;
            size_t cell = cell_index(x, 0, block + i);
            const uint4 *in = (const uint4 *)(x.codes + cell * BLOCK_COLS);
            const uint4 xs[2] = {in[0], in[1]};
            float base = x.bases[cell];
            int sum = dot_group(codes[i], xs, levels, __float_as_int(base));
            if (block + QUAD + i < end)
                codes[i] = load_codes<units>(m, row, block + QUAD + i);
            y = __fmaf_rn(__fsub_rn(__int_as_float(sum), base), numbers.scale(i), y);
            if (halves && m.offsets != NULL)
                y = __fmaf_rn(numbers.offset(i), x.totals[cell], y);
        }
    }
    return y;
}

template <int units, bool halves>
static __global__ void __launch_bounds__(WARP *MAX_SLICES, 2)
    dot_kernel(const __grid_constant__ device_linear l)
{
    float *parts = (float *)shared_memory(); /* [slices][WARP] */
    place at = find_place(l);
    const device_matrix &m = l.m[at.matrix];
    int each = m.slice, row = at.tile * TILE_ROWS + lane_index();
    int first = warp_index() * each, end = first + each < m.blocks ? first + each : m.blocks;

    parts[threadIdx.x] = dot_slice<units, halves>(m, l.x, row, first, end);
    __syncthreads();
    if (warp_index() == 0 && row < m.rows) {
        float y = add_slices(parts + lane_index(), (int)blockDim.x / WARP, WARP);
        l.y[at.matrix][row] = __fmul_rn(__fmul_rn(y, m.row_scales[row]), l.x.scales[0]);
    }
}

void device_linear_one(cudaStream_t stream, const device_linear *l)
{
    static void (*const kernels[2][2])(device_linear) = {
        {dot_kernel<1, false>, dot_kernel<1, true>}, {dot_kernel<2, false>, dot_kernel<2, true>}};
    int threads = WARP * slice_count(l->x.blocks);
    launch(stream, grid_of(*l, 1), threads, threads * sizeof(float),
           kernels[l->m[0].form == MATRIX_INT8][l->m[0].half_scales], *l);
}

/* ---- floats ------------------------------------------------------------------------------ */

enum { FLOAT_TOKENS = 8 };

/* The weights of a unit as floats. */
static __device__ __forceinline__ void unit_floats(uint4 unit, float (&w)[4])
{
    w[0] = __uint_as_float(unit.x);
    w[1] = __uint_as_float(unit.y);
    w[2] = __uint_as_float(unit.z);
    w[3] = __uint_as_float(unit.w);
}

static __device__ __forceinline__ void unit_floats(uint4 unit, float (&w)[8])
{
    uint32_t pairs[4] = {unit.x, unit.y, unit.z, unit.w};
    for (int i = 0; i < 4; i++) {
        w[2 * i] = f16_to_float(pairs[i] & 65535);
        w[2 * i + 1] = f16_to_float(pairs[i] >> 16);
    }
}

/* A unit holds `n` weights. Padded columns are zeros in the matrix, and whatever in x. */
template <int n, int tokens>
static __device__ void dot_floats(const device_matrix &m, const float *const (&x)[tokens], int row,
                                  int first, int end, float (&y)[tokens])
{
    const int units = BLOCK_COLS / n;
    for (int block = first; block < end; block++)
        for (int unit = 0; unit < units; unit++) {
            float w[n];
            int col = block * BLOCK_COLS + unit * n;
            if (col >= m.cols)
                return;
            unit_floats(load_once((const uint4 *)unit_of(m, units, row, block, unit)), w);
#pragma unroll
            for (int token = 0; token < tokens; token++)
                for (int i = 0; i < n; i += 4) {
                    float4 in = *(const float4 *)(x[token] + col + i);
                    float xs[4] = {in.x, in.y, in.z, in.w};
                    for (int j = 0; j < 4; j++)
                        if (col + i + j < m.cols)
                            y[token] = __fmaf_rn(w[i + j], xs[j], y[token]);
                }
        }
}

template <int n, int tokens>
static __global__ void __launch_bounds__(WARP *MAX_SLICES)
    floats_kernel(const __grid_constant__ device_linear l)
{
    float *parts = (float *)shared_memory(); /* [slices][tokens][WARP] */
    place at = find_place(l);
    const device_matrix &m = l.m[at.matrix];
    int each = m.slice, slices = (int)blockDim.x / WARP;
    int row = at.tile * TILE_ROWS + lane_index(), token = (int)blockIdx.y * tokens;
    int first = warp_index() * each, end = first + each < m.blocks ? first + each : m.blocks;
    const float *x[tokens];
    float y[tokens];

    for (int i = 0; i < tokens; i++) {
        x[i] = l.x.values + (size_t)(token + i < l.n_rows ? token + i : token) * l.x.stride;
        y[i] = 0;
    }
    dot_floats<n, tokens>(m, x, row, first, end, y);
    for (int i = 0; i < tokens; i++)
        parts[(warp_index() * tokens + i) * WARP + lane_index()] = y[i];
    __syncthreads();
    for (int i = warp_index(); i < tokens; i += slices)
        if (row < m.rows && token + i < l.n_rows)
            l.y[at.matrix][(size_t)(token + i) * l.y_stride[at.matrix] + row] =
                add_slices(parts + i * WARP + lane_index(), slices, tokens * WARP);
}

template <int n> static void launch_floats(cudaStream_t stream, const device_linear &l)
{
    int threads = WARP * slice_count(l.x.blocks);
    if (l.n_rows == 1)
        launch(stream, grid_of(l, 1), threads, threads * sizeof(float), floats_kernel<n, 1>, l);
    else
        launch(stream, grid_of(l, (l.n_rows + FLOAT_TOKENS - 1) / FLOAT_TOKENS), threads,
               threads * FLOAT_TOKENS * sizeof(float), floats_kernel<n, FLOAT_TOKENS>, l);
}

void device_linear_floats(cudaStream_t stream, const device_linear *l)
{
    if (l->m[0].form == MATRIX_F32)
        launch_floats<4>(stream, *l);
    else
        launch_floats<8>(stream, *l);
}
