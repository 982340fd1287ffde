/* SPDX-License-Identifier: MIT */
#include "config.h" /* PACKAGE_VERSION */

#include "base/sized.h"

#include <stdlib.h>
#include <string.h>

#include "base/size.h"

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

void *sized_take_all(size_t own_size, const void *callers, size_t n, const char *item,
                     const char *what, struct llama3_error *err)
{
    const char *at = callers;
    size_t bytes, first = n > 0 ? size_of(callers) : 0;
    if (!size_mul(n, own_size, &bytes)) {
        error_input(err, "%ss: expected at most %zu, found %zu", item, SIZE_MAX / own_size, n);
        return NULL;
    }
    char *all = size_alloc_for(n, own_size, what, err);
    for (size_t i = 0; all != NULL && i < n; i++, at += first) {
        bool same = size_of(at) == first;
        if (!same)
            error_input(err, "%s %zu: expected the first one's size of %zu bytes, found %zu", item,
                        i + 1, first, size_of(at));
        if (!same || sized_take(all + i * own_size, own_size, at, what, err) < 0) {
            free(all);
            return NULL;
        }
    }
    return all;
}

void sized_give(void *callers, const void *own, size_t own_size)
{
    size_t size = size_of(callers), n = size < own_size ? size : own_size;
    if (n > sizeof size)
        memcpy((char *)callers + sizeof size, (const char *)own + sizeof size, n - sizeof size);
}
