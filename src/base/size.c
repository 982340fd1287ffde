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

void *size_alloc_aligned(size_t n, size_t size)
{
    size_t bytes, unit;
    if (!size_mul(n, size, &bytes))
        return NULL;
    unit = bytes >= HUGE_PAGE ? HUGE_PAGE : 64;
    if (!size_add(bytes, unit - 1, &bytes))
        return NULL;
    bytes = bytes / unit * unit;
    void *memory = aligned_alloc(unit, bytes > 0 ? bytes : unit);
    if (memory == NULL)
        return NULL;
#ifdef MADV_HUGEPAGE
    if (unit == HUGE_PAGE)
        madvise(memory, bytes, MADV_HUGEPAGE); /* failing, they are pages like all others */
#endif
    memset(memory, 0, bytes);
    return memory;
}
