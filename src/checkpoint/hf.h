/* SPDX-License-Identifier: MIT */
/* hf.h: the JSON files of a Hugging Face directory, each read by one function. */
#ifndef CHECKPOINT_HF_H
#define CHECKPOINT_HF_H

#include <jansson.h>

#include "checkpoint/assemble.h"

/* What these checkpoints call their tensors. */
extern const struct tensor_names hf_names;

/* folder/name parsed, at most max bytes; NULL and err filled, or, if *missing is given, NULL and
 * *missing set where there is no such file. *path (for free()) is what errors about it name. */
json_t *hf_read_json(const char *folder, const char *name, size_t max, char **path, bool *missing,
                     struct llama3_error *err);

/* config.json but for its eos ids, which model->config must be filled for. */
int hf_config_read(const json_t *root, struct config *config, const char *where,
                   struct llama3_error *err);
int hf_eos_read(const json_t *root, struct model *model, const char *where,
                struct llama3_error *err);

/* Whether both can be read of a folder's. */
int hf_config_check(const char *folder, struct llama3_error *err);

/* generation_config.json but for its eos ids (generation.c); and the whole of a folder's, if it is
 * there, for model->config filled. */
int hf_generation_read(const json_t *root, struct generation_defaults *generation,
                       const char *where, struct llama3_error *err);
int hf_generation_open(struct model *model, const char *folder, struct llama3_error *err);

/* tokenizer.json into model->vocab. */
int hf_tokenizer_read(const json_t *root, struct model *model, const char *where,
                      struct llama3_error *err);

/* The special tokens and the template of tokenizer_config.json; model->vocab is filled. */
int hf_tokenizer_config_read(const json_t *root, struct model *model, const char *where,
                             struct llama3_error *err);

#endif
