/* SPDX-License-Identifier: MIT */
/*
 * pretokenizers.h: what checkpoints call the pre-tokenizers that we have. tokenizer.json spells one
 * out, and has to do so in exactly the words known here: one that is nearly the same may split text
 * otherwise. A GGUF file only names it.
 */
#ifndef CHECKPOINT_PRETOKENIZERS_H
#define CHECKPOINT_PRETOKENIZERS_H

#include <jansson.h>

#include "base/error.h"
#include "checkpoint/vocab.h"

/* Names of enum pretokenizer in our own file, NULL-terminated. */
extern const char *const pretokenizer_names[];

/* "pre_tokenizer" of a tokenizer.json. */
int pretokenizer_from_json(const json_t *pre, enum pretokenizer *out, const char *where,
                           struct llama3_error *err);

/* tokenizer.ggml.pre, name[0..n), with what it implies. */
int pretokenizer_from_gguf(const char *name, size_t n, struct vocab *vocab, const char *where,
                           struct llama3_error *err);

/* The name in GGUF. exact: it implies the same about merges. */
const char *pretokenizer_gguf_name(const struct vocab *vocab, bool *exact);

#endif
