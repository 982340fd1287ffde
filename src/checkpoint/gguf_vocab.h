/* SPDX-License-Identifier: MIT */
/* gguf_vocab.h: the tokenizer.* keys of a GGUF file. */
#ifndef CHECKPOINT_GGUF_VOCAB_H
#define CHECKPOINT_GGUF_VOCAB_H

#include "checkpoint/gguf.h"

/* Fills vocab, template_text and eos_ids. model->config.vocab_size limits the ids. */
int gguf_vocab_read(const struct gguf *gguf, struct model *model, struct llama3_error *err);

#endif
