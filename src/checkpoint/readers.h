/* SPDX-License-Identifier: MIT */
/* readers.h: what stands behind model_open(): a look at the path (resolve.h), then one reader for
 * each kind of checkpoint. Each fills a zeroed model; on failure model_close() frees what it holds.
 */
#ifndef CHECKPOINT_READERS_H
#define CHECKPOINT_READERS_H

#include "checkpoint/model.h"
#include "checkpoint/resolve.h"

/* A GGUF file, with the other shards if it is the first of a split model. */
int gguf_model_open(struct model *model, const char *path, struct llama3_error *err);

/* A directory as Hugging Face's: config.json, tokenizer.json, model.safetensors or its shards. */
int hf_model_open(struct model *model, const char *folder, struct llama3_error *err);

/* The folder in it that has templates besides the default one, as NAME.jinja. */
#define ADDITIONAL_TEMPLATES "additional_chat_templates"

/* One of our own files (packed.h), mapped; model->path is its name. */
int packed_model_read(struct model *model, const struct map *map, struct llama3_error *err);
/* Whether a file says that it is one of ours, whole or not. */
bool packed_recognise(const char *path);

#endif
