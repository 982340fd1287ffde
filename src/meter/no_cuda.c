/* SPDX-License-Identifier: MIT */
/* no_cuda.c: a build without CUDA has no backend of that name, so nothing reaches this meter. */
#include "meter/meter.h"

const struct meter_ops cuda_meter = {0};
