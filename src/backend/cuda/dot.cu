/*
 * dot.cu: products without tensor cores: groups for one row, floats for any number. A warp has a
 * tile of 32 rows of the matrix, a row in each lane, and one slice of the columns; a block of
 * threads has all slices of a tile.
 *
 * One row is bound by reading the matrix as fast as memory gives it. So there are as many blocks as
 * run at once, each with tile after tile, and every warp has its next stages on their way in a ring
 * in shared memory: those of the first tile already while the kernel before this one ends. What
 * happens to the row itself every block does for itself, which takes less time than a kernel.
 */
#include "backend/cuda/common.cuh"

/* A matrix of a linear, and a tile of it. */
struct place {
    int matrix, tile;
};

static __host__ __device__ __forceinline__ int tiles_of(const device_matrix &m)
{
    return (m.rows + TILE_ROWS - 1) / TILE_ROWS;
}

static __host__ __device__ __forceinline__ int tiles_of(const device_linear &l)
{
    int tiles = 0;
    for (int i = 0; i < l.n; i++)
        tiles += tiles_of(l.m[i]);
    return tiles;
}

static __device__ __forceinline__ place find_place(const device_linear &l, int tile)
{
    place at = {0, tile};
    while (at.tile >= tiles_of(l.m[at.matrix]))
        at.tile -= tiles_of(l.m[at.matrix++]);
    return at;
}

/* A warp's blocks of columns: those of its slice. */
struct span {
    int first, end;
};

static __device__ __forceinline__ span find_slice(const device_matrix &m)
{
    int first = warp_index() * m.slice, end = first + m.slice;
    return {first, end < m.blocks ? end : m.blocks};
}

/* The sum over slices, in ascending order, of a row and token; parts: [slices][apart]. */
static __device__ __forceinline__ float add_slices(const float *parts, int slices, int apart)
{
    float y = parts[0];
    for (int slice = 1; slice < slices; slice++)
        y = __fadd_rn(y, parts[slice * apart]);
    return y;
}

/* ---- groups: products -------------------------------------------------------------------- */

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

/* The products of a group, on top of sum. w: its units; x: its 32 activations. */
template <int units>
static __device__ __forceinline__ int dot_group(const uint4 *w, const uint4 (&x)[2],
                                                const uint32_t (&levels)[4], int sum)
{
    if (units == 1) {
        sum = dot_nibbles(w[0].x, x[0].x, x[0].y, levels, sum);
        sum = dot_nibbles(w[0].y, x[0].z, x[0].w, levels, sum);
        sum = dot_nibbles(w[0].z, x[1].x, x[1].y, levels, sum);
        sum = dot_nibbles(w[0].w, x[1].z, x[1].w, levels, sum);
    } else {
        for (int i = 0; i < 2; i++) {
            sum = dot4(w[i].x, x[i].x, sum);
            sum = dot4(w[i].y, x[i].y, sum);
            sum = dot4(w[i].z, x[i].z, sum);
            sum = dot4(w[i].w, x[i].w, sum);
        }
    }
    return sum;
}

/* ---- groups: what lies in shared memory -------------------------------------------------- */

enum {
    STAGE_UNITS = 4, /* that a lane copies at a time: a quad of int4, half a quad of int8 */
    RING = 2         /* stages on their way; of int8, the halves of a quad */
};

/* A warp's. Lanes copy what they read themselves, so that none waits for another. */
template <bool halves> struct ring {
    uint4 codes[RING][STAGE_UNITS][WARP];
    quad_numbers<halves> numbers[RING][WARP];
};

/* A block's; the row as in struct device_rows. */
template <bool halves> struct room {
    ring<halves> *rings; /* [slices] */
    uint4 *codes;        /* [blocks][2] */
    float *bases, *totals;
    float *reduced; /* [2][WARP] */
    float *parts;   /* [2][slices][WARP], twice if matrices are gated */
};

template <bool halves> static __device__ __forceinline__ room<halves> find_room(int blocks)
{
    room<halves> r;
    r.rings = (ring<halves> *)shared_memory();
    r.codes = (uint4 *)(r.rings + blockDim.x / WARP);
    r.bases = (float *)(r.codes + 2 * blocks);
    r.totals = r.bases + blocks;
    r.reduced = r.totals + blocks;
    r.parts = r.reduced + 2 * WARP;
    return r;
}

size_t device_one_shared(const device_one *one)
{
    size_t blocks = one->linear.x.blocks, slices = slice_count((int)blocks);
    size_t of_ring = one->linear.m[0].half_scales ? sizeof(ring<true>) : sizeof(ring<false>);
    size_t parts = (one->gated ? 4 : 2) * slices * WARP;
    return slices * of_ring + blocks * BLOCK_COLS + (2 * blocks + 2 * WARP + parts) * sizeof(float);
}

/* ---- groups: the row --------------------------------------------------------------------- */

/* Quantizes the row into the block's room, and returns its scale. The first block also writes a
 * norm to where others look for it. */
template <bool halves> static __device__ float take_row(const device_one &o, const room<halves> &r)
{
    const device_rows &x = o.linear.x;
    const float *from = o.norm != NULL ? o.source : x.values;
    float norm = 0, largest = 0, v[4];

    if (o.norm != NULL) {
        float sum = 0;
        for (int col = first_col(); col < x.cols; col += col_step()) {
            load_four(from, col, x.cols, v);
            sum = square_sum(v, sum);
        }
        norm = norm_scale(sum, x.cols, o.eps, r.reduced);
    }
    for (int col = first_col(); col < x.cols; col += col_step()) {
        load_four(from, col, x.cols, v);
        if (o.norm != NULL)
            norm_four(v, norm, o.norm, col, x.cols);
        if (o.norm != NULL && blockIdx.x == 0)
            store_four(x.values, col, v);
        largest = largest_of(v, largest);
    }
    float scale = activation_scale(block_reduce<true>(largest, r.reduced + WARP));
    for (int first = first_col() - 4 * lane_index(); first < x.blocks * BLOCK_COLS;
         first += col_step()) {
        int col = first + 4 * lane_index(), block = col / BLOCK_COLS;
        load_four(from, col, x.cols, v);
        if (o.norm != NULL)
            norm_four(v, norm, o.norm, col, x.cols);
        narrow_four n = quantize_four(v, scale);
        if (block >= x.blocks)
            continue;
        ((uint32_t *)r.codes)[col / 4] = n.codes;
        if (col % BLOCK_COLS == 0) {
            r.bases[block] = n.base;
            r.totals[block] = n.total;
        }
    }
    __syncthreads();
    return scale;
}

/* ---- groups: the matrix ------------------------------------------------------------------ */

/* What a lane copies next. Two gated matrices have the same tiles, one after the other. */
struct walk {
    int tile, matrix; /* matrix: of two gated ones */
    int stages;       /* of the slice, that are left */
    int slot;         /* of the ring */
    const uint8_t *units, *scales, *offsets;
};

static __device__ __forceinline__ int tiles_of(const device_one &o)
{
    return o.gated ? tiles_of(o.linear.m[0]) : tiles_of(o.linear);
}

static __device__ __forceinline__ place find_place(const device_one &o, int tile, int matrix)
{
    return o.gated ? place{matrix, tile} : find_place(o.linear, tile);
}

template <int units, bool halves>
static __device__ __forceinline__ void begin_slice(const device_one &o, walk &w)
{
    if (w.tile >= tiles_of(o))
        return;
    place at = find_place(o, w.tile, w.matrix);
    const device_matrix &m = o.linear.m[at.matrix];
    span s = find_slice(m);
    int row = at.tile * TILE_ROWS + lane_index();
    size_t quad = quad_index(m, row, s.first);
    w.stages = (s.end - s.first + QUAD - 1) / QUAD * units;
    w.units = unit_of(m, units, row, s.first, 0);
    w.scales = m.scales + quad * (halves ? 8 : 4);
    w.offsets = m.offsets != NULL ? m.offsets + quad * 8 : NULL;
}

/* Sends a stage on its way, if there is one left. */
template <int units, bool halves>
static __device__ __forceinline__ void copy_stage(const device_one &o, walk &w, ring<halves> &r)
{
    if (w.tile < tiles_of(o)) {
        for (int i = 0; i < STAGE_UNITS; i++)
            copy_async(&r.codes[w.slot][i][lane_index()], w.units + i * WARP * UNIT_BYTES);
        w.units += STAGE_UNITS * WARP * UNIT_BYTES;
        if (units == 1 || w.slot == 0) {
            r.numbers[w.slot][lane_index()].copy(w.scales, w.offsets);
            w.scales += WARP * (halves ? 8 : 4);
            w.offsets += w.offsets != NULL ? WARP * 8 : 0;
        }
        w.slot = (w.slot + 1) % RING;
        if (--w.stages == 0) {
            if (!o.gated || w.matrix == 1)
                w.tile += (int)gridDim.x;
            w.matrix = o.gated ? 1 - w.matrix : 0;
            begin_slice<units, halves>(o, w);
        }
    }
    copy_commit();
}

/* A slice of a row of the matrix. */
template <int units, bool halves>
static __device__ __forceinline__ float dot_slice(const device_one &o, const device_matrix &m,
                                                  const room<halves> &r, walk &w, int &slot)
{
    uint32_t levels[4] = {m.levels[0], m.levels[1], m.levels[2] + m.above, m.levels[3] + m.above};
    ring<halves> &ring = r.rings[warp_index()];
    quad_numbers<halves> numbers;
    span s = find_slice(m);
    float y = 0;

    for (int block = s.first; block < s.end; block += QUAD)
#pragma unroll
        for (int half = 0; half < units; half++, slot = (slot + 1) % RING) {
            uint4 codes[STAGE_UNITS];
            copy_wait<RING - 1>();
            for (int i = 0; i < STAGE_UNITS; i++)
                codes[i] = ring.codes[slot][i][lane_index()];
            if (half == 0)
                numbers = ring.numbers[slot][lane_index()];
            copy_stage<units, halves>(o, w, ring);
#pragma unroll
            for (int i = 0; i < STAGE_UNITS / units; i++) {
                int at = half * (STAGE_UNITS / units) + i;
                if (block + at >= s.end)
                    break;
                const uint4 x[2] = {r.codes[2 * (block + at)], r.codes[2 * (block + at) + 1]};
                float base = r.bases[block + at];
                int sum = dot_group<units>(codes + i * units, x, levels, __float_as_int(base));
                y = __fmaf_rn(__fsub_rn(__int_as_float(sum), base), numbers.scale(at), y);
                if (halves && m.offsets != NULL)
                    y = __fmaf_rn(numbers.offset(at), r.totals[block + at], y);
            }
        }
    return y;
}

/* What a tile's rows become, by a warp, from the sums of slices. */
static __device__ void finish_tile(const device_one &o, const float *parts, int tile, float scale)
{
    int slices = (int)blockDim.x / WARP;
    float y[2];
    for (int i = 0; i < (o.gated ? 2 : 1); i++) {
        place at = find_place(o, tile, i);
        const device_matrix &m = o.linear.m[at.matrix];
        int row = at.tile * TILE_ROWS + lane_index();
        if (row >= m.rows)
            return;
        y[i] = add_slices(parts + i * slices * WARP + lane_index(), slices, WARP);
        y[i] = __fmul_rn(__fmul_rn(y[i], m.row_scales[row]), scale);
        if (i == 1)
            o.linear.y[0][row] = gated(y[0], y[1]);
        if (!o.gated || i == 1)
            o.linear.y[at.matrix][row] = y[i];
        if (o.residual != NULL)
            o.residual[row] = __fadd_rn(o.residual[row], y[i]);
    }
}

/* Warps take turns at finishing tiles, while the others go on with the next one: the sums of two
 * tiles have their places side by side. */
template <int units, bool halves>
static __global__ void __launch_bounds__(WARP *MAX_SLICES)
    dot_kernel(const __grid_constant__ device_one o)
{
    room<halves> r = find_room<halves>(o.linear.x.blocks);
    ring<halves> &ring = r.rings[warp_index()];
    walk w = {(int)blockIdx.x, 0, 0, 0, NULL, NULL, NULL};
    int slices = (int)blockDim.x / WARP, slot = 0, n = 0, matrices = o.gated ? 2 : 1;

    let_next_begin();
    begin_slice<units, halves>(o, w);
    for (int i = 0; i < RING; i++)
        copy_stage<units, halves>(o, w, ring);
    wait_for_inputs();
    float scale = take_row<halves>(o, r);
    for (int tile = (int)blockIdx.x; tile < tiles_of(o); tile += (int)gridDim.x, n++) {
        float *parts = r.parts + n % 2 * matrices * slices * WARP;
        for (int i = 0; i < matrices; i++)
            parts[i * slices * WARP + threadIdx.x] =
                dot_slice<units, halves>(o, o.linear.m[find_place(o, tile, i).matrix], r, w, slot);
        __syncthreads();
        if (warp_index() == n % slices)
            finish_tile(o, parts, tile, scale);
    }
}

void device_linear_one(cudaStream_t stream, const device_one *o, int processors)
{
    static void (*const kernels[2][2])(device_one) = {{dot_kernel<1, false>, dot_kernel<1, true>},
                                                      {dot_kernel<2, false>, dot_kernel<2, true>}};
    int slices = slice_count(o->linear.x.blocks);
    int tiles = o->gated ? tiles_of(o->linear.m[0]) : tiles_of(o->linear);
    int most = processors * (MAX_SLICES / slices);
    launch(stream, dim3(tiles < most ? tiles : most), WARP * slices, device_one_shared(o),
           kernels[o->linear.m[0].form == MATRIX_INT8][o->linear.m[0].half_scales], *o);
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
    place at = find_place(l, (int)blockIdx.x);
    const device_matrix &m = l.m[at.matrix];
    int slices = (int)blockDim.x / WARP;
    int row = at.tile * TILE_ROWS + lane_index(), token = (int)blockIdx.y * tokens;
    span s = find_slice(m);
    const float *x[tokens];
    float y[tokens];

    let_next_begin();
    wait_for_inputs();
    for (int i = 0; i < tokens; i++) {
        x[i] = l.x.values + (size_t)(token + i < l.n_rows ? token + i : token) * l.x.stride;
        y[i] = 0;
    }
    dot_floats<n, tokens>(m, x, row, s.first, s.end, y);
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
        launch(stream, dim3(tiles_of(l)), threads, threads * sizeof(float), floats_kernel<n, 1>, l);
    else
        launch(stream, dim3(tiles_of(l), (l.n_rows + FLOAT_TOKENS - 1) / FLOAT_TOKENS), threads,
               threads * FLOAT_TOKENS * sizeof(float), floats_kernel<n, FLOAT_TOKENS>, l);
}

void device_linear_floats(cudaStream_t stream, const device_linear *l)
{
    if (l->m[0].form == MATRIX_F32)
        launch_floats<4>(stream, *l);
    else
        launch_floats<8>(stream, *l);
}
