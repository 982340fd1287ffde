/* SPDX-License-Identifier: MIT */
#include "config.h" /* PACKAGE_VERSION */

#include "base/sized.h"

#include <string.h>

static size_t size_of(const void *sized)
{
    size_t size;
    memcpy(&size, sized, sizeof size);
    return size;
}

int sized_take(void *own, size_t own_size, const void *callers, const char *what,
               struct llama3_error *err)
{
    size_t size = callers != NULL ? size_of(callers) : own_size;
    if (size < sizeof size)
        return error_input(err, "struct %s: expected its size in its first field, found %zu", what,
                           size);
    memset(own, 0, own_size);
    if (callers != NULL)
        memcpy(own, callers, size < own_size ? size : own_size);
    memcpy(own, &own_size, sizeof own_size);
    for (size_t i = own_size; i < size; i++)
        if (((const char *)callers)[i] != 0)
            return error_input(err,
                               "struct %s: expected fields that version " PACKAGE_VERSION
                               " knows, found one at byte %zu",
                               what, i);
    return 0;
}

void sized_give(void *callers, const void *own, size_t own_size)
{
    size_t size = size_of(callers), n = size < own_size ? size : own_size;
    if (n > sizeof size)
        memcpy((char *)callers + sizeof size, (const char *)own + sizeof size, n - sizeof size);
}
