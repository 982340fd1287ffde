/* SPDX-License-Identifier: MIT */
/* meter.c: which meter is a backend's. */
#include "meter/meter.h"

#include <string.h>

const struct meter_ops *meter_of(const struct backend_ops *backend)
{
    return strcmp(backend->name, "cuda") == 0 ? &cuda_meter : &cpu_meter;
}
