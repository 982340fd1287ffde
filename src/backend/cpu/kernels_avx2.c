/* kernels_avx2.c: kernels_simd.inc, compiled for AVX2. */
#include "backend/cpu/simd_avx2.h"

#define KERNELS        kernels_avx2
#define KERNELS_NAME   "avx2"
#define KERNELS_EXPAND kernels_expand_avx2
#include "backend/cpu/kernels_simd.inc"
