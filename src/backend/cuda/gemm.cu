/* SPDX-License-Identifier: MIT */
/*
 * gemm.cu: products of many rows on tensor cores: groups in int8, bf16 weights in bf16. A thread
 * block multiplies 128 rows of the matrix with up to 128 tokens, slice after slice. Weights stay
 * packed until they are in registers. For few rows see gemm_small.cu.
 *
 * A warp multiplies 32 rows, two fragments of 16, with 8 tokens at a time. An mma may take the
 * columns of a block in any order, if it is the same for both operands: lane 4 g + t takes eight
 * consecutive ones of row g and of token g, 8 t .. 8 t + 7, so that one load fetches them.
 */
#include "backend/cuda/common.cuh"

/* ---- number formats ---------------------------------------------------------------------- */

/* share: a lane's weights of a row's block. right: a lane's activations of a token's block. left:
 * the mma operand of a fragment. STAGE_BLOCKS, STAGES: as many as fit into shared memory. */

/* A lane's shares of rows g and g + 8 of a fragment. */
template <typename share> struct packed_rows {
    share of[2];
};

/* Scales and offsets of a fragment's block, for rows g and g + 8. */
struct fragment_factors {
    float scale[FRAGMENTS][2], offset[FRAGMENTS][2];
};

/* Scales and offsets of a row's pair of blocks. */
template <bool halves> struct pair_numbers;

template <> struct pair_numbers<false> {
    uint32_t turned;

    __device__ __forceinline__ void take(const uint8_t *scales, const uint8_t *)
    {
        turned = *(const uint16_t *)scales ^ TURN_BYTES;
    }
    __device__ __forceinline__ float scale(int i) const
    {
        return byte_to_float(turned, i);
    }
    __device__ __forceinline__ float offset(int) const
    {
        return 0;
    }
};

template <> struct pair_numbers<true> {
    uint32_t scales, offsets;

    __device__ __forceinline__ void take(const uint8_t *from, const uint8_t *from_offsets)
    {
        scales = *(const uint32_t *)from;
        offsets = from_offsets != NULL ? *(const uint32_t *)from_offsets : 0;
    }
    __device__ __forceinline__ float scale(int i) const
    {
        return f16_to_float(scales >> (16 * i) & 65535);
    }
    __device__ __forceinline__ float offset(int i) const
    {
        return f16_to_float(offsets >> (16 * i) & 65535);
    }
};

/* Common to both formats of groups. */
template <bool with_halves> struct integers {
    enum {
        GROUPED = 1,
        HALVES = with_halves,
        TOKEN_BYTES = BLOCK_COLS,
        NUMBER_BYTES = with_halves ? 8 : 4 /* of a row's quad */
    };
    typedef uint2 right;
    struct left {
        uint32_t a[4];
    };
    /* A tile of tokens in a block of columns; totals are for offsets. */
    struct column {
        right x;
        float2 base, total;
        int again[2]; /* the bits of the base */
    };
    struct products {
        int of[4];
    };

    /* nothing: 0. An mma takes the bases twice, in four consecutive registers. If the compiler knew
     * them to be equal, it would copy them together for every mma. */
    static __device__ __forceinline__ column take(const uint8_t *narrow, const float *bases,
                                                  const float *totals, int nothing)
    {
        column c;
        c.x = *((const right *)narrow + lane_index());
        c.base = *(const float2 *)(bases + lane_index() % 4 * 2);
        c.again[0] = __float_as_int(c.base.x) + nothing;
        c.again[1] = __float_as_int(c.base.y) + nothing;
        c.total = totals != NULL ? *(const float2 *)(totals + lane_index() % 4 * 2) : float2{0, 0};
        return c;
    }

    /* Starts the products of a fragment with 8 tokens, */
    static __device__ __forceinline__ products begin(const left &w, const column &c)
    {
        products p;
        int start[4] = {__float_as_int(c.base.x), __float_as_int(c.base.y), c.again[0], c.again[1]};
        mma_s8(p.of, w.a, c.x.x, c.x.y, start);
        return p;
    }

    /* and adds them to the sums. */
    static __device__ __forceinline__ void end(float (&sums)[4], const products &p, const left &,
                                               const column &c, const fragment_factors &f,
                                               int fragment, bool with_offsets)
    {
#pragma unroll
        for (int j = 0; j < 4; j++) {
            float product = __fsub_rn(__int_as_float(p.of[j]), j % 2 == 0 ? c.base.x : c.base.y);
            sums[j] = __fmaf_rn(product, f.scale[fragment][j / 2], sums[j]);
        }
#pragma unroll
        for (int j = 0; j < 4; j++)
            if (with_halves && with_offsets)
                sums[j] = __fmaf_rn(f.offset[fragment][j / 2], j % 2 == 0 ? c.total.x : c.total.y,
                                    sums[j]);
    }
};

template <bool halves> struct int4_format : integers<halves> {
    enum { UNITS = 1, STAGE_BLOCKS = QUAD, STAGES = 3 };
    typedef uint32_t share;
    typedef typename integers<halves>::left left;

    static __device__ __forceinline__ void expand(const uint32_t (&codebook)[4],
                                                  const packed_rows<share> &p, int half, left &l)
    {
        uint2 bytes = look_up_eight(codebook, p.of[half]);
        l.a[half] = bytes.x;
        l.a[half + 2] = bytes.y;
    }
};

template <bool halves> struct int8_format : integers<halves> {
    enum { UNITS = 2, STAGE_BLOCKS = QUAD / 2, STAGES = 4 };
    typedef uint2 share;
    typedef typename integers<halves>::left left;

    static __device__ __forceinline__ void expand(const uint32_t (&)[4],
                                                  const packed_rows<share> &p, int half, left &l)
    {
        l.a[half] = p.of[half].x;
        l.a[half + 2] = p.of[half].y;
    }
};

struct bf16_format {
    enum {
        GROUPED = 0,
        HALVES = 0,
        TOKEN_BYTES = 2 * BLOCK_COLS,
        NUMBER_BYTES = 4,
        UNITS = 4,
        STAGE_BLOCKS = QUAD / 2,
        STAGES = 3
    };
    typedef uint4 share;
    typedef uint4 right;
    typedef packed_rows<share> left;
    typedef right column;
    struct products {
    };

    static __device__ __forceinline__ column take(const uint8_t *narrow, const float *,
                                                  const float *, int)
    {
        return *((const right *)narrow + lane_index());
    }

    static __device__ __forceinline__ void expand(const uint32_t (&)[4],
                                                  const packed_rows<share> &p, int half, left &l)
    {
        l.of[half] = p.of[half];
    }

    /* f32 sums are in order, so an mma has to start from the sums before it. */
    static __device__ __forceinline__ products begin(const left &, const column &)
    {
        return products();
    }

    static __device__ __forceinline__ void end(float (&sums)[4], const products &, const left &w,
                                               const column &c, const fragment_factors &, int, bool)
    {
        uint32_t a[4] = {w.of[0].x, w.of[1].x, w.of[0].y, w.of[1].y};
        uint32_t b[4] = {w.of[0].z, w.of[1].z, w.of[0].w, w.of[1].w};
        mma_bf16(sums, a, c.x, c.y);
        mma_bf16(sums, b, c.z, c.w);
    }
};

/* Where a lane's share of row lane / 4 lies in shared memory, in a block's [UNITS][TILE_ROWS]
 * units. */
template <typename format> static __device__ __forceinline__ int share_offset()
{
    int byte = lane_index() % 4 * (int)sizeof(typename format::share), unit = byte / UNIT_BYTES;
    int row = dealt<format::UNITS>(lane_index() / 4, unit);
    return (unit * TILE_ROWS + row) * UNIT_BYTES + byte % UNIT_BYTES;
}

/* y of a row and token, from the sum over columns. */
static __device__ __forceinline__ float finish(const device_linear &l, int matrix, int row,
                                               int token, float sum, bool grouped)
{
    if (!grouped)
        return sum;
    return __fmul_rn(__fmul_rn(sum, l.m[matrix].row_scales[row]), l.x.scales[token]);
}

/* ---- rows of the matrix ------------------------------------------------------------------ */

/* The matrix and the first row of thread block `at`, which has `rows` rows. */
static __device__ __forceinline__ int find_rows(const device_linear &l, int at, int rows,
                                                int *matrix)
{
    for (*matrix = 0; at >= (l.m[*matrix].rows + rows - 1) / rows; ++*matrix)
        at -= (l.m[*matrix].rows + rows - 1) / rows;
    return at * rows;
}

/* ---- many rows --------------------------------------------------------------------------- */

/*
 * The limit is the number of instructions beside the mma: adding a fragment's products takes eight,
 * and the rest has to be shared by many products. So a warp holds as many sums as fit in registers,
 * twice, as slices are added in registers too, and a thread block has a multiprocessor for itself.
 * That leaves two warps for each scheduler, so a warp hides its own latencies: while it adds the
 * products of a tile of tokens, the tensor cores compute those of the next tile, the activations
 * after them are loaded, and the weights of the next block are unpacked. A stage is in shared
 * memory one stage early, so that this continues across stages.
 */
enum {
    GEMM_WARPS = 8,  /* of a block: */
    ROW_WARPS = 4,   /* along the matrix's rows, */
    TOKEN_WARPS = 2, /* and along the tokens */
    MOST_TILES = 8,  /* of tokens, that a warp takes at once */
    PAIR = 2,   /* blocks of columns in the body of the loop, which so fits the instruction cache */
    COLUMNS = 4 /* of activations in registers: this one, and two prefetched */
};

/* A stage of the pipeline in shared memory, in offsets of bytes: the activations of the thread
 * block's tiles of tokens, then the weights of its warps' rows. */
template <typename format, int tiles, bool offsets> struct pipeline_stage {
    enum {
        BLOCKS = format::STAGE_BLOCKS,
        TILES = TOKEN_WARPS * tiles,
        /* Bytes of a tile or of a warp's rows: a block's activations, bases and weights; a quad's
         * scales. */
        ROWS_CELL = TILE_TOKENS * format::TOKEN_BYTES,
        BASES_CELL = TILE_TOKENS * (int)sizeof(float),
        UNITS_CELL = format::UNITS * TILE_ROWS * UNIT_BYTES,
        NUMBERS_CELL = TILE_ROWS * format::NUMBER_BYTES,
        ROWS = 0, /* [TILES][BLOCKS] cells */
        BASES = ROWS + TILES * BLOCKS * ROWS_CELL,
        TOTALS = BASES + (format::GROUPED ? TILES * BLOCKS * BASES_CELL : 0),
        UNITS = TOTALS + (offsets ? TILES * BLOCKS * BASES_CELL : 0), /* [ROW_WARPS][BLOCKS] */
        SCALES = UNITS + ROW_WARPS * BLOCKS * UNITS_CELL,             /* [ROW_WARPS] */
        OFFSETS = SCALES + (format::GROUPED ? ROW_WARPS * NUMBERS_CELL : 0),
        BYTES = OFFSETS + (offsets ? ROW_WARPS * NUMBERS_CELL : 0),
        ALL = format::STAGES * BYTES
    };
};

/* Copies `cells` cells of each of `pieces` pieces, from the cell `block` on. Pieces of the source
 * are `apart` cells long; beyond the last piece the last one is copied again. there: units of a
 * piece that exist; others become zeros. of_block: units of a row's block in a cell, which dealt()
 * permutes. */
template <int cell_bytes, int cells, int pieces, int of_block = 1>
static __device__ __forceinline__ void copy_pieces(uint8_t *to, const void *source, int apart,
                                                   int first, int last, int block, int there)
{
    const int threads = WARP * GEMM_WARPS, units = cells * cell_bytes / UNIT_BYTES;
    const uint8_t *from =
        (const uint8_t *)source + ((size_t)first * (size_t)apart + (size_t)block) * cell_bytes;
    const unsigned thread = threadIdx.x, most = (unsigned)(last - first);
    const unsigned unit =
        (unsigned)dealt<of_block>((int)thread, (int)thread / TILE_ROWS % of_block);
    static_assert(threads % units == 0, "a thread has the same unit of all its pieces");
#pragma unroll
    for (int done = 0; done < units * pieces; done += threads) {
        unsigned piece = thread / units + done / units;
        /* Fits in 32 bits, unlike the offset of `first`. */
        unsigned offset = (piece < most ? piece : most) * (unsigned)(apart * cell_bytes) +
                          thread % units * UNIT_BYTES;
        copy_if(to + unit * UNIT_BYTES + done * UNIT_BYTES, from + offset,
                units * pieces >= threads || thread < units * pieces,
                (int)(thread % units) < there);
    }
}

/* The thread block's first tiles of rows and of tokens; and the last ones that exist. */
struct block_tiles {
    int row, last_row, token, last_token;
};

/* Copies the weights of a stage. */
template <typename format, int tiles, bool offsets>
static __device__ __forceinline__ void copy_weights(unsigned stage_at, const device_matrix &m,
                                                    const block_tiles &p, int block)
{
    typedef pipeline_stage<format, tiles, offsets> stage;
    enum { ALL = 1 << 30 };
    uint8_t *to = shared_memory() + stage_at;
    copy_pieces<stage::UNITS_CELL, stage::BLOCKS, ROW_WARPS, format::UNITS>(
        to + stage::UNITS, m.units, m.padded_blocks, p.row, p.last_row, block, ALL);
    if (format::GROUPED)
        copy_pieces<stage::NUMBERS_CELL, 1, ROW_WARPS>(to + stage::SCALES, m.scales,
                                                       m.padded_blocks / QUAD, p.row, p.last_row,
                                                       block / QUAD, ALL);
    if (offsets)
        copy_pieces<stage::NUMBERS_CELL, 1, ROW_WARPS>(to + stage::OFFSETS, m.offsets,
                                                       m.padded_blocks / QUAD, p.row, p.last_row,
                                                       block / QUAD, ALL);
}

/* Copies the activations of a stage. Blocks that do not exist become zeros, as in the matrix. */
template <typename format, int tiles, bool offsets>
static __device__ __forceinline__ void copy_rows(unsigned stage_at, const device_rows &x,
                                                 const block_tiles &p, int block)
{
    typedef pipeline_stage<format, tiles, offsets> stage;
    const int rows = stage::ROWS_CELL / UNIT_BYTES, bases = stage::BASES_CELL / UNIT_BYTES;
    int left = x.blocks - block;
    uint8_t *to = shared_memory() + stage_at;
    copy_pieces<stage::ROWS_CELL, stage::BLOCKS, stage::TILES>(
        to + stage::ROWS, narrow_of(x, format::GROUPED), x.blocks, p.token, p.last_token, block,
        left * rows);
    if (format::GROUPED)
        copy_pieces<stage::BASES_CELL, stage::BLOCKS, stage::TILES>(
            to + stage::BASES, x.bases, x.blocks, p.token, p.last_token, block, left * bases);
    if (offsets)
        copy_pieces<stage::BASES_CELL, stage::BLOCKS, stage::TILES>(
            to + stage::TOTALS, x.totals, x.blocks, p.token, p.last_token, block, left * bases);
}

/* x, hidden from the compiler, so that it keeps x in a register instead of computing it again. */
static __device__ __forceinline__ unsigned own(unsigned x)
{
    return __shfl_sync((unsigned)ALL_LANES, x, lane_index());
}

/* Where a lane's data of a pair of blocks lie in shared memory. */
template <typename format, int tiles, bool offsets> struct lane_view {
    typedef pipeline_stage<format, tiles, offsets> stage;
    unsigned rows, bases, units, numbers;

    /* Of the first pair of the stage at 0. */
    static __device__ __forceinline__ lane_view first()
    {
        unsigned warp_rows = (unsigned)warp_index() / TOKEN_WARPS;
        unsigned cell = (unsigned)warp_index() % TOKEN_WARPS * tiles * stage::BLOCKS;
        lane_view s;
        s.rows = stage::ROWS + cell * stage::ROWS_CELL;
        s.bases = stage::BASES + cell * stage::BASES_CELL;
        s.units = stage::UNITS + warp_rows * stage::BLOCKS * stage::UNITS_CELL +
                  (unsigned)share_offset<format>();
        s.numbers = stage::SCALES + warp_rows * stage::NUMBERS_CELL +
                    (unsigned)lane_index() / 4 * format::NUMBER_BYTES;
        s.rows = own(s.rows);
        s.bases = own(s.bases);
        s.units = own(s.units);
        s.numbers = own(s.numbers);
        return s;
    }
    __device__ __forceinline__ lane_view at(unsigned stage_at, unsigned in_stage,
                                            unsigned in_quad) const
    {
        return {rows + stage_at + in_stage * stage::ROWS_CELL,
                bases + stage_at + in_stage * stage::BASES_CELL,
                units + stage_at + in_stage * stage::UNITS_CELL,
                numbers + stage_at + in_quad * (format::NUMBER_BYTES / QUAD)};
    }
    __device__ __forceinline__ typename format::column column(int step, int nothing) const
    {
        int cell = step % tiles * stage::BLOCKS + step / tiles;
        const uint8_t *base = shared_memory() + bases + cell * stage::BASES_CELL;
        return format::take(shared_memory() + rows + cell * stage::ROWS_CELL, (const float *)base,
                            offsets ? (const float *)(base + stage::TOTALS - stage::BASES) : NULL,
                            nothing);
    }
    __device__ __forceinline__ typename format::share share(int block, int k) const
    {
        return *(const typename format::share *)(shared_memory() + units +
                                                 block * stage::UNITS_CELL + 8 * k * UNIT_BYTES);
    }
    __device__ __forceinline__ pair_numbers<format::HALVES> scales(int k) const
    {
        pair_numbers<format::HALVES> n;
        const uint8_t *from = shared_memory() + numbers + 8 * k * format::NUMBER_BYTES;
        n.take(from, offsets ? from + stage::OFFSETS - stage::SCALES : NULL);
        return n;
    }
};

/* What a warp holds in registers besides sums. A step is a tile of tokens in a block of columns. */
template <typename format, int tiles, bool offsets> struct warp_registers {
    typedef lane_view<format, tiles, offsets> view;
    uint32_t codebook[4];
    int nothing; /* 0, hidden from the compiler */
    typename format::left w[PAIR][FRAGMENTS];
    pair_numbers<format::HALVES> numbers[2 * FRAGMENTS];
    fragment_factors f[PAIR];
    typename format::column c[COLUMNS];
    typename format::products p[2][FRAGMENTS];

    __device__ __forceinline__ void take_numbers(const view &from)
    {
#pragma unroll
        for (int k = 0; k < 2 * FRAGMENTS && format::GROUPED; k++)
            numbers[k] = from.scales(k);
    }
    __device__ __forceinline__ void find_factors(int block)
    {
#pragma unroll
        for (int k = 0; k < 2 * FRAGMENTS && format::GROUPED; k++) {
            f[block].scale[k / 2][k % 2] = numbers[k].scale(block);
            f[block].offset[k / 2][k % 2] = numbers[k].offset(block);
        }
    }
    __device__ __forceinline__ void begin(int step)
    {
#pragma unroll
        for (int k = 0; k < FRAGMENTS; k++)
            p[step % 2][k] = format::begin(w[step / tiles % PAIR][k], c[step % COLUMNS]);
    }

    /* Up to the first step. */
    __device__ __forceinline__ void start(const device_matrix &m, const view &first)
    {
        for (int i = 0; i < 4; i++)
            codebook[i] = m.codebook[i];
        nothing = (int)blockIdx.z;
        packed_rows<typename format::share> shares[FRAGMENTS];
#pragma unroll
        for (int k = 0; k < 2 * FRAGMENTS; k++) {
            shares[k / 2].of[k % 2] = first.share(0, k);
            format::expand(codebook, shares[k / 2], k % 2, w[0][k / 2]);
        }
        take_numbers(first);
        find_factors(0);
        c[0] = first.column(0, nothing);
        c[1] = first.column(1, nothing);
        begin(0);
    }

    /* The steps of a pair, and the preparation of the next pair. fresh: sums start at 0. */
    template <bool fresh>
    __device__ __forceinline__ void multiply(const view &here, const view &next,
                                             float (&sums)[FRAGMENTS][tiles][4])
    {
        packed_rows<typename format::share> shares[FRAGMENTS];
        if (fresh)
            clear<tiles>(sums);
#pragma unroll
        for (int step = 0; step < PAIR * tiles; step++) {
            const int tile = step % tiles, block = step / tiles, ahead = step + 2;
            c[ahead % COLUMNS] = ahead < PAIR * tiles ? here.column(ahead, nothing)
                                                      : next.column(ahead - PAIR * tiles, nothing);
            if (tile == 0 && block == 1)
                take_numbers(next);
#pragma unroll
            for (int k = 0; k < 2 * FRAGMENTS; k++) {
                if (tile == 0)
                    shares[k / 2].of[k % 2] = block == 0 ? here.share(1, k) : next.share(0, k);
                /* Spread over the steps, as these instructions are slow. */
                if (tile == 1 + k * (tiles - 2) / (2 * FRAGMENTS))
                    format::expand(codebook, shares[k / 2], k % 2, w[(block + 1) % PAIR][k / 2]);
            }
            if (tile == tiles - 1)
                find_factors((block + 1) % PAIR);
            begin(step + 1);
#pragma unroll
            for (int k = 0; k < FRAGMENTS; k++)
                format::end(sums[k][tile], p[step % 2][k], w[block][k], c[step % COLUMNS], f[block],
                            k, offsets);
        }
    }
};

template <int tiles>
static __device__ __forceinline__ void add_to(float (&totals)[FRAGMENTS][tiles][4],
                                              const float (&sums)[FRAGMENTS][tiles][4], bool first)
{
#pragma unroll
    for (int i = 0; i < FRAGMENTS * tiles * 4; i++) {
        float &total = totals[i / tiles / 4][i / 4 % tiles][i % 4];
        float sum = sums[i / tiles / 4][i / 4 % tiles][i % 4];
        total = first ? sum : __fadd_rn(total, sum);
    }
}

template <int tiles>
static __device__ __forceinline__ void write_tiles(const device_linear &l, int matrix, int row,
                                                   int token,
                                                   const float (&totals)[FRAGMENTS][tiles][4],
                                                   bool grouped)
{
#pragma unroll
    for (int k = 0; k < 2 * FRAGMENTS; k++) {
        int r = row + 8 * k;
        if (r >= l.m[matrix].rows)
            break;
#pragma unroll
        for (int i = 0; i < tiles * 2; i++) {
            int t = token + i / 2 * TILE_TOKENS + i % 2;
            if (t < l.n_rows)
                l.y[matrix][(size_t)t * l.y_stride[matrix] + r] =
                    finish(l, matrix, r, t, totals[k / 2][i / 2][k % 2 * 2 + i % 2], grouped);
        }
    }
}

/* Thread blocks with the same rows of the matrix are consecutive, so that memory is read once for
 * all tokens. */
template <typename format, int tiles, bool offsets>
static __global__ void __launch_bounds__(WARP *GEMM_WARPS, 1)
    gemm_kernel(const __grid_constant__ device_linear l, unsigned columns)
{
    typedef pipeline_stage<format, tiles, offsets> stage;
    typedef lane_view<format, tiles, offsets> view;
    const int STAGES = format::STAGES, BLOCKS = stage::BLOCKS;
    const unsigned LAST = (STAGES - 1) * stage::BYTES;
    int matrix,
        first_row = find_rows(l, (int)(blockIdx.x / columns), ROW_WARPS * TILE_ROWS, &matrix);
    const device_matrix &m = l.m[matrix];
    const int blocks = m.blocks, each = m.slice;
    const block_tiles p = {first_row / TILE_ROWS, m.tiles - 1,
                           (int)(blockIdx.x % columns) * stage::TILES,
                           (l.n_rows + TILE_TOKENS - 1) / TILE_TOKENS - 1};
    int row = first_row + warp_index() / TOKEN_WARPS * TILE_ROWS;
    int tile = p.token + warp_index() % TOKEN_WARPS * tiles;
    /* Rows and tokens that do not exist are multiplied too, unless the warp has no others. */
    bool idle = row >= m.rows || tile > p.last_token;
    float sums[FRAGMENTS][tiles][4], totals[FRAGMENTS][tiles][4];
    warp_registers<format, tiles, offsets> r;

    let_next_begin();
#pragma unroll
    for (int i = 0; i < STAGES - 1; i++)
        if (i * BLOCKS < blocks)
            copy_weights<format, tiles, offsets>(i * stage::BYTES, m, p, i * BLOCKS);
    wait_for_inputs();
#pragma unroll
    for (int i = 0; i < STAGES - 1; i++) {
        if (i * BLOCKS < blocks)
            copy_rows<format, tiles, offsets>(i * stage::BYTES, l.x, p, i * BLOCKS);
        copy_commit();
    }
    copy_wait<STAGES - 2>();
    __syncthreads();
    const view first = view::first();
    view here = first;
    if (!idle)
        r.start(m, here);

    /* Offsets of stages: the one in use, and the one that is free after it. */
    unsigned stage_at = 0, free_at = LAST;
    for (int slice = 0, end; slice < blocks; slice = end) {
        end = slice + each < blocks ? slice + each : blocks;
#pragma unroll 1
        for (int block = slice; block < end; block += PAIR) {
            unsigned after = (unsigned)block + PAIR;
            unsigned next_at = stage_at < LAST ? stage_at + stage::BYTES : 0;
            if (after % BLOCKS == PAIR % BLOCKS) {
                int ahead = block + (STAGES - 1) * BLOCKS;
                copy_wait<STAGES - 3>();
                __syncthreads();
                if (ahead < blocks) {
                    copy_weights<format, tiles, offsets>(free_at, m, p, ahead);
                    copy_rows<format, tiles, offsets>(free_at, l.x, p, ahead);
                }
                copy_commit();
            }
            if (after % BLOCKS == 0) {
                free_at = stage_at;
                stage_at = next_at;
            }
            if (idle)
                continue;
            view next = first.at(stage_at, after % BLOCKS, after % QUAD);
            if (block == slice)
                r.template multiply<true>(here, next, sums);
            else
                r.template multiply<false>(here, next, sums);
            here = next;
        }
        if (!idle)
            add_to<tiles>(totals, sums, slice == 0);
    }
    if (!idle)
        write_tiles<tiles>(l, matrix, row + lane_index() / 4,
                           tile * TILE_TOKENS + lane_index() % 4 * 2, totals, format::GROUPED);
}

/* ---- which ------------------------------------------------------------------------------- */

static int blocks_of(const device_linear &l, int rows)
{
    int n = 0;
    for (int i = 0; i < l.n; i++)
        n += (l.m[i].rows + rows - 1) / rows;
    return n;
}

/* Thread blocks along the tokens. */
template <int tiles> static unsigned gemm_columns(const device_linear &l)
{
    const int tokens = TOKEN_WARPS * tiles * TILE_TOKENS;
    return (unsigned)((l.n_rows + tokens - 1) / tokens);
}

template <typename format, int tiles>
static void launch_gemm(cudaStream_t stream, const device_linear &l)
{
    unsigned columns = gemm_columns<tiles>(l);
    dim3 grid((unsigned)blocks_of(l, ROW_WARPS * TILE_ROWS) * columns);
    if (format::HALVES && l.m[0].offsets != NULL)
        launch(stream, grid, WARP * GEMM_WARPS, pipeline_stage<format, tiles, format::HALVES>::ALL,
               gemm_kernel<format, tiles, format::HALVES>, l, columns);
    else
        launch(stream, grid, WARP * GEMM_WARPS, pipeline_stage<format, tiles, false>::ALL,
               gemm_kernel<format, tiles, false>, l, columns);
}

/* Chooses how many tiles of tokens a warp takes, for so many multiprocessors: half as many take
 * 8/13 of the time, counted in instructions. The bits are the same. */
template <typename format>
static void choose(cudaStream_t stream, const device_linear &l, int processors)
{
    int rows = blocks_of(l, ROW_WARPS * TILE_ROWS);
    int rounds = (rows * (int)gemm_columns<MOST_TILES>(l) + processors - 1) / processors;
    int small_rounds = (rows * (int)gemm_columns<MOST_TILES / 2>(l) + processors - 1) / processors;
    if (small_rounds * 8 < rounds * 13)
        launch_gemm<format, MOST_TILES / 2>(stream, l);
    else
        launch_gemm<format, MOST_TILES>(stream, l);
}

void device_linear_gemm(cudaStream_t stream, const device_linear *l, float *maxima, int processors,
                        size_t shared_bytes)
{
    int most = blocks_of(*l, ROW_WARPS * TILE_ROWS) * (int)gemm_columns<MOST_TILES>(*l);
    if (l->n_rows <= SMALL_ROWS || 2 * most < processors) {
        device_linear_gemm_small(stream, l, maxima, processors, shared_bytes);
        return;
    }
    switch (l->m[0].form) {
    case MATRIX_INT4:
        if (l->m[0].half_scales)
            choose<int4_format<true>>(stream, *l, processors);
        else
            choose<int4_format<false>>(stream, *l, processors);
        break;
    case MATRIX_INT8:
        if (l->m[0].half_scales)
            choose<int8_format<true>>(stream, *l, processors);
        else
            choose<int8_format<false>>(stream, *l, processors);
        break;
    default:
        choose<bf16_format>(stream, *l, processors);
    }
}
