/* SPDX-License-Identifier: MIT */
/* lora_read.h: what lora.c asks lora_config.c of an adapter_config.json; for no one else. */
#ifndef CHECKPOINT_LORA_READ_H
#define CHECKPOINT_LORA_READ_H

#include <jansson.h>

#include "base/error.h"

/* Refuses what is no plain LoRA: keys that are not known, or that ask for something else. where:
 * the file, for errors, here and below. */
int lora_config_check(const json_t *config, const char *where, struct llama3_error *err);

/* The rank of a module ("model.layers.0.mlp.up_proj"), and what its product is multiplied by. -1 if
 * the configuration says that the module has no adapter. */
int lora_config_module(const json_t *config, const char *module, size_t *rank, double *scale,
                       const char *where, struct llama3_error *err);

#endif
