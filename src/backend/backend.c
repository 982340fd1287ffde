/* backend.c: the only place that names concrete backends. */
#include "backend/backend.h"

#include <string.h>

#include "backend/cpu/cpu.h"

/* Best first. */
static const struct backend_ops *const backends[] = {&cpu_ops};

const struct backend_ops *backend_find(const char *name, struct llama3_error *err)
{
    if (name == NULL)
        return backends[0];
    for (size_t i = 0; i < sizeof backends / sizeof backends[0]; i++)
        if (strcmp(backends[i]->name, name) == 0)
            return backends[i];
    error_set(err, LLAMA3_EINPUT, "backend: expected one of: cpu; found '%s'", name);
    return NULL;
}
