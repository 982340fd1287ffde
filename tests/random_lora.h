/* SPDX-License-Identifier: MIT */
/* random_lora.h: adapters in memory, for tests that need no file of one. */
#ifndef TESTS_RANDOM_LORA_H
#define TESTS_RANDOM_LORA_H

#include "checkpoint/lora.h"

/* Numbers of -0.05 to 0.05 for all matrices of the model's layers, always the same. For
 * lora_close(). */
struct lora random_lora(const struct model *model, size_t rank);

#endif
