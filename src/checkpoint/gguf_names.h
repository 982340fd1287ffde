/* SPDX-License-Identifier: MIT */
/*
 * gguf_names.h: reads names of GGUF files. A repository on the hub has a file for each quantization
 * ("Q4_K_M"), at its top or in a folder of its own. Large ones are split:
 * NAME-00001-of-00003.gguf.
 */
#ifndef CHECKPOINT_GGUF_NAMES_H
#define CHECKPOINT_GGUF_NAMES_H

#include <stdbool.h>
#include <stddef.h>

#include "checkpoint/hub_cache.h"

/* Whether a path is that of a shard of a split model: ".gguf" after the shard's number, from 1, and
 * their count. stem: the length of the prefix that the paths of all shards have. */
bool gguf_is_shard(const char *path, unsigned *shard, unsigned *count, size_t *stem);
/* The path of another shard of the set, for free(). */
char *gguf_shard_path(const char *path, unsigned shard, struct llama3_error *err);

/* False if it is not a GGUF file of a model's weights ("mmproj" belongs to a vision model,
 * "imatrix" to a quantizer). Else as gguf_is_shard(), with shard 1 of 1 for a whole file. name: a
 * path in its repository. */
bool gguf_is_weights(const char *name, unsigned *shard, unsigned *count, size_t *stem);

/* How well a tag fits a file's name: 0 not at all; 1 if it is a word of the name, between two of
 * "-._/" or its ends, in either case; 2 if '_' does not end a word ("Q4_K" fits "Q4_K" better than
 * "Q4_K_M"). The best fit wins. */
int gguf_tag_fits(const char *name, const char *tag);

/* The best tag for a file: its quantization, or the end of its name; "" if that can't be a tag. */
void gguf_tag(const char *name, char tag[HUB_NAME_SIZE]);

#endif
