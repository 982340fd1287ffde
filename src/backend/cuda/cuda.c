/* SPDX-License-Identifier: MIT */
/* cuda.c: the device and its memory, copies to and from it, and the table of operations. */
#include "backend/cuda/cuda.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "backend/cuda/state.h"
#include "base/size.h"
#include "base/threads.h"

enum {
    OLDEST = 8,          /* compute capability that the kernels need */
    OVERHEAD = 64 << 20, /* bytes for graphs and the driver's rounding */
    ALIGNMENT = 256      /* of the arrays of a buffer */
};

/* ---- failures ---------------------------------------------------------------------------- */

int cuda_error(struct llama3_error *err, const char *op, cudaError_t error)
{
    cudaGetLastError(); /* it is known now */
    return error_set(err, LLAMA3_EDEVICE, "CUDA: %s: %s", op, cudaGetErrorString(error));
}

void cuda_check(struct cuda *cuda, cudaError_t error, const char *op)
{
    if (error == cudaSuccess || cuda->failed != cudaSuccess)
        return;
    cuda->failed = error;
    cuda->failed_at = op;
}

struct cuda *cuda_enter(const struct backend *backend)
{
    struct cuda *cuda = (struct cuda *)(uintptr_t)backend;
    cuda_check(cuda, cudaSetDevice(cuda->device), "the device");
    return cuda;
}

static int report(const struct cuda *cuda, struct llama3_error *err)
{
    return error_set(err, LLAMA3_EDEVICE, "CUDA: %s: %s", cuda->failed_at,
                     cudaGetErrorString(cuda->failed));
}

/* Waits. An error of a kernel is found only here: it was one of the operations since the last wait.
 * */
static void wait_for(struct cuda *cuda)
{
    cudaError_t error = cudaStreamSynchronize(cuda->stream);
    if (error != cudaSuccess && cuda->failed == cudaSuccess) {
        if (cuda->first_op == NULL || cuda->first_op == cuda->last_op)
            cuda_check(cuda, error, cuda->first_op != NULL ? cuda->first_op : "read");
        else {
            snprintf(cuda->failed_ops, sizeof cuda->failed_ops, "an operation from %s to %s",
                     cuda->first_op, cuda->last_op);
            cuda_check(cuda, error, cuda->failed_ops);
        }
    }
    cuda->first_op = cuda->last_op = NULL;
}

/* ---- devices ----------------------------------------------------------------------------- */

static int no_device(cudaError_t error, struct llama3_error *err)
{
    int driver = 0, runtime = 0;
    cudaGetLastError();
    cudaDriverGetVersion(&driver);
    cudaRuntimeGetVersion(&runtime);
    if (driver == 0)
        return error_set(err, LLAMA3_EDEVICE, "no CUDA device: no driver was found");
    if (error == cudaErrorInsufficientDriver)
        return error_set(err, LLAMA3_EDEVICE,
                         "no CUDA device: expected a driver for CUDA %d.%d, found one for %d.%d",
                         runtime / 1000, runtime % 1000 / 10, driver / 1000, driver % 1000 / 10);
    return error_set(err, LLAMA3_EDEVICE, "no CUDA device: %s", cudaGetErrorString(error));
}

static int choose_device(int number, struct cudaDeviceProp *properties, struct llama3_error *err)
{
    int count = 0;
    cudaError_t error = cudaGetDeviceCount(&count);
    if (error != cudaSuccess || count == 0)
        return no_device(error != cudaSuccess ? error : cudaErrorNoDevice, err);
    if (number < 0 || number >= count)
        return error_input(err, "device %d: there %s %d, numbered from 0", number,
                           count == 1 ? "is" : "are", count);
    error = cudaGetDeviceProperties(properties, number);
    if (error == cudaSuccess)
        error = cudaSetDevice(number);
    if (error != cudaSuccess)
        return cuda_error(err, "the device", error);
    if (properties->major < OLDEST)
        return error_set(err, LLAMA3_EDEVICE,
                         "device %d (%s): expected compute capability %d.0 or later, found %d.%d",
                         number, properties->name, OLDEST, properties->major, properties->minor);
    return 0;
}

static int cuda_device(const struct backend_options *options, struct backend_device *device,
                       struct llama3_error *err)
{
    struct cudaDeviceProp properties;
    size_t free_bytes, total;
    if (choose_device(options->device, &properties, err) != 0)
        return -1;
    cudaError_t error = cudaMemGetInfo(&free_bytes, &total);
    if (error != cudaSuccess)
        return cuda_error(err, "the device", error);
    snprintf(device->name, sizeof device->name, "%.*s", (int)sizeof device->name - 1,
             properties.name);
    device->free_bytes = free_bytes;
    device->total_bytes = total;
    return 0;
}

int cuda_processors(int device)
{
    struct cudaDeviceProp properties;
    return cudaGetDeviceProperties(&properties, device) == cudaSuccess
               ? properties.multiProcessorCount
               : 0;
}

/* ---- memory ------------------------------------------------------------------------------ */

void *cuda_alloc(size_t bytes, const char *what, struct llama3_error *err)
{
    void *memory = NULL;
    size_t free_bytes = 0, total = 0;
    cudaError_t error = cudaMalloc(&memory, bytes > 0 ? bytes : 1);
    if (error == cudaSuccess)
        return memory;
    cudaGetLastError();
    if (error != cudaErrorMemoryAllocation) {
        cuda_error(err, what, error);
        return NULL;
    }
    cudaMemGetInfo(&free_bytes, &total);
    error_set(err, LLAMA3_ENOMEM,
              "%s: expected %zu bytes of the device's memory, found %zu free of %zu", what, bytes,
              free_bytes, total);
    return NULL;
}

cudaError_t cuda_upload(void *to, const void *from, size_t bytes, unsigned char *staging,
                        cudaStream_t stream)
{
    for (size_t at = 0; at < bytes; at += STAGING) {
        size_t n = bytes - at < STAGING ? bytes - at : STAGING;
        memcpy(staging, (const char *)from + at, n);
        cudaError_t error =
            cudaMemcpyAsync((char *)to + at, staging, n, cudaMemcpyHostToDevice, stream);
        if (error == cudaSuccess)
            error = cudaStreamSynchronize(stream);
        if (error != cudaSuccess)
            return error;
    }
    return cudaSuccess;
}

/* Lays out the arrays of a buffer from `memory` on, which may be NULL to find their size. Returns
 * the end. */
static unsigned char *lay_out(struct device_rows *x, unsigned char *memory, size_t n, size_t cols)
{
    size_t padded = (n + TILE_TOKENS - 1) / TILE_TOKENS * TILE_TOKENS;
    size_t blocks = (cols + BLOCK_COLS - 1) / BLOCK_COLS, stride = blocks * BLOCK_COLS;
    const struct {
        void **array;
        size_t bytes;
    } arrays[] = {
        {(void **)&x->values, padded * stride * sizeof(float)},
        {(void **)&x->codes, padded * stride},
        {(void **)&x->bases, padded * blocks * sizeof(float)},
        {(void **)&x->totals, padded * blocks * sizeof(float)},
        {(void **)&x->scales, padded * sizeof(float)},
        {(void **)&x->maxima, padded * blocks * sizeof(float)},
        {(void **)&x->bf16, padded * stride * sizeof(uint16_t)},
    };
    x->cols = (int)cols;
    x->stride = (int)stride;
    x->blocks = (int)blocks;
    for (size_t i = 0; i < sizeof arrays / sizeof arrays[0]; i++) {
        *arrays[i].array = memory;
        memory += (arrays[i].bytes + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT;
    }
    return memory;
}

static size_t rows_of(const struct backend_shape *shape, enum rows rows)
{
    return rows == ROWS_LOGITS ? shape->max_logit_rows : shape->max_rows;
}

static uint64_t cuda_buffer_bytes(const struct backend_shape *shape, enum rows rows, size_t cols)
{
    struct device_rows x;
    return (uintptr_t)lay_out(&x, NULL, rows_of(shape, rows), cols);
}

static struct buffer *cuda_buffer(struct backend *backend, enum rows rows, size_t cols,
                                  struct llama3_error *err)
{
    const struct cuda *cuda = cuda_enter(backend);
    struct buffer *buffer = size_alloc_for(1, sizeof *buffer, "activations", err);
    if (buffer == NULL)
        return NULL;
    buffer->n_rows = rows_of(&cuda->shape, rows);
    buffer->cols = cols;
    buffer->memory =
        cuda_alloc((size_t)cuda_buffer_bytes(&cuda->shape, rows, cols), "activations", err);
    if (buffer->memory == NULL) {
        free(buffer);
        return NULL;
    }
    lay_out(&buffer->rows, buffer->memory, buffer->n_rows, cols);
    return buffer;
}

static void cuda_buffer_free(struct backend *backend, struct buffer *buffer)
{
    struct cuda *cuda = cuda_enter(backend);
    if (buffer == NULL)
        return;
    graph_forget(cuda);
    cudaFree(buffer->memory);
    free(buffer);
}

/* ---- opening ----------------------------------------------------------------------------- */

static uint64_t cuda_own_bytes(const struct backend_options *options,
                               const struct backend_shape *shape)
{
    return batch_bytes(shape) + (options->bf16_prompt ? cublas_bytes() : 0) + OVERHEAD;
}

static void unpin(struct cuda *cuda)
{
    if (cuda->pinned != NULL)
        cudaHostUnregister(cuda->pinned);
    cuda->pinned = NULL;
}

static void cuda_close(struct backend *backend)
{
    struct cuda *cuda = cuda_enter(backend);
    if (cuda->stream != NULL)
        cudaStreamSynchronize(cuda->stream);
    graph_forget(cuda);
    free(cuda->graphs);
    team_close(cuda->team);
    cublas_close(cuda->blas);
    cuda_pool_close(cuda);
    batch_close(cuda);
    unpin(cuda);
    cudaFreeHost(cuda->embedded);
    cudaFreeHost(cuda->staging);
    cudaFreeHost(cuda->kv_staging);
    if (cuda->stream != NULL)
        cudaStreamDestroy(cuda->stream);
    if (cuda->kv_stream != NULL)
        cudaStreamDestroy(cuda->kv_stream);
    free(cuda);
}

static int open_streams(struct cuda *cuda, struct llama3_error *err)
{
    cudaError_t error = cudaStreamCreate(&cuda->stream);
    if (error == cudaSuccess)
        error = cudaStreamCreate(&cuda->kv_stream);
    if (error == cudaSuccess)
        error = cudaMallocHost((void **)&cuda->staging, STAGING);
    if (error == cudaSuccess)
        error = cudaMallocHost((void **)&cuda->kv_staging, cuda->heads.head_bytes);
    return error == cudaSuccess ? 0 : cuda_error(err, "the device", error);
}

static struct backend *cuda_open(const struct backend_options *options,
                                 const struct backend_shape *shape, struct llama3_error *err)
{
    struct cudaDeviceProp properties;
    if (choose_device(options->device, &properties, err) != 0)
        return NULL;
    if (shape->n_layers > 0 && kv_is_coded(shape->kv_type)) {
        error_input(err, "kv_type: expected f16 or f32 on a GPU, found %s",
                    shape->kv_type == LLAMA3_KV_INT8 ? "int8" : "int4");
        return NULL;
    }
    struct cuda *cuda = size_alloc_for(1, sizeof *cuda, "a backend", err);
    if (cuda == NULL)
        return NULL;
    cuda->base.ops = &cuda_ops;
    cuda->shape = *shape;
    cuda->heads = heads_of(shape);
    cuda->device = options->device;
    cuda->processors = properties.multiProcessorCount;
    cuda->threads = options->threads;
    cuda->shared_bytes = properties.sharedMemPerBlockOptin;
    snprintf(cuda->name, sizeof cuda->name, "cuda (%.128s)", properties.name);
    cuda_pool_open(cuda);
    cuda->team = team_open(cuda->threads, NULL, err);
    if (cuda->team == NULL || open_streams(cuda, err) != 0 || batch_open(cuda, err) != 0 ||
        (options->bf16_prompt && (cuda->blas = cublas_open(cuda->stream, err)) == NULL)) {
        cuda_close(&cuda->base);
        return NULL;
    }
    cuda->shape.inv_freq = NULL; /* the caller's */
    return &cuda->base;
}

static const char *cuda_describe(const struct backend *backend, const char **exactness)
{
    const struct cuda *cuda = (const struct cuda *)backend;
    if (exactness != NULL)
        *exactness = cuda->blas != NULL
                         ? "bit-identical for any chunks and batches on this device, except where "
                           "cuBLAS reads prompts in bf16: there to rounding"
                         : "bit-identical for any chunks and batches on this device";
    return cuda->name;
}

/* ---- activations across ------------------------------------------------------------------ */

static size_t rows_now(const struct cuda *cuda, enum rows rows)
{
    return (size_t)(rows == ROWS_LOGITS ? cuda->pass.n_logit_rows : cuda->pass.n_rows);
}

/* Rows of a buffer that the staging memory holds at once. One row always fits. */
static size_t staged_rows(const struct buffer *buffer)
{
    return STAGING / (buffer->cols * sizeof(float));
}

static void cuda_write(struct backend *backend, enum rows rows, struct buffer *buffer,
                       const float *data)
{
    struct cuda *cuda = cuda_enter(backend);
    size_t n = rows_now(cuda, rows), width = buffer->cols * sizeof *data;
    size_t pitch = (size_t)buffer->rows.stride * sizeof *data, most = staged_rows(buffer);

    buffer->forms = 0;
    for (size_t row = 0; row < n && cuda->failed == cudaSuccess; row += most) {
        size_t count = n - row < most ? n - row : most;
        memcpy(cuda->staging, data + row * buffer->cols, count * width);
        cuda_check(cuda,
                   cudaMemcpy2DAsync((char *)buffer->rows.values + row * pitch, pitch,
                                     cuda->staging, width, width, count, cudaMemcpyHostToDevice,
                                     cuda->stream),
                   "write");
        cuda_check(cuda, cudaStreamSynchronize(cuda->stream), "write");
    }
}

static void cuda_pin(struct backend *backend, void *memory, size_t bytes)
{
    struct cuda *cuda = cuda_enter(backend);
    unpin(cuda);
    if (cudaHostRegister(memory, bytes, cudaHostRegisterDefault) == cudaSuccess) {
        cuda->pinned = memory;
        cuda->pinned_bytes = bytes;
    } else {
        cudaGetLastError(); /* more than may be locked: read goes through the staging memory */
    }
}

static bool is_pinned(const struct cuda *cuda, const void *data, size_t bytes)
{
    uintptr_t at = (uintptr_t)data, from = (uintptr_t)cuda->pinned;
    return cuda->pinned != NULL && at >= from && bytes <= cuda->pinned_bytes &&
           at - from <= cuda->pinned_bytes - bytes;
}

/* Copies n rows of a buffer, from `first` on, to the host. */
static cudaError_t fetch_rows(const struct cuda *cuda, const struct buffer *buffer, size_t first,
                              size_t n, void *to)
{
    size_t width = buffer->cols * sizeof(float);
    size_t pitch = (size_t)buffer->rows.stride * sizeof(float);
    if (n == 0)
        return cudaSuccess;
    return cudaMemcpy2DAsync(to, width, (const char *)buffer->rows.values + first * pitch, pitch,
                             width, n, cudaMemcpyDeviceToHost, cuda->stream);
}

static int cuda_read(struct backend *backend, enum rows rows, const struct buffer *buffer,
                     float *data, struct llama3_error *err)
{
    struct cuda *cuda = cuda_enter(backend);
    size_t n = rows_now(cuda, rows), width = buffer->cols * sizeof *data, row = 0;
    bool direct = is_pinned(cuda, data, n * width);
    size_t most = direct ? n : staged_rows(buffer);

    do {
        size_t count = n - row < most ? n - row : most;
        cudaError_t error =
            fetch_rows(cuda, buffer, row, count, direct ? (void *)data : cuda->staging);
        wait_for(cuda);
        cuda_check(cuda, error, "read");
        if (!direct)
            memcpy(data + row * buffer->cols, cuda->staging, count * width);
        row += count;
    } while (row < n && cuda->failed == cudaSuccess);
    if (cuda->failed != cudaSuccess)
        return report(cuda, err);
    if (cuda->lacks_token)
        return error_input(err, "a token of the batch is not in the vocabulary");
    return 0;
}

const struct backend_ops cuda_ops = {
    .name = "cuda",
    .device = cuda_device,
    .weight_bytes = cuda_weight_bytes,
    .buffer_bytes = cuda_buffer_bytes,
    .kv_page_bytes = cuda_kv_page_bytes,
    .own_bytes = cuda_own_bytes,
    .open = cuda_open,
    .close = cuda_close,
    .describe = cuda_describe,
    .run = cuda_run,
    .weight = cuda_weight,
    .weight_free = cuda_weight_free,
    .weight_is_copy = cuda_weight_is_copy,
    .buffer = cuda_buffer,
    .buffer_free = cuda_buffer_free,
    .kv_open = pages_kv_open,
    .kv_close = pages_kv_close,
    .kv_reserve = cuda_kv_reserve,
    .kv_truncate = pages_truncate,
    .kv_missing = pages_missing,
    .kv_fork = pages_fork,
    .kv_share = pages_share,
    .kv_export = cuda_kv_export,
    .kv_import = cuda_kv_import,
    .kv_bytes = pages_bytes,
    .batch = cuda_batch,
    .embed = cuda_embed,
    .add_norm = cuda_add_norm,
    .linear = cuda_linear,
    .adapt = cuda_adapt,
    .rope_store = cuda_rope_store,
    .attend = cuda_attend,
    .swiglu = cuda_swiglu,
    .write = cuda_write,
    .read = cuda_read,
    .pin = cuda_pin,
};
