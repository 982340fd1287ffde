/* SPDX-License-Identifier: MIT */
/* weight.c: uploads matrices, a tile of rows at a time. */
#include <stdlib.h>
#include <string.h>

#include "backend/cuda/state.h"
#include "base/size.h"
#include "base/threads.h"

/* A table of GGUF's blocks stays on the host, which expands the few rows that a pass reads. */
static bool stays_on_host(const struct matrix *m, enum weight_use use)
{
    return use == WEIGHT_TABLE && !is_grouped(m->type) && m->type != DTYPE_F32 &&
           m->type != DTYPE_F16 && m->type != DTYPE_BF16;
}

/* Kernels read vectors by fours. */
static size_t vector_bytes(const struct matrix *m)
{
    return (m->cols + 3) / 4 * 4 * sizeof(float);
}

/* Of the order of a matrix's columns, which is read by fours; 0: it has none. */
static size_t order_bytes(const struct matrix *m)
{
    bool ordered = m->parts != NULL && m->parts->order != NULL;
    return ordered ? (m->cols * sizeof(uint32_t) + 255) / 256 * 256 : 0;
}

uint64_t cuda_weight_bytes(const struct backend_options *options, const struct matrix *matrix,
                           enum weight_use use)
{
    (void)options;
    if (use == WEIGHT_VECTOR)
        return vector_bytes(matrix);
    if (use == WEIGHT_FACTOR)
        return matrix_bytes(matrix);
    return stays_on_host(matrix, use) ? 0 : layout_of(matrix).bytes + order_bytes(matrix);
}

static int take_vector(struct cuda *cuda, struct weight *w, struct llama3_error *err)
{
    size_t bytes = w->host.cols * sizeof(float);
    float *row = size_alloc_for(w->host.cols, sizeof *row, "a vector of weights", err);
    if (row == NULL)
        return -1;
    matrix_row(&w->host, 0, row);
    w->memory = w->vector = cuda_alloc(vector_bytes(&w->host), "a vector of weights", err);
    cudaError_t error = w->memory == NULL
                            ? cudaSuccess
                            : cuda_upload(w->memory, row, bytes, cuda->staging, cuda->stream);
    free(row);
    if (w->memory == NULL)
        return -1;
    return error == cudaSuccess ? 0 : cuda_error(err, "weight", error);
}

/* As it is: rows of f32. */
static int take_factor(struct cuda *cuda, struct weight *w, struct llama3_error *err)
{
    size_t bytes = matrix_bytes(&w->host);
    w->memory = w->vector = cuda_alloc(bytes, "an adapter", err);
    if (w->memory == NULL)
        return -1;
    cudaError_t error = cuda_upload(w->memory, w->host.data, bytes, cuda->staging, cuda->stream);
    return error == cudaSuccess ? 0 : cuda_error(err, "weight", error);
}

/* Makes room for the rows that the host expands in a pass. */
static int take_table(struct cuda *cuda, const struct weight *w, struct llama3_error *err)
{
    float *rows;
    if (w->host.cols <= cuda->embedded_cols)
        return 0;
    cudaError_t error =
        cudaMallocHost((void **)&rows, cuda->shape.max_rows * w->host.cols * sizeof *rows);
    if (error != cudaSuccess)
        return cuda_error(err, "rows of an embedding", error);
    cudaFreeHost(cuda->embedded);
    cuda->embedded = rows;
    cuda->embedded_cols = w->host.cols;
    return 0;
}

/* Tiles [first, first + n), in the staging memory: each of its arrays in one piece. */
struct tile_upload {
    const struct layout *layout;
    const struct matrix *matrix;
    size_t first, n;
    uint8_t *arrays[4];
    size_t bytes[4];    /* of a tile */
    uint8_t *scratches; /* [threads][layout_scratch] */
};

static void shuffle(void *arg, size_t first, size_t end)
{
    const struct tile_upload *p = arg;
    uint8_t *scratch = p->scratches + thread_index() * layout_scratch(p->layout);
    for (size_t i = first; i < end; i++)
        layout_tile(p->layout, p->matrix, p->first + i, p->arrays[0] + i * p->bytes[0],
                    p->arrays[1] + i * p->bytes[1], p->arrays[2] + i * p->bytes[2],
                    p->arrays[3] + i * p->bytes[3], scratch);
}

static cudaError_t upload_tiles(const struct cuda *cuda, const struct weight *w,
                                struct tile_upload *p, uint8_t *tiles)
{
    const size_t begins[] = {0, p->layout->scales, p->layout->offsets, p->layout->row_scales};
    cudaError_t error = cudaSuccess;

    for (size_t i = 0; i < 4; i++) {
        p->arrays[i] = tiles;
        tiles += p->n * p->bytes[i];
    }
    team_share(cuda->team, p->n, 1, p->n, false, shuffle, p);
    for (size_t i = 0; i < 4 && error == cudaSuccess; i++)
        if (p->bytes[i] > 0)
            error = cudaMemcpyAsync((uint8_t *)w->memory + begins[i] + p->first * p->bytes[i],
                                    p->arrays[i], p->n * p->bytes[i], cudaMemcpyHostToDevice,
                                    cuda->stream);
    return error == cudaSuccess ? cudaStreamSynchronize(cuda->stream) : error;
}

/* As many tiles at a time as the staging memory holds; if not even one, through other memory. */
static int upload(const struct cuda *cuda, const struct weight *w, const struct layout *l,
                  struct llama3_error *err)
{
    struct tile_upload p = {
        .layout = l,
        .matrix = &w->host,
        .bytes = {l->tile_units, l->tile_scales, l->tile_offsets, l->tile_row_scales},
    };
    size_t tile = l->tile_units + l->tile_scales + l->tile_offsets + l->tile_row_scales;
    size_t most = tile <= STAGING ? STAGING / tile : 1;
    size_t scratches = (size_t)cuda->threads * layout_scratch(l);
    size_t bytes = scratches + (tile <= STAGING ? 0 : tile);
    cudaError_t error = cudaSuccess;

    p.scratches = size_alloc_aligned(1, bytes > 0 ? bytes : 1);
    if (p.scratches == NULL)
        return error_memory(err, "a tile of a matrix", bytes);
    for (; p.first < l->tiles && error == cudaSuccess; p.first += p.n) {
        p.n = l->tiles - p.first < most ? l->tiles - p.first : most;
        error =
            upload_tiles(cuda, w, &p, tile <= STAGING ? cuda->staging : p.scratches + scratches);
    }
    free(p.scratches);
    return error == cudaSuccess ? 0 : cuda_error(err, "weight", error);
}

static int take_order(const struct cuda *cuda, struct weight *w, struct llama3_error *err)
{
    size_t bytes = order_bytes(&w->host);
    if (bytes == 0)
        return 0;
    w->order = cuda_alloc(bytes, "an order of columns", err);
    if (w->order == NULL)
        return -1;
    cudaError_t error = cuda_upload(w->order, w->host.parts->order, w->host.cols * sizeof *w->order,
                                    cuda->staging, cuda->stream);
    return error == cudaSuccess ? 0 : cuda_error(err, "weight", error);
}

static int take_matrix(struct cuda *cuda, struct weight *w, struct llama3_error *err)
{
    struct layout l = layout_of(&w->host);
    w->memory = cuda_alloc(l.bytes, "a matrix", err);
    if (w->memory == NULL)
        return -1;
    w->matrix = layout_view(&l, w->memory);
    return upload(cuda, w, &l, err) == 0 ? take_order(cuda, w, err) : -1;
}

struct weight *cuda_weight(struct backend *backend, const struct matrix *matrix,
                           enum weight_use use, struct llama3_error *err)
{
    struct cuda *cuda = cuda_enter(backend);
    struct weight *w = size_alloc(1, sizeof *w);
    int status;
    if (w == NULL) {
        error_memory(err, "a weight", sizeof *w);
        return NULL;
    }
    w->host = *matrix;
    w->on_host = stays_on_host(matrix, use);
    if (use == WEIGHT_VECTOR)
        status = take_vector(cuda, w, err);
    else if (use == WEIGHT_FACTOR)
        status = take_factor(cuda, w, err);
    else
        status = w->on_host ? take_table(cuda, w, err) : take_matrix(cuda, w, err);
    if (status != 0) {
        cuda_weight_free(backend, w);
        return NULL;
    }
    return w;
}

void cuda_weight_free(struct backend *backend, struct weight *w)
{
    struct cuda *cuda = cuda_enter(backend);
    if (w == NULL)
        return;
    graph_forget(cuda);
    cudaFree(w->order);
    cudaFree(w->memory);
    free(w);
}

bool cuda_weight_is_copy(const struct backend *backend, const struct weight *weight)
{
    (void)backend;
    return !weight->on_host;
}
