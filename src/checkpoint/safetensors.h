/* SPDX-License-Identifier: MIT */
/*
 * safetensors.h: the container (github.com/huggingface/safetensors, "Format"): eight bytes of
 * header length, a JSON header, the tensors' bytes.
 */
#ifndef CHECKPOINT_SAFETENSORS_H
#define CHECKPOINT_SAFETENSORS_H

#include <jansson.h>

#include "checkpoint/assemble.h"

/* The header of a mapped file, and where its tensors' bytes begin; NULL and err filled if it has
 * none. */
json_t *safetensors_header(const struct map *map, const char *path, size_t *start,
                           struct llama3_error *err);

/* Adds the header's tensors to the table; data: the bytes after it. Without names, whatever the
 * format allows is added, types that no weight has as DTYPE_COUNT. */
int safetensors_tensors(const json_t *header, const uint8_t *data, size_t size, const char *path,
                        const struct tensor_names *names, struct tensor_table *table,
                        struct llama3_error *err);

/* Maps a file and adds its tensors to the table. What tensor_ignored() names is checked but not
 * added, and may be of any type that the format has. */
int safetensors_read(struct model *model, const char *path, const struct tensor_names *names,
                     struct tensor_table *table, struct llama3_error *err);

/* The same for all files that folder/model.safetensors.index.json lists, or for
 * folder/model.safetensors, which wins. */
int safetensors_read_folder(struct model *model, const char *folder,
                            const struct tensor_names *names, struct tensor_table *table,
                            struct llama3_error *err);

#endif
