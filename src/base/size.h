/* SPDX-License-Identifier: MIT */
/* size.h: sizes that come from outside are multiplied and added only here. */
#ifndef BASE_SIZE_H
#define BASE_SIZE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"

/* False if the true result does not fit; *out is then unspecified. */
static inline bool size_mul(size_t a, size_t b, size_t *out)
{
    return !__builtin_mul_overflow(a, b, out);
}

static inline bool size_add(size_t a, size_t b, size_t *out)
{
    return !__builtin_add_overflow(a, b, out);
}

/* True if [offset, offset + length) lies inside [0, size). */
static inline bool size_inside(uint64_t offset, uint64_t length, uint64_t size)
{
    return offset <= size && length <= size - offset;
}

/* Zeroed memory for n things of the given size, NULL on overflow or lack of memory; n == 0 gives a
 * pointer that can be freed. Freed by free(). */
void *size_alloc(size_t n, size_t size);

/* The same; without memory err says that `what` needs it. */
void *size_alloc_for(size_t n, size_t size, const char *what, struct llama3_error *err);

enum { HUGE_PAGE = 2 << 20 }; /* bytes, on most systems */

/* As size_alloc(), aligned to 64 bytes (a cache line, and the widest vector); those of at
 * least HUGE_PAGE lie in huge pages, where the system has them. */
void *size_alloc_aligned(size_t n, size_t size);

/* The same, but uninitialised: the caller overwrites all of it, best with the threads that read
 * it. */
void *size_alloc_unset(size_t n, size_t size);

#endif
