/* SPDX-License-Identifier: MIT */
/* inline.h: inlining and unrolling for kernels. Their arrays are registers, which needs every call
 * inlined and every loop over them unrolled. */
#ifndef BACKEND_CPU_INLINE_H
#define BACKEND_CPU_INLINE_H

#define INLINE static inline __attribute__((always_inline))

/* Before a loop with a constant number of rounds, at most 32. Clang obeys only its own spelling;
 * without it kernels took three times as long. */
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
