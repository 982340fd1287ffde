/* SPDX-License-Identifier: MIT */
/* inline.h: what kernels ask of a compiler. Their arrays are registers: that takes every call
 * inlined and every loop over them unrolled, before anything else is done. */
#ifndef BACKEND_CPU_INLINE_H
#define BACKEND_CPU_INLINE_H

#define INLINE static inline __attribute__((always_inline))

/* Before a loop of constantly many rounds, at most 32. Clang heeds only its own spelling; without
 * it kernels took three times as long. */
#ifdef __SANITIZE_ADDRESS__
#define UNROLL /* every operation is checked: unrolled, a file takes minutes to compile */
#elif defined __clang__
#define UNROLL _Pragma("clang loop unroll(full)")
#else
#define UNROLL _Pragma("GCC unroll 32")
#endif
#define UNROLL_FOR(i, n) \
    UNROLL               \
    for (size_t i = 0; i < (n); i++)

#endif
