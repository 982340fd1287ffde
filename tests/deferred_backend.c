/* SPDX-License-Identifier: MIT */
/*
 * deferred_backend.c: takes the place of src/backend/backend.c in programs that are linked with it,
 * so that their device is the deferred one. DEVICE_FREE and DEVICE_TOTAL are its bytes,
 * DEVICE_ABSENT is why it doesn't answer, DEVICE_FAIL_AFTER after how many operations it fails.
 */
#include <stdlib.h>
#include <string.h>

#include "backend/cpu/cpu.h"
#include "deferred.h"

const struct backend_ops *backend_find(const char *name, struct llama3_error *err)
{
    if (name == NULL || strcmp(name, cpu_ops.name) == 0)
        return &cpu_ops;
    error_set(err, LLAMA3_EINPUT, "backend: expected cpu, found \"%s\"", name);
    return NULL;
}

static uint64_t number(const char *variable, uint64_t otherwise)
{
    const char *value = getenv(variable);
    return value != NULL ? strtoull(value, NULL, 10) : otherwise;
}

const struct backend_ops *backend_device_ops(void)
{
    struct deferred_device *device = &deferred_device;
    device->free_bytes = number("DEVICE_FREE", device->free_bytes);
    device->total_bytes = number("DEVICE_TOTAL", device->total_bytes);
    device->fail_after = (size_t)number("DEVICE_FAIL_AFTER", device->fail_after);
    device->absent = getenv("DEVICE_ABSENT");
    return &deferred_ops;
}
