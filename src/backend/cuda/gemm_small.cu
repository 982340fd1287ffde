/* SPDX-License-Identifier: MIT */
/*
 * gemm_small.cu: products of a few rows on tensor cores: groups in int8, bf16 weights in bf16. A
 * warp multiplies a tile of 32 rows of the matrix, two fragments of 16, with up to four tiles of 8
 * tokens, in one slice of the columns. A thread block has all slices of a tile.
 *
 * Reading the matrix is the limit. So, as in gemv.cu, there are as many thread blocks as run at
 * once, each goes from tile to tile, and a warp prefetches its next stages into a ring in shared
 * memory: weights already while the kernel before this one ends. Activations stay in shared memory
 * from the first tile on if a slice of them fits; otherwise they are copied again for every tile.
 *
 * An mma may take the columns of a block in any order, if it is the same for both operands: lane 4
 * g + t takes eight consecutive ones of row g and of token g, 8 t .. 8 t + 7.
 */
#include "backend/cuda/common.cuh"

enum {
    MOST_TILES = 4, /* of tokens, that a thread block multiplies at once */
    CELL_NUMBERS = TILE_TOKENS * (int)sizeof(float), /* bytes of a cell's bases, or totals */
    PARTIAL_BYTES = TILE_TOKENS * TILE_ROWS * (int)sizeof(float),
    /* Stages of weights in shared memory: one is in use, the others are being copied. */
    LEAST_RING = 2,
    GOOD_RING = 3,
    MOST_RING = 6
};

struct gemm_small {
    device_linear linear;
    float *maxima; /* as device_linear_gemm_small has it */
    int ring;
    bool held; /* activations of the whole slice stay in shared memory; else they have a ring too */
};

/* ---- number formats ---------------------------------------------------------------------- */

/* UNITS: of a row's block; MMAS: that multiply it. */

/* Of a row's group. */
struct row_factors {
    float scale, offset;
};

template <int mmas, bool halves> struct small_groups {
    enum { GROUPED = 1, HALVES = halves, TOKEN_BYTES = BLOCK_COLS, MMAS = mmas };
    enum { NUMBERS = sizeof(quad_numbers<halves>) };
    typedef uint2 right;

    /* Scales and offsets of a lane's rows, of block i of a quad. */
    static __device__ __forceinline__ void take_factors(const uint8_t *numbers, int i,
                                                        bool with_offsets,
                                                        row_factors (&out)[FRAGMENTS][2])
    {
        for (int f = 0; f < FRAGMENTS; f++)
            for (int half = 0; half < 2; half++) {
                int row = 16 * f + 8 * half + lane_index() / 4;
                const quad_numbers<halves> &n = ((const quad_numbers<halves> *)numbers)[row];
                out[f][half].scale = n.scale(i);
                out[f][half].offset = halves && with_offsets ? n.offset(i) : 0;
            }
    }

    /* sums += the products of a fragment with 8 tokens. */
    static __device__ __forceinline__ void multiply(float (&sums)[4], const uint32_t (&w)[mmas][4],
                                                    right x, float2 base, float2 total,
                                                    const row_factors (&of)[2], bool with_offsets)
    {
        const int start[4] = {__float_as_int(base.x), __float_as_int(base.y),
                              __float_as_int(base.x), __float_as_int(base.y)};
        int d[4];
        mma_s8(d, w[0], x.x, x.y, start);
        if (mmas == 2)
            mma_s8(d, w[mmas - 1], x.x, x.y, d);
#pragma unroll
        for (int j = 0; j < 4; j++) {
            float product = __fsub_rn(__int_as_float(d[j]), j % 2 == 0 ? base.x : base.y);
            sums[j] = __fmaf_rn(product, of[j / 2].scale, sums[j]);
        }
        if (halves && with_offsets)
#pragma unroll
            for (int j = 0; j < 4; j++)
                sums[j] = __fmaf_rn(of[j / 2].offset, j % 2 == 0 ? total.x : total.y, sums[j]);
    }
};

/* One product for the lower levels and one for the upper ones. Codes of the other half add 0, or -1
 * where the upper levels are 1 larger (see dot_nibbles in gemv.cu). */
template <bool halves> struct small_int4 : small_groups<2, halves> {
    enum { UNITS = 1 };
    uint32_t codebook[4];

    __device__ __forceinline__ explicit small_int4(const device_matrix &m)
    {
        for (int i = 0; i < 4; i++)
            codebook[i] = m.codebook[i];
    }

    __device__ __forceinline__ void take(const uint4 *units, int row, uint32_t (&w)[2][4]) const
    {
        for (int half = 0; half < 2; half++) {
            uint32_t codes = ((const uint32_t *)(units + row + 8 * half))[lane_index() % 4];
            uint32_t turned = codes ^ 0x88888888;
            w[0][half] = permute(codebook[0], codebook[1], codes);
            w[0][half + 2] = permute(codebook[0], codebook[1], codes >> 16);
            w[1][half] = permute(codebook[2], codebook[3], turned);
            w[1][half + 2] = permute(codebook[2], codebook[3], turned >> 16);
        }
    }
};

template <bool halves> struct small_int8 : small_groups<1, halves> {
    enum { UNITS = 2 };

    __device__ __forceinline__ explicit small_int8(const device_matrix &)
    {
    }

    __device__ __forceinline__ void take(const uint4 *units, int row, uint32_t (&w)[1][4]) const
    {
        int t = lane_index() % 4, unit = t / 2;
        for (int half = 0; half < 2; half++) {
            const uint4 *from = units + unit * WARP + dealt<UNITS>(row + 8 * half, unit);
            uint2 codes = ((const uint2 *)from)[t % 2];
            w[0][half] = codes.x;
            w[0][half + 2] = codes.y;
        }
    }
};

struct small_bf16 {
    enum { GROUPED = 0, HALVES = 0, TOKEN_BYTES = 2 * BLOCK_COLS, MMAS = 2, NUMBERS = 0 };
    enum { UNITS = 4 };
    typedef uint4 right;

    __device__ __forceinline__ explicit small_bf16(const device_matrix &)
    {
    }

    __device__ __forceinline__ void take(const uint4 *units, int row, uint32_t (&w)[2][4]) const
    {
        int unit = lane_index() % 4;
        for (int half = 0; half < 2; half++) {
            uint4 pairs = units[unit * WARP + dealt<UNITS>(row + 8 * half, unit)];
            w[0][half] = pairs.x;
            w[0][half + 2] = pairs.y;
            w[1][half] = pairs.z;
            w[1][half + 2] = pairs.w;
        }
    }

    static __device__ __forceinline__ void take_factors(const uint8_t *, int, bool,
                                                        row_factors (&)[FRAGMENTS][2])
    {
    }

    static __device__ __forceinline__ void multiply(float (&sums)[4], const uint32_t (&w)[2][4],
                                                    right x, float2, float2,
                                                    const row_factors (&)[2], bool)
    {
        mma_bf16(sums, w[0], x.x, x.y);
        mma_bf16(sums, w[1], x.z, x.w);
    }
};

/* ---- what lies in shared memory ---------------------------------------------------------- */

/* A stage of the pipeline: so many units of every row, a whole number of blocks; and their
 * activations. */
template <typename f, int tiles, int units> struct small_stage {
    typedef f format;
    enum {
        TILES = tiles,
        UNITS = units,
        BLOCKS = units / format::UNITS,
        CELLS = tiles * BLOCKS, /* a cell is a block of columns of 8 tokens */
        /* Bytes of weights: [units][WARP], and the quad's scales and offsets; */
        CODES = units * WARP * UNIT_BYTES,
        WEIGHTS = CODES + WARP * format::NUMBERS,
        /* of activations: [tiles][BLOCKS] cells, bases, and totals. */
        CELL = TILE_TOKENS * format::TOKEN_BYTES,
        BASES = CELLS * CELL,
        TOTALS = BASES + format::GROUPED * CELLS * CELL_NUMBERS,
        INPUTS = TOTALS + format::HALVES * CELLS * CELL_NUMBERS,
        /* Tiles of tokens whose sums are added at once: as many as shared memory allows. */
        AT_ONCE = tiles <= 2 ? tiles : 1,
        /* Fits into the shared memory of every device. */
        SMALLEST = tiles == 1 && units * format::GROUPED <= 2
    };
    typedef float sums[FRAGMENTS][tiles][4];
};

/* Stages of so many blocks. Of groups whole quads, as the matrix is padded to these. */
template <typename stage> static __host__ __device__ __forceinline__ int stages_of(int blocks)
{
    return stage::format::GROUPED ? (blocks + QUAD - 1) / QUAD * (QUAD / stage::BLOCKS) : blocks;
}

/* Bytes of a warp's stages: weights, and activations. */
template <typename stage>
static __host__ __device__ __forceinline__ int weights_of(const gemm_small &f)
{
    return f.ring * stage::WEIGHTS;
}

template <typename stage>
static __host__ __device__ __forceinline__ int inputs_of(const gemm_small &f)
{
    return (f.held ? stages_of<stage>(f.linear.m[0].slice) : f.ring) * stage::INPUTS;
}

/* Bytes of a thread block: its warps' stages, then struct shared_sums. */
template <typename stage> static size_t small_shared(const gemm_small &f, int slices)
{
    size_t of_warp = weights_of<stage>(f) + inputs_of<stage>(f) + stage::AT_ONCE * PARTIAL_BYTES;
    return slices * of_warp + stage::TILES * TILE_TOKENS * sizeof(float) +
           (f.maxima != NULL ? stage::TILES * PARTIAL_BYTES : 0);
}

struct shared_sums {
    float *partials; /* [slices][AT_ONCE][TILE_TOKENS][TILE_ROWS] */
    float *scales;   /* [TILES][TILE_TOKENS] */
    float *gates;    /* [TILES][TILE_TOKENS][TILE_ROWS] */
};

template <typename stage>
static __device__ __forceinline__ shared_sums find_sums(const gemm_small &f)
{
    int slices = (int)blockDim.x / WARP;
    shared_sums r;
    r.partials = (float *)(shared_memory() + slices * (weights_of<stage>(f) + inputs_of<stage>(f)));
    r.scales = r.partials + slices * stage::AT_ONCE * TILE_TOKENS * TILE_ROWS;
    r.gates = r.scales + stage::TILES * TILE_TOKENS;
    return r;
}

/* A warp's slice, and its shared memory. */
struct warp_task {
    int first, stages; /* of the slice: first block, and number */
    uint8_t *weights, *inputs;
};

template <typename stage> static __device__ __forceinline__ warp_task find_task(const gemm_small &f)
{
    block_range s = find_slice(f.linear.m[0]);
    int weights = weights_of<stage>(f), inputs = inputs_of<stage>(f);
    uint8_t *behind = shared_memory() + blockDim.x / WARP * weights;
    return {s.first, stages_of<stage>(s.end - s.first), shared_memory() + warp_index() * weights,
            behind + warp_index() * inputs};
}

/* The thread block's tile number `item`; matrix n: no such tile. Gated matrices alternate: a tile
 * of the first, then the same of the second. */
static __device__ __forceinline__ tile_index tile_of(const gemm_small &f, int item)
{
    const device_linear &l = f.linear;
    bool paired = f.maxima != NULL;
    tile_index at = {0, (int)(blockIdx.x + (paired ? item / 2 : item) * gridDim.x)};
    if (paired)
        at.matrix = at.tile < l.m[0].tiles ? item % 2 : l.n;
    else
        carry_tile(l, at);
    return at;
}

/* The thread block's first token. */
template <typename stage> static __device__ __forceinline__ int first_token()
{
    return (int)blockIdx.y * stage::TILES * TILE_TOKENS;
}

/* ---- on their way ------------------------------------------------------------------------ */

/* What a warp copies next: a stage of a tile to a slot of the ring; and where the lane's weights
 * are. */
struct stage_cursor {
    int item, stage, slot;
    bool there;
    const uint8_t *units, *scales, *offsets;
};

template <typename stage>
static __device__ __forceinline__ void begin_tile(const gemm_small &f, const warp_task &t,
                                                  stage_cursor &c)
{
    const int number_bytes = stage::format::HALVES ? 8 : 4;
    tile_index at = tile_of(f, c.item);
    c.stage = 0;
    c.there = at.matrix < f.linear.n;
    if (!c.there)
        return;
    const device_matrix &m = f.linear.m[at.matrix];
    size_t block = (size_t)at.tile * m.padded_blocks + t.first;
    size_t number = (block / QUAD * WARP + lane_index()) * number_bytes;
    c.units = m.units + (block * stage::format::UNITS * WARP + lane_index()) * UNIT_BYTES;
    c.scales = m.scales + number;
    c.offsets = m.offsets != NULL ? m.offsets + number : NULL;
}

template <typename stage>
static __device__ __forceinline__ void go_on(const gemm_small &f, const warp_task &t,
                                             stage_cursor &c)
{
    c.slot = c.slot + 1 < f.ring ? c.slot + 1 : 0;
    c.units += stage::CODES;
    if (++c.stage == t.stages) {
        c.item++;
        begin_tile<stage>(f, t, c);
    }
}

template <typename stage>
static __device__ __forceinline__ void copy_weights(const warp_task &t, const stage_cursor &c)
{
    const int units = stage::format::UNITS, number_bytes = stage::format::HALVES ? 8 : 4;
    if (!c.there)
        return;
    uint8_t *to = t.weights + c.slot * stage::WEIGHTS;
#pragma unroll
    for (int i = 0; i < stage::UNITS; i++)
        copy_async((uint4 *)to + i * WARP + dealt<units>(lane_index(), i % units),
                   c.units + i * WARP * UNIT_BYTES);
    if (stage::format::GROUPED) {
        int number = c.stage * stage::BLOCKS / QUAD * WARP * number_bytes;
        ((quad_numbers<stage::format::HALVES != 0> *)(to + stage::CODES))[lane_index()].copy(
            c.scales + number, c.offsets != NULL ? c.offsets + number : NULL);
    }
}

/* Where the lane's activations are, of block 0 of each tile of tokens. All lanes copy the cells of
 * each tile; bases and totals of all tiles are shared out among the lanes. Beyond the last tile the
 * last one is copied again; its sums are not used. */
template <typename stage> struct input_source {
    enum {
        UNITS = stage::CELL / UNIT_BYTES, /* of a cell, */
        NUMBERS = CELL_NUMBERS / UNIT_BYTES,
        OF_TILE = stage::BLOCKS * NUMBERS /* units of numbers */
    };
    const uint8_t *cells[stage::TILES], *bases, *totals;
    int last; /* block */
};

template <typename stage>
static __device__ __forceinline__ input_source<stage> find_inputs(const device_linear &l)
{
    typedef input_source<stage> source;
    int tiles = (l.n_rows + TILE_TOKENS - 1) / TILE_TOKENS;
    int first = first_token<stage>() / TILE_TOKENS, mine = first + lane_index() / source::OF_TILE;
    const uint8_t *from = (const uint8_t *)narrow_of(l.x, stage::format::GROUPED);
    size_t number = (size_t)(mine < tiles ? mine : tiles - 1) * l.x.blocks * CELL_NUMBERS;
    source s;
    for (int i = 0; i < stage::TILES; i++) {
        int tile = first + i < tiles ? first + i : tiles - 1;
        s.cells[i] = from + (size_t)tile * l.x.blocks * stage::CELL;
    }
    s.bases = (const uint8_t *)l.x.bases + number;
    s.totals = (const uint8_t *)l.x.totals + number;
    s.last = l.x.blocks - 1;
    return s;
}

/* The offset of unit `unit` in elements of `bytes`, from number `block` on. Beyond the last block
 * the last one is used again: the matrix has zeros there. */
template <int bytes>
static __device__ __forceinline__ int unit_offset(int block, int last, int unit)
{
    int at = block * bytes + unit * UNIT_BYTES;
    int most = last * bytes + unit % (bytes / UNIT_BYTES) * UNIT_BYTES;
    return at < most ? at : most;
}

template <typename stage>
static __device__ __forceinline__ void copy_inputs(const gemm_small &f, const warp_task &t,
                                                   const input_source<stage> &s,
                                                   const stage_cursor &c)
{
    typedef input_source<stage> source;
    const int units = stage::BLOCKS * source::UNITS;
    if (f.held ? c.item > 0 : !c.there)
        return;
    uint8_t *to = t.inputs + (f.held ? c.stage : c.slot) * stage::INPUTS;
    int block = t.first + c.stage * stage::BLOCKS;
#pragma unroll
    for (int tile = 0; tile < stage::TILES; tile++)
        for (int at = 0; at < units; at += WARP) {
            int unit = at + lane_index();
            if (unit < units)
                copy_async(to + tile * stage::BLOCKS * stage::CELL + unit * UNIT_BYTES,
                           s.cells[tile] + unit_offset<stage::CELL>(block, s.last, unit));
        }
    if (!stage::format::GROUPED || lane_index() >= stage::TILES * source::OF_TILE)
        return;
    int from = unit_offset<CELL_NUMBERS>(block, s.last, lane_index() % source::OF_TILE);
    copy_async(to + stage::BASES + lane_index() * UNIT_BYTES, s.bases + from);
    if (stage::format::HALVES && f.linear.m[0].offsets != NULL)
        copy_async(to + stage::TOTALS + lane_index() * UNIT_BYTES, s.totals + from);
}

/* Waits until the next stage has been copied for all lanes, and all have finished the one before.
 * */
static __device__ __forceinline__ void wait_for_stage(int ring)
{
    if (ring == GOOD_RING)
        copy_wait<1>();
    else if (ring == 4)
        copy_wait<2>();
    else if (ring == 5)
        copy_wait<3>();
    else if (ring == MOST_RING)
        copy_wait<4>();
    else
        copy_wait<0>();
    __syncwarp();
}

/* ---- products ---------------------------------------------------------------------------- */

/* A lane's two of a cell's numbers. */
static __device__ __forceinline__ float2 of_tokens(const uint8_t *numbers, int cell)
{
    return ((const float2 *)(numbers + cell * CELL_NUMBERS))[lane_index() % 4];
}

/* Multiplies a stage, whose first block is number `first` of its quad. */
template <typename stage>
static __device__ __forceinline__ void multiply_stage(const typename stage::format &f,
                                                      const uint8_t *weights, const uint8_t *inputs,
                                                      int first, bool with_offsets,
                                                      typename stage::sums &sums)
{
#pragma unroll(stage::TILES <= 2 ? stage::BLOCKS : 1)
    for (int i = 0; i < stage::BLOCKS; i++) {
        uint32_t w[FRAGMENTS][stage::format::MMAS][4];
        row_factors of[FRAGMENTS][2];
        for (int k = 0; k < FRAGMENTS; k++)
            f.take((const uint4 *)weights + i * stage::format::UNITS * WARP,
                   16 * k + lane_index() / 4, w[k]);
        stage::format::take_factors(weights + stage::CODES, first + i, with_offsets, of);
#pragma unroll
        for (int tile = 0; tile < stage::TILES; tile++) {
            int cell = tile * stage::BLOCKS + i;
            typename stage::format::right x = ((
                const typename stage::format::right *)(inputs + cell * stage::CELL))[lane_index()];
            float2 base = {0, 0}, total = {0, 0};
            if (stage::format::GROUPED)
                base = of_tokens(inputs + stage::BASES, cell);
            if (stage::format::HALVES && with_offsets)
                total = of_tokens(inputs + stage::TOTALS, cell);
            for (int k = 0; k < FRAGMENTS; k++)
                stage::format::multiply(sums[k][tile], w[k], x, base, total, of[k], with_offsets);
        }
    }
}

/* Multiplies a slice of a tile. c is ahead by the stages that are being copied. Returns the scale
 * of the lane's row, loaded early. */
template <typename stage>
static __device__ __forceinline__ float multiply_slice(const gemm_small &f, const warp_task &t,
                                                       const input_source<stage> &inputs,
                                                       const tile_index &of, stage_cursor &c,
                                                       typename stage::sums &sums)
{
    const device_matrix &m = f.linear.m[of.matrix];
    const typename stage::format format(m);
    bool with_offsets = stage::format::HALVES && m.offsets != NULL;
    float row_scale = 0;

    if (stage::format::GROUPED)
        row_scale = m.row_scales[of.tile * TILE_ROWS + lane_index()];
    clear<stage::TILES>(sums);
#pragma unroll 1
    for (int at = 0; at < t.stages; at++) {
        wait_for_stage(f.ring);
        copy_weights<stage>(t, c);
        copy_inputs<stage>(f, t, inputs, c);
        copy_commit();
        go_on<stage>(f, t, c);
        /* c's slot is now the oldest stage's. */
        multiply_stage<stage>(format, t.weights + c.slot * stage::WEIGHTS,
                              t.inputs + (f.held ? at : c.slot) * stage::INPUTS,
                              at * stage::BLOCKS % QUAD, with_offsets, sums);
    }
    return row_scale;
}

/* ---- sums -------------------------------------------------------------------------------- */

/* The index of a sum in [TILE_TOKENS][TILE_ROWS]. Eights of rows are permuted so that neither
 * writes nor reads have bank conflicts. */
static __device__ __forceinline__ int partial_index(int token, int row)
{
    return token * TILE_ROWS + (row ^ (token / 2 % 4 * 8));
}

template <typename stage>
static __device__ __forceinline__ void keep_sums(float *partial, const typename stage::sums &sums,
                                                 int first)
{
    int t = lane_index() % 4;
#pragma unroll
    for (int k = 0; k < FRAGMENTS; k++)
        for (int half = 0; half < 2; half++) {
            float *at = partial + partial_index(2 * t, 8 * (2 * k + half)) + lane_index() / 4;
            for (int i = 0; i < stage::AT_ONCE; i++)
                for (int j = 0; j < 2; j++)
                    at[(i * TILE_TOKENS + j) * TILE_ROWS] = sums[k][first + i][2 * half + j];
        }
}

/* Stores y of the lane's row and a token. */
static __device__ __forceinline__ void finish_token(const gemm_small &f, float *gate,
                                                    const tile_index &at, int token, float y)
{
    const device_linear &l = f.linear;
    int row = at.tile * TILE_ROWS + lane_index();
    size_t index = token;
    bool there = row < l.m[at.matrix].rows;

    if (f.maxima == NULL) {
        if (there)
            l.y[at.matrix][index * l.y_stride[at.matrix] + row] = y;
        return;
    }
    if (at.matrix == 0) {
        *gate = y; /* for the same lane */
        return;
    }
    float z = gated(*gate, y), largest = warp_max(there ? fabsf(z) : 0);
    if (lane_index() == 0)
        f.maxima[index * l.m[0].tiles + at.tile] = largest;
    if (there) {
        l.y[0][index * l.y_stride[0] + row] = z;
        l.y[1][index * l.y_stride[1] + row] = y;
    }
}

/* Adds the slices' sums of a tile. */
template <typename stage>
static __device__ __forceinline__ void finish_tile(const gemm_small &f, const tile_index &at,
                                                   float row_scale,
                                                   const typename stage::sums &sums)
{
    const int at_once = stage::AT_ONCE, apart = at_once * TILE_TOKENS * TILE_ROWS;
    shared_sums r = find_sums<stage>(f);
    int slices = (int)blockDim.x / WARP, n = f.linear.n_rows - first_token<stage>();
#pragma unroll
    for (int first = 0; first < stage::TILES; first += at_once) {
        __syncthreads(); /* all have read the partials before these */
        keep_sums<stage>(r.partials + warp_index() * apart, sums, first);
        __syncthreads();
        for (int i = warp_index(); i < at_once * TILE_TOKENS; i += slices) {
            int token = first * TILE_TOKENS + i;
            if (token >= n)
                break;
            float y = add_slices(r.partials + partial_index(i, lane_index()), slices, apart);
            if (stage::format::GROUPED)
                y = __fmul_rn(__fmul_rn(y, row_scale), r.scales[token]);
            finish_token(f, r.gates + token * TILE_ROWS + lane_index(), at,
                         first_token<stage>() + token, y);
        }
    }
}

template <typename stage>
static __global__ void __launch_bounds__(WARP *MAX_SLICES, 1)
    gemm_small_kernel(const __grid_constant__ gemm_small f)
{
    const device_linear &l = f.linear;
    const warp_task t = find_task<stage>(f);
    const input_source<stage> inputs = find_inputs<stage>(l);
    stage_cursor c = {0, 0, 0, false, NULL, NULL, NULL}, of_inputs;
    typename stage::sums sums;

    let_next_begin();
    begin_tile<stage>(f, t, c);
    of_inputs = c;
    for (int i = 1; i < f.ring; i++, go_on<stage>(f, t, c))
        copy_weights<stage>(t, c);
    wait_for_inputs();
    for (int i = 1; i < f.ring; i++, go_on<stage>(f, t, of_inputs)) {
        copy_inputs<stage>(f, t, inputs, of_inputs);
        copy_commit();
    }
    for (int i = (int)threadIdx.x; stage::format::GROUPED && i < stage::TILES * TILE_TOKENS;
         i += (int)blockDim.x) {
        int token = first_token<stage>() + i;
        find_sums<stage>(f).scales[i] = token < l.n_rows ? l.x.scales[token] : 0;
    }
    for (int item = 0; tile_of(f, item).matrix < l.n; item++) {
        float row_scale = multiply_slice<stage>(f, t, inputs, tile_of(f, item), c, sums);
        finish_tile<stage>(f, tile_of(f, item), row_scale, sums);
    }
}

/* ---- launches ---------------------------------------------------------------------------- */

/* False if there is not enough shared memory for such stages. */
template <typename stage>
static bool launch_small(cudaStream_t stream, gemm_small f, int processors, size_t shared_bytes)
{
    const device_linear &l = f.linear;
    const device_matrix &m = l.m[0];
    int slices = slice_count(m.blocks), n = f.maxima != NULL ? m.tiles : tiles_of(l);
    int groups = (l.n_rows + stage::TILES * TILE_TOKENS - 1) / (stage::TILES * TILE_TOKENS);
    int each = MAX_SLICES / slices, blocks; /* of a multiprocessor; of a group of tokens */
    size_t all = shared_bytes + RESERVED;
    auto shared = [&](int ring) {
        f.ring = ring;
        return small_shared<stage>(f, slices) + RESERVED;
    };

    f.held = true;
    if (n * groups <= processors || shared(GOOD_RING) > all) /* a tile in each block */
        f.held = false;
    int ring = shared(GOOD_RING) <= all ? GOOD_RING : LEAST_RING;
    if (shared(ring) > all || (ring < GOOD_RING && !stage::SMALLEST))
        return false;
    while (each > 1 && shared(ring) > all / each)
        each--;
    while (ring < MOST_RING && shared(ring + 1) <= all / each)
        ring++;
    size_t bytes = own_share(shared(ring) - RESERVED, each, shared_bytes);
    blocks = processors * each / groups > 0 ? processors * each / groups : 1;
    launch(stream, dim3(n < blocks ? n : blocks, groups), WARP * slices, bytes,
           gemm_small_kernel<stage>, f);
    return true;
}

/* Shares out tiles of tokens evenly. Large stages take less time and more memory. The bits are the
 * same for all choices. */
template <typename format>
static void choose(cudaStream_t stream, const gemm_small &f, int processors, size_t shared_bytes)
{
    const int small = format::GROUPED ? 2 : 4;
    int n = (f.linear.n_rows + TILE_TOKENS - 1) / TILE_TOKENS;
    int groups = (n + MOST_TILES - 1) / MOST_TILES, each = (n + groups - 1) / groups;
    bool (*const ways[])(cudaStream_t, gemm_small, int, size_t) = {
        launch_small<small_stage<format, 4, small>>, launch_small<small_stage<format, 3, small>>,
        launch_small<small_stage<format, 2, 4>>,     launch_small<small_stage<format, 2, small>>,
        launch_small<small_stage<format, 1, 4>>,     launch_small<small_stage<format, 1, small>>};
    int way = each == 4 ? 0 : each == 3 ? 1 : each == 2 ? 2 : 4;
    while (!ways[way](stream, f, processors, shared_bytes))
        way = way == 0 ? 2 : way + 1;
}

void device_linear_gemm_small(cudaStream_t stream, const device_linear *l, float *maxima,
                              int processors, size_t shared_bytes)
{
    gemm_small f = {*l, maxima, 0, false};
    const device_matrix &m = l->m[0];
    for (int i = 0; i < l->n; i++)
        for (int j = 2; j < 4; j++)
            f.linear.m[i].codebook[j] += l->m[i].above;
    if (m.form == MATRIX_BF16)
        choose<small_bf16>(stream, f, processors, shared_bytes);
    else if (m.form == MATRIX_INT4 && m.half_scales)
        choose<small_int4<true>>(stream, f, processors, shared_bytes);
    else if (m.form == MATRIX_INT4)
        choose<small_int4<false>>(stream, f, processors, shared_bytes);
    else if (m.half_scales)
        choose<small_int8<true>>(stream, f, processors, shared_bytes);
    else
        choose<small_int8<false>>(stream, f, processors, shared_bytes);
}
