/* SPDX-License-Identifier: MIT */
/*
 * float_formats.h: matrices of safetensors whose codes stand for floats, and bitsandbytes' int8.
 * The tensors say which format they are, as a checkpoint may mix several with plain weights.
 */
#ifndef CHECKPOINT_FLOAT_FORMATS_H
#define CHECKPOINT_FLOAT_FORMATS_H

#include "checkpoint/stored.h"

/* Each fills *out if the tensors are of its formats, and *taken says so. */
stored_reader bitsandbytes_take, float8_take, float4_take;

#endif
