/* SPDX-License-Identifier: MIT */
/* sampling.h: a sampling by its settings. */
#ifndef TESTS_SAMPLING_H
#define TESTS_SAMPLING_H

#include <stdarg.h>
#include <stdlib.h>

#include "llama3.h"

/* Sets pairs of a name and a value, up to a NULL. */
__attribute__((sentinel, unused)) static struct llama3_sampling *sampling_with(
    struct llama3_sampling *sampling, ...)
{
    const char *name;
    va_list args;
    va_start(args, sampling);
    while ((name = va_arg(args, const char *)) != NULL)
        if (llama3_sampling_set(sampling, name, va_arg(args, const char *), NULL) != 0)
            abort();
    va_end(args);
    return sampling;
}

#define SAMPLING(model, ...) sampling_with(llama3_sampling_open(model, NULL), __VA_ARGS__, NULL)

#endif
