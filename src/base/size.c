#include "base/size.h"

#include <stdlib.h>
#include <string.h>

void *size_alloc(size_t n, size_t size)
{
    size_t bytes;
    if (!size_mul(n, size, &bytes))
        return NULL;
    return calloc(1, bytes > 0 ? bytes : 1);
}

void *size_alloc_aligned(size_t n, size_t size)
{
    size_t bytes;
    if (!size_mul(n, size, &bytes) || !size_add(bytes, 63, &bytes))
        return NULL;
    bytes = bytes / 64 * 64;
    void *memory = aligned_alloc(64, bytes > 0 ? bytes : 64);
    if (memory != NULL)
        memset(memory, 0, bytes);
    return memory;
}
