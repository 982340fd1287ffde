/* SPDX-License-Identifier: MIT */
/* elements.cu: element-wise operations, a thread block for each row. */
#include "backend/cuda/common.cuh"

/* ---- segments of rows ----------------------------------------------------------------------- */

/* A segment is what a thread block holds of a row in registers, HELD fours in each thread. Most
 * rows are one segment, and so are read once. */
static __device__ __forceinline__ int segment_cols()
{
    return HELD * col_step();
}

static __device__ __forceinline__ void load_segment(const float *row, int first, int cols,
                                                    float (&v)[HELD][4],
                                                    const uint32_t *order = NULL)
{
#pragma unroll
    for (int i = 0; i < HELD; i++)
        load_four(row, order, first + first_col() + i * col_step(), cols, v[i]);
}

static __device__ __forceinline__ void store_segment(float *row, int first, int cols,
                                                     const float (&v)[HELD][4])
{
#pragma unroll
    for (int i = 0; i < HELD; i++) {
        int col = first + first_col() + i * col_step();
        if (col < cols)
            store_four(row, col, v[i]);
    }
}

static __device__ __forceinline__ float largest_of_segment(const float (&v)[HELD][4], float so_far)
{
    for (int i = 0; i < HELD; i++)
        so_far = largest_of(v[i], so_far);
    return so_far;
}

/* ---- narrow forms ------------------------------------------------------------------------ */

/* All lanes of a warp call it together, as quantize_four() needs. */
static __device__ __forceinline__ void narrow_segment(const device_rows &x, int token, int first,
                                                      const float (&v)[HELD][4],
                                                      const row_scale &scale, int forms)
{
    int padded = x.blocks * BLOCK_COLS;
#pragma unroll
    for (int i = 0; i < HELD; i++) {
        int col = first + first_col() + i * col_step(), at = col % BLOCK_COLS;
        size_t cell = cell_index(x, token, col / BLOCK_COLS);
        if (forms & FORM_INT8 && col - 4 * lane_index() < padded) {
            narrow_four n = quantize_four(v[i], scale);
            if (col < padded)
                *(uint32_t *)(x.codes + cell * BLOCK_COLS + at) = n.codes;
            if (col < padded && at == 0) {
                x.bases[cell] = n.base;
                x.totals[cell] = n.total;
            }
        }
        if (col >= padded)
            continue;
        uint2 pairs = {floats_to_bf16(v[i][0], v[i][1]), floats_to_bf16(v[i][2], v[i][3])};
        if (forms & FORM_BF16)
            *(uint2 *)(x.bf16 + cell * BLOCK_COLS + at) = pairs;
        if (forms & FORM_PLAIN_BF16)
            *(uint2 *)(x.bf16 + (size_t)token * x.stride + col) = pairs;
    }
}

/* The scale of a row's codes, from the largest magnitude that each thread has seen. */
static __device__ __forceinline__ row_scale find_scale(const device_rows &x, int token,
                                                       float largest, int forms, float *scratch)
{
    if (!(forms & FORM_INT8))
        return {0, 0};
    row_scale scale = scale_of(block_reduce<true>(largest, scratch));
    if (threadIdx.x == 0 && blockIdx.y == 0)
        x.scales[token] = scale.scale;
    return scale;
}

/* Makes the forms of a row, with columns in an order. This thread block has stored it to x.values,
 * and this thread the columns of v, its last segment. largest: magnitude of its columns. */
static __device__ void narrow_row(const device_rows &x, int token, float (&v)[HELD][4],
                                  float largest, int forms, const uint32_t *order, float *scratch)
{
    const float *row = x.values + (size_t)token * x.stride;
    row_scale scale = find_scale(x, token, largest, forms, scratch);
    if (order != NULL)
        __syncthreads(); /* other threads' columns */
    for (int first = 0; first < x.cols; first += segment_cols()) {
        if (x.cols > segment_cols() || order != NULL)
            load_segment(row, first, x.cols, v, order);
        narrow_segment(x, token, first, v, scale, forms);
    }
}

/* A row (x); if its maxima are known, a segment of it (y). */
static __global__ void narrow_kernel(const __grid_constant__ device_rows x, int forms,
                                     bool has_maxima, const uint32_t *order)
{
    float *scratch = (float *)shared_memory(), largest = 0, v[HELD][4];
    int token = (int)blockIdx.x, segment = (int)blockIdx.y * segment_cols();
    const float *row = x.values + (size_t)token * x.stride;
    let_next_begin();
    wait_for_inputs();
    if (has_maxima) {
        load_segment(row, segment, x.cols, v, order);
        for (int i = (int)threadIdx.x; i < x.blocks; i += (int)blockDim.x)
            largest = larger(x.maxima[(size_t)token * x.blocks + i], largest);
        narrow_segment(x, token, segment, v, find_scale(x, token, largest, forms, scratch), forms);
        return;
    }
    for (int first = 0; first < x.cols; first += segment_cols()) {
        load_segment(row, first, x.cols, v);
        largest = largest_of_segment(v, largest);
    }
    narrow_row(x, token, v, largest, forms, order, scratch);
}

void device_narrow(cudaStream_t stream, const device_rows *x, int n_rows, int forms, int have,
                   const uint32_t *order)
{
    bool has_maxima = have & FORM_MAXIMA;
    int threads = has_maxima ? 128 : row_threads(x->blocks), segment = 4 * threads * HELD;
    launch(stream, dim3(n_rows, has_maxima ? (x->cols + segment - 1) / segment : 1), threads,
           WARP * sizeof(float), narrow_kernel, *x, forms, has_maxima, order);
}

/* ---- embedding --------------------------------------------------------------------------- */

static __device__ int level_of(const device_matrix &m, uint32_t nibble)
{
    return (int8_t)(m.codebook[nibble / 4] >> (nibble % 4 * 8) & 255);
}

template <bool halves>
static __device__ float grouped_weight(const device_matrix &m, int row, int block, int level)
{
    quad_numbers<halves> numbers;
    numbers.load(m, row, block);
    float weight = __fmul_rn(numbers.scale(block % QUAD), (float)level);
    return __fmul_rn(m.row_scales[row], __fadd_rn(weight, numbers.offset(block % QUAD)));
}

/* A weight as quant/group.h and dtype.h define it. */
static __device__ float weight_of(const device_matrix &m, int row, int col)
{
    int block = col / BLOCK_COLS, i = col % BLOCK_COLS;
    switch (m.form) {
    case MATRIX_F32:
        return ((const float *)unit_of(m, 8, row, block, i / 4))[i % 4];
    case MATRIX_F16:
        return f16_to_float(((const uint16_t *)unit_of(m, 4, row, block, i / 8))[i % 8]);
    case MATRIX_BF16:
        return bf16_to_float(((const uint16_t *)unit_of(m, 4, row, block, i / 8))[i % 8]);
    default:
        break;
    }
    int level = m.form == MATRIX_INT4
                    ? level_of(m, unit_of(m, 1, row, block, 0)[i / 2] >> (i % 2 * 4) & 15)
                    : (int8_t)unit_of(m, 2, row, block, i / 16)[i % 16];
    return m.half_scales ? grouped_weight<true>(m, row, block, level)
                         : grouped_weight<false>(m, row, block, level);
}

static __global__ void embed_kernel(const __grid_constant__ device_matrix m, const int32_t *tokens,
                                    const __grid_constant__ device_rows x)
{
    int token = (int)blockIdx.x, col = (int)(blockIdx.y * blockDim.x + threadIdx.x);
    let_next_begin();
    wait_for_inputs();
    if (col < m.cols)
        x.values[(size_t)token * x.stride + col] = weight_of(m, tokens[token], col);
}

void device_embed(cudaStream_t stream, const device_matrix *m, const int32_t *tokens, int n_rows,
                  const device_rows *x)
{
    const int threads = 256;
    launch(stream, dim3(n_rows, (m->cols + threads - 1) / threads), threads, 0, embed_kernel, *m,
           tokens, *x);
}

/* ---- expansion --------------------------------------------------------------------------- */

/* Eight lanes have a row's 64 columns, 8 each: a warp reads at least 64 consecutive bytes and
 * writes 128. A thread has EXPAND_QUADS quads of blocks. */
enum {
    EXPAND_COLS = 8,
    EXPAND_LANES = 8, /* of a row */
    EXPAND_ROWS = WARP / EXPAND_LANES,
    EXPAND_WARPS = TILE_ROWS / EXPAND_ROWS,
    EXPAND_QUADS = 2
};

/* 8 columns of a row, as stored and as floats. */
template <matrix_form form> struct eight {
    uint4 unit;
    __device__ __forceinline__ void load(const device_matrix &m, int row, int block, int col)
    {
        unit = load_once((const uint4 *)unit_of(m, 4, row, block, col / 8));
    }
    __device__ __forceinline__ void take(const uint32_t (&)[4], float (&w)[EXPAND_COLS]) const
    {
        unit_halves<form>(unit, w);
    }
};

template <> struct eight<MATRIX_F32> {
    uint4 units[2];
    __device__ __forceinline__ void load(const device_matrix &m, int row, int block, int col)
    {
        for (int i = 0; i < 2; i++)
            units[i] = load_once((const uint4 *)unit_of(m, 8, row, block, col / 4 + i));
    }
    __device__ __forceinline__ void take(const uint32_t (&)[4], float (&w)[EXPAND_COLS]) const
    {
        unit_floats(units[0], w);
        unit_floats(units[1], w + 4);
    }
};

static __device__ __forceinline__ void bytes_to_floats(uint2 bytes, float (&w)[EXPAND_COLS])
{
#pragma unroll
    for (int i = 0; i < EXPAND_COLS; i++)
        w[i] = byte_to_float((i < 4 ? bytes.x : bytes.y) ^ TURN_BYTES, i % 4);
}

template <> struct eight<MATRIX_INT8> {
    uint2 codes;
    __device__ __forceinline__ void load(const device_matrix &m, int row, int block, int col)
    {
        codes = load_once((const uint2 *)(unit_of(m, 2, row, block, col / 16) + col % 16));
    }
    __device__ __forceinline__ void take(const uint32_t (&)[4], float (&w)[EXPAND_COLS]) const
    {
        bytes_to_floats(codes, w);
    }
};

template <> struct eight<MATRIX_INT4> {
    uint32_t codes;
    __device__ __forceinline__ void load(const device_matrix &m, int row, int block, int col)
    {
        codes = load_once((const uint32_t *)(unit_of(m, 1, row, block, 0) + col / 2));
    }
    __device__ __forceinline__ void take(const uint32_t (&codebook)[4],
                                         float (&w)[EXPAND_COLS]) const
    {
        bytes_to_floats(look_up_eight(codebook, codes), w);
    }
};

/* The weights of 8 columns, as weight_of() has them. */
template <matrix_form form, bool halves>
static __device__ __forceinline__ void weights_of(const uint32_t (&codebook)[4],
                                                  const eight<form> &x,
                                                  const quad_numbers<halves> &numbers, int in_quad,
                                                  float row_scale, float (&w)[EXPAND_COLS])
{
    x.take(codebook, w);
#pragma unroll
    for (int i = 0; i < EXPAND_COLS && (form == MATRIX_INT4 || form == MATRIX_INT8); i++)
        w[i] = __fmul_rn(
            row_scale, __fadd_rn(__fmul_rn(numbers.scale(in_quad), w[i]), numbers.offset(in_quad)));
}

template <matrix_form form, bool halves>
static __global__ void __launch_bounds__(WARP *EXPAND_WARPS)
    expand_kernel(const __grid_constant__ device_matrix m, int first, int n, uint16_t *out)
{
    const bool grouped = form == MATRIX_INT4 || form == MATRIX_INT8;
    int at = (int)blockIdx.y * TILE_ROWS + (int)threadIdx.x / EXPAND_LANES, row = first + at;
    int lane = lane_index() % EXPAND_LANES, col = lane % 4 * EXPAND_COLS;
    int first_quad = (int)blockIdx.x * EXPAND_QUADS, quads = m.padded_blocks / QUAD - first_quad;
    uint32_t codebook[4] = {m.codebook[0], m.codebook[1], m.codebook[2], m.codebook[3]};
    eight<form> x[EXPAND_QUADS][2];
    quad_numbers<halves> numbers[EXPAND_QUADS];
    float row_scale = 1;

    let_next_begin();
    if (at < n) {
        if (grouped)
            row_scale = m.row_scales[row];
#pragma unroll
        for (int i = 0; i < 2 * EXPAND_QUADS; i++) {
            int block = first_quad * QUAD + 2 * i + lane / 4;
            if (i / 2 < quads)
                x[i / 2][i % 2].load(m, row, block, col);
            if (i / 2 < quads && i % 2 == 0 && grouped)
                numbers[i / 2].load(m, row, block);
        }
    }
    wait_for_inputs();
    if (at >= n)
        return;
#pragma unroll
    for (int i = 0; i < 2 * EXPAND_QUADS; i++) {
        int in_quad = i % 2 * 2 + lane / 4;
        int to = ((first_quad + i / 2) * QUAD + in_quad) * BLOCK_COLS + col;
        float w[EXPAND_COLS];
        if (i / 2 >= quads)
            break;
        weights_of<form, halves>(codebook, x[i / 2][i % 2], numbers[i / 2], in_quad, row_scale, w);
        for (int j = 0; j < EXPAND_COLS; j++)
            w[j] = to + j < m.cols ? w[j] : 0;
        uint4 unit = {floats_to_bf16(w[0], w[1]), floats_to_bf16(w[2], w[3]),
                      floats_to_bf16(w[4], w[5]), floats_to_bf16(w[6], w[7])};
        *(uint4 *)(out + (size_t)at * (size_t)(m.padded_blocks * BLOCK_COLS) + to) = unit;
    }
}

template <matrix_form form, bool halves>
static void expand(cudaStream_t stream, const device_matrix &m, int first, int n, uint16_t *out)
{
    int quads = m.padded_blocks / QUAD;
    launch(stream, dim3((quads + EXPAND_QUADS - 1) / EXPAND_QUADS, (n + TILE_ROWS - 1) / TILE_ROWS),
           WARP * EXPAND_WARPS, 0, expand_kernel<form, halves>, m, first, n, out);
}

void device_expand(cudaStream_t stream, const device_matrix *m, int first, int n, uint16_t *out)
{
    static void (*const kernels[MATRIX_FORMS][2])(cudaStream_t, const device_matrix &, int, int,
                                                  uint16_t *) = {
        {expand<MATRIX_F32, false>, NULL},
        {expand<MATRIX_F16, false>, NULL},
        {expand<MATRIX_BF16, false>, NULL},
        {expand<MATRIX_INT4, false>, expand<MATRIX_INT4, true>},
        {expand<MATRIX_INT8, false>, expand<MATRIX_INT8, true>}};
    kernels[m->form][m->half_scales](stream, *m, first, n, out);
}

/* ---- norm -------------------------------------------------------------------------------- */

static __global__ void add_norm_kernel(const __grid_constant__ device_rows x, const float *d,
                                       int d_stride, const float *w, float eps,
                                       const int32_t *packed, const __grid_constant__ device_rows y,
                                       int forms, const uint32_t *order)
{
    float *scratch = (float *)shared_memory(); /* [2][WARP] */
    int token = (int)blockIdx.x, out = packed != NULL ? packed[token] : token;
    float *row = x.values + (size_t)token * x.stride, sum = 0, largest = 0;
    float v[HELD][4], weights[HELD][4];
    bool whole = x.cols <= segment_cols();

    let_next_begin();
    load_segment(w, 0, x.cols, weights);
    wait_for_inputs();
    for (int first = 0; first < x.cols; first += segment_cols()) {
        load_segment(row, first, x.cols, v);
        if (d != NULL) {
            float added[HELD][4];
            load_segment(d + (size_t)token * d_stride, first, x.cols, added);
            for (int i = 0; i < HELD; i++)
                for (int j = 0; j < 4; j++)
                    v[i][j] = __fadd_rn(v[i][j], added[i][j]);
            store_segment(row, first, x.cols, v);
        }
        for (int i = 0; i < HELD; i++)
            sum = square_sum(v[i], sum);
    }
    if (out < 0) /* for the whole block */
        return;
    float scale = norm_scale(sum, x.cols, eps, scratch);
    for (int first = 0; first < x.cols; first += segment_cols()) {
        if (!whole) {
            load_segment(row, first, x.cols, v);
            load_segment(w, first, x.cols, weights);
        }
        for (int i = 0; i < HELD; i++)
            norm_four(v[i], scale, weights[i]);
        store_segment(y.values + (size_t)out * y.stride, first, x.cols, v);
        largest = largest_of_segment(v, largest);
    }
    narrow_row(y, out, v, largest, forms, order, scratch + WARP);
}

void device_add_norm(cudaStream_t stream, const device_rows *x, const device_rows *d,
                     const float *w, float eps, const int32_t *packed, int n_rows,
                     const device_rows *y, int forms, const uint32_t *order)
{
    launch(stream, dim3(n_rows), row_threads(x->blocks), 2 * WARP * sizeof(float), add_norm_kernel,
           *x, d != NULL ? d->values : NULL, d != NULL ? d->stride : 0, w, eps, packed, *y, forms,
           order);
}

/* ---- swiglu ------------------------------------------------------------------------------ */

/* A row (x); without codes, which need the whole row's scale, a segment of it (y). */
static __global__ void swiglu_kernel(const __grid_constant__ device_rows gate, const float *up,
                                     int up_stride, int forms, const uint32_t *order)
{
    float *scratch = (float *)shared_memory(), largest = 0, z[HELD][4], u[HELD][4];
    int token = (int)blockIdx.x, segments = (int)gridDim.y;
    float *row = gate.values + (size_t)token * gate.stride;

    let_next_begin();
    wait_for_inputs();
    for (int first = (int)blockIdx.y * segment_cols(); first < gate.cols;
         first += segments * segment_cols()) {
        load_segment(row, first, gate.cols, z);
        load_segment(up + (size_t)token * up_stride, first, gate.cols, u);
        for (int i = 0; i < HELD; i++)
            for (int j = 0; j < 4; j++)
                z[i][j] = gated(z[i][j], u[i][j]);
        store_segment(row, first, gate.cols, z);
        largest = largest_of_segment(z, largest);
        if (!(forms & FORM_INT8))
            narrow_segment(gate, token, first, z, {0, 0}, forms);
    }
    if (forms & FORM_INT8)
        narrow_row(gate, token, z, largest, forms, order, scratch);
}

void device_swiglu(cudaStream_t stream, const device_rows *gate, const device_rows *up, int n_rows,
                   int forms, const uint32_t *order)
{
    int threads = row_threads(gate->blocks), segment = 4 * threads * HELD;
    launch(stream, dim3(n_rows, forms & FORM_INT8 ? 1 : (gate->cols + segment - 1) / segment),
           threads, WARP * sizeof(float), swiglu_kernel, *gate, up->values, up->stride, forms,
           order);
}
