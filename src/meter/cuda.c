/* SPDX-License-Identifier: MIT */
/* cuda.c: times the loops of cuda_loops.cu by the device's own clock. */
#include <stdlib.h>

#include "backend/cuda/state.h"
#include "base/size.h"
#include "meter/cuda_loops.h"
#include "meter/meter.h"

enum {
    LEAST_READ = 64 << 20, /* bytes, and where there is room */
    MOST_READ = 1 << 30,   /* so many: more than any second-level cache */
    BLOCKS = 8             /* of each processor */
};

static const float ENOUGH = 100; /* milliseconds of each loop */

struct meter {
    int device, processors;
    cudaStream_t stream;
    cudaEvent_t start, end;
    void *memory;
    float *out;
    size_t bytes;
    int rounds[MAC_LOOPS], reads; /* that take about ENOUGH */
};

/* What is timed: a loop, or reading `rounds` times. */
static void enqueue(const struct meter *m, int loop, int rounds)
{
    int blocks = m->processors * BLOCKS;
    if (loop < MAC_LOOPS)
        loop_run(m->stream, (enum mac_loop)loop, blocks, rounds, m->out);
    else
        for (int i = 0; i < rounds; i++)
            loop_read(m->stream, m->memory, m->bytes / UNIT_BYTES, blocks, m->out);
}

/* Milliseconds; 0 if the device failed. */
static float spent(const struct meter *m, int loop, int rounds)
{
    float milliseconds = 0;
    cudaEventRecord(m->start, m->stream);
    enqueue(m, loop, rounds);
    cudaEventRecord(m->end, m->stream);
    if (cudaStreamSynchronize(m->stream) != cudaSuccess || cudaGetLastError() != cudaSuccess ||
        cudaEventElapsedTime(&milliseconds, m->start, m->end) != cudaSuccess)
        return 0;
    return milliseconds;
}

static int enough_rounds(const struct meter *m, int loop)
{
    int rounds = 1;
    float t = spent(m, loop, rounds);
    while (t > 0 && t < ENOUGH / 2 && rounds < 1 << 28) {
        rounds *= 2;
        t = spent(m, loop, rounds);
    }
    return t > 0 ? rounds : 0;
}

static void close_meter(struct meter *m)
{
    if (m == NULL)
        return;
    cudaSetDevice(m->device);
    cudaFree(m->memory);
    cudaFree(m->out);
    if (m->start != NULL)
        cudaEventDestroy(m->start);
    if (m->end != NULL)
        cudaEventDestroy(m->end);
    if (m->stream != NULL)
        cudaStreamDestroy(m->stream);
    free(m);
}

static int prepare(struct meter *m, const struct backend_device *device, struct llama3_error *err)
{
    size_t room = (size_t)(device->free_bytes / 4);
    m->bytes = room > MOST_READ ? MOST_READ : room > LEAST_READ ? room : LEAST_READ;
    m->memory = cuda_alloc(m->bytes, "what the limit of reading is measured with", err);
    m->out = m->memory != NULL ? cuda_alloc(sizeof *m->out, "a sum", err) : NULL;
    if (m->out == NULL)
        return -1;
    cudaError_t error = cudaStreamCreate(&m->stream);
    if (error == cudaSuccess)
        error = cudaEventCreate(&m->start);
    if (error == cudaSuccess)
        error = cudaEventCreate(&m->end);
    if (error == cudaSuccess)
        error = cudaMemsetAsync(m->memory, 1, m->bytes, m->stream);
    if (error != cudaSuccess)
        return cuda_error(err, "limits", error);
    for (int loop = 0; loop <= MAC_LOOPS; loop++) {
        int rounds = enough_rounds(m, loop);
        if (rounds == 0)
            return error_set(err, LLAMA3_EDEVICE, "CUDA: limits: the device can't be timed");
        *(loop < MAC_LOOPS ? &m->rounds[loop] : &m->reads) = rounds;
    }
    return 0;
}

static struct meter *open_meter(const struct backend_options *options, struct llama3_error *err)
{
    struct backend_device device;
    if (cuda_ops.device(options, &device, err) != 0)
        return NULL;
    struct meter *m = size_alloc_for(1, sizeof *m, "limits", err);
    if (m == NULL)
        return NULL;
    m->device = options->device;
    m->processors = cuda_processors(options->device);
    if (prepare(m, &device, err) != 0) {
        close_meter(m);
        return NULL;
    }
    return m;
}

static double gmacs(const struct meter *m, enum mac_loop loop)
{
    float t = spent(m, (int)loop, m->rounds[loop]);
    double macs = loop_macs(loop) * m->processors * BLOCKS * m->rounds[loop];
    return t > 0 ? macs / (double)t / 1e6 : 0;
}

static int measure(struct meter *m, struct limits *limits, struct llama3_error *err)
{
    cudaSetDevice(m->device);
    float t = spent(m, MAC_LOOPS, m->reads);
    limits->rates[LIMIT_READ] = t > 0 ? (double)m->bytes * m->reads / (double)t / 1e6 : 0;
    limits->rates[LIMIT_INT8] = gmacs(m, LOOP_INT8);
    limits->rates[LIMIT_F32] = gmacs(m, LOOP_F32);
    limits->rates[LIMIT_BF16] = gmacs(m, LOOP_BF16);
    if (limits->rates[LIMIT_READ] > 0 && limits->rates[LIMIT_INT8] > 0 &&
        limits->rates[LIMIT_F32] > 0 && limits->rates[LIMIT_BF16] > 0)
        return 0;
    return error_set(err, LLAMA3_EDEVICE, "CUDA: limits: the device can't be timed any more");
}

static uint64_t most_memory(void)
{
    return MOST_READ;
}

const struct meter_ops cuda_meter = {
    .open = open_meter,
    .memory = most_memory,
    .measure = measure,
    .close = close_meter,
};
