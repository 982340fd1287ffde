/* SPDX-License-Identifier: MIT */
/* attend_decode.cu: attention of few rows: the pages of a row side by side, then merged. */
#include "backend/cuda/attend_tensor.cuh"

enum {
    TILE_WARPS = 4,
    SPLIT_BLOCKS = 2, /* that a multiprocessor runs at once */
    MERGE_PAGES = 2   /* at most, that one thread block attends to and merges */
};

/* A thread block has a page, which its warps share: a warp has the scores of 16 positions, and sums
 * over 8 columns of V for each of its mmas. */
template <int steps> struct page_fragments {
    uint4 k[2][steps], v[steps][2];
};

static __device__ __forceinline__ int warp_block()
{
    return warp_index() / 2;
}

static __device__ __forceinline__ int warp_mma(int i)
{
    return warp_index() % 2 * 2 + i;
}

template <int steps>
static __device__ __forceinline__ void load_k(page_fragments<steps> &p, const uint8_t *page)
{
#pragma unroll
    for (int i = 0; i < 2; i++)
        for (int step = 0; step < steps; step++)
            p.k[i][step] = k_of<steps>(page, warp_block(), warp_mma(i))[4 * step];
}

template <int steps>
static __device__ __forceinline__ void load_v(page_fragments<steps> &p, const device_heads &heads,
                                              const uint8_t *page)
{
#pragma unroll
    for (int i = 0; i < steps; i++)
        for (int block = 0; block < 2; block++)
            p.v[i][block] = v_of(page + page_k_bytes(heads), warp_index() * steps + i)[4 * block];
}

/* A thread block's shared memory: all scores; the queries as sums of two f16, in rows whose padding
 * avoids bank conflicts; a row's new K and V; sums with V. */
template <int steps> struct decode_shared {
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

/* Inserts the K and V of a new position into the lane's fragments of the page. */
template <int steps>
static __device__ __forceinline__ void insert(page_fragments<steps> &p,
                                              const decode_shared<steps> *shared, int slot)
{
    int g = lane_index() / 4, t = lane_index() % 4;
#pragma unroll
    for (int i = 0; i < 2; i++)
        if (slot_of(warp_block(), warp_mma(i), g) == slot)
            for (int step = 0; step < steps; step++)
                p.k[i][step] = shared->new_k[4 * step + t];
#pragma unroll
    for (int i = 0; i < steps; i++) {
        uint32_t value = shared->new_v[8 * (warp_index() * steps + i) + g];
#pragma unroll
        for (int block = 0; block < 2; block++) {
            int at = slot - (32 * block + 8 * t); /* 0 .. 7 if it is one of these eight */
            uint4 &v = p.v[i][block];
            if (slot / 32 != block) /* for all */
                continue;
            v.x = at / 2 == 0 && at >= 0 ? replaced(v.x, at % 2, value) : v.x;
            v.y = at / 2 == 1 ? replaced(v.y, at % 2, value) : v.y;
            v.z = at / 2 == 2 ? replaced(v.z, at % 2, value) : v.z;
            v.w = at / 2 == 3 ? replaced(v.w, at % 2, value) : v.w;
        }
    }
}

/* Where a query begins. fresh: the tile is one row. */
template <bool fresh>
static __device__ __forceinline__ const float *query_of(const device_heads &heads,
                                                        const queries &qs, const device_rows &q,
                                                        int query)
{
    int row = fresh ? 0 : query / qs.n_group, head = query - row * qs.n_group;
    return q.values + (size_t)(qs.first_row + row) * q.stride +
           (size_t)(qs.kv_head * qs.n_group + head) * heads.head_dim;
}

/* Queries first .. first + n - 1 to shared memory; fresh: rotated. No branches, so that all loads
 * are in flight at once. */
template <int steps, bool fresh>
static __device__ void take_queries(const device_batch &batch, const device_heads &heads,
                                    const queries &qs, int first, int n, const device_rows &q,
                                    decode_shared<steps> *shared)
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
                split(x[j], &shared->upper[index / DIM][index % DIM],
                      &shared->lower[index / DIM][index % DIM]);
        }
    }
}

template <int steps>
static __device__ __forceinline__ void load_taken(query_fragments<steps> &f,
                                                  const decode_shared<steps> *shared, int n)
{
#pragma unroll
    for (int half = 0; half < 2; half++) {
        int query = lane_index() / 4 + 8 * half;
#pragma unroll
        for (int step = 0; step < steps; step++) {
            int dim = 32 * step + lane_index() % 4 * 8;
            uint4 a = {0, 0, 0, 0}, b = {0, 0, 0, 0};
            if (query < n) {
                const uint16_t *upper = shared->upper[query] + dim,
                               *lower = shared->lower[query] + dim;
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
static __device__ __forceinline__ void write_state(const device_batch &batch,
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

/* Columns of a state; zeros if it does not exist. */
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

/* Stores columns of y from `col` on, and their largest magnitudes, for a row and head. A warp has
 * the same row and head. */
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

/* Merges the states of a row and head and stores `each` columns from `col` on. All lanes of a warp
 * call it together: each finds the scale of one page. Other thread blocks of this kernel may have
 * written the states. */
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
        float page_weights = there ? __ldcg(mine + 1) : 0, page_sums[AT_ONCE][each];
#pragma unroll
        for (int i = 0; i < AT_ONCE; i++)
            load_state<each>(state + (size_t)(first + i) * stride + col,
                             i < n && col < heads.padded_dim, page_sums[i]);
        float so_far =
            larger(max, page_max); /* the maximum after this lane's page; below, before it */
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
            float of_page = __shfl_sync((unsigned)ALL_LANES, b, i);
            float page_weight = __shfl_sync((unsigned)ALL_LANES, page_weights, i);
            if (i >= n)
                continue;
            weights = merge(weights, old, page_weight, of_page);
            for (int j = 0; j < each; j++)
                sums[j] = merge(sums[j], old, page_sums[i][j], of_page);
        }
        max = __shfl_sync((unsigned)ALL_LANES, so_far, n - 1);
    }
    for (int j = 0; j < each; j++)
        sums[j] = finish(sums[j], weights);
    write_columns<each>(heads, y, row, head, col, sums);
}

/* Whether this thread block is the last of n to come here; the others' writes are then visible. A
 * barrier for the block. */
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

/* Stores y of the thread block's queries first .. first + n - 1. */
template <int steps>
static __device__ void write_queries(const device_heads &heads, const queries &qs, int first, int n,
                                     const float (&sums)[steps][4], const merged_rows &m,
                                     decode_shared<steps> *shared, const device_rows &y)
{
    int col = 4 * lane_index();
    for (int half = 0; half < 2; half++) {
        int query = lane_index() / 4 + 8 * half;
        if (query >= n)
            break;
        for (int i = 0; i < steps; i++)
            *(float2 *)&shared->sums[query][8 * (warp_index() * steps + i) + lane_index() % 4 * 2] =
                {sums[i][2 * half], sums[i][2 * half + 1]};
        if (warp_index() == 0 && lane_index() % 4 == 0)
            shared->weights[query] = m.weights[half];
    }
    __syncthreads();
    for (int at = warp_index(); at < n; at += TILE_WARPS) {
        int query = first + at;
        float x[4];
        for (int j = 0; j < 4; j++)
            x[j] = col < 32 * steps ? finish(shared->sums[at][col + j], shared->weights[at]) : 0;
        write_columns<4>(heads, y, qs.first_row + query / qs.n_group,
                         qs.kv_head * qs.n_group + query % qs.n_group, col, x);
    }
}

/* A thread block for 16 queries of a tile (x) and a KV head (y), for every gridDim.z-th page from
 * its own (z) on. One that has all pages merges them as it goes. Otherwise, if `merging`, the last
 * thread block of a tile and KV head merges the states. fresh: the tile is a row of up to 16
 * queries, whose K and V the kernel rotates and stores; it loads what earlier passes wrote of the
 * pages while the kernel before it runs. */
template <int steps, bool fresh>
static __global__ void __launch_bounds__(WARP *TILE_WARPS, SPLIT_BLOCKS)
    split_kernel(const __grid_constant__ device_batch batch,
                 const __grid_constant__ device_heads heads, int layer, int tiles_per_row,
                 bool merging, const __grid_constant__ device_rows q,
                 const __grid_constant__ device_rows new_k,
                 const __grid_constant__ device_rows new_v, const __grid_constant__ device_rows y,
                 float *states)
{
    decode_shared<steps> *shared = (decode_shared<steps> *)shared_memory();
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
    page_fragments<steps> p;
    if (fresh) {
        load_k(p, at);
        load_v(p, heads, at);
    }
    lane_queries l = find_lane(batch, qs, first);
    bool makes = fresh && last_page % apart == page && (int)threadIdx.x < heads.padded_dim;
    kv_element element;
    wait_for_inputs();
    if (makes)
        element = make_kv(batch, heads, qs.first_row, qs.kv_head, new_k, new_v, (int)threadIdx.x);
    take_queries<steps, fresh>(batch, heads, qs, first, n, q, shared);
    if (makes) {
        ((uint16_t *)shared->new_k)[threadIdx.x] = float_to_f16(element.k);
        shared->new_v[threadIdx.x] = float_to_f16(element.v);
    }
    __syncthreads();
    if (!fresh) {
        load_k(p, at);
        load_v(p, heads, at);
    }

    query_fragments<steps> f;
    merged_rows merged = nothing_merged();
    float all_sums[steps][4] = {};
    load_taken<steps>(f, shared, n);
    for (; page <= last_page; page += apart) {
        int start = page * PAGE_TOKENS, last[2] = {l.position[0] - start, l.position[1] - start};
        bool more = page + apart <= last_page;
        float s[2][4] = {};
        if (fresh && page == last_page)
            insert(p, shared, last_position - start);
#pragma unroll
        for (int step = 0; step < steps; step++) {
            const uint4 x[2] = {p.k[0][step], p.k[1][step]};
            score_step<steps>(f, step, x, s);
        }
#pragma unroll
        for (int i = 0; i < 2; i++) {
            finish_scores(warp_block(), warp_mma(i), heads.score_scale, last, s[i]);
            shared->scores[warp_block()][warp_mma(i)][lane_index()] = {s[i][0], s[i][1], s[i][2],
                                                                       s[i][3]};
        }
        if (more) {
            at = page_of(batch, heads, layer, qs.first_row, page + apart, qs.kv_head);
            load_k(p, at);
        }
        __syncthreads();
        float scores[2][4][4], max[2], weight_sums[2], sums[steps][4], old[2], of_page[2];
        page_weights weights;
#pragma unroll
        for (int block = 0; block < 2; block++)
#pragma unroll
            for (int i = 0; i < 4; i++) {
                float4 x = shared->scores[block][i][lane_index()];
                scores[block][i][0] = x.x;
                scores[block][i][1] = x.y;
                scores[block][i][2] = x.z;
                scores[block][i][3] = x.w;
            }
        weigh(scores, n > 8 ? 2 : 1, max, weight_sums, weights);
#pragma unroll
        for (int i = 0; i < steps; i++)
            sum_eight(weights, p.v[i], last_position - start, sums[i]);
        if (more)
            load_v(p, heads, at);
        if (apart == 1) {
            merge_rows(merged, last, max, weight_sums, old, of_page);
            for (int i = 0; i < steps; i++)
                merge_sums(all_sums[i], sums[i], old, of_page);
        } else {
            write_state<steps>(batch, heads, states, l, page, max, weight_sums, sums);
        }
        __syncthreads(); /* all have read the scores */
    }
    if (makes) /* after the page has been loaded */
        store_kv(batch, heads, layer, qs.first_row, qs.kv_head,
                 {f16_to_float(((const uint16_t *)shared->new_k)[threadIdx.x]),
                  f16_to_float(shared->new_v[threadIdx.x])},
                 (int)threadIdx.x);
    if (apart == 1) {
        write_queries<steps>(heads, qs, first, n, all_sums, merged, shared, y);
        return;
    }
    int blocks = (last_page < apart ? last_page + 1 : apart) * tiles_per_row;
    if (!merging ||
        !is_last(batch.arrived + tile * heads.n_kv_heads + qs.kv_head, blocks, &shared->arrived))
        return;
    for (int query = warp_index(); query < all; query += TILE_WARPS)
        merge_states<4>(batch, heads, states, y, qs.first_row + query / qs.n_group,
                        qs.kv_head * qs.n_group + query % qs.n_group, 4 * lane_index());
}

/* ---- merging ----------------------------------------------------------------------------- */

/* A row (x) and head (y), a thread for each column: for more pages than the last thread block
 * merges well. */
static __global__ void merge_kernel(const __grid_constant__ device_batch batch,
                                    const __grid_constant__ device_heads heads, float *states,
                                    const __grid_constant__ device_rows y)
{
    let_next_begin();
    wait_for_inputs();
    merge_states<1>(batch, heads, states, y, (int)blockIdx.x, (int)blockIdx.y, (int)threadIdx.x);
}

/* ---- launches ---------------------------------------------------------------------------- */

bool device_attend_takes(const device_heads *heads)
{
    return has_tensors(*heads) && tiles_per_row(*heads) == 1;
}

/* Arguments of a launch. k and v NULL: they are stored already. */
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
    int splits = tiles_per_row(a.heads);
    dim3 grid(a.n_tiles * splits, a.heads.n_kv_heads, a.at_once);
    size_t shared = sizeof(decode_shared<steps>);
    if (a.k != NULL)
        launch(a.stream, grid, WARP * TILE_WARPS, shared, split_kernel<steps, true>, a.batch,
               a.heads, a.layer, splits, a.merging, a.q, *a.k, *a.v, a.y, a.states);
    else
        launch(a.stream, grid, WARP * TILE_WARPS, shared, split_kernel<steps, false>, a.batch,
               a.heads, a.layer, splits, a.merging, a.q, a.q, a.q, a.y, a.states);
}

/* Pages of a tile that thread blocks attend to side by side; 1 if one block is faster than merging
 * several. */
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
        split_floats(stream, *batch, *heads, layer, n_rows, n_pages, *q, states);
    }
    if (!merging)
        launch(stream, dim3(n_rows, heads->n_heads), heads->padded_dim, 0, merge_kernel, *batch,
               *heads, states, *y);
}
