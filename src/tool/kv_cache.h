/* SPDX-License-Identifier: MIT */
/* kv_cache.h: where programs keep what they have read of prompts, for their next runs. */
#ifndef TOOL_KV_CACHE_H
#define TOOL_KV_CACHE_H

#include "tool/model_path.h"

/* What $LLAMA3_CACHE_MAX allows, 2 GiB by default; 0: nothing is kept. STATUS_USAGE, after an error
 * on stderr, for what is no size. */
int kv_cache_limit(uint64_t *bytes);

/* Keeps a model's prefixes in a folder of this name in the cache, in at most so many bytes. Where
 * that can't be, a note says why. */
void kv_cache_use(const struct model_args *args, const char *name, uint64_t bytes,
                  struct llama3_model *model);

#endif
