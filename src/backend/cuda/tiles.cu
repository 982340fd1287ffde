/*
 * tiles.cu: products of many rows on tensor cores: groups in int8, bf16 weights in bf16. A block of
 * threads multiplies 128 rows of the matrix with up to 128 tokens, and slices come one after
 * another. Weights stay packed until they are in registers. few.cu has the kernel for few rows.
 *
 * A warp multiplies 32 rows, two fragments of 16, with 8 tokens at a time. Columns of a block may
 * be dealt to the places of an mma in any order, as long as both sides agree: lane 4 g + t takes
 * eight neighbours of row g and of token g, 8 t .. 8 t + 7, so that it loads them at once.
 */
#include "backend/cuda/common.cuh"

enum {
    FRAGMENTS = 2,   /* of 16 rows */
    MANY_WARPS = 8,  /* of a block for many rows: */
    ROW_WARPS = 4,   /* side by side along the matrix's rows, */
    TOKEN_WARPS = 2, /* and along the tokens, */
    MANY_TILES = 8,  /* each with so many tiles of them */
    MOST_TOKENS = TOKEN_WARPS * MANY_TILES * TILE_TOKENS,
    STAGES = 2
};

/* ---- number formats: how a lane gets its share, and what a block of columns adds --------------
 */

/* AHEAD: blocks whose packed weights are on their way, QUAD or less: as registers allow. */

/* Common to both formats of groups. */
template <bool halves> struct integers {
    enum { GROUPED = 1, TOKEN_BYTES = BLOCK_COLS, AHEAD = QUAD };
    struct right {
        uint2 codes;
    };
    struct left {
        uint32_t a[4];
    };
    quad_numbers<halves> numbers[FRAGMENTS][2];

    __device__ __forceinline__ void load_quad(const device_matrix &m, int row, int block)
    {
        for (int f = 0; f < FRAGMENTS; f++)
            for (int half = 0; half < 2; half++)
                numbers[f][half].load(m, row + 16 * f + 8 * half, block);
    }

    /* sums += the products of a fragment with 8 tokens, of block i of the quad. */
    __device__ __forceinline__ void multiply(float (&sums)[4], const left &w, right x,
                                             const float *bases, const float *totals, int f, int i,
                                             bool with_offsets) const
    {
        float2 base = *(const float2 *)(bases + lane_index() % 4 * 2);
        int start[4] = {__float_as_int(base.x), __float_as_int(base.y), __float_as_int(base.x),
                        __float_as_int(base.y)};
        int d[4];
        mma_s8(d, w.a, x.codes.x, x.codes.y, start);
#pragma unroll
        for (int j = 0; j < 4; j++) {
            float product = __fsub_rn(__int_as_float(d[j]), j % 2 == 0 ? base.x : base.y);
            sums[j] = __fmaf_rn(product, numbers[f][j / 2].scale(i), sums[j]);
        }
        if (!halves || !with_offsets)
            return;
        float2 total = *(const float2 *)(totals + lane_index() % 4 * 2);
#pragma unroll
        for (int j = 0; j < 4; j++)
            sums[j] =
                __fmaf_rn(numbers[f][j / 2].offset(i), j % 2 == 0 ? total.x : total.y, sums[j]);
    }
};

template <bool halves> struct int4_format : integers<halves> {
    typedef typename integers<halves>::left left;
    struct packed {
        uint32_t codes[2]; /* of row g, of row g + 8 */
    };

    static __device__ __forceinline__ packed load(const device_matrix &m, int row, int block)
    {
        packed p;
        for (int half = 0; half < 2; half++)
            p.codes[half] = load_once((const uint32_t *)unit_of(m, 1, row + 8 * half, block, 0) +
                                      lane_index() % 4);
        return p;
    }

    /* Four codes become bytes: looked up in both halves of the levels, and chosen by their upper
     * bits. */
    static __device__ __forceinline__ uint32_t look_up(const device_matrix &m, uint32_t codes,
                                                       uint32_t turned, uint32_t choice)
    {
        return permute(permute(m.levels[0], m.levels[1], codes),
                       permute(m.levels[2], m.levels[3], turned), choice);
    }

    static __device__ __forceinline__ left expand(const device_matrix &m, packed p)
    {
        left l;
        for (int half = 0; half < 2; half++) {
            uint32_t codes = p.codes[half], turned = codes ^ 0x88888888;
            uint32_t choice = (codes >> 1 & 0x44444444) | 0x32103210;
            l.a[half] = look_up(m, codes, turned, choice);
            l.a[half + 2] = look_up(m, codes >> 16, turned >> 16, choice >> 16);
        }
        return l;
    }
};

template <bool halves> struct int8_format : integers<halves> {
    typedef typename integers<halves>::left left;
    struct packed {
        uint2 codes[2];
    };

    static __device__ __forceinline__ packed load(const device_matrix &m, int row, int block)
    {
        packed p;
        int t = lane_index() % 4;
        for (int half = 0; half < 2; half++)
            p.codes[half] =
                load_once((const uint2 *)unit_of(m, 2, row + 8 * half, block, t / 2) + t % 2);
        return p;
    }

    static __device__ __forceinline__ left expand(const device_matrix &, packed p)
    {
        return left{{p.codes[0].x, p.codes[1].x, p.codes[0].y, p.codes[1].y}};
    }
};

struct bf16_format {
    enum { GROUPED = 0, TOKEN_BYTES = 2 * BLOCK_COLS, AHEAD = QUAD / 2 };
    struct right {
        uint4 pairs;
    };
    struct packed {
        uint4 pairs[2];
    };
    typedef packed left;

    static __device__ __forceinline__ packed load(const device_matrix &m, int row, int block)
    {
        packed p;
        for (int half = 0; half < 2; half++)
            p.pairs[half] =
                load_once((const uint4 *)unit_of(m, 4, row + 8 * half, block, lane_index() % 4));
        return p;
    }

    static __device__ __forceinline__ left expand(const device_matrix &, packed p)
    {
        return p;
    }

    __device__ __forceinline__ void load_quad(const device_matrix &, int, int)
    {
    }

    __device__ __forceinline__ void multiply(float (&sums)[4], const left &w, right x,
                                             const float *, const float *, int, int, bool) const
    {
        uint32_t a[4] = {w.pairs[0].x, w.pairs[1].x, w.pairs[0].y, w.pairs[1].y};
        uint32_t b[4] = {w.pairs[0].z, w.pairs[1].z, w.pairs[0].w, w.pairs[1].w};
        mma_bf16(sums, a, x.pairs.x, x.pairs.y);
        mma_bf16(sums, b, x.pairs.z, x.pairs.w);
    }
};

/* Where the narrow activations of a token begin. */
template <typename format>
static __device__ __forceinline__ const uint8_t *narrow_of(const device_rows &x)
{
    return format::GROUPED ? (const uint8_t *)x.codes : (const uint8_t *)x.bf16;
}

/* y of a row and token from its sum over columns. */
static __device__ __forceinline__ float finish(const device_linear &l, int matrix, int row,
                                               int token, float sum, bool grouped)
{
    if (!grouped)
        return sum;
    return __fmul_rn(__fmul_rn(sum, l.m[matrix].row_scales[row]), l.x.scales[token]);
}

template <int tiles>
static __device__ __forceinline__ void clear(float (&sums)[FRAGMENTS][tiles][4])
{
#pragma unroll
    for (int k = 0; k < FRAGMENTS; k++)
        for (int tile = 0; tile < tiles; tile++)
            for (int j = 0; j < 4; j++)
                sums[k][tile][j] = 0;
}

/* ---- rows of the matrix ------------------------------------------------------------------ */

/* The matrix and the first of `rows` rows that a block of threads has. */
static __device__ __forceinline__ int find_rows(const device_linear &l, int rows, int *matrix)
{
    int at = (int)blockIdx.x;
    for (*matrix = 0; at >= (l.m[*matrix].rows + rows - 1) / rows; ++*matrix)
        at -= (l.m[*matrix].rows + rows - 1) / rows;
    return at * rows;
}

/* The packed weights of block i of those ahead, if there is such a block. */
template <typename format>
static __device__ __forceinline__ void load_ahead(const device_matrix &m, int row, int block,
                                                  int end,
                                                  typename format::packed (&out)[FRAGMENTS])
{
    for (int k = 0; k < FRAGMENTS; k++)
        if (block < end)
            out[k] = format::load(m, row + 16 * k, block);
}

/* Weights for the mmas of a block, and in their place those of a later block. */
template <typename format>
static __device__ __forceinline__ void take_block(const device_matrix &m, int row, int block,
                                                  int end,
                                                  typename format::packed (&packed)[FRAGMENTS],
                                                  typename format::left (&w)[FRAGMENTS])
{
    for (int k = 0; k < FRAGMENTS; k++)
        w[k] = format::expand(m, packed[k]);
    load_ahead<format>(m, row, block + format::AHEAD, end, packed);
}

/* ---- many rows --------------------------------------------------------------------------- */

/* What a block of threads has of its activations in shared memory: a quad of blocks of columns. */
template <typename format, int tiles> struct stage {
    uint8_t narrow[TOKEN_WARPS * tiles][QUAD][TILE_TOKENS * format::TOKEN_BYTES];
    float bases[TOKEN_WARPS * tiles][QUAD][TILE_TOKENS];
    float totals[TOKEN_WARPS * tiles][QUAD][TILE_TOKENS];
};

/* Copies `bytes` (a multiple of 16) for each tile of tokens; sources lie `apart` bytes apart. */
static __device__ void copy_tiles(uint8_t *to, const uint8_t *from, int bytes, int to_apart,
                                  size_t from_apart, int n_tiles)
{
    int units = bytes / UNIT_BYTES;
    for (int i = (int)threadIdx.x; i < n_tiles * units; i += (int)blockDim.x) {
        int tile = i / units, unit = i % units;
        copy_async(to + (size_t)tile * to_apart + unit * UNIT_BYTES,
                   from + tile * from_apart + unit * UNIT_BYTES);
    }
}

/* The activations of the blocks [block, block + n), n <= QUAD, of the tiles of tokens from the
 * first one. */
template <typename format, int tiles>
static __device__ void fill_stage(stage<format, tiles> *s, const device_rows &x, int first_tile,
                                  int n_tiles, int block, int n, bool with_offsets)
{
    const int token_bytes = TILE_TOKENS * format::TOKEN_BYTES;
    const int number_bytes = TILE_TOKENS * (int)sizeof(float);
    size_t cell = (size_t)first_tile * x.blocks + block;
    copy_tiles(s->narrow[0][0], narrow_of<format>(x) + cell * token_bytes, n * token_bytes,
               QUAD * token_bytes, (size_t)x.blocks * token_bytes, n_tiles);
    if (format::GROUPED)
        copy_tiles((uint8_t *)s->bases[0][0], (const uint8_t *)x.bases + cell * number_bytes,
                   n * number_bytes, QUAD * number_bytes, (size_t)x.blocks * number_bytes, n_tiles);
    if (with_offsets)
        copy_tiles((uint8_t *)s->totals[0][0], (const uint8_t *)x.totals + cell * number_bytes,
                   n * number_bytes, QUAD * number_bytes, (size_t)x.blocks * number_bytes, n_tiles);
}

/* The blocks [block, end) of a quad, of 32 rows and `n_tiles` tiles of tokens, whose activations
 * begin with tile `first` of the stage. */
template <typename format, int tiles>
static __device__ __forceinline__ void multiply_quad(
    const format &f, const device_matrix &m, int row, int block,
    typename format::packed (&packed)[format::AHEAD][FRAGMENTS], const stage<format, tiles> *s,
    int first, int n_tiles, float (&sums)[FRAGMENTS][tiles][4])
{
#pragma unroll
    for (int i = 0; i < QUAD; i++) {
        if (block + i >= m.blocks)
            break;
        typename format::left w[FRAGMENTS];
        take_block<format>(m, row, block + i, m.blocks, packed[i % format::AHEAD], w);
#pragma unroll
        for (int tile = 0; tile < tiles; tile++) {
            if (tile >= n_tiles)
                break;
            typename format::right right =
                *((const typename format::right *)s->narrow[first + tile][i] + lane_index());
            for (int k = 0; k < FRAGMENTS; k++)
                f.multiply(sums[k][tile], w[k], right, s->bases[first + tile][i],
                           s->totals[first + tile][i], k, i, m.offsets != NULL);
        }
    }
}

template <int tiles>
static __device__ __forceinline__ void add_to(float (&totals)[FRAGMENTS][tiles][4],
                                              float (&sums)[FRAGMENTS][tiles][4], bool first)
{
#pragma unroll
    for (int k = 0; k < FRAGMENTS; k++)
        for (int tile = 0; tile < tiles; tile++)
            for (int j = 0; j < 4; j++) {
                totals[k][tile][j] =
                    first ? sums[k][tile][j] : __fadd_rn(totals[k][tile][j], sums[k][tile][j]);
            }
    clear<tiles>(sums);
}

template <int tiles>
static __device__ void write_tiles(const device_linear &l, int matrix, int row, int token,
                                   int n_tiles, const float (&totals)[FRAGMENTS][tiles][4],
                                   bool grouped)
{
#pragma unroll
    for (int k = 0; k < FRAGMENTS; k++)
        for (int tile = 0; tile < tiles; tile++)
            for (int j = 0; j < 4; j++) {
                int r = row + 16 * k + 8 * (j / 2), t = token + tile * TILE_TOKENS + j % 2;
                if (tile < n_tiles && r < l.m[matrix].rows && t < l.n_rows)
                    l.y[matrix][(size_t)t * l.y_stride[matrix] + r] =
                        finish(l, matrix, r, t, totals[k][tile][j], grouped);
            }
}

template <typename format, int tiles>
static __global__ void __launch_bounds__(WARP *MANY_WARPS)
    many_kernel(const __grid_constant__ device_linear l)
{
    stage<format, tiles> *stages = (stage<format, tiles> *)shared_memory();
    int matrix, first_row = find_rows(l, ROW_WARPS * TILE_ROWS, &matrix);
    const device_matrix &m = l.m[matrix];
    int tile_row = first_row + warp_index() / TOKEN_WARPS * TILE_ROWS;
    int row = tile_row + lane_index() / 4, each = m.slice;
    int first_tile = (int)blockIdx.y * TOKEN_WARPS * tiles;
    int n_tiles = (l.n_rows + TILE_TOKENS - 1) / TILE_TOKENS - first_tile;
    n_tiles = n_tiles < TOKEN_WARPS * tiles ? n_tiles : TOKEN_WARPS * tiles;
    int mine = warp_index() % TOKEN_WARPS * tiles, my_tiles = n_tiles - mine;
    bool idle = tile_row >= m.rows || my_tiles <= 0;
    float sums[FRAGMENTS][tiles][4], totals[FRAGMENTS][tiles][4];
    typename format::packed packed[format::AHEAD][FRAGMENTS];
    format f;

    let_next_begin();
    wait_for_inputs();
    clear<tiles>(sums);
    fill_stage(stages, l.x, first_tile, n_tiles, 0, m.blocks < QUAD ? m.blocks : QUAD,
               m.offsets != NULL);
    copy_commit();
#pragma unroll
    for (int i = 0; i < format::AHEAD; i++)
        load_ahead<format>(m, row, i, idle ? 0 : m.blocks, packed[i]);
    for (int block = 0, at = 0; block < m.blocks; block += QUAD, at = (at + 1) % STAGES) {
        int left = m.blocks - block - QUAD;
        if (!idle)
            f.load_quad(m, row, block);
        if (left > 0)
            fill_stage(stages + (at + 1) % STAGES, l.x, first_tile, n_tiles, block + QUAD,
                       left < QUAD ? left : QUAD, m.offsets != NULL);
        copy_commit();
        copy_wait<1>();
        __syncthreads();
        if (!idle) {
            multiply_quad<format, tiles>(f, m, row, block, packed, stages + at, mine, my_tiles,
                                         sums);
            if ((block + QUAD) % each == 0 || left <= 0)
                add_to<tiles>(totals, sums, block < each);
        }
        __syncthreads();
    }
    if (!idle)
        write_tiles<tiles>(l, matrix, row, (first_tile + mine) * TILE_TOKENS + lane_index() % 4 * 2,
                           my_tiles, totals, format::GROUPED);
}

/* ---- which ------------------------------------------------------------------------------- */

static int blocks_of(const device_linear &l, int rows)
{
    int n = 0;
    for (int i = 0; i < l.n; i++)
        n += (l.m[i].rows + rows - 1) / rows;
    return n;
}

template <typename format, int tiles> static void many(cudaStream_t stream, const device_linear &l)
{
    int tokens = TOKEN_WARPS * tiles * TILE_TOKENS;
    launch(stream, dim3(blocks_of(l, ROW_WARPS * TILE_ROWS), (l.n_rows + tokens - 1) / tokens),
           WARP * MANY_WARPS, STAGES * sizeof(stage<format, tiles>), many_kernel<format, tiles>, l);
}

template <typename format> static void choose(cudaStream_t stream, const device_linear &l)
{
    if (l.n_rows <= MOST_TOKENS / 2)
        many<format, MANY_TILES / 2>(stream, l);
    else
        many<format, MANY_TILES>(stream, l);
}

/* Whatever is chosen, the bits are the same. */
void device_linear_tiles(cudaStream_t stream, const device_linear *l, float *maxima, int processors,
                         size_t shared_bytes)
{
    int large =
        blocks_of(*l, ROW_WARPS * TILE_ROWS) * ((l->n_rows + MOST_TOKENS - 1) / MOST_TOKENS);
    if (l->n_rows <= FEW_ROWS || 2 * large < processors) {
        device_linear_few(stream, l, maxima, processors, shared_bytes);
        return;
    }
    switch (l->m[0].form) {
    case MATRIX_INT4:
        if (l->m[0].half_scales)
            choose<int4_format<true>>(stream, *l);
        else
            choose<int4_format<false>>(stream, *l);
        break;
    case MATRIX_INT8:
        if (l->m[0].half_scales)
            choose<int8_format<true>>(stream, *l);
        else
            choose<int8_format<false>>(stream, *l);
        break;
    default:
        choose<bf16_format>(stream, *l);
    }
}
