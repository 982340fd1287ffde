/* SPDX-License-Identifier: MIT */
/* hf.h: the JSON files of a Hugging Face directory, each read by one function. */
#ifndef CHECKPOINT_HF_H
#define CHECKPOINT_HF_H

#include <jansson.h>

#include "checkpoint/assemble.h"

/* Hugging Face's names of tensors. */
extern const struct tensor_names hf_names;

/* Parses folder/name of at most max bytes. NULL with err filled on failure; if missing is given and
 * there is no such file, NULL with *missing set. *path, for free(), is the name for errors. */
json_t *hf_read_json(const char *folder, const char *name, size_t max, char **path, bool *missing,
                     struct llama3_error *err);

/* config.json; and its eos ids, once model->config is filled. */
int hf_config_read(const json_t *root, struct config *config, const char *where,
                   struct llama3_error *err);
int hf_eos_read(const json_t *root, struct model *model, const char *where,
                struct llama3_error *err);

/* Whether a folder's config.json can be read by both. */
int hf_config_check(const char *folder, struct llama3_error *err);

/* generation_config.json without its eos ids (generation.c); and all of a folder's, if there is
 * one, once model->config is filled. */
int hf_generation_read(const json_t *root, struct generation_defaults *generation,
                       const char *where, struct llama3_error *err);
int hf_generation_open(struct model *model, const char *folder, struct llama3_error *err);

/* tokenizer.json into model->vocab. */
int hf_tokenizer_read(const json_t *root, struct model *model, const char *where,
                      struct llama3_error *err);

/* The special tokens and the template of tokenizer_config.json, once model->vocab is filled. */
int hf_tokenizer_config_read(const json_t *root, struct model *model, const char *where,
                             struct llama3_error *err);

#endif
