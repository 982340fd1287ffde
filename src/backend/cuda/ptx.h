/* SPDX-License-Identifier: MIT */
/*
 * ptx.h: all that is not plain C++ in kernels: instructions, conversions, launches.
 * tests/cuda_emulator replaces this file alone to compile the kernels for the host.
 */
#ifndef BACKEND_CUDA_PTX_H
#define BACKEND_CUDA_PTX_H

#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <cuda_runtime.h>
#include <stdint.h>

/* On devices that can, a kernel begins while the one before it ends (programmatic dependent launch,
 * CUDA C++ Programming Guide). Every kernel allows that at once with let_next_begin(), and calls
 * wait_for_inputs() before it reads what other kernels of a pass write, or writes anything. */
template <typename... P, typename... A>
static void launch(cudaStream_t stream, dim3 grid, int threads, size_t shared, void (*kernel)(P...),
                   A... args)
{
    cudaLaunchAttribute attribute = {};
    cudaLaunchConfig_t config = {};
    int device = 0, major = 0;

    if (shared > 48 * 1024)
        cudaFuncSetAttribute((const void *)kernel, cudaFuncAttributeMaxDynamicSharedMemorySize,
                             (int)shared);
    /* The same for all kernels, as a multiprocessor drains before it changes it. */
    cudaFuncSetAttribute((const void *)kernel, cudaFuncAttributePreferredSharedMemoryCarveout,
                         cudaSharedmemCarveoutMaxShared);
    cudaGetDevice(&device);
    cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, device);
    attribute.id = cudaLaunchAttributeProgrammaticStreamSerialization;
    attribute.val.programmaticStreamSerializationAllowed = 1;
    config.gridDim = grid;
    config.blockDim = dim3((unsigned)threads);
    config.dynamicSmemBytes = shared;
    config.stream = stream;
    config.attrs = &attribute;
    config.numAttrs = major >= 9 ? 1 : 0;
    cudaLaunchKernelEx(&config, kernel, args...);
}

/* Each thread calls it once. Before it, a kernel may read only weights and what the host has
 * written. */
static __device__ __forceinline__ void wait_for_inputs()
{
#if defined __CUDA_ARCH__ && __CUDA_ARCH__ >= 900
    asm volatile("griddepcontrol.wait;" ::: "memory");
#endif
}

static __device__ __forceinline__ void let_next_begin()
{
#if defined __CUDA_ARCH__ && __CUDA_ARCH__ >= 900
    asm volatile("griddepcontrol.launch_dependents;");
#endif
}

/* The thread block's shared memory, as large as its launch asked for. */
static __device__ __forceinline__ unsigned char *shared_memory()
{
    extern __shared__ __align__(128) unsigned char memory[];
    return memory;
}

/* ---- loads of what is read once: past the first-level cache ------------------------------ */

static __device__ __forceinline__ uint4 load_once(const uint4 *p)
{
    uint4 v;
    asm volatile("ld.global.nc.L1::no_allocate.v4.u32 {%0, %1, %2, %3}, [%4];"
                 : "=r"(v.x), "=r"(v.y), "=r"(v.z), "=r"(v.w)
                 : "l"(p));
    return v;
}

static __device__ __forceinline__ uint2 load_once(const uint2 *p)
{
    uint2 v;
    asm volatile("ld.global.nc.L1::no_allocate.v2.u32 {%0, %1}, [%2];"
                 : "=r"(v.x), "=r"(v.y)
                 : "l"(p));
    return v;
}

static __device__ __forceinline__ uint32_t load_once(const uint32_t *p)
{
    uint32_t v;
    asm volatile("ld.global.nc.L1::no_allocate.u32 %0, [%1];" : "=r"(v) : "l"(p));
    return v;
}

/* Copies 16, 8 or 4 bytes to shared memory in the background. A group is what was copied since the
 * last commit. */
template <int bytes = 16>
static __device__ __forceinline__ void copy_async(void *shared, const void *global)
{
    unsigned to = (unsigned)__cvta_generic_to_shared(shared);
    if (bytes == 16)
        asm volatile("cp.async.cg.shared.global [%0], [%1], 16;" ::"r"(to), "l"(global) : "memory");
    else
        asm volatile("cp.async.ca.shared.global [%0], [%1], %2;" ::"r"(to), "l"(global), "n"(bytes)
                     : "memory");
}

/* Copies 16 bytes if `mine`; zeros unless `there`. Without a branch. */
static __device__ __forceinline__ void copy_if(void *shared, const void *global, bool mine,
                                               bool there)
{
    unsigned to = (unsigned)__cvta_generic_to_shared(shared);
    asm volatile("{\n\t.reg .pred mine;\n\t"
                 "setp.ne.u32 mine, %2, 0;\n\t"
                 "@mine cp.async.cg.shared.global [%0], [%1], 16, %3;\n\t}" ::"r"(to),
                 "l"(global), "r"((unsigned)mine), "r"(there ? 16 : 0)
                 : "memory");
}

static __device__ __forceinline__ void copy_commit()
{
    asm volatile("cp.async.commit_group;" ::: "memory");
}

/* Waits until all groups but the last `pending` are there, for the thread that copied them. */
template <int pending> static __device__ __forceinline__ void copy_wait()
{
    asm volatile("cp.async.wait_group %0;" ::"n"(pending) : "memory");
}

/* ---- integers ---------------------------------------------------------------------------- */

/* Byte i of the result is the byte of b:a that the lower three bits of nibble i of select name; if
 * the nibble's upper bit is set, eight copies of that byte's sign. */
static __device__ __forceinline__ uint32_t permute(uint32_t a, uint32_t b, uint32_t select)
{
    uint32_t d;
    asm("prmt.b32 %0, %1, %2, %3;" : "=r"(d) : "r"(a), "r"(b), "r"(select));
    return d;
}

/* NaN wins. */
static __device__ __forceinline__ float larger(float a, float b)
{
    float d;
    asm("max.NaN.f32 %0, %1, %2;" : "=f"(d) : "f"(a), "f"(b));
    return d;
}

/* c + the products of four signed bytes. */
static __device__ __forceinline__ int dot4(uint32_t a, uint32_t b, int c)
{
    return __dp4a((int)a, (int)b, c);
}

/* ---- tensor cores: d = a b + c, 16 rows of a by 8 columns of b ---------------------------- */

/* 32 products of bytes. Lane 4 g + t holds of a the rows g (a[0], a[2]) and g + 8 (a[1], a[3]), of
 * b the column g, and of c and d the rows g, g + 8 (c[0..1], c[2..3]) and columns 2 t, 2 t + 1. */
static __device__ __forceinline__ void mma_s8(int (&d)[4], const uint32_t (&a)[4], uint32_t b0,
                                              uint32_t b1, const int (&c)[4])
{
    asm("mma.sync.aligned.m16n8k32.row.col.s32.s8.s8.s32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, "
        "{%8, %9}, {%10, %11, %12, %13};"
        : "=r"(d[0]), "=r"(d[1]), "=r"(d[2]), "=r"(d[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1), "r"(c[0]), "r"(c[1]),
          "r"(c[2]), "r"(c[3]));
}

/* 16 products of bf16, or f16: pairs of them, held as above. d is c as well. */
static __device__ __forceinline__ void mma_bf16(float (&d)[4], const uint32_t (&a)[4], uint32_t b0,
                                                uint32_t b1)
{
    asm("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, "
        "{%8, %9}, {%0, %1, %2, %3};"
        : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}

static __device__ __forceinline__ void mma_f16(float (&d)[4], const uint32_t (&a)[4], uint32_t b0,
                                               uint32_t b1)
{
    asm("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, "
        "{%8, %9}, {%0, %1, %2, %3};"
        : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}

/* 2^x; 0 where that is subnormal. */
static __device__ __forceinline__ float exp2_or_zero(float x)
{
    float d;
    asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(d) : "f"(x));
    return d;
}

/* ---- conversions, to nearest even -------------------------------------------------------- */

static __device__ __forceinline__ float f16_to_float(uint32_t bits)
{
    return __half2float(__ushort_as_half((unsigned short)bits));
}

static __device__ __forceinline__ uint16_t float_to_f16(float x)
{
    return __half_as_ushort(__float2half_rn(x));
}

/* Two at once: a in the lower half. */
static __device__ __forceinline__ uint32_t floats_to_f16(float a, float b)
{
    uint32_t d;
    asm("cvt.rn.f16x2.f32 %0, %1, %2;" : "=r"(d) : "f"(b), "f"(a));
    return d;
}

static __device__ __forceinline__ float bf16_to_float(uint32_t bits)
{
    return __uint_as_float(bits << 16);
}

static __device__ __forceinline__ uint16_t float_to_bf16(float x)
{
    return __bfloat16_as_ushort(__float2bfloat16_rn(x));
}

static __device__ __forceinline__ uint32_t floats_to_bf16(float a, float b)
{
    uint32_t d;
    asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(d) : "f"(b), "f"(a));
    return d;
}

#endif
