/* SPDX-License-Identifier: MIT */
/* backend.c: the only place that names concrete backends. */
#include "config.h"

#include "backend/backend.h"

#include <stdio.h>
#include <string.h>

#include "backend/cpu/cpu.h"
#ifdef HAVE_CUDA
#include "backend/cuda/cuda.h"
#endif

/* The CPU's first, which is always there. */
static const struct backend_ops *const backends[] = {
    &cpu_ops,
#ifdef HAVE_CUDA
    &cuda_ops,
#endif
};
enum { N_BACKENDS = sizeof backends / sizeof backends[0] };

const struct backend_ops *backend_find(const char *name, struct llama3_error *err)
{
    if (name == NULL)
        return backends[0];
    for (size_t i = 0; i < N_BACKENDS; i++)
        if (strcmp(backends[i]->name, name) == 0)
            return backends[i];
    char names[128] = "";
    for (size_t i = 0; i < N_BACKENDS; i++) {
        size_t used = strlen(names);
        snprintf(names + used, sizeof names - used, "%s%s", i > 0 ? ", " : "", backends[i]->name);
    }
    error_input(err, "backend: expected one of: %s; found \"%s\"", names, name);
    return NULL;
}

const struct backend_ops *backend_device_ops(void)
{
    for (size_t i = 0; i < N_BACKENDS; i++)
        if (backends[i]->device != NULL)
            return backends[i];
    return NULL;
}
