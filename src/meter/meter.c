/* SPDX-License-Identifier: MIT */
/* meter.c: which meter is a backend's. */
#include "config.h"

#include "meter/meter.h"

#include <string.h>

const struct meter_ops *meter_of(const struct backend_ops *backend)
{
#ifdef HAVE_CUDA
    if (strcmp(backend->name, "cuda") == 0)
        return &cuda_meter;
#endif
    (void)backend;
    return &cpu_meter;
}
