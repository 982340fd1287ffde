/* weight.c: matrices to the device, a tile of rows at a time. */
#include <stdlib.h>
#include <string.h>

#include "backend/cuda/state.h"
#include "base/size.h"

/* GGUF's blocks as a mere table: a few rows of it are read in a pass, each as it is defined. */
static bool stays_on_host(const struct matrix *m, enum weight_use use)
{
    return use == WEIGHT_TABLE && !is_grouped(m->type) && m->type != DTYPE_F32 &&
           m->type != DTYPE_F16 && m->type != DTYPE_BF16;
}

uint64_t cuda_weight_bytes(const struct backend_options *options, const struct matrix *matrix,
                           enum weight_use use)
{
    (void)options;
    if (use == WEIGHT_VECTOR)
        return matrix->cols * sizeof(float);
    return stays_on_host(matrix, use) ? 0 : layout_of(matrix).bytes;
}

static int take_vector(struct cuda *cuda, struct weight *w, struct llama3_error *err)
{
    size_t bytes = w->host.cols * sizeof(float);
    float *row = size_alloc(w->host.cols, sizeof *row);
    if (row == NULL)
        return error_memory(err, "a vector of weights", bytes);
    matrix_row(&w->host, 0, row);
    w->memory = w->vector = cuda_alloc(bytes, "a vector of weights", err);
    cudaError_t error = w->memory == NULL
                            ? cudaSuccess
                            : cuda_upload(w->memory, row, bytes, cuda->staging, cuda->stream);
    free(row);
    if (w->memory == NULL)
        return -1;
    return error == cudaSuccess ? 0 : cuda_error(err, "weight", error);
}

/* Rows that the host expands in a pass, to be copied. */
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

/* Tiles [first, first + n), side by side in `tiles`, part by part. */
static cudaError_t upload_tiles(const struct cuda *cuda, const struct weight *w,
                                const struct layout *l, size_t first, size_t n, uint8_t *tiles,
                                void *room)
{
    const size_t bytes[] = {l->tile_units, l->tile_scales, l->tile_offsets, l->tile_row_scales};
    const size_t begins[] = {0, l->scales, l->offsets, l->row_scales};
    enum { PARTS = sizeof bytes / sizeof bytes[0] };
    uint8_t *parts[PARTS];
    cudaError_t error = cudaSuccess;

    for (size_t i = 0; i < PARTS; i++) {
        parts[i] = tiles;
        tiles += n * bytes[i];
    }
    for (size_t tile = 0; tile < n; tile++)
        layout_tile(l, &w->host, first + tile, parts[0] + tile * bytes[0],
                    parts[1] + tile * bytes[1], parts[2] + tile * bytes[2],
                    parts[3] + tile * bytes[3], room);
    for (size_t i = 0; i < PARTS && error == cudaSuccess; i++)
        if (bytes[i] > 0)
            error = cudaMemcpyAsync((uint8_t *)w->memory + begins[i] + first * bytes[i], parts[i],
                                    n * bytes[i], cudaMemcpyHostToDevice, cuda->stream);
    return error == cudaSuccess ? cudaStreamSynchronize(cuda->stream) : error;
}

/* As many tiles at a time as the staging memory holds; if it is too small for one, through other
 * memory. */
static int upload(const struct cuda *cuda, const struct weight *w, const struct layout *l,
                  struct llama3_error *err)
{
    size_t tile = l->tile_units + l->tile_scales + l->tile_offsets + l->tile_row_scales;
    size_t most = tile <= STAGING ? STAGING / tile : 1;
    size_t room_bytes = layout_room(l) + (tile <= STAGING ? 0 : tile);
    uint8_t *room = size_alloc_aligned(1, room_bytes > 0 ? room_bytes : 1);
    cudaError_t error = cudaSuccess;

    if (room == NULL)
        return error_memory(err, "a tile of a matrix", room_bytes);
    for (size_t first = 0; first < l->tiles && error == cudaSuccess; first += most)
        error = upload_tiles(cuda, w, l, first, l->tiles - first < most ? l->tiles - first : most,
                             tile <= STAGING ? cuda->staging : room + layout_room(l), room);
    free(room);
    return error == cudaSuccess ? 0 : cuda_error(err, "weight", error);
}

static int take_matrix(struct cuda *cuda, struct weight *w, struct llama3_error *err)
{
    struct layout l = layout_of(&w->host);
    w->memory = cuda_alloc(l.bytes, "a matrix", err);
    if (w->memory == NULL)
        return -1;
    w->matrix = layout_view(&l, w->memory);
    return upload(cuda, w, &l, err);
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
    cudaFree(w->memory);
    free(w);
}

bool cuda_weight_is_copy(const struct backend *backend, const struct weight *weight)
{
    (void)backend;
    return !weight->on_host;
}
