/* SPDX-License-Identifier: MIT */
/*
 * attend_tensor.cuh: states by tensor cores. A warp has 16 queries of one KV head, of consecutive
 * rows of one sequence. A query is split into the sum of two f16, which loses next to nothing;
 * weights are rounded to f16.
 */
#ifndef BACKEND_CUDA_ATTEND_TENSOR_CUH
#define BACKEND_CUDA_ATTEND_TENSOR_CUH

#include "backend/cuda/attend.cuh"

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

/* Fragments of 16 queries: for each 32 dimensions two of 16, in the order of a lane's loads of K.
 * a: elements rounded to f16; b: what is left. */
template <int steps> struct query_fragments {
    uint32_t a[steps][2][4], b[steps][2][4];
};

static __device__ __forceinline__ uint32_t two_halves(uint16_t first, uint16_t second)
{
    return first | (uint32_t)second << 16;
}

/* Splits x into two f16. */
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
                /* Dimensions 32 step + 8 t + 2 i and the next: k half i % 2 of fragment i / 2. */
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

/* The slot of column `col` of mma i, of the four for a block of 32 positions. A lane's columns 2 t
 * and 2 t + 1 of all four are eight consecutive slots, of which it later loads V. */
static __device__ __forceinline__ int slot_of(int block, int i, int col)
{
    return 32 * block + col / 2 * 8 + 2 * i + col % 2;
}

/* Adds the products of 32 dimensions to n mmas' scores; x: the lane's K. The mmas of one sum wait
 * for each other, those of different sums do not. */
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

/* Scales the scores of mma i of a block; those beyond `last`, the last slots that rows g and g + 8
 * see, become -infinity. */
static __device__ __forceinline__ void finish_scores(int block, int i, float scale,
                                                     const int (&last)[2], float (&scores)[4])
{
#pragma unroll
    for (int j = 0; j < 4; j++) {
        int slot = slot_of(block, i, lane_index() % 4 * 2 + j % 2);
        scores[j] = slot <= last[j / 2] ? __fmul_rn(scores[j], scale) : -INFINITY;
    }
}

/* Where a lane's K for mma i of a block lies: [4 * step] */
template <int steps>
static __device__ __forceinline__ const uint4 *k_of(const uint8_t *page, int block, int i)
{
    return (const uint4 *)page + (size_t)slot_of(block, i, lane_index() / 4) * 4 * steps +
           lane_index() % 4;
}

/* And its V, for columns 8 i .. 8 i + 7: [4 * block] */
static __device__ __forceinline__ const uint4 *v_of(const uint8_t *v, int i)
{
    return (const uint4 *)v + (8 * i + lane_index() / 4) * (PAGE_TOKENS / 8) + lane_index() % 4;
}

/* Keeps a lane's eight f16, from `slot` on, up to position `last`; the others become 0. */
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

/* Scores become weights, pairs of f16, for rows g and g + 8, or the first alone; also finds the
 * largest scores and the sums of weights. */
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
                /* exp2_or_zero gives 0 only where f16 would be 0. */
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

/* Sums of weights times eight columns of V; v: the lane's. last_written: the last slot that any row
 * sees; V beyond it is undefined. */
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

/* The merged maxima and sums of weights of rows g and g + 8. */
struct merged_rows {
    float max[2], weights[2];
};

static __device__ __forceinline__ merged_rows nothing_merged()
{
    return {{-INFINITY, -INFINITY}, {0, 0}};
}

/* Merges a page's. old, of_page: factors of the sums so far, and of the page's. A row that does not
 * see the page (last < 0) keeps its state. */
static __device__ __forceinline__ void merge_rows(merged_rows &m, const int (&last)[2],
                                                  const float (&max)[2], const float (&weights)[2],
                                                  float (&old)[2], float (&of_page)[2])
{
#pragma unroll
    for (int half = 0; half < 2; half++) {
        bool sees = last[half] >= 0;
        float merged = sees ? larger(m.max[half], max[half]) : m.max[half];
        old[half] = sees ? shrink(m.max[half], merged) : 1;
        of_page[half] = sees ? shrink(max[half], merged) : 0;
        m.max[half] = merged;
        m.weights[half] = merge(m.weights[half], old[half], weights[half], of_page[half]);
    }
}

static __device__ __forceinline__ void merge_sums(float (&sums)[4], const float (&page_sums)[4],
                                                  const float (&old)[2], const float (&of_page)[2])
{
#pragma unroll
    for (int j = 0; j < 4; j++)
        sums[j] = merge(sums[j], old[j / 2], page_sums[j], of_page[j / 2]);
}

/* The rows and heads of a lane's two queries; those of the tile's first query where one does not
 * exist. */
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

#endif
