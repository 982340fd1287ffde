/* SPDX-License-Identifier: MIT */
/* integer_formats.h: matrices of safetensors whose codes are integers of 4 or 8 bits: GPTQ, AWQ,
 * compressed-tensors. */
#ifndef CHECKPOINT_INTEGER_FORMATS_H
#define CHECKPOINT_INTEGER_FORMATS_H

#include "checkpoint/stored.h"

stored_reader gptq_take, awq_take, compressed_take;

#endif
