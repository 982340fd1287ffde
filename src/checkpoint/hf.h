/* SPDX-License-Identifier: MIT */
/* hf.h: the JSON files of a Hugging Face directory, each read by one function. */
#ifndef CHECKPOINT_HF_H
#define CHECKPOINT_HF_H

#include <jansson.h>

#include "checkpoint/assemble.h"

/* Hugging Face's names of tensors. */
extern const struct tensor_names hf_names;

/* Each reads one parsed file into the model, in this order. where: the file's name for errors.
 * config.json fills model->config; it and generation_config.json add their eos ids;
 * tokenizer.json fills model->vocab; tokenizer_config.json has special tokens and the template. */
typedef int hf_reader(const json_t *root, struct model *model, const char *where,
                      struct llama3_error *err);
hf_reader hf_config_read, hf_generation_read, hf_tokenizer_read, hf_tokenizer_config_read;
hf_reader hf_template_read; /* only "chat_template" of the last one */

/* "quantization_config" of config.json; and what is in a file of its own for GPTQ and AWQ. */
hf_reader hf_quantization_read, hf_gptq_read, hf_awq_read;

/* What YaRN does to a rope of known factor where nothing else is said. */
void hf_yarn_defaults(struct rope *rope);

/* -1 unless the key is absent, null or has this value. */
int hf_expect_string(const json_t *object, const char *key, const char *expected, const char *where,
                     struct llama3_error *err);
int hf_expect_number(const json_t *object, const char *key, double expected, const char *where,
                     struct llama3_error *err);
int hf_expect_false(const json_t *object, const char *key, const char *where,
                    struct llama3_error *err);

/* The eos ids of config.json or generation_config.json. */
int hf_eos_read(const json_t *root, struct model *model, const char *where,
                struct llama3_error *err);

/* tokenizer.json's normalizer, pre-tokenizer and decoder where byte_fallback is true. */
hf_reader hf_sentencepiece_read;

/* For errors: an object's "type", or what it is instead. */
const char *hf_type_of(const json_t *object);

/* Whether a folder's config.json can be read. */
int hf_config_check(const char *folder, struct llama3_error *err);

/* A folder's generation_config.json, if there is one. */
int hf_generation_open(struct model *model, const char *folder, struct llama3_error *err);

#endif
