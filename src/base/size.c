/* SPDX-License-Identifier: MIT */
#include "config.h" /* madvise */

#include "base/size.h"

#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

/* Blocks of at least so many bytes begin at a multiple of it, where the system has pages of that
 * size: rows of activations lie so far apart that each would need a page of 4 KiB of its own. */
enum { HUGE_PAGE = 2 << 20 };

void *size_alloc(size_t n, size_t size)
{
    size_t bytes;
    if (!size_mul(n, size, &bytes))
        return NULL;
    return calloc(1, bytes > 0 ? bytes : 1);
}

void *size_alloc_for(size_t n, size_t size, const char *what, struct llama3_error *err)
{
    void *memory = size_alloc(n, size);
    if (memory == NULL)
        error_memory(err, what, n * size);
    return memory;
}

/* *bytes: a multiple of what it is aligned to, and never 0. */
static void *allocate(size_t n, size_t size, size_t *bytes)
{
    if (!size_mul(n, size, bytes))
        return NULL;
    size_t unit = *bytes >= HUGE_PAGE ? HUGE_PAGE : 64;
    if (!size_add(*bytes, unit - 1, bytes))
        return NULL;
    *bytes = *bytes / unit * unit;
    *bytes = *bytes > 0 ? *bytes : unit;
    void *memory = aligned_alloc(unit, *bytes);
#ifdef MADV_HUGEPAGE
    if (memory != NULL && unit == HUGE_PAGE)
        madvise(memory, *bytes, MADV_HUGEPAGE); /* failing, they are pages like all others */
#endif
    return memory;
}

void *size_alloc_aligned(size_t n, size_t size)
{
    size_t bytes;
    void *memory = allocate(n, size, &bytes);
    if (memory != NULL)
        memset(memory, 0, bytes);
    return memory;
}

void *size_alloc_unset(size_t n, size_t size)
{
    size_t bytes;
    return allocate(n, size, &bytes);
}
