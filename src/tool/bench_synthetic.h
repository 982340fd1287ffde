/* SPDX-License-Identifier: MIT */
/* bench_synthetic.h: a model of a published shape with random weights, in memory. */
#ifndef TOOL_BENCH_SYNTHETIC_H
#define TOOL_BENCH_SYNTHETIC_H

#include "checkpoint/lora.h"

/* Whether a shape is one that synthetic_open() knows. */
int synthetic_check(const char *shape, struct llama3_error *err);

/* "1b", "3b", "8b" or "70b" of Llama 3, or "135m" of SmolLM2. ":LAYERS" after it makes so many
 * layers instead of all. type: of every matrix, "f32", "bf16", a family of checkpoints ("gptq") or
 * a type of GGUF, which is laid out as a backend lays it out. Closed by model_close(). */
int synthetic_open(struct model *model, const char *shape, const char *type, int threads,
                   struct llama3_error *err);

/* A random adapter of this rank for all matrices of the model's layers. Fills a zeroed lora, for
 * lora_close(), also on failure. */
int synthetic_lora(struct lora *lora, const struct model *model, size_t rank,
                   struct llama3_error *err);

#endif
