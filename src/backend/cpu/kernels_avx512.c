/* kernels_avx512.c: kernels_simd.inc, compiled for AVX-512. */
#include "backend/cpu/simd_avx512.h"

#define KERNELS        kernels_avx512
#define KERNELS_NAME   "avx512"
#define KERNELS_EXPAND kernels_expand_avx512
#include "backend/cpu/kernels_simd.inc"
