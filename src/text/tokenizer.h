/* SPDX-License-Identifier: MIT */
/*
 * text: characters and tokens - Unicode tables, the byte-level BPE tokenizer, chat templates.
 *
 * tokenizer.h: text to ids and back. Encoding takes time linear in the text (up to a logarithm) for
 * any text whatever, and the tokenizer never changes once opened: any number of threads may use it.
 */
#ifndef TEXT_TOKENIZER_H
#define TEXT_TOKENIZER_H

#include "base/buf.h"
#include "base/error.h"
#include "base/tokens.h"
#include "checkpoint/vocab.h"

struct tokenizer;

/* Keeps a pointer to vocab, which must outlive it. */
struct tokenizer *tokenizer_open(const struct vocab *vocab, struct llama3_error *err);
void tokenizer_close(struct tokenizer *tokenizer);

/* Appends the tokens of text[0..n), special tokens off: whatever the text spells, control ids
 * never come out. -1 if the text is not valid UTF-8 (the error says at which byte) or memory ran
 * out; out is then as it was before. */
int tokenizer_encode(const struct tokenizer *tokenizer, const char *text, size_t n,
                     struct tokens *out, struct llama3_error *err);

/* The id of a control token by its name, or -1. */
int32_t tokenizer_control(const struct tokenizer *tokenizer, const char *name);
int32_t tokenizer_bos(const struct tokenizer *tokenizer); /* the checkpoint's, or -1 */

/* Raw bytes of a token, [*n]; of an unused or out-of-range id none. */
const uint8_t *tokenizer_bytes(const struct tokenizer *tokenizer, int32_t id, size_t *n);
enum token_kind tokenizer_kind(const struct tokenizer *tokenizer, int32_t id);

/* Streaming decode: bytes of tokens go in, whole UTF-8 characters come out; a character cut in two
 * by tokens is held until it is complete. What can never become one is U+FFFD, one for each maximal
 * subpart (Unicode 15, section 3.9, U+FFFD substitution; the same as Rust's and Python's decoders).
 */
struct decoder {
    uint8_t held[4];
    size_t n_held;
};

void decoder_push(struct decoder *decoder, const uint8_t *bytes, size_t n, struct buf *out);
/* The end of the text: what is still held becomes U+FFFD. */
void decoder_finish(struct decoder *decoder, struct buf *out);

#endif
