/* SPDX-License-Identifier: MIT */
/* gguf_write.h: writes a model as one GGUF file, version 3, with all that llama.cpp reads. */
#ifndef CHECKPOINT_GGUF_WRITE_H
#define CHECKPOINT_GGUF_WRITE_H

#include "base/buf.h"
#include "checkpoint/gguf.h"
#include "checkpoint/tensor_write.h"

struct gguf_target {
    enum dtype type;           /* of most weights */
    const float *rope_factors; /* [head_dim/2] as struct rope's, unless keys say it. NULL: none */
};

/* Whether keys say how frequencies are scaled, if at all. Else a tensor divides them (rope_freqs),
 * as llama.cpp has only YaRN with its usual parameters for this architecture. */
bool gguf_says_scaling(const struct rope *rope);

/* Writes all of a file, which then waits to be committed. The source's targets are of types before
 * DTYPE_ROWS, and have q and k in GGUF's order of rows. */
int gguf_write(struct new_file *file, const struct tensor_source *source,
               const struct gguf_target *target, struct llama3_error *err);

/* Tells, in one line each, what of a model a GGUF file has no place for. */
void gguf_write_notes(const struct model *model, void (*tell)(void *arg, const char *note),
                      void *arg);

/* ---- keys with values ------------------------------------------------------------------------ */

struct gguf_keys {
    struct buf text;
    uint64_t n;
};

void gguf_put_u32(struct gguf_keys *keys, const char *key, uint32_t value);
void gguf_put_f32(struct gguf_keys *keys, const char *key, float value);
void gguf_put_bool(struct gguf_keys *keys, const char *key, bool value);
void gguf_put_string(struct gguf_keys *keys, const char *key, const char *text, size_t size);
/* n items of the type follow. */
void gguf_put_array(struct gguf_keys *keys, const char *key, enum gguf_type item, uint64_t n);
void gguf_put_text(struct buf *out, const void *text, size_t size); /* an array's string */

/* What a file begins with, its keys included; tensors follow. */
void gguf_put_start(struct buf *out, const struct gguf_keys *keys, uint64_t n_tensors);

/* The tokenizer.* keys (gguf_write_vocab.c). Refuses a SentencePiece vocabulary that a reader would
 * make another one of. */
int gguf_put_vocab(struct gguf_keys *keys, const struct model *model, struct llama3_error *err);
void gguf_vocab_notes(const struct model *model, void (*tell)(void *arg, const char *note),
                      void *arg);

#endif
