/* SPDX-License-Identifier: MIT */
/*
 * text: characters and tokens: Unicode tables, the BPE tokenizer, chat templates.
 *
 * tokenizer.h: text to ids and back. Encoding takes O(n log n) time for any text. An open tokenizer
 * never changes, so any number of threads may use it.
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

/* Appends the tokens of text[0..n), special tokens off: no text can spell a control id. Added
 * tokens that are not special are found, as `tokenizers` does (added.h). On failure out is
 * unchanged; text that isn't valid UTF-8 is an error that says at which byte. */
int tokenizer_encode(const struct tokenizer *tokenizer, const char *text, size_t n,
                     struct tokens *out, struct llama3_error *err);

/* The same for a text that may spell control tokens. */
int tokenizer_encode_trusted(const struct tokenizer *tokenizer, const char *text, size_t n,
                             struct tokens *out, struct llama3_error *err);

/* The same for what a template has written: Unicode scalars, with bit 31 set in those that came
 * from a message (JINJA_GIVEN). Added tokens, special or not, are found where no such character is
 * in their name. Text between two of them is encoded as one, whatever its bits. */
int tokenizer_encode_marked(const struct tokenizer *tokenizer, const uint32_t *chars, size_t n,
                            struct tokens *out, struct llama3_error *err);

/* The id of an added token by its name, special or not, or -1. */
int32_t tokenizer_added(const struct tokenizer *tokenizer, const char *name);
/* The id of a control token by its name, or -1. */
int32_t tokenizer_control(const struct tokenizer *tokenizer, const char *name);
int32_t tokenizer_bos(const struct tokenizer *tokenizer); /* the checkpoint's, or -1 */

/* A token's raw bytes, [*n]; none for an unused or invalid id. */
const uint8_t *tokenizer_bytes(const struct tokenizer *tokenizer, int32_t id, size_t *n);
enum token_kind tokenizer_kind(const struct tokenizer *tokenizer, int32_t id);

/* Streaming decode: bytes of tokens go in, whole UTF-8 characters come out. A character that is
 * split between tokens is held until it is complete. Invalid bytes become U+FFFD, one for each
 * maximal subpart (Unicode 15, section 3.9), as in Rust's and Python's decoders. */
struct decoder {
    uint8_t held[4];
    size_t n_held;
    bool strips_blank; /* a blank that comes first is left out */
};

void decoder_push(struct decoder *decoder, const uint8_t *bytes, size_t n, struct buf *out);
/* A token's text: its bytes, and the blank that some names of added tokens have. */
void tokenizer_decode(const struct tokenizer *tokenizer, int32_t id, struct decoder *decoder,
                      struct buf *out);
/* At the end of the text: held bytes become U+FFFD. */
void decoder_finish(struct decoder *decoder, struct buf *out);

#endif
