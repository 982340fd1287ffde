/* SPDX-License-Identifier: MIT */
/*
 * batch.c: what changes from pass to pass. One image of it is copied to the device before a run, to
 * the same address, so that a recorded graph finds it.
 */
#include <stdlib.h>
#include <string.h>

#include "backend/cuda/state.h"
#include "base/size.h"

enum {
    SPLIT_PAGES = 1 << 15,   /* side by side at most: the limit of a launch's z dimension */
    SPLIT_BYTES = 256 << 20, /* of their states, at most */
    WARPS_WANTED = 4         /* of a multiprocessor: with fewer, pages are attended side by side */
};

/* Where the arrays of the image begin. Pages come last, as only those in use are copied. */
struct image {
    size_t tokens, positions, packed, page_rows, tile_rows, tile_groups, scales, states, pages,
        bytes;
};

static struct image image_of(const struct backend_shape *shape)
{
    size_t n = shape->max_rows;
    struct image i = {0};
    i.positions = i.tokens + n * sizeof(int32_t);
    i.packed = i.positions + n * sizeof(int32_t);
    i.page_rows = i.packed + n * sizeof(int32_t);
    i.tile_rows = i.page_rows + n * sizeof(int32_t);
    i.tile_groups = i.tile_rows + 2 * n * sizeof(int32_t);
    i.scales = i.tile_groups + 2 * n * sizeof(int32_t);
    i.states = (i.scales + n * shape->n_adapters * sizeof(float) + 7) / 8 * 8;
    i.pages = i.states + n * sizeof(uint64_t);
    i.bytes = i.pages + shape->max_seqs * kv_pages(shape->max_context) * sizeof(uint8_t *);
    return i;
}

static size_t angles_bytes(const struct backend_shape *shape)
{
    return shape->max_rows * shape->head_dim * sizeof(float);
}

/* Counters, which are 0 before and after each attention. */
static size_t arrived_bytes(const struct backend_shape *shape)
{
    return shape->max_rows * shape->n_kv_heads * sizeof(int);
}

/* For at least one number: nobody asks whether there are adapters. */
static size_t thin_bytes(const struct backend_shape *shape)
{
    size_t rows = shape->max_rows > shape->max_logit_rows ? shape->max_rows : shape->max_logit_rows;
    return (rows * MAX_MATRICES * shape->max_rank + 1) * sizeof(float);
}

uint64_t batch_bytes(const struct backend_shape *shape)
{
    struct device_heads heads = heads_of(shape);
    uint64_t states = shape->n_layers > 0 ? shape->n_heads * kv_pages(shape->max_context) *
                                                (size_t)heads.state_floats * sizeof(float)
                                          : 0;
    return image_of(shape).bytes + angles_bytes(shape) + arrived_bytes(shape) + thin_bytes(shape) +
           shape->head_dim / 2 * sizeof(float) + (states < SPLIT_BYTES ? states : SPLIT_BYTES);
}

int batch_open(struct cuda *cuda, struct llama3_error *err)
{
    const struct backend_shape *shape = &cuda->shape;
    struct image at = image_of(shape);
    size_t half = shape->head_dim / 2;

    cuda->ops = size_alloc(MAX_OPS, sizeof *cuda->ops);
    cuda->tokens = size_alloc(shape->max_rows, sizeof *cuda->tokens);
    if (cuda->ops == NULL || cuda->tokens == NULL)
        return error_memory(err, "a pass", MAX_OPS * sizeof *cuda->ops);
    cudaError_t error = cudaMallocHost((void **)&cuda->image, at.bytes);
    if (error == cudaSuccess)
        error = cudaEventCreate(&cuda->image_copied);
    if (error != cudaSuccess)
        return cuda_error(err, "a batch", error);
    if ((cuda->batch_memory = cuda_alloc(at.bytes, "a batch", err)) == NULL ||
        (cuda->angles = cuda_alloc(angles_bytes(shape), "a batch", err)) == NULL ||
        (cuda->arrived = cuda_alloc(arrived_bytes(shape), "a batch", err)) == NULL ||
        (cuda->thin = cuda_alloc(thin_bytes(shape), "a batch", err)) == NULL ||
        (cuda->inv_freq = cuda_alloc(half * sizeof(float), "a batch", err)) == NULL)
        return -1;
    error = cudaMemsetAsync(cuda->arrived, 0, arrived_bytes(shape), cuda->stream);
    if (error == cudaSuccess)
        error = cuda_upload(cuda->inv_freq, shape->inv_freq, half * sizeof(float), cuda->staging,
                            cuda->stream);
    if (error != cudaSuccess)
        return cuda_error(err, "a batch", error);

    const unsigned char *memory = cuda->batch_memory;
    cuda->image_bytes = at.bytes;
    cuda->batch = (struct device_batch){
        .tokens = (const void *)(memory + at.tokens),
        .positions = (const void *)(memory + at.positions),
        .packed = (const void *)(memory + at.packed),
        .page_rows = (const void *)(memory + at.page_rows),
        .scales = (const void *)(memory + at.scales),
        .states = (const void *)(memory + at.states),
        .tile_rows = (const void *)(memory + at.tile_rows),
        .tile_groups = (const void *)(memory + at.tile_groups),
        .pages = (const void *)(memory + at.pages),
        .angles = cuda->angles,
        .arrived = cuda->arrived,
    };
    return 0;
}

void batch_close(struct cuda *cuda)
{
    free(cuda->ops);
    free(cuda->tokens);
    cudaFreeHost(cuda->image);
    cudaFree(cuda->batch_memory);
    cudaFree(cuda->angles);
    cudaFree(cuda->arrived);
    cudaFree(cuda->thin);
    cudaFree(cuda->inv_freq);
    cudaFree(cuda->states);
    if (cuda->image_copied != NULL)
        cudaEventDestroy(cuda->image_copied);
}

/* Page tables of the sequences. page_at: [n_seqs], where each begins. */
static size_t fill_pages(const struct cuda *cuda, const struct batch *batch, uint8_t **out,
                         int32_t *page_at)
{
    size_t n = 0;
    for (size_t s = 0; s < batch->n_seqs; s++) {
        const struct kv *kv = batch->seqs[s];
        page_at[s] = (int32_t)n;
        for (size_t p = 0; cuda->shape.n_layers > 0 && kv != NULL && p < kv->n_pages; p++)
            out[n++] = ((const struct cuda_page *)kv->pages[p])->memory;
    }
    return n;
}

/* Consecutive rows of one sequence form a tile, which a warp attends together. Consecutive tiles
 * form a group, of one thread block. */
static void fill_tiles(struct cuda *cuda, const struct batch *batch, int32_t *tiles,
                       int32_t *groups)
{
    int rows = device_attend_rows(&cuda->heads), most = device_attend_tiles(&cuda->heads);
    int n_tiles = 0, n_groups = 0;

    for (size_t i = 0; i < batch->n_rows; i++) {
        const struct batch_row *row = &batch->rows[i];
        bool follows = i > 0 && row->seq == row[-1].seq && row->position > row[-1].position;
        if (follows && tiles[2 * n_tiles - 1] < rows) {
            tiles[2 * n_tiles - 1]++;
            continue;
        }
        if (follows && groups[2 * n_groups - 1] < most)
            groups[2 * n_groups - 1]++;
        else
            memcpy(groups + 2 * n_groups++, (int32_t[]){n_tiles, 1}, 2 * sizeof *groups);
        memcpy(tiles + 2 * n_tiles++, (int32_t[]){(int32_t)i, 1}, 2 * sizeof *tiles);
    }
    cuda->pass.n_tiles = n_tiles;
    cuda->pass.n_groups = n_groups;
}

/* Makes room for the states of all pages of all rows. Without it pages are attended one after
 * another. */
static bool has_states(struct cuda *cuda, uint64_t n)
{
    uint64_t bytes = n * (uint64_t)cuda->heads.state_floats * sizeof(float);
    if (bytes > SPLIT_BYTES)
        return false;
    if (bytes <= cuda->state_bytes)
        return true;
    cudaFree(cuda->states);
    cuda->state_bytes = 0;
    cuda->states = cuda_alloc(bytes, "attention", NULL);
    if (cuda->states == NULL)
        return false;
    cuda->state_bytes = bytes;
    return true;
}

/* Whether pages are attended one after another: there are enough warps, and groups are at least
 * half full, as most warps would idle otherwise. */
static bool has_groups(const struct cuda *cuda)
{
    const struct pass *p = &cuda->pass;
    return p->n_tiles * cuda->heads.n_kv_heads >= WARPS_WANTED * cuda->processors &&
           2 * p->n_tiles >= device_attend_tiles(&cuda->heads) * p->n_groups;
}

/* How the rows are attended. It depends on the batch's shape and, in powers of two, on its longest
 * context, so that a recorded graph serves many passes. */
static void plan_attention(struct cuda *cuda, const struct batch *batch, uint64_t *states)
{
    uint64_t n = 0;
    int most = 1;
    for (size_t i = 0; i < batch->n_rows; i++) {
        int pages = batch->rows[i].position / KV_PAGE + 1;
        states[i] = n;
        n += (uint64_t)pages * cuda->shape.n_heads;
        while (most < pages)
            most *= 2;
    }
    cuda->pass.n_pages = 0;
    cuda->pass.states = NULL;
    if (has_groups(cuda) || most > SPLIT_PAGES || !has_states(cuda, n))
        return;
    cuda->pass.n_pages = most;
    cuda->pass.states = cuda->states;
}

static void fill_rows(struct cuda *cuda, const struct batch *batch, const struct image *at,
                      const int32_t *page_at)
{
    int32_t *tokens = (void *)(cuda->image + at->tokens);
    int32_t *positions = (void *)(cuda->image + at->positions);
    int32_t *packed = (void *)(cuda->image + at->packed);
    int32_t *page_rows = (void *)(cuda->image + at->page_rows);
    float *scales = (void *)(cuda->image + at->scales);
    const size_t n_adapters = cuda->shape.n_adapters;
    int wanted = 0;

    cuda->pass.one_each = 1;
    for (size_t i = 0; i < batch->n_rows; i++) {
        const struct batch_row *row = &batch->rows[i];
        tokens[i] = cuda->tokens[i] = row->token;
        positions[i] = row->position;
        packed[i] = row->wants_logits ? wanted++ : -1;
        page_rows[i] = page_at[row->seq];
        for (size_t k = 0; k < n_adapters; k++)
            scales[i * n_adapters + k] =
                batch->scales != NULL ? batch->scales[(size_t)row->seq * n_adapters + k] : 0;
        for (size_t j = 0; j < i && i < GRAPH_ROWS; j++)
            cuda->pass.one_each &= batch->rows[j].seq != row->seq;
        cuda->pass.one_each &= i < GRAPH_ROWS;
    }
    cuda->pass.n_rows = (int)batch->n_rows;
    cuda->pass.n_logit_rows = wanted;
}

int cuda_batch(struct backend *backend, const struct batch *batch, struct llama3_error *err)
{
    struct cuda *cuda = cuda_enter(backend);
    struct image at = image_of(&cuda->shape);

    cuda->pass = (struct pass){0};
    cuda->lacks_token = false;
    if (pages_check_batch(&cuda->pool, &cuda->shape, batch, err) != 0)
        return -1;
    int32_t *page_at = size_alloc_for(batch->n_seqs, sizeof *page_at, "a batch", err);
    if (page_at == NULL)
        return -1;

    cuda_check(cuda, cudaEventSynchronize(cuda->image_copied), "batch");
    size_t n = fill_pages(cuda, batch, (void *)(cuda->image + at.pages), page_at);
    fill_rows(cuda, batch, &at, page_at);
    free(page_at);
    fill_tiles(cuda, batch, (void *)(cuda->image + at.tile_rows),
               (void *)(cuda->image + at.tile_groups));
    plan_attention(cuda, batch, (void *)(cuda->image + at.states));
    cuda_check(cuda,
               cudaMemcpyAsync(cuda->batch_memory, cuda->image, at.pages + n * sizeof(uint8_t *),
                               cudaMemcpyHostToDevice, cuda->stream),
               "batch");
    cuda_check(cuda, cudaEventRecord(cuda->image_copied, cuda->stream), "batch");
    if (cuda->failed == cudaSuccess && cuda->shape.n_layers > 0) {
        device_angles(cuda->stream, cuda->batch.positions, cuda->inv_freq, cuda->pass.n_rows,
                      cuda->heads.head_dim / 2, backend_rope_scale(&cuda->shape), cuda->angles);
        cuda_check(cuda, cudaGetLastError(), "batch");
    }
    return 0;
}
