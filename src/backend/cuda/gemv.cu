/* SPDX-License-Identifier: MIT */
/*
 * gemv.cu: products without tensor cores: one row times groups, any number of rows times floats. A
 * warp has a tile of 32 rows of the matrix, a row in each lane, and one slice of the columns. A
 * thread block has all slices of a tile.
 *
 * One row is bound by reading the matrix. So there are as many thread blocks as run at once, each
 * goes from tile to tile, and every warp prefetches its next stages into a ring in shared memory:
 * those of the first tile already while the kernel before this one ends. Every block norms and
 * quantizes the row for itself, which takes less time than a kernel of its own.
 */
#include "backend/cuda/common.cuh"

/* ---- groups: products -------------------------------------------------------------------- */

/* Eight codes of 4 bits. permute() looks up the lower three bits of a nibble among eight levels; if
 * the nibble's upper bit is set, it gives the sign of that level instead: 0 or -1. So a lookup in
 * the lower levels gives -1 for every code of the upper half if the lower levels are negative; the
 * upper levels are stored 1 larger then. A lookup in the upper levels, with the upper bit inverted,
 * gives 0 for every code of the lower half, since the upper levels are not negative. */
static __device__ __forceinline__ int dot_nibbles(uint32_t codes, uint32_t x0, uint32_t x1,
                                                  const uint32_t (&codebook)[4], int sum)
{
    uint32_t turned = codes ^ 0x88888888;
    sum = dot4(permute(codebook[0], codebook[1], codes), x0, sum);
    sum = dot4(permute(codebook[2], codebook[3], turned), x0, sum);
    sum = dot4(permute(codebook[0], codebook[1], codes >> 16), x1, sum);
    return dot4(permute(codebook[2], codebook[3], turned >> 16), x1, sum);
}

/* sum + the products of a group. w: its units; x: its 32 activations. */
template <int units>
static __device__ __forceinline__ int dot_group(const uint4 *w, const uint4 (&x)[2],
                                                const uint32_t (&codebook)[4], int sum)
{
    if (units == 1) {
        sum = dot_nibbles(w[0].x, x[0].x, x[0].y, codebook, sum);
        sum = dot_nibbles(w[0].y, x[0].z, x[0].w, codebook, sum);
        sum = dot_nibbles(w[0].z, x[1].x, x[1].y, codebook, sum);
        sum = dot_nibbles(w[0].w, x[1].z, x[1].w, codebook, sum);
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
    RING = 2,        /* stages that are being copied; of int8, the halves of a quad */
    AHEAD = 4        /* fours that a thread loads ahead, of a row without norm */
};

/* A warp's. Lanes copy only what they read themselves, so that none waits for another. */
template <bool halves> struct ring {
    uint4 codes[RING][STAGE_UNITS][WARP];
    quad_numbers<halves> numbers[RING][WARP];
};

/* A thread block's. The row is as in struct device_rows, padded to whole quads. */
template <bool halves> struct gemv_shared {
    ring<halves> *rings; /* [slices] */
    uint4 *codes;        /* [blocks][2] */
    float *bases, *totals;
    float *reduced;  /* [2][WARP] */
    float *partials; /* [2][2][slices][WARP]: two buffers in turn, for each gated matrix */
};

template <bool halves> static __device__ __forceinline__ gemv_shared<halves> find_shared(int blocks)
{
    gemv_shared<halves> r;
    r.rings = (ring<halves> *)shared_memory();
    r.codes = (uint4 *)(r.rings + blockDim.x / WARP);
    r.bases = (float *)(r.codes + 2 * blocks);
    r.totals = r.bases + blocks;
    r.reduced = r.totals + blocks;
    r.partials = r.reduced + 2 * WARP;
    return r;
}

size_t device_gemv_shared(const device_matrix *m)
{
    size_t slices = slice_count(m->blocks), blocks = m->padded_blocks;
    return slices * (m->half_scales ? sizeof(ring<true>) : sizeof(ring<false>)) +
           blocks * (BLOCK_COLS + 2 * sizeof(float)) +
           (2 * WARP + 4 * slices * WARP) * sizeof(float);
}

/* ---- groups: the row --------------------------------------------------------------------- */

/* Quantizes four columns into shared memory; all lanes of a warp call it together. */
template <bool halves>
static __device__ __forceinline__ void keep_four(const gemv_shared<halves> &r, int col, int cols,
                                                 const float (&v)[4], const row_scale &scale)
{
    narrow_four n = quantize_four(v, scale);
    if (col >= cols)
        return;
    ((uint32_t *)r.codes)[col / 4] = n.codes;
    if (col % BLOCK_COLS == 0) {
        r.bases[col / BLOCK_COLS] = n.base;
        r.totals[col / BLOCK_COLS] = n.total;
    }
}

/* Stores the largest magnitude of each block where its total will be. Returns the largest of those
 * that the thread has seen. */
template <bool halves>
static __device__ __forceinline__ float take_maxima(const device_gemv &o,
                                                    const gemv_shared<halves> &r, int cols)
{
    const device_rows &x = o.linear.x;
    float largest = 0, v[4];
    if (o.has_maxima) {
        for (int block = (int)threadIdx.x; block < cols / BLOCK_COLS; block += (int)blockDim.x) {
            float of_block = block < x.blocks ? x.maxima[block] : 0;
            r.totals[block] = of_block;
            largest = larger(of_block, largest);
        }
        return largest;
    }
    for (int first = first_col() - 4 * lane_index(); first < cols; first += col_step()) {
        int col = first + 4 * lane_index();
        load_four(x.values, o.order, col, x.cols, v);
        float of_block = warp_max(largest_of(v, 0), 8);
        if (col < cols && col % BLOCK_COLS == 0)
            r.totals[col / BLOCK_COLS] = of_block;
        largest = larger(of_block, largest);
    }
    return largest;
}

/* Quantizes the row as it is. Loads are in flight while the scale is found. */
template <bool halves>
static __device__ float take_row(const device_gemv &o, const gemv_shared<halves> &r, int cols)
{
    const device_rows &x = o.linear.x;
    float v[AHEAD][4];
#pragma unroll
    for (int i = 0; i < AHEAD; i++)
        load_four(x.values, o.order, first_col() + i * col_step(), x.cols, v[i]);
    row_scale scale = scale_of(block_reduce<true>(take_maxima(o, r, cols), r.reduced));
    for (int block = (int)threadIdx.x; block < cols / BLOCK_COLS; block += (int)blockDim.x) {
        int k = power_of(r.totals[block], scale);
        r.bases[block] = activation_base(k);
        r.totals[block] = power_of_two(-k);
    }
    __syncthreads();
    for (int first = first_col() - 4 * lane_index(); first < cols; first += AHEAD * col_step()) {
#pragma unroll
        for (int i = 0; i < AHEAD; i++) {
            int col = first + i * col_step() + 4 * lane_index(), block = col / BLOCK_COLS;
            if (col - 4 * lane_index() >= cols) /* for the whole warp */
                break;
            float down = col < cols ? r.totals[block] : 1, sum;
            uint32_t codes = codes_of(v[i], scale, down, &sum);
            sum = halves ? warp_sum(sum, 8) : 0;
            if (halves)
                __syncwarp(); /* all lanes have read what becomes the total */
            if (col < cols)
                ((uint32_t *)r.codes)[col / 4] = codes;
            if (halves && col < cols && col % BLOCK_COLS == 0)
                r.totals[block] = sum / down;
            load_four(x.values, o.order, col + AHEAD * col_step(), x.cols, v[i]);
        }
    }
    __syncthreads();
    return scale.scale;
}

/* Norms and quantizes the row. weights: the thread's own. The first thread block also stores the
 * norm, for other kernels. Its sum has columns as they are, whatever order the codes have. */
template <bool halves>
static __device__ float take_norm(const device_gemv &o, const float (&weights)[HELD][4],
                                  const gemv_shared<halves> &r, int cols)
{
    const device_rows &x = o.linear.x;
    float sum = 0, largest = 0, v[HELD][4];
#pragma unroll
    for (int i = 0; i < HELD; i++)
        load_four(o.source, first_col() + i * col_step(), x.cols, v[i]);
#pragma unroll
    for (int i = 0; i < HELD; i++)
        sum = square_sum(v[i], sum);
    float norm = norm_scale(sum, x.cols, o.eps, r.reduced);
#pragma unroll
    for (int i = 0; i < HELD; i++) {
        if (o.order != NULL)
            load_four(o.source, o.order, first_col() + i * col_step(), x.cols, v[i]);
        norm_four(v[i], norm, weights[i]);
        largest = largest_of(v[i], largest);
    }
    row_scale scale = scale_of(block_reduce<true>(largest, r.reduced + WARP));
#pragma unroll
    for (int i = 0; i < HELD; i++) {
        int col = first_col() + i * col_step();
        if (col - 4 * lane_index() < cols) /* for the whole warp */
            keep_four(r, col, cols, v[i], scale);
        if (blockIdx.x == 0 && col < x.cols)
            store_four(x.values, o.order, col, x.cols, v[i]);
    }
    __syncthreads();
    return scale.scale;
}

/* ---- groups: the matrix ------------------------------------------------------------------ */

static __device__ __forceinline__ tile_index first_tile(const device_gemv &o)
{
    tile_index at = {0, (int)blockIdx.x};
    carry_tile(o.linear, at);
    return at;
}

/* To the thread block's next tile. */
static __device__ __forceinline__ void go_on(const device_gemv &o, tile_index &at)
{
    at.tile += (int)gridDim.x;
    if (!o.gated)
        carry_tile(o.linear, at);
    else if (at.tile >= o.linear.m[0].tiles)
        at.matrix = o.linear.n;
}

/* What a lane copies next. Gated matrices alternate: a tile of the first, then the same of the
 * second. */
struct copy_cursor {
    tile_index at;
    int stages, slot; /* left of the slice; slot of the ring */
    const uint8_t *units, *scales, *offsets;
};

template <int units, bool halves>
static __device__ __forceinline__ void begin_slice(const device_gemv &o, const block_range &s,
                                                   copy_cursor &from)
{
    const int unit_bytes = units * WARP * UNIT_BYTES, number_bytes = halves ? 8 : 4;
    if (from.at.matrix == o.linear.n)
        return;
    const device_matrix &m = o.linear.m[from.at.matrix];
    size_t block = (size_t)from.at.tile * m.padded_blocks + s.first;
    size_t number = (block / QUAD * WARP + lane_index()) * number_bytes;
    from.stages = (s.end - s.first + QUAD - 1) / QUAD * units;
    from.units = m.units + block * unit_bytes + lane_index() * UNIT_BYTES;
    from.scales = m.scales + number;
    from.offsets = m.offsets != NULL ? m.offsets + number : NULL;
}

/* Starts to copy a stage, if there is one left. */
template <int units, bool halves>
static __device__ __forceinline__ void copy_stage(const device_gemv &o, const block_range &s,
                                                  copy_cursor &from, ring<halves> &r)
{
    const int number_bytes = halves ? 8 : 4;
    if (from.at.matrix < o.linear.n) {
#pragma unroll
        for (int i = 0; i < STAGE_UNITS; i++)
            copy_async(&r.codes[from.slot][i][lane_index()], from.units + i * WARP * UNIT_BYTES);
        from.units += STAGE_UNITS * WARP * UNIT_BYTES;
        if (units == 1 || from.slot == 0) {
            r.numbers[from.slot][lane_index()].copy(from.scales, from.offsets);
            from.scales += WARP * number_bytes;
            if (halves && from.offsets != NULL)
                from.offsets += WARP * number_bytes;
        }
        from.slot ^= 1;
        if (--from.stages == 0) {
            if (!o.gated) {
                go_on(o, from.at);
            } else if (++from.at.matrix == 2) {
                from.at.matrix = 0;
                go_on(o, from.at);
            }
            begin_slice<units, halves>(o, s, from);
        }
    }
    copy_commit();
}

/* The product of a row's slice. The padding of the last quad is zeros and adds nothing. */
template <int units, bool halves>
static __device__ __forceinline__ float dot_slice(const device_gemv &o, const device_matrix &m,
                                                  const block_range &s,
                                                  const gemv_shared<halves> &r, copy_cursor &from,
                                                  int &slot)
{
    uint32_t codebook[4] = {m.codebook[0], m.codebook[1], m.codebook[2] + m.above,
                            m.codebook[3] + m.above};
    ring<halves> &ring = r.rings[warp_index()];
    bool with_offsets = halves && m.offsets != NULL;
    quad_numbers<halves> numbers;
    float y = 0;

    for (int block = s.first; block < s.end; block += QUAD)
#pragma unroll
        for (int half = 0; half < units; half++, slot ^= 1) {
            uint4 codes[STAGE_UNITS];
            copy_wait<RING - 1>();
            for (int i = 0; i < STAGE_UNITS; i++)
                codes[i] = ring.codes[slot][i][lane_index()];
            if (half == 0)
                numbers = ring.numbers[slot][lane_index()];
            copy_stage<units, halves>(o, s, from, ring);
#pragma unroll
            for (int i = 0; i < STAGE_UNITS / units; i++) {
                int in_quad = half * (STAGE_UNITS / units) + i, at = block + in_quad;
                const uint4 x[2] = {r.codes[2 * at], r.codes[2 * at + 1]};
                float base = r.bases[at];
                int sum = dot_group<units>(codes + i * units, x, codebook, __float_as_int(base));
                y = __fmaf_rn(__fsub_rn(__int_as_float(sum), base), numbers.scale(in_quad), y);
                if (with_offsets)
                    y = __fmaf_rn(numbers.offset(in_quad), r.totals[at], y);
            }
        }
    return y;
}

/* What the end of a tile needs, loaded early. */
struct tile_epilogue {
    int row;
    float scales[2], residual;
};

static __device__ __forceinline__ tile_epilogue fetch_epilogue(const device_gemv &o,
                                                               const tile_index &at)
{
    const device_matrix &m = o.linear.m[at.matrix];
    tile_epilogue t = {at.tile * TILE_ROWS + lane_index(), {0, 0}, 0};
    t.scales[0] = m.row_scales[t.row];
    if (o.gated)
        t.scales[1] = o.linear.m[1].row_scales[t.row];
    if (o.residual != NULL && t.row < m.rows)
        t.residual = o.residual[t.row];
    return t;
}

static __device__ __forceinline__ void finish_tile(const device_gemv &o, const tile_index &at,
                                                   const tile_epilogue &t, const float *partials,
                                                   float scale)
{
    int slices = (int)blockDim.x / WARP;
    bool there = t.row < o.linear.m[at.matrix].rows;
    float y =
        __fmul_rn(__fmul_rn(add_slices(partials + lane_index(), slices, WARP), t.scales[0]), scale);
    if (o.gated) {
        float up = add_slices(partials + slices * WARP + lane_index(), slices, WARP);
        up = __fmul_rn(__fmul_rn(up, t.scales[1]), scale);
        y = gated(y, up);
        float largest = warp_max(there ? fabsf(y) : 0);
        if (lane_index() == 0)
            o.maxima[at.tile] = largest;
        if (there)
            o.linear.y[1][t.row] = up;
    }
    if (!there)
        return;
    o.linear.y[at.matrix][t.row] = y;
    if (o.residual != NULL)
        o.residual[t.row] = __fadd_rn(t.residual, y);
}

/* More than a launch has, so that the compiler leaves registers for an attention kernel beside it.
 * */
enum { MOST_THREADS = 768 };

/* Warps take turns finishing tiles, while the others go on with the next one: sums have two
 * buffers. */
template <int units, bool halves, bool normed>
static __global__ void __launch_bounds__(MOST_THREADS)
    gemv_kernel(const __grid_constant__ device_gemv o)
{
    const device_matrix &m = o.linear.m[0];
    gemv_shared<halves> r = find_shared<halves>(m.padded_blocks);
    ring<halves> &ring = r.rings[warp_index()];
    block_range s = find_slice(m);
    copy_cursor from = {first_tile(o), 0, 0, NULL, NULL, NULL};
    int slices = (int)blockDim.x / WARP, slot = 0, turn = 0, padded = m.padded_blocks * BLOCK_COLS;
    float weights[HELD][4], scale;

    let_next_begin();
    begin_slice<units, halves>(o, s, from);
    for (int i = 0; i < RING; i++)
        copy_stage<units, halves>(o, s, from, ring);
    if (normed)
#pragma unroll
        for (int i = 0; i < HELD; i++)
            load_four(o.norm, o.order, first_col() + i * col_step(), o.linear.x.cols, weights[i]);
    wait_for_inputs();
    if (normed)
        scale = take_norm<halves>(o, weights, r, padded);
    else
        scale = take_row<halves>(o, r, padded);

    float *partials = r.partials, *others = r.partials + 2 * slices * WARP;
    for (tile_index at = first_tile(o); at.matrix < o.linear.n; go_on(o, at)) {
        bool mine = warp_index() == turn;
        tile_epilogue t;
        if (mine)
            t = fetch_epilogue(o, at);
        partials[threadIdx.x] =
            dot_slice<units, halves>(o, o.linear.m[at.matrix], s, r, from, slot);
        if (o.gated)
            partials[slices * WARP + threadIdx.x] =
                dot_slice<units, halves>(o, o.linear.m[1], s, r, from, slot);
        __syncthreads();
        if (mine)
            finish_tile(o, at, t, partials, scale);
        float *used = partials;
        partials = others;
        others = used;
        turn = turn + 1 < slices ? turn + 1 : 0;
    }
}

template <int units, bool halves>
static void launch_gemv(cudaStream_t stream, const device_gemv &o, int blocks, size_t shared)
{
    int threads = row_threads(o.linear.x.blocks);
    if (o.norm != NULL)
        launch(stream, dim3(blocks), threads, shared, gemv_kernel<units, halves, true>, o);
    else
        launch(stream, dim3(blocks), threads, shared, gemv_kernel<units, halves, false>, o);
}

void device_linear_gemv(cudaStream_t stream, const device_gemv *o, int processors,
                        size_t shared_bytes)
{
    static void (*const kernels[2][2])(cudaStream_t, const device_gemv &, int,
                                       size_t) = {{launch_gemv<1, false>, launch_gemv<1, true>},
                                                  {launch_gemv<2, false>, launch_gemv<2, true>}};
    const device_matrix &m = o->linear.m[0];
    int tiles = o->gated ? m.tiles : tiles_of(o->linear), each = MAX_SLICES / slice_count(m.blocks);
    size_t shared = own_share(device_gemv_shared(&m), each, shared_bytes);
    kernels[m.form == MATRIX_INT8][m.half_scales](
        stream, *o, tiles < processors * each ? tiles : processors * each, shared);
}

/* ---- floats ------------------------------------------------------------------------------ */

enum { FLOAT_TOKENS = 8 };

/* A unit holds `n` weights. Padded columns are zeros in the matrix and undefined in x. */
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
            uint4 stored = load_once((const uint4 *)unit_of(m, units, row, block, unit));
            if (n == 4)
                unit_floats(stored, w);
            else
                unit_halves<MATRIX_F16>(stored, w);
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
    float *partials = (float *)shared_memory(); /* [slices][tokens][WARP] */
    tile_index at = {0, (int)blockIdx.x};
    carry_tile(l, at);
    const device_matrix &m = l.m[at.matrix];
    int slices = (int)blockDim.x / WARP;
    int row = at.tile * TILE_ROWS + lane_index(), token = (int)blockIdx.y * tokens;
    block_range s = find_slice(m);
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
        partials[(warp_index() * tokens + i) * WARP + lane_index()] = y[i];
    __syncthreads();
    for (int i = warp_index(); i < tokens; i += slices)
        if (row < m.rows && token + i < l.n_rows)
            l.y[at.matrix][(size_t)(token + i) * l.y_stride[at.matrix] + row] =
                add_slices(partials + i * WARP + lane_index(), slices, tokens * WARP);
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
