/* SPDX-License-Identifier: MIT */
/* attend_prefill.cu: attention of many rows: the pages of a tile one after another. */
#include "backend/cuda/attend_tensor.cuh"

enum { GROUP_WARPS = 8, PAGE_BUFFERS = 2 };

/* A KV head's page in shared memory. Every other row swaps the halves of its 128 bytes, so that
 * lanes of neighbouring rows read from different banks. */
template <int steps> struct shared_page {
    enum { K_UNITS = 4 * steps, V_UNITS = PAGE_TOKENS / 8, V_ROWS = 32 * steps };
    uint4 k[PAGE_TOKENS][K_UNITS], v[V_ROWS][V_UNITS];

    static __device__ __forceinline__ int k_offset(int row, int unit)
    {
        return steps % 2 == 0 ? unit ^ row % 2 * 4 : unit;
    }
    static __device__ __forceinline__ int v_offset(int row, int unit)
    {
        return unit ^ row % 2 * 4;
    }
    /* All threads of the thread block call it together. */
    __device__ __forceinline__ void copy(const uint8_t *page)
    {
        const uint4 *from = (const uint4 *)page;
        for (int i = (int)threadIdx.x; i < PAGE_TOKENS * K_UNITS; i += WARP * GROUP_WARPS)
            copy_async(&k[i / K_UNITS][k_offset(i / K_UNITS, i % K_UNITS)], from + i);
        from += PAGE_TOKENS * K_UNITS;
        for (int i = (int)threadIdx.x; i < V_ROWS * V_UNITS; i += WARP * GROUP_WARPS)
            copy_async(&v[i / V_UNITS][v_offset(i / V_UNITS, i % V_UNITS)], from + i);
    }
};

/* A lane's share of the merged states of 16 queries: columns 8 i + 2 t + {0, 1} of V. */
template <int steps> struct merged_state {
    merged_rows rows;
    float sums[4 * steps][4];
};

/* Merges the state of a page. last: the last slots that rows g and g + 8 see; last_written: the
 * last one that any row of the tile sees. */
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
                x[i] = page.k[row][page.k_offset(row, 4 * step + lane_index() % 4)];
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
        const uint4 x[2] = {page.v[row][page.v_offset(row, unit)],
                            page.v[row][page.v_offset(row, unit + 4)]};
        float y[4];
        sum_eight(weights, x, last_written, y);
        merge_sums(state.sums[i], y, old, of_page);
    }
}

/* A thread block for a group of tiles (x) and a KV head (y); pages come to shared memory one after
 * another. A warp has a tile, or 16 queries of it if it has more (z: if there are more of these
 * than warps). */
template <int steps>
static __global__ void __launch_bounds__(WARP *GROUP_WARPS, 1)
    attend_kernel(const __grid_constant__ device_batch batch,
                  const __grid_constant__ device_heads heads, int layer, int tiles_per_row,
                  const __grid_constant__ device_rows q, const __grid_constant__ device_rows y)
{
    shared_page<steps> *buffers = (shared_page<steps> *)shared_memory();
    let_next_begin();
    /* Later groups of a sequence have more pages, so they start first. */
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
    buffers[0].copy(page_of(batch, heads, layer, qs.first_row, 0, qs.kv_head));
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
        __syncthreads(); /* the page is there for all, and all have finished the one before */
        if (page < last_page)
            buffers[(page + 1) % PAGE_BUFFERS].copy(
                page_of(batch, heads, layer, qs.first_row, page + 1, qs.kv_head));
        copy_commit();
        if (mine && start <= last_position)
            attend_page<steps>(buffers[page % PAGE_BUFFERS], f, heads.score_scale, last,
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

/* ---- launches ---------------------------------------------------------------------------- */

int device_attend_rows(const device_heads *heads)
{
    return has_tensors(*heads) && heads->n_group < WARP_QUERIES ? WARP_QUERIES / heads->n_group : 1;
}

int device_attend_tiles(const device_heads *heads)
{
    int splits = tiles_per_row(*heads);
    return has_tensors(*heads) && splits < GROUP_WARPS ? GROUP_WARPS / splits : 1;
}

template <int steps>
static void attend(cudaStream_t stream, const device_batch &batch, const device_heads &heads,
                   int layer, int n_groups, const device_rows &q, const device_rows &y)
{
    int splits = tiles_per_row(heads);
    dim3 grid(n_groups, heads.n_kv_heads, (splits + GROUP_WARPS - 1) / GROUP_WARPS);
    launch(stream, grid, WARP * GROUP_WARPS, PAGE_BUFFERS * sizeof(shared_page<steps>),
           attend_kernel<steps>, batch, heads, layer, splits, q, y);
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
        attend_floats(stream, *batch, *heads, layer, n_rows, *q, *y);
}
