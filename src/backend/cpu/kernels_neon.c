/* kernels_neon.c: kernels_simd.inc, compiled for NEON. */
#include "backend/cpu/simd_neon.h"

#define KERNELS        kernels_neon
#define KERNELS_NAME   "neon"
#define KERNELS_EXPAND kernels_expand_neon
#include "backend/cpu/kernels_simd.inc"
