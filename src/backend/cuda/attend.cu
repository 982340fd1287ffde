/* SPDX-License-Identifier: MIT */
/*
 * attend.cu: attention over KV pages. The unit is a page of 64 positions: its scores, their
 * largest, weights and sums of weights times V make a state (Milakov and Gimelshein 2018,
 * arXiv:1805.02867), and a row merges the states of its pages in ascending order. Either all states
 * are computed side by side, for few rows (flash-decoding), or one after another, for many: the
 * same arithmetic, so the same bits.
 *
 * Two kernels compute states. With K and V in f16 and heads of 128 at most, a warp has 16 queries
 * that share a KV head, of neighbouring rows of one sequence, and tensor cores: queries are taken
 * as the sum of two f16, which loses nothing that counts; weights are rounded to f16. Otherwise a
 * block of threads has one query, in f32.
 *
 * Weights are powers of two: scores are scaled by log2(e) / sqrt(head_dim).
 */
#include "backend/cuda/common.cuh"

enum {
    WARP_QUERIES = 16,
    TILE_WARPS = 4,
    SPLIT_BLOCKS = 2, /* that a processor runs at once */
    MERGE_PAGES = 2,  /* that are better merged by one block */
    WIDEST = 128
};

/* Queries of a KV head and a tile of rows: row i / n_group, head i % n_group of the KV head's. */
struct queries {
    int first_row, n_rows; /* of the tile */
    int kv_head, n_group;
};

static __device__ __forceinline__ queries find_queries(const device_batch &batch,
                                                       const device_heads &heads, int tile,
                                                       int kv_head)
{
    return {batch.tile_rows[2 * tile], batch.tile_rows[2 * tile + 1], kv_head, heads.n_group};
}

/* What a state is scaled by when it meets one whose largest score is `other`: neither is NaN or
 * both -infinity, unless a score is NaN. */
static __device__ __forceinline__ float shrink(float max, float merged)
{
    return exp2f(__fsub_rn(max, merged));
}

static __device__ __forceinline__ float merge(float total, float a, float part, float b)
{
    return __fmaf_rn(total, a, __fmul_rn(part, b));
}

/* y of a sum; + 0 makes -0 of products that were skipped elsewhere +0. */
static __device__ __forceinline__ float finish(float sum, float weights)
{
    return __fadd_rn(sum / weights, 0);
}

/* Where a state of a row's page goes. */
static __device__ __forceinline__ float *state_of(const device_batch &batch,
                                                  const device_heads &heads, float *states, int row,
                                                  int head, int page)
{
    int pages = batch.positions[row] / PAGE_TOKENS + 1;
    size_t index = batch.states[row] + (size_t)head * pages + page;
    return states + index * heads.state_floats;
}

/* ---- tensor cores ------------------------------------------------------------------------ */

/* Fragments of 16 queries: for 32 dimensions, in the order of a lane's loads of K, two of 16; a is
 * the upper f16 of a query's elements, b what is left. */
template <int steps> struct query_fragments {
    uint32_t a[steps][2][4], b[steps][2][4];
};

static __device__ __forceinline__ uint32_t two_halves(uint16_t first, uint16_t second)
{
    return first | (uint32_t)second << 16;
}

/* Element i of the upper or lower part of a query, which is zero beyond its end. */
static __device__ __forceinline__ void split(float x, uint16_t *upper, uint16_t *lower)
{
    *upper = float_to_f16(x);
    *lower = float_to_f16(__fsub_rn(x, f16_to_float(*upper)));
}

template <int steps>
static __device__ void load_queries(query_fragments<steps> &f, const device_heads &heads,
                                    const device_rows &q, const queries &qs, int first)
{
    int t = lane_index() % 4, n = qs.n_rows * qs.n_group;
    for (int half = 0; half < 2; half++) {
        int query = first + lane_index() / 4 + 8 * half;
        bool there = query < n;
        int row = qs.first_row + (there ? query / qs.n_group : 0);
        int head = qs.kv_head * qs.n_group + (there ? query % qs.n_group : 0);
        const float *from = q.values + (size_t)row * q.stride + (size_t)head * heads.head_dim;
#pragma unroll
        for (int step = 0; step < steps; step++)
#pragma unroll
            for (int i = 0; i < 4; i++) {
                /* Dimensions 32 step + 8 t + 2 i, + 1: of the fragment i / 2 its k half i % 2. */
                int dim = 32 * step + 8 * t + 2 * i;
                float x = there && dim < heads.head_dim ? from[dim] : 0;
                float y = there && dim + 1 < heads.head_dim ? from[dim + 1] : 0;
                uint16_t upper[2], lower[2];
                split(x, &upper[0], &lower[0]);
                split(y, &upper[1], &lower[1]);
                f.a[step][i / 2][i % 2 * 2 + half] = two_halves(upper[0], upper[1]);
                f.b[step][i / 2][i % 2 * 2 + half] = two_halves(lower[0], lower[1]);
            }
    }
}

/* The slot in a page that column `col` of the i-th of the four mmas of a block of 32 positions
 * stands for: chosen so that a lane's columns 2 t, 2 t + 1 of all four are the eight neighbours of
 * which it later loads V. */
static __device__ __forceinline__ int slot_of(int block, int i, int col)
{
    return 32 * block + col / 2 * 8 + 2 * i + col % 2;
}

/* 32 dimensions of the products of n mmas' positions with the queries; x: what the lane has of K.
 * The mmas of one sum wait for each other, those of the n sums do not. */
template <int steps, int n>
static __device__ __forceinline__ void score_step(const query_fragments<steps> &f, int step,
                                                  const uint4 (&x)[n], float (&scores)[n][4])
{
#pragma unroll
    for (int i = 0; i < n; i++)
        mma_f16(scores[i], f.b[step][0], x[i].x, x[i].y);
#pragma unroll
    for (int i = 0; i < n; i++)
        mma_f16(scores[i], f.b[step][1], x[i].z, x[i].w);
#pragma unroll
    for (int i = 0; i < n; i++)
        mma_f16(scores[i], f.a[step][0], x[i].x, x[i].y);
#pragma unroll
    for (int i = 0; i < n; i++)
        mma_f16(scores[i], f.a[step][1], x[i].z, x[i].w);
}

/* Products with the positions of mma i of a block to scores; last: for rows g and g + 8 the last
 * slot that they see. */
static __device__ __forceinline__ void finish_scores(int block, int i, float scale,
                                                     const int (&last)[2], float (&scores)[4])
{
#pragma unroll
    for (int j = 0; j < 4; j++) {
        int slot = slot_of(block, i, lane_index() % 4 * 2 + j % 2);
        scores[j] = slot <= last[j / 2] ? __fmul_rn(scores[j], scale) : -INFINITY;
    }
}

/* Where a lane finds its K for mma i of a block: [4 * step] */
template <int steps>
static __device__ __forceinline__ const uint4 *k_of(const uint8_t *page, int block, int i)
{
    return (const uint4 *)page + (size_t)slot_of(block, i, lane_index() / 4) * 4 * steps +
           lane_index() % 4;
}

/* And its V for columns 8 i .. 8 i + 7: [4 * block] */
static __device__ __forceinline__ const uint4 *v_of(const uint8_t *v, int i)
{
    return (const uint4 *)v + (8 * i + lane_index() / 4) * (PAGE_TOKENS / 8) + lane_index() % 4;
}

/* Pairs of f16 at positions up to `last` of a lane's eight from `slot` on; the others become 0. */
static __device__ __forceinline__ uint4 mask_pairs(uint4 pairs, int slot, int last)
{
    uint32_t words[4] = {pairs.x, pairs.y, pairs.z, pairs.w};
    for (int i = 0; i < 4; i++) {
        if (slot + 2 * i > last)
            words[i] = 0;
        else if (slot + 2 * i + 1 > last)
            words[i] &= 65535;
    }
    return {words[0], words[1], words[2], words[3]};
}

/* Weights of a page's positions as pairs of f16, of rows g and g + 8, or of the first alone, which
 * are what scores become; their largest and the weights' sum. */
typedef uint32_t page_weights[2][4][2];

static __device__ __forceinline__ void weigh(float (&scores)[2][4][4], int halves, float (&max)[2],
                                             float (&sums)[2], page_weights &weights)
{
#pragma unroll
    for (int half = 0; half < 2; half++) {
        float largest = -INFINITY, sum = 0;
        if (half >= halves) { /* nobody looks */
            max[half] = sums[half] = 0;
            for (int block = 0; block < 2; block++)
                for (int i = 0; i < 4; i++)
                    weights[block][i][half] = 0;
            continue;
        }
#pragma unroll
        for (int block = 0; block < 2; block++)
#pragma unroll
            for (int i = 0; i < 4; i++)
                largest = larger(larger(scores[block][i][2 * half], largest),
                                 scores[block][i][2 * half + 1]);
        max[half] = largest = warp_max(largest, 4);
        largest = largest == -INFINITY ? 0 : largest;
#pragma unroll
        for (int block = 0; block < 2; block++)
#pragma unroll
            for (int i = 0; i < 4; i++) {
                /* As f16, what exp2_or_zero makes 0 is 0. */
                uint32_t pair =
                    floats_to_f16(exp2_or_zero(__fsub_rn(scores[block][i][2 * half], largest)),
                                  exp2_or_zero(__fsub_rn(scores[block][i][2 * half + 1], largest)));
                sum =
                    __fadd_rn(__fadd_rn(sum, f16_to_float(pair & 65535)), f16_to_float(pair >> 16));
                weights[block][i][half] = pair;
            }
        sums[half] = warp_sum(sum, 4);
    }
}

/* Sums of weights times eight columns of V, of which the lane has v; last_written: the last slot
 * that any row sees, beyond which V may be anything. */
static __device__ __forceinline__ void sum_eight(const page_weights &weights, const uint4 (&v)[2],
                                                 int last_written, float (&sums)[4])
{
    for (int j = 0; j < 4; j++)
        sums[j] = 0;
#pragma unroll
    for (int block = 0; block < 2; block++) {
        uint4 x = v[block];
        if (last_written < PAGE_TOKENS - 1)
            x = mask_pairs(x, 32 * block + lane_index() % 4 * 8, last_written);
        const uint32_t(&w)[4][2] = weights[block];
        uint32_t first[4] = {w[0][0], w[0][1], w[1][0], w[1][1]};
        uint32_t second[4] = {w[2][0], w[2][1], w[3][0], w[3][1]};
        mma_f16(sums, first, x.x, x.y);
        mma_f16(sums, second, x.z, x.w);
    }
}

/* What a lane knows of the states of rows g and g + 8, merged so far. */
struct merged_rows {
    float max[2], weights[2];
};

static __device__ __forceinline__ merged_rows nothing_merged()
{
    return {{-INFINITY, -INFINITY}, {0, 0}};
}

/* Merges a page's; old, part: what the sums so far, and those of the page, are scaled by. A row
 * that doesn't see the page (last: the slots that rows see) keeps its state. */
static __device__ __forceinline__ void merge_rows(merged_rows &m, const int (&last)[2],
                                                  const float (&max)[2], const float (&weights)[2],
                                                  float (&old)[2], float (&part)[2])
{
#pragma unroll
    for (int half = 0; half < 2; half++) {
        bool sees = last[half] >= 0;
        float merged = sees ? larger(m.max[half], max[half]) : m.max[half];
        old[half] = sees ? shrink(m.max[half], merged) : 1;
        part[half] = sees ? shrink(max[half], merged) : 0;
        m.max[half] = merged;
        m.weights[half] = merge(m.weights[half], old[half], weights[half], part[half]);
    }
}

static __device__ __forceinline__ void merge_sums(float (&sums)[4], const float (&of_page)[4],
                                                  const float (&old)[2], const float (&part)[2])
{
#pragma unroll
    for (int j = 0; j < 4; j++)
        sums[j] = merge(sums[j], old[j / 2], of_page[j], part[j / 2]);
}

/* The rows of a lane's two queries (or of the tile's first), and whether the queries are there. */
struct lane_queries {
    int row[2], head[2], position[2];
    bool there[2];
};

static __device__ lane_queries find_lane(const device_batch &batch, const queries &qs, int first)
{
    lane_queries l;
    for (int half = 0; half < 2; half++) {
        int query = first + lane_index() / 4 + 8 * half;
        l.there[half] = query < qs.n_rows * qs.n_group;
        l.row[half] = qs.first_row + (l.there[half] ? query / qs.n_group : 0);
        l.head[half] = qs.kv_head * qs.n_group + (l.there[half] ? query % qs.n_group : 0);
        l.position[half] = batch.positions[l.row[half]];
    }
    return l;
}

/* ---- tensor cores, pages side by side ---------------------------------------------------- */

/* A block of threads has a page, and what of it can be done apart its warps share: a warp has the
 * scores of 16 positions and the sums of an eighth of V's columns for each of its mmas. */
template <int steps> struct page_part {
    uint4 k[2][steps], v[steps][2];
};

static __device__ __forceinline__ int part_block()
{
    return warp_index() / 2;
}

static __device__ __forceinline__ int part_mma(int i)
{
    return warp_index() % 2 * 2 + i;
}

template <int steps>
static __device__ __forceinline__ void load_k(page_part<steps> &part, const uint8_t *page)
{
#pragma unroll
    for (int i = 0; i < 2; i++)
        for (int step = 0; step < steps; step++)
            part.k[i][step] = k_of<steps>(page, part_block(), part_mma(i))[4 * step];
}

template <int steps>
static __device__ __forceinline__ void load_v(page_part<steps> &part, const device_heads &heads,
                                              const uint8_t *page)
{
#pragma unroll
    for (int i = 0; i < steps; i++)
        for (int block = 0; block < 2; block++)
            part.v[i][block] =
                v_of(page + page_k_bytes(heads), warp_index() * steps + i)[4 * block];
}

/* What lies in the block's shared memory: all scores; the queries as the sum of two f16, from rows
 * that begin in other banks than their neighbours; a row's new K and V; sums with V. */
template <int steps> struct page_room {
    enum { DIM = 32 * steps, STRIDE = DIM + 32 };
    float4 scores[2][4][WARP];
    uint16_t upper[WARP_QUERIES][STRIDE], lower[WARP_QUERIES][STRIDE];
    uint4 new_k[DIM / 8];
    uint16_t new_v[DIM];
    float sums[WARP_QUERIES][DIM], weights[WARP_QUERIES];
    int arrived;
};

static __device__ __forceinline__ uint32_t replaced(uint32_t two, int i, uint32_t half)
{
    return i == 0 ? (two & ~65535u) | half : (two & 65535) | half << 16;
}

/* Puts the K and V of a new position among what the lane has of its page. */
template <int steps>
static __device__ __forceinline__ void insert(page_part<steps> &part, const page_room<steps> *room,
                                              int slot)
{
    int g = lane_index() / 4, t = lane_index() % 4;
#pragma unroll
    for (int i = 0; i < 2; i++)
        if (slot_of(part_block(), part_mma(i), g) == slot)
            for (int step = 0; step < steps; step++)
                part.k[i][step] = room->new_k[4 * step + t];
#pragma unroll
    for (int i = 0; i < steps; i++) {
        uint32_t value = room->new_v[8 * (warp_index() * steps + i) + g];
#pragma unroll
        for (int block = 0; block < 2; block++) {
            int at = slot - (32 * block + 8 * t); /* 0 .. 7: among these eight */
            uint4 &v = part.v[i][block];
            if (slot / 32 != block) /* for all */
                continue;
            v.x = at / 2 == 0 && at >= 0 ? replaced(v.x, at % 2, value) : v.x;
            v.y = at / 2 == 1 ? replaced(v.y, at % 2, value) : v.y;
            v.z = at / 2 == 2 ? replaced(v.z, at % 2, value) : v.z;
            v.w = at / 2 == 3 ? replaced(v.w, at % 2, value) : v.w;
        }
    }
}

/* Where a query begins; fresh: the tile is a row. */
template <bool fresh>
static __device__ __forceinline__ const float *query_of(const device_heads &heads,
                                                        const queries &qs, const device_rows &q,
                                                        int query)
{
    int row = fresh ? 0 : query / qs.n_group, head = query - row * qs.n_group;
    return q.values + (size_t)(qs.first_row + row) * q.stride +
           (size_t)(qs.kv_head * qs.n_group + head) * heads.head_dim;
}

/* Queries first .. first + n - 1, turned if they aren't. No branches, for all loads to be on their
 * way at once. */
template <int steps, bool fresh>
static __device__ void take_queries(const device_batch &batch, const device_heads &heads,
                                    const queries &qs, int first, int n, const device_rows &q,
                                    page_room<steps> *room)
{
    enum { DIM = 32 * steps, AT_ONCE = 4 };
    const float *angles = batch.angles + (size_t)qs.first_row * heads.head_dim;
    for (int at = (int)threadIdx.x; at < n * DIM; at += AT_ONCE * WARP * TILE_WARPS) {
        float x[AT_ONCE];
#pragma unroll
        for (int j = 0; j < AT_ONCE; j++) {
            int index = at + j * WARP * TILE_WARPS, i = index % DIM;
            const float *from =
                query_of<fresh>(heads, qs, q, first + (index < n * DIM ? index / DIM : n - 1));
            bool there = i < heads.head_dim;
            int there_i = there ? i : 0;
            x[j] = fresh ? rotated(from, angles, there_i, heads) : from[there_i];
            x[j] = there ? x[j] : 0;
        }
#pragma unroll
        for (int j = 0; j < AT_ONCE; j++) {
            int index = at + j * WARP * TILE_WARPS;
            if (index < n * DIM)
                split(x[j], &room->upper[index / DIM][index % DIM],
                      &room->lower[index / DIM][index % DIM]);
        }
    }
}

template <int steps>
static __device__ __forceinline__ void load_taken(query_fragments<steps> &f,
                                                  const page_room<steps> *room, int n)
{
#pragma unroll
    for (int half = 0; half < 2; half++) {
        int query = lane_index() / 4 + 8 * half;
#pragma unroll
        for (int step = 0; step < steps; step++) {
            int dim = 32 * step + lane_index() % 4 * 8;
            uint4 a = {0, 0, 0, 0}, b = {0, 0, 0, 0};
            if (query < n) {
                const uint16_t *upper = room->upper[query] + dim, *lower = room->lower[query] + dim;
                a = *(const uint4 *)upper;
                b = *(const uint4 *)lower;
            }
            uint32_t upper[4] = {a.x, a.y, a.z, a.w}, lower[4] = {b.x, b.y, b.z, b.w};
            for (int i = 0; i < 4; i++) {
                f.a[step][i / 2][i % 2 * 2 + half] = upper[i];
                f.b[step][i / 2][i % 2 * 2 + half] = lower[i];
            }
        }
    }
}

template <int steps>
static __device__ __forceinline__ void write_part(const device_batch &batch,
                                                  const device_heads &heads, float *states,
                                                  const lane_queries &l, int page,
                                                  const float (&max)[2], const float (&weights)[2],
                                                  const float (&sums)[steps][4])
{
#pragma unroll
    for (int half = 0; half < 2; half++) {
        if (!l.there[half] || page > l.position[half] / PAGE_TOKENS)
            continue;
        float *out = state_of(batch, heads, states, l.row[half], l.head[half], page);
        if (threadIdx.x % 4 == 0 && warp_index() == 0) {
            out[heads.padded_dim] = max[half];
            out[heads.padded_dim + 1] = weights[half];
        }
        for (int i = 0; i < steps; i++)
            *(float2 *)(out + 8 * (warp_index() * steps + i) +
                        lane_index() % 4 * 2) = {sums[i][2 * half], sums[i][2 * half + 1]};
    }
}

/* Columns of a state; zeros if it isn't there. */
template <int each>
static __device__ __forceinline__ void load_state(const float *from, bool there, float (&out)[each])
{
    if (each == 4) {
        float4 x = there ? __ldcg((const float4 *)from) : float4{0, 0, 0, 0};
        out[0] = x.x;
        out[1 % each] = x.y;
        out[2 % each] = x.z;
        out[3 % each] = x.w;
    } else {
        out[0] = there ? __ldcg(from) : 0;
    }
}

/* Columns from `col` on of a row and head, which are in a warp together: y, and its largest
 * magnitudes. */
template <int each>
static __device__ __forceinline__ void write_columns(const device_heads &heads,
                                                     const device_rows &y, int row, int head,
                                                     int col, const float (&x)[each])
{
    float largest = 0;
    float *out = y.values + (size_t)row * y.stride + (size_t)head * heads.head_dim;
    for (int j = 0; j < each; j++)
        if (col + j < heads.head_dim) {
            out[col + j] = x[j];
            largest = larger(fabsf(x[j]), largest);
        }
    if (heads.head_dim % BLOCK_COLS != 0)
        return;
    largest = warp_max(largest, BLOCK_COLS / each);
    if (lane_index() % (BLOCK_COLS / each) == 0 && col < heads.head_dim)
        y.maxima[(size_t)row * y.blocks + (head * heads.head_dim + col) / BLOCK_COLS] = largest;
}

/* Merges the states of a row and head, and writes the `each` columns that the thread has, from
 * `col` on; a warp together. The states of some pages at a time, a page in each lane, whose scales
 * are found side by side. Other blocks of this kernel may have written them. */
template <int each>
static __device__ __forceinline__ void merge_states(const device_batch &batch,
                                                    const device_heads &heads, float *states,
                                                    const device_rows &y, int row, int head,
                                                    int col)
{
    enum { AT_ONCE = each == 1 ? WARP : 8 };
    int pages = batch.positions[row] / PAGE_TOKENS + 1, stride = heads.state_floats;
    const float *state = state_of(batch, heads, states, row, head, 0);
    float max = -INFINITY, weights = 0, sums[each];

    for (int j = 0; j < each; j++)
        sums[j] = 0;
    for (int first = 0; first < pages; first += AT_ONCE) {
        int n = pages - first < AT_ONCE ? pages - first : (int)AT_ONCE;
        bool there = lane_index() < n;
        const float *mine = state + (size_t)(first + lane_index()) * stride + heads.padded_dim;
        float page_max = there ? __ldcg(mine) : -INFINITY;
        float page_weights = there ? __ldcg(mine + 1) : 0, parts[AT_ONCE][each];
#pragma unroll
        for (int i = 0; i < AT_ONCE; i++)
            load_state<each>(state + (size_t)(first + i) * stride + col,
                             i < n && col < heads.padded_dim, parts[i]);
        float so_far = larger(max, page_max); /* after this lane's page, then before it */
        for (int step = 1; step < AT_ONCE; step *= 2) {
            float other = __shfl_up_sync((unsigned)ALL_LANES, so_far, step);
            if (lane_index() >= step)
                so_far = larger(other, so_far);
        }
        float before = __shfl_up_sync((unsigned)ALL_LANES, so_far, 1);
        before = lane_index() == 0 ? max : before;
        float a = shrink(before, so_far), b = shrink(page_max, so_far);
#pragma unroll
        for (int i = 0; i < AT_ONCE; i++) {
            float old = __shfl_sync((unsigned)ALL_LANES, a, i);
            float part = __shfl_sync((unsigned)ALL_LANES, b, i);
            float part_weights = __shfl_sync((unsigned)ALL_LANES, page_weights, i);
            if (i >= n)
                continue;
            weights = merge(weights, old, part_weights, part);
            for (int j = 0; j < each; j++)
                sums[j] = merge(sums[j], old, parts[i][j], part);
        }
        max = __shfl_sync((unsigned)ALL_LANES, so_far, n - 1);
    }
    for (int j = 0; j < each; j++)
        sums[j] = finish(sums[j], weights);
    write_columns<each>(heads, y, row, head, col, sums);
}

/* Whether this block is the last of n that come here, after a barrier, each with what it has
 * written. */
static __device__ __forceinline__ bool is_last(int *counter, int n, int *shared)
{
    if (threadIdx.x == 0) {
        __threadfence();
        *shared = atomicAdd(counter, 1);
        if (*shared == n - 1)
            *counter = 0; /* for the next kernel */
        __threadfence();
    }
    __syncthreads();
    return *shared == n - 1;
}

/* y of the block's queries, first .. first + n - 1. */
template <int steps>
static __device__ void write_queries(const device_heads &heads, const queries &qs, int first, int n,
                                     const float (&sums)[steps][4], const merged_rows &m,
                                     page_room<steps> *room, const device_rows &y)
{
    int col = 4 * lane_index();
    for (int half = 0; half < 2; half++) {
        int query = lane_index() / 4 + 8 * half;
        if (query >= n)
            break;
        for (int i = 0; i < steps; i++)
            *(float2 *)&room->sums[query][8 * (warp_index() * steps + i) + lane_index() % 4 * 2] = {
                sums[i][2 * half], sums[i][2 * half + 1]};
        if (warp_index() == 0 && lane_index() % 4 == 0)
            room->weights[query] = m.weights[half];
    }
    __syncthreads();
    for (int at = warp_index(); at < n; at += TILE_WARPS) {
        int query = first + at;
        float x[4];
        for (int j = 0; j < 4; j++)
            x[j] = col < 32 * steps ? finish(room->sums[at][col + j], room->weights[at]) : 0;
        write_columns<4>(heads, y, qs.first_row + query / qs.n_group,
                         qs.kv_head * qs.n_group + query % qs.n_group, col, x);
    }
}

/* A block for 16 queries of a tile (x) and KV head (y), with each gridDim.z-th page from its own
 * (z) on. If it has all pages it merges them; otherwise, merging: the last one of a tile and KV
 * head merges its states. fresh: the tile is a row of up to 16 queries, whose K and V its blocks
 * make and store; what earlier passes wrote of its pages they load while the kernel before this one
 * runs. */
template <int steps, bool fresh>
static __global__ void __launch_bounds__(WARP *TILE_WARPS, SPLIT_BLOCKS)
    split_kernel(const __grid_constant__ device_batch batch,
                 const __grid_constant__ device_heads heads, int layer, int tiles_per_row,
                 bool merging, const __grid_constant__ device_rows q,
                 const __grid_constant__ device_rows new_k,
                 const __grid_constant__ device_rows new_v, const __grid_constant__ device_rows y,
                 float *states)
{
    page_room<steps> *room = (page_room<steps> *)shared_memory();
    int tile = (int)blockIdx.x / tiles_per_row, page = (int)blockIdx.z, apart = (int)gridDim.z;
    queries qs = find_queries(batch, heads, tile, (int)blockIdx.y);
    int first = (int)blockIdx.x % tiles_per_row * WARP_QUERIES;
    int all = qs.n_rows * qs.n_group, n = all - first < WARP_QUERIES ? all - first : WARP_QUERIES;
    int last_position = batch.positions[qs.first_row + qs.n_rows - 1];
    int last_page = last_position / PAGE_TOKENS;

    let_next_begin();
    if (page > last_page || n <= 0) {
        wait_for_inputs();
        return;
    }
    const uint8_t *at = page_of(batch, heads, layer, qs.first_row, page, qs.kv_head);
    page_part<steps> part;
    if (fresh) {
        load_k(part, at);
        load_v(part, heads, at);
    }
    lane_queries l = find_lane(batch, qs, first);
    bool makes = fresh && last_page % apart == page && (int)threadIdx.x < heads.padded_dim;
    kv_element element;
    wait_for_inputs();
    if (makes)
        element = make_kv(batch, heads, qs.first_row, qs.kv_head, new_k, new_v, (int)threadIdx.x);
    take_queries<steps, fresh>(batch, heads, qs, first, n, q, room);
    if (makes) {
        ((uint16_t *)room->new_k)[threadIdx.x] = float_to_f16(element.k);
        room->new_v[threadIdx.x] = float_to_f16(element.v);
    }
    __syncthreads();
    if (!fresh) {
        load_k(part, at);
        load_v(part, heads, at);
    }

    query_fragments<steps> f;
    merged_rows merged = nothing_merged();
    float all_sums[steps][4] = {};
    load_taken<steps>(f, room, n);
    for (; page <= last_page; page += apart) {
        int start = page * PAGE_TOKENS, last[2] = {l.position[0] - start, l.position[1] - start};
        bool more = page + apart <= last_page;
        float s[2][4] = {};
        if (fresh && page == last_page)
            insert(part, room, last_position - start);
#pragma unroll
        for (int step = 0; step < steps; step++) {
            const uint4 x[2] = {part.k[0][step], part.k[1][step]};
            score_step<steps>(f, step, x, s);
        }
#pragma unroll
        for (int i = 0; i < 2; i++) {
            finish_scores(part_block(), part_mma(i), heads.score_scale, last, s[i]);
            room->scores[part_block()][part_mma(i)][lane_index()] = {s[i][0], s[i][1], s[i][2],
                                                                     s[i][3]};
        }
        if (more) {
            at = page_of(batch, heads, layer, qs.first_row, page + apart, qs.kv_head);
            load_k(part, at);
        }
        __syncthreads();
        float scores[2][4][4], max[2], weight_sums[2], sums[steps][4], old[2], of_page[2];
        page_weights weights;
#pragma unroll
        for (int block = 0; block < 2; block++)
#pragma unroll
            for (int i = 0; i < 4; i++) {
                float4 x = room->scores[block][i][lane_index()];
                scores[block][i][0] = x.x;
                scores[block][i][1] = x.y;
                scores[block][i][2] = x.z;
                scores[block][i][3] = x.w;
            }
        weigh(scores, n > 8 ? 2 : 1, max, weight_sums, weights);
#pragma unroll
        for (int i = 0; i < steps; i++)
            sum_eight(weights, part.v[i], last_position - start, sums[i]);
        if (more)
            load_v(part, heads, at);
        if (apart == 1) {
            merge_rows(merged, last, max, weight_sums, old, of_page);
            for (int i = 0; i < steps; i++)
                merge_sums(all_sums[i], sums[i], old, of_page);
        } else {
            write_part<steps>(batch, heads, states, l, page, max, weight_sums, sums);
        }
        __syncthreads(); /* the scores have been read */
    }
    if (makes) /* now that the page has been loaded */
        store_kv(batch, heads, layer, qs.first_row, qs.kv_head,
                 {f16_to_float(((const uint16_t *)room->new_k)[threadIdx.x]),
                  f16_to_float(room->new_v[threadIdx.x])},
                 (int)threadIdx.x);
    if (apart == 1) {
        write_queries<steps>(heads, qs, first, n, all_sums, merged, room, y);
        return;
    }
    int blocks = (last_page < apart ? last_page + 1 : apart) * tiles_per_row;
    if (!merging ||
        !is_last(batch.arrived + tile * heads.n_kv_heads + qs.kv_head, blocks, &room->arrived))
        return;
    for (int query = warp_index(); query < all; query += TILE_WARPS)
        merge_states<4>(batch, heads, states, y, qs.first_row + query / qs.n_group,
                        qs.kv_head * qs.n_group + query % qs.n_group, 4 * lane_index());
}

/* ---- tensor cores, page after page ------------------------------------------------------- */

enum { GROUP_WARPS = 8, PAGE_ROOMS = 2 };

/* A KV head's page in shared memory. Of each second row the halves of 128 bytes change places, so
 * that lanes of neighbouring rows read from different banks. */
template <int steps> struct shared_page {
    enum { K_UNITS = 4 * steps, V_UNITS = PAGE_TOKENS / 8, V_ROWS = 32 * steps };
    uint4 k[PAGE_TOKENS][K_UNITS], v[V_ROWS][V_UNITS];

    static __device__ __forceinline__ int k_place(int row, int unit)
    {
        return steps % 2 == 0 ? unit ^ row % 2 * 4 : unit;
    }
    static __device__ __forceinline__ int v_place(int row, int unit)
    {
        return unit ^ row % 2 * 4;
    }
    /* All threads of the block together. */
    __device__ __forceinline__ void copy(const uint8_t *page)
    {
        const uint4 *from = (const uint4 *)page;
        for (int i = (int)threadIdx.x; i < PAGE_TOKENS * K_UNITS; i += WARP * GROUP_WARPS)
            copy_async(&k[i / K_UNITS][k_place(i / K_UNITS, i % K_UNITS)], from + i);
        from += PAGE_TOKENS * K_UNITS;
        for (int i = (int)threadIdx.x; i < V_ROWS * V_UNITS; i += WARP * GROUP_WARPS)
            copy_async(&v[i / V_UNITS][v_place(i / V_UNITS, i % V_UNITS)], from + i);
    }
};

/* What a lane has of the states of 16 queries, merged so far; columns 8 i + 2 t + {0, 1} of V's. */
template <int steps> struct merged_state {
    merged_rows rows;
    float sums[4 * steps][4];
};

/* Merges the state of a page. last: the slots that rows g and g + 8 see; last_written: that any row
 * of the tile does. */
template <int steps>
static __device__ __forceinline__ void attend_page(const shared_page<steps> &page,
                                                   const query_fragments<steps> &f, float scale,
                                                   const int (&last)[2], int last_written,
                                                   merged_state<steps> &state)
{
    float scores[2][4][4], max[2], sums[2], old[2], of_page[2];
    page_weights weights;

#pragma unroll
    for (int block = 0; block < 2; block++) {
#pragma unroll
        for (int i = 0; i < 4; i++)
            for (int j = 0; j < 4; j++)
                scores[block][i][j] = 0;
#pragma unroll
        for (int step = 0; step < steps; step++) {
            uint4 x[4];
            for (int i = 0; i < 4; i++) {
                int row = slot_of(block, i, lane_index() / 4);
                x[i] = page.k[row][page.k_place(row, 4 * step + lane_index() % 4)];
            }
            score_step<steps>(f, step, x, scores[block]);
        }
#pragma unroll
        for (int i = 0; i < 4; i++)
            finish_scores(block, i, scale, last, scores[block][i]);
    }
    weigh(scores, 2, max, sums, weights);
    merge_rows(state.rows, last, max, sums, old, of_page);
#pragma unroll
    for (int i = 0; i < 4 * steps; i++) {
        int row = 8 * i + lane_index() / 4, unit = lane_index() % 4;
        const uint4 x[2] = {page.v[row][page.v_place(row, unit)],
                            page.v[row][page.v_place(row, unit + 4)]};
        float y[4];
        sum_eight(weights, x, last_written, y);
        merge_sums(state.sums[i], y, old, of_page);
    }
}

/* A block for a group of tiles (x) and a KV head (y), whose pages it has in shared memory one after
 * another. A warp has a tile; or, if that has more than 16 queries, some of them (z: for more of
 * these than warps). */
template <int steps>
static __global__ void __launch_bounds__(WARP *GROUP_WARPS, 1)
    attend_kernel(const __grid_constant__ device_batch batch,
                  const __grid_constant__ device_heads heads, int layer, int tiles_per_row,
                  const __grid_constant__ device_rows q, const __grid_constant__ device_rows y)
{
    shared_page<steps> *rooms = (shared_page<steps> *)shared_memory();
    let_next_begin();
    /* Later groups of a sequence have more to do: they begin. */
    const int32_t *group = batch.tile_groups + 2 * (gridDim.x - 1 - blockIdx.x);
    int item = (int)blockIdx.z * GROUP_WARPS + warp_index(), tile = item / tiles_per_row;
    bool mine = tile < group[1];
    queries qs = find_queries(batch, heads, group[0] + (mine ? tile : 0), (int)blockIdx.y);
    int first = item % tiles_per_row * WARP_QUERIES;
    const int32_t *last_tile = batch.tile_rows + 2 * (group[0] + group[1] - 1);
    int last_page = batch.positions[last_tile[0] + last_tile[1] - 1] / PAGE_TOKENS;
    int last_position = batch.positions[qs.first_row + qs.n_rows - 1];
    mine = mine && first < qs.n_rows * qs.n_group;
    lane_queries l = find_lane(batch, qs, first);
    query_fragments<steps> f;
    merged_state<steps> state;

    wait_for_inputs();
    rooms[0].copy(page_of(batch, heads, layer, qs.first_row, 0, qs.kv_head));
    copy_commit();
    load_queries<steps>(f, heads, q, qs, mine ? first : qs.n_rows * qs.n_group);
    state.rows = nothing_merged();
    for (int i = 0; i < 4 * steps; i++)
        for (int j = 0; j < 4; j++)
            state.sums[i][j] = 0;
    for (int page = 0; page <= last_page; page++) {
        int start = page * PAGE_TOKENS;
        int last[2] = {l.position[0] - start, l.position[1] - start};
        copy_wait<0>();
        __syncthreads(); /* for all; and all have left the page before */
        if (page < last_page)
            rooms[(page + 1) % PAGE_ROOMS].copy(
                page_of(batch, heads, layer, qs.first_row, page + 1, qs.kv_head));
        copy_commit();
        if (mine && start <= last_position)
            attend_page<steps>(rooms[page % PAGE_ROOMS], f, heads.score_scale, last,
                               last_position - start, state);
    }
    for (int half = 0; half < 2; half++) {
        if (!mine || !l.there[half])
            continue;
        float *out = y.values + (size_t)l.row[half] * y.stride + l.head[half] * heads.head_dim;
        for (int i = 0; i < 4 * steps; i++)
            for (int j = 0; j < 2; j++) {
                int dim = 8 * i + lane_index() % 4 * 2 + j;
                if (dim < heads.head_dim)
                    out[dim] = finish(state.sums[i][2 * half + j], state.rows.weights[half]);
            }
    }
}

/* ---- floats ------------------------------------------------------------------------------ */

enum { FLOAT_THREADS = PAGE_TOKENS };

/* The state of a page, last the last slot that is seen: a thread for each position, then for each
 * PAGE_TOKENS-th column of V. shared: [head_dim] the query, [64] weights, [2 * 32] sums,
 * [padded_dim] of the state. */
static __device__ void attend_page_floats(const device_heads &heads, const uint8_t *page, int last,
                                          float *shared, float *max, float *weights)
{
    const float *query = shared;
    float *weight = shared + heads.padded_dim, *room = weight + PAGE_TOKENS;
    float *sums = room + 2 * WARP, score = 0;
    int slot = (int)threadIdx.x;
    const uint8_t *v = page + page_k_bytes(heads);

    for (int i = 0; i < heads.head_dim && slot <= last; i++)
        score = __fmaf_rn(query[i],
                          read_kv(page, (size_t)slot * heads.padded_dim + i, heads.kv_type), score);
    score = slot <= last ? __fmul_rn(score, heads.score_scale) : -INFINITY;
    *max = block_reduce<true>(score, room);
    weight[slot] = shrink(score, *max);
    *weights = block_reduce<false>(weight[slot], room + WARP);
    for (int col = (int)threadIdx.x; col < heads.head_dim; col += FLOAT_THREADS) {
        float sum = 0;
        for (int i = 0; i <= last && i < PAGE_TOKENS; i++)
            sum =
                __fmaf_rn(weight[i], read_kv(v, (size_t)col * PAGE_TOKENS + i, heads.kv_type), sum);
        sums[col] = sum;
    }
    __syncthreads(); /* weight and room are free again */
}

static size_t floats_shared(const device_heads &heads)
{
    return (3 * (size_t)heads.padded_dim + PAGE_TOKENS + 2 * WARP) * sizeof(float);
}

static __device__ float *load_query(const device_heads &heads, const device_rows &q, int row,
                                    int head)
{
    float *shared = (float *)shared_memory();
    const float *from = q.values + (size_t)row * q.stride + (size_t)head * heads.head_dim;
    for (int i = (int)threadIdx.x; i < heads.head_dim; i += FLOAT_THREADS)
        shared[i] = from[i];
    __syncthreads();
    return shared;
}

/* A row (x), head (y) and page (z). */
static __global__ void split_floats_kernel(const __grid_constant__ device_batch batch,
                                           const __grid_constant__ device_heads heads, int layer,
                                           const __grid_constant__ device_rows q, float *states)
{
    int row = (int)blockIdx.x, head = (int)blockIdx.y, page = (int)blockIdx.z;
    int last = batch.positions[row] - page * PAGE_TOKENS;
    float *shared, max, weights;
    let_next_begin();
    wait_for_inputs();
    if (last < 0)
        return;
    shared = load_query(heads, q, row, head);
    const uint8_t *from = page_of(batch, heads, layer, row, page, head / heads.n_group);
    attend_page_floats(heads, from, last, shared, &max, &weights);
    const float *sums = shared + heads.padded_dim + PAGE_TOKENS + 2 * WARP;
    float *out = state_of(batch, heads, states, row, head, page);
    if (threadIdx.x == 0) {
        out[heads.padded_dim] = max;
        out[heads.padded_dim + 1] = weights;
    }
    for (int col = (int)threadIdx.x; col < heads.head_dim; col += FLOAT_THREADS)
        out[col] = sums[col];
}

/* A row (x) and head (y). */
static __global__ void attend_floats_kernel(const __grid_constant__ device_batch batch,
                                            const __grid_constant__ device_heads heads, int layer,
                                            const __grid_constant__ device_rows q,
                                            const __grid_constant__ device_rows y)
{
    int row = (int)blockIdx.x, head = (int)blockIdx.y, position = batch.positions[row];
    let_next_begin();
    wait_for_inputs();
    float *shared = load_query(heads, q, row, head), max = -INFINITY, weights = 0;
    const float *sums = shared + heads.padded_dim + PAGE_TOKENS + 2 * WARP;
    float *total = shared + 2 * heads.padded_dim + PAGE_TOKENS + 2 * WARP;

    for (int col = (int)threadIdx.x; col < heads.head_dim; col += FLOAT_THREADS)
        total[col] = 0;
    for (int page = 0; page <= position / PAGE_TOKENS; page++) {
        const uint8_t *from = page_of(batch, heads, layer, row, page, head / heads.n_group);
        float page_max, page_weights;
        attend_page_floats(heads, from, position - page * PAGE_TOKENS, shared, &page_max,
                           &page_weights);
        float merged = larger(max, page_max);
        float a = shrink(max, merged), b = shrink(page_max, merged);
        max = merged;
        weights = merge(weights, a, page_weights, b);
        for (int col = (int)threadIdx.x; col < heads.head_dim; col += FLOAT_THREADS)
            total[col] = merge(total[col], a, sums[col], b);
    }
    float *out = y.values + (size_t)row * y.stride + (size_t)head * heads.head_dim;
    for (int col = (int)threadIdx.x; col < heads.head_dim; col += FLOAT_THREADS)
        out[col] = finish(total[col], weights);
}

/* ---- merging ----------------------------------------------------------------------------- */

/* A row (x) and head (y), a thread for each column: for more pages than one block of threads is
 * enough for. */
static __global__ void merge_kernel(const __grid_constant__ device_batch batch,
                                    const __grid_constant__ device_heads heads, float *states,
                                    const __grid_constant__ device_rows y)
{
    let_next_begin();
    wait_for_inputs();
    merge_states<1>(batch, heads, states, y, (int)blockIdx.x, (int)blockIdx.y, (int)threadIdx.x);
}

/* ---- which ------------------------------------------------------------------------------- */

static bool has_tensors(const device_heads &heads)
{
    return heads.kv_type == LLAMA3_KV_F16 && heads.padded_dim <= WIDEST;
}

static int tiles_per_row(const device_heads &heads)
{
    return (heads.n_group + WARP_QUERIES - 1) / WARP_QUERIES;
}

int device_attend_rows(const device_heads *heads)
{
    return has_tensors(*heads) && heads->n_group < WARP_QUERIES ? WARP_QUERIES / heads->n_group : 1;
}

int device_attend_tiles(const device_heads *heads)
{
    int parts = tiles_per_row(*heads);
    return has_tensors(*heads) && parts < GROUP_WARPS ? GROUP_WARPS / parts : 1;
}

bool device_attend_takes(const device_heads *heads)
{
    return has_tensors(*heads) && tiles_per_row(*heads) == 1;
}

/* What a split is launched with; k and v NULL: they are stored. */
struct split_args {
    cudaStream_t stream;
    const device_batch &batch;
    const device_heads &heads;
    int layer, n_tiles, at_once; /* pages */
    bool merging;
    const device_rows &q, *k, *v, &y;
    float *states;
};

template <int steps> static void split(const split_args &a)
{
    int parts = tiles_per_row(a.heads);
    dim3 grid(a.n_tiles * parts, a.heads.n_kv_heads, a.at_once);
    size_t shared = sizeof(page_room<steps>);
    if (a.k != NULL)
        launch(a.stream, grid, WARP * TILE_WARPS, shared, split_kernel<steps, true>, a.batch,
               a.heads, a.layer, parts, a.merging, a.q, *a.k, *a.v, a.y, a.states);
    else
        launch(a.stream, grid, WARP * TILE_WARPS, shared, split_kernel<steps, false>, a.batch,
               a.heads, a.layer, parts, a.merging, a.q, a.q, a.q, a.y, a.states);
}

/* Pages of a tile that blocks have side by side: 1 if one block can have all of them sooner than
 * several can merge them. */
static int pages_at_once(const device_heads &heads, int processors, int n_tiles, int n_pages)
{
    int tiles = n_tiles * tiles_per_row(heads) * heads.n_kv_heads;
    int most = (processors * SPLIT_BLOCKS + tiles - 1) / tiles;
    return n_pages <= MERGE_PAGES ? 1 : n_pages < most ? n_pages : most;
}

void device_attend_split(cudaStream_t stream, int processors, const device_batch *batch,
                         const device_heads *heads, int layer, int n_tiles, int n_rows, int n_pages,
                         float *states, const device_rows *q, const device_rows *k,
                         const device_rows *v, const device_rows *y)
{
    static void (*const by_steps[])(const split_args &) = {split<1>, split<2>, split<3>, split<4>};
    bool merging = has_tensors(*heads) && n_pages <= WARP;
    if (has_tensors(*heads)) {
        int at_once = pages_at_once(*heads, processors, n_tiles, n_pages);
        by_steps[heads->padded_dim / 32 - 1](
            {stream, *batch, *heads, layer, n_tiles, at_once, merging, *q, k, v, *y, states});
        if (at_once == 1)
            return;
    } else {
        launch(stream, dim3(n_rows, heads->n_heads, n_pages), FLOAT_THREADS, floats_shared(*heads),
               split_floats_kernel, *batch, *heads, layer, *q, states);
    }
    if (!merging)
        launch(stream, dim3(n_rows, heads->n_heads), heads->padded_dim, 0, merge_kernel, *batch,
               *heads, states, *y);
}

template <int steps>
static void attend(cudaStream_t stream, const device_batch &batch, const device_heads &heads,
                   int layer, int n_groups, const device_rows &q, const device_rows &y)
{
    int parts = tiles_per_row(heads);
    dim3 grid(n_groups, heads.n_kv_heads, (parts + GROUP_WARPS - 1) / GROUP_WARPS);
    launch(stream, grid, WARP * GROUP_WARPS, PAGE_ROOMS * sizeof(shared_page<steps>),
           attend_kernel<steps>, batch, heads, layer, parts, q, y);
}

void device_attend(cudaStream_t stream, const device_batch *batch, const device_heads *heads,
                   int layer, int n_groups, int n_rows, const device_rows *q, const device_rows *y)
{
    static void (*const by_steps[])(cudaStream_t, const device_batch &, const device_heads &, int,
                                    int, const device_rows &, const device_rows &) = {
        attend<1>, attend<2>, attend<3>, attend<4>};
    if (has_tensors(*heads))
        by_steps[heads->padded_dim / 32 - 1](stream, *batch, *heads, layer, n_groups, *q, *y);
    else
        launch(stream, dim3(n_rows, heads->n_heads), FLOAT_THREADS, floats_shared(*heads),
               attend_floats_kernel, *batch, *heads, layer, *q, *y);
}
