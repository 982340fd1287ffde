/* SPDX-License-Identifier: MIT */
/* racing.cc: kernels that race. */
#include "racing.h"

#include "backend/cuda/ptx.h"

namespace
{

enum { THREADS = 64, BLOCKS = 3 };

struct room {
    int numbers[THREADS], copies[THREADS][4];
    int both, arrived;
};

struct memory {
    int from[BLOCKS][THREADS][4], to[BLOCKS][THREADS], sum, counter;
    uint8_t bytes[BLOCKS][THREADS];
};

void racing_kernel(enum race race, memory *m)
{
    room *r = (room *)shared_memory();
    int block = (int)blockIdx.x, t = (int)threadIdx.x, other = t ^ (THREADS / 2), sum = 0;

    if (race == READ_NOT_WAITED)
        sum += m->to[block][t];
    if (race == WRITE_NOT_WAITED)
        m->to[block][t] = 0;
    wait_for_inputs();
    r->numbers[t] = t;
    if (race != NO_WARP_BARRIER)
        __syncwarp();
    sum += r->numbers[t ^ 1];
    if (race != NO_BARRIER)
        __syncthreads();
    sum += r->numbers[other];
    if (race != NO_BARRIER_AFTER)
        __syncthreads();
    r->numbers[t] = sum;
    if (t == 0 || (race == BOTH_WRITE && t == 32))
        r->both = 1;

    r->copies[t][0] = 1;
    __syncthreads();
    sum += r->copies[other][0];
    if (race != COPY_TOO_EARLY)
        __syncthreads();
    copy_async(r->copies[t], m->from[block][t]);
    copy_commit();
    if (race == COPY_CHANGED) {
        __syncthreads();
        m->from[block][other][0] = t;
        __syncthreads();
    }
    if (race != COPY_NOT_WAITED)
        copy_wait<0>();
    sum += r->copies[t][0];
    if (race != COPY_NOT_SHARED)
        __syncthreads();
    sum += r->copies[other][1];
    copy_wait<0>();

    m->to[block][t] = sum;
    m->bytes[race == BLOCKS_WRITE ? 0 : block][t] = (uint8_t)sum;
    __syncthreads();
    if (t == 0) {
        if (race != NO_FENCE)
            __threadfence();
        if (race == FENCE_TOO_EARLY)
            m->to[block][THREADS - 1] = sum;
        r->arrived = atomicAdd(&m->counter, 1);
        if (r->arrived == BLOCKS - 1)
            m->counter = 0;
        if (race != NO_FENCE_AFTER)
            __threadfence();
    }
    __syncthreads();
    if (r->arrived == BLOCKS - 1 && t == 0)
        for (int i = 0; i < BLOCKS; i++)
            m->sum += m->to[i][THREADS - 1];
}

} // namespace

bool emulator_finds_races(void)
{
#ifdef FINDS_RACES
    return true;
#else
    return false;
#endif
}

void emulator_race(enum race race)
{
    struct cudaDeviceProp properties;
    cudaStream_t stream;
    void *m;
    cudaGetDeviceProperties(&properties, 0);
    cudaStreamCreate(&stream);
    cudaMalloc(&m, sizeof(memory));
    cudaMemsetAsync(m, 0, sizeof(memory), stream);
    for (int i = 0; i < 2; i++)
        launch(stream, dim3(BLOCKS), THREADS, sizeof(room), racing_kernel, race, (memory *)m);
    cudaStreamSynchronize(stream);
    cudaFree(m);
    cudaStreamDestroy(stream);
}
