/* SPDX-License-Identifier: MIT */
/*
 * ptx.h: the emulated twin of src/backend/cuda/ptx.h, and what that takes for granted of the device
 * language. A thread is a fiber of the host's thread; functions that threads of a warp call
 * together hand their operands over and wait until all 32 have come.
 */
#ifndef BACKEND_CUDA_PTX_H
#define BACKEND_CUDA_PTX_H

#include <cmath>
#include <cstdint>
#include <cstring>
#include <functional>

#include "cuda_runtime_api.h"
#include "quant/dtype.h"

#define __global__
#define __device__
#define __host__
#define __forceinline__ inline
#define __launch_bounds__(...)
#define __grid_constant__

struct uint2 {
    uint32_t x, y;
} __attribute__((aligned(8)));
struct uint4 {
    uint32_t x, y, z, w;
} __attribute__((aligned(16)));
struct float2 {
    float x, y;
} __attribute__((aligned(8)));
struct float4 {
    float x, y, z, w;
} __attribute__((aligned(16)));
struct dim3 {
    unsigned x, y, z;
    dim3(unsigned x = 1, unsigned y = 1, unsigned z = 1) : x(x), y(y), z(z)
    {
    }
};

namespace emulator
{
struct thread {
    dim3 index;
    bool waited; /* for what kernels before this one write: each thread has to */
};
extern thread *current; /* the fiber that runs */
extern dim3 block_index, block_size, grid_size;
extern unsigned char *shared;

void barrier();
void warp_barrier();
void fence();
void check_bounds(const void *p, size_t bytes);
int atomic_add(int *p, int x);
/* Copies, which are made by the wait for them. */
void copy_later(void *to, const void *from, int bytes);
void copy_commit();
void copy_wait(int pending);
/* All lanes of a warp hand over what is theirs; once they have, the last one runs fn on all. */
void together(void *mine, void (*fn)(void *const *lanes /* [32] */));
/* Checks and enqueues; body is what a thread does. */
void enqueue(cudaStream_t stream, const char *kernel, dim3 grid, int threads, size_t shared,
             std::function<void()> body);
} // namespace emulator

#define threadIdx (emulator::current->index)
#define blockIdx  emulator::block_index
#define blockDim  emulator::block_size
#define gridDim   emulator::grid_size

template <typename... P, typename... A>
static void launch(cudaStream_t stream, dim3 grid, int threads, size_t shared, void (*kernel)(P...),
                   A... args)
{
    emulator::enqueue(stream, __PRETTY_FUNCTION__, grid, threads, shared,
                      [=]() { kernel(args...); });
}

static inline void wait_for_inputs()
{
    emulator::current->waited = true;
}
static inline void let_next_begin()
{
}

static inline unsigned char *shared_memory()
{
    return emulator::shared;
}

static inline void __syncthreads()
{
    emulator::barrier();
}

/* ---- warps ------------------------------------------------------------------------------- */

static inline void __syncwarp()
{
    emulator::warp_barrier();
}

template <typename T> struct exchange {
    T value, result;
    int lane; /* of which the result is the value */
};

template <typename T> static void exchange_all(void *const *lanes)
{
    for (int i = 0; i < 32; i++) {
        exchange<T> *e = (exchange<T> *)lanes[i];
        e->result = ((exchange<T> *)lanes[e->lane])->value;
    }
}

template <typename T> static T shuffle(T value, int lane)
{
    exchange<T> e = {value, value, lane};
    emulator::together(&e, exchange_all<T>);
    return e.result;
}

template <typename T> static T __shfl_sync(unsigned, T value, int lane)
{
    return shuffle(value, lane & 31);
}

template <typename T> static T __shfl_xor_sync(unsigned, T value, int bits)
{
    return shuffle(value, (int)(threadIdx.x % 32) ^ bits);
}

template <typename T> static T __shfl_up_sync(unsigned, T value, unsigned by)
{
    int lane = (int)(threadIdx.x % 32);
    return shuffle(value, lane >= (int)by ? lane - (int)by : lane);
}

/* ---- numbers ----------------------------------------------------------------------------- */

static inline float __fadd_rn(float a, float b)
{
    return a + b;
}
static inline float __fsub_rn(float a, float b)
{
    return a - b;
}
static inline float __fmul_rn(float a, float b)
{
    return a * b;
}
static inline float __fmaf_rn(float a, float b, float c)
{
    return __builtin_fmaf(a, b, c);
}

static inline float __uint_as_float(uint32_t bits)
{
    float x;
    memcpy(&x, &bits, sizeof x);
    return x;
}
static inline float __int_as_float(int bits)
{
    return __uint_as_float((uint32_t)bits);
}
static inline uint32_t __float_as_uint(float x)
{
    uint32_t bits;
    memcpy(&bits, &x, sizeof bits);
    return bits;
}
static inline int __float_as_int(float x)
{
    return (int)__float_as_uint(x);
}

static inline float f16_to_float(uint32_t bits)
{
    return f16_to_f32((uint16_t)bits);
}
static inline uint16_t float_to_f16(float x)
{
    return f32_to_f16(x);
}
static inline float bf16_to_float(uint32_t bits)
{
    return __uint_as_float(bits << 16);
}
static inline uint16_t float_to_bf16(float x)
{
    uint32_t bits = __float_as_uint(x);
    if (x != x)
        return 0x7fff;
    return (uint16_t)((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
}
static inline uint32_t floats_to_f16(float a, float b)
{
    return float_to_f16(a) | (uint32_t)float_to_f16(b) << 16;
}
static inline uint32_t floats_to_bf16(float a, float b)
{
    return float_to_bf16(a) | (uint32_t)float_to_bf16(b) << 16;
}

/* ---- memory ------------------------------------------------------------------------------ */

static inline void __threadfence()
{
    emulator::fence();
}
static inline int atomicAdd(int *p, int x)
{
    return emulator::atomic_add(p, x);
}
template <typename T> static inline T __ldcg(const T *p)
{
    return *p;
}

template <typename T> static inline T load_once(const T *p)
{
    return *p;
}

template <int bytes = 16> static inline void copy_async(void *shared, const void *global)
{
    emulator::copy_later(shared, global, bytes);
}
static inline void copy_if(void *shared, const void *global, bool mine, bool there)
{
    static const unsigned char zeros[16] = {};
    if (mine)
        emulator::copy_later(shared, there ? global : zeros, 16);
}
static inline void copy_commit()
{
    emulator::copy_commit();
}
template <int pending> static inline void copy_wait()
{
    emulator::copy_wait(pending);
}

/* ---- integers ---------------------------------------------------------------------------- */

static inline uint32_t permute(uint32_t a, uint32_t b, uint32_t select)
{
    uint64_t bytes = a | (uint64_t)b << 32;
    uint32_t d = 0;
    for (int i = 0; i < 4; i++) {
        uint32_t nibble = select >> (4 * i) & 15, byte = bytes >> (8 * (nibble & 7)) & 255;
        if (nibble & 8)
            byte = byte & 128 ? 255 : 0;
        d |= byte << (8 * i);
    }
    return d;
}

static inline float exp2_or_zero(float x)
{
    float y = exp2f(x);
    return y < 0x1p-126f ? 0 : y;
}
static inline float larger(float a, float b)
{
    return a > b || a != a ? a : b;
}

static inline int dot4(uint32_t a, uint32_t b, int c)
{
    for (int i = 0; i < 4; i++)
        c += (int8_t)(a >> (8 * i) & 255) * (int8_t)(b >> (8 * i) & 255);
    return c;
}

/* ---- tensor cores ------------------------------------------------------------------------ */

/* A lane's operands, as src/backend/cuda/ptx.h describes them. */
template <typename D> struct mma {
    uint32_t a[4], b[2];
    D c[4], d[4];
};

template <typename D, typename F> static void mma_all(void *const *lanes, F products)
{
    for (int lane = 0; lane < 32; lane++) {
        mma<D> *out = (mma<D> *)lanes[lane];
        for (int j = 0; j < 4; j++) {
            int row = lane / 4, col = lane % 4 * 2 + j % 2;
            D sum = out->c[j];
            for (int k = 0; k < 8; k++) { /* words of columns of a, rows of b */
                const mma<D> *l = (const mma<D> *)lanes[row * 4 + k % 4];
                const mma<D> *r = (const mma<D> *)lanes[col * 4 + k % 4];
                sum = products(l->a[k / 4 * 2 + j / 2], r->b[k / 4], sum);
            }
            out->d[j] = sum;
        }
    }
}

template <float (*convert)(uint32_t)> static float two_products(uint32_t a, uint32_t b, float sum)
{
    sum += convert(a & 65535) * convert(b & 65535);
    return sum + convert(a >> 16) * convert(b >> 16);
}

static void mma_s8_all(void *const *lanes)
{
    mma_all<int>(lanes, dot4);
}
static void mma_bf16_all(void *const *lanes)
{
    mma_all<float>(lanes, two_products<bf16_to_float>);
}
static void mma_f16_all(void *const *lanes)
{
    mma_all<float>(lanes, two_products<f16_to_float>);
}

template <typename D>
static void run_mma(D (&d)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1, const D (&c)[4],
                    void (*all)(void *const *))
{
    mma<D> m;
    memcpy(m.a, a, sizeof m.a);
    memcpy(m.c, c, sizeof m.c);
    m.b[0] = b0;
    m.b[1] = b1;
    emulator::together(&m, all);
    memcpy(d, m.d, sizeof m.d);
}

static inline void mma_s8(int (&d)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1,
                          const int (&c)[4])
{
    run_mma(d, a, b0, b1, c, mma_s8_all);
}
static inline void mma_bf16(float (&d)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1)
{
    run_mma(d, a, b0, b1, d, mma_bf16_all);
}
static inline void mma_f16(float (&d)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1)
{
    run_mma(d, a, b0, b1, d, mma_f16_all);
}

#endif
