/* SPDX-License-Identifier: MIT */
#include "config.h" /* madvise */

#include "base/size.h"

#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

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

/* *bytes: a multiple of 64, and never 0. Large blocks lie in huge pages: rows of activations are so
 * far apart that each would need a page of 4 KiB of its own. */
static void *allocate(size_t n, size_t size, size_t *bytes)
{
    if (!size_mul(n, size, bytes))
        return NULL;
    bool huge = *bytes >= HUGE_PAGE;
    void *memory;
    if (!size_add(*bytes, 63, bytes))
        return NULL;
    *bytes = *bytes / 64 * 64;
    *bytes = *bytes > 0 ? *bytes : 64;
    if (posix_memalign(&memory, huge ? HUGE_PAGE : 64, *bytes) != 0)
        return NULL;
#ifdef MADV_HUGEPAGE
    if (huge)
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
