/* SPDX-License-Identifier: MIT */
/*
 * vocab_build.h: struct vocab from tokens and merges as tokenizer.json and GGUF both spell them, in
 * GPT-2's printable alphabet, where every byte is one character; or as SentencePiece spells them,
 * with U+2581 for a blank.
 */
#ifndef CHECKPOINT_VOCAB_BUILD_H
#define CHECKPOINT_VOCAB_BUILD_H

#include "base/error.h"
#include "base/hash.h"
#include "checkpoint/vocab.h"

struct vocab_spelling {
    const char *text; /* [size]; NULL: no token */
    size_t size;
    enum token_kind kind;
    uint8_t flags;
    bool is_byte; /* "<0x0A>" of TOKEN_TEXT: that byte, which no merge makes */
    float score;  /* for vocab_build_scores() */
};

struct vocab_build {
    const char *where;             /* the file that errors name */
    size_t n;                      /* ids are 0..n-1 */
    struct vocab_spelling *tokens; /* [n] */
    struct hash_table ids;         /* by spelling */
    struct merge *merges;
    size_t n_merges, max_merges;
    uint32_t *ranks;    /* of vocab_build_scores() */
    bool sentencepiece; /* set before the first token */
};

/* Room for n ids, 1 <= n <= MAX_VOCAB, and up to max_merges merges, for which the file must have
 * shown that it has the bytes. */
int vocab_build_open(struct vocab_build *build, size_t n, size_t max_merges, const char *where,
                     struct llama3_error *err);
void vocab_build_free(struct vocab_build *build); /* fine on a zeroed one */

/* The token of an id. text[0..size) is kept by pointer until the build ends: TOKEN_TEXT in GPT-2's
 * alphabet, TOKEN_CONTROL and TOKEN_ADDED by their literal name, which has to be UTF-8. No id and
 * no spelling may come twice. */
int vocab_build_token(struct vocab_build *build, size_t id, enum token_kind kind, uint8_t flags,
                      const char *text, size_t size, struct llama3_error *err);
/* A token "<0x0A>" that stands for a byte. */
int vocab_build_byte(struct vocab_build *build, size_t id, const char *text, size_t size,
                     struct llama3_error *err);

/* The id of a spelling, or -1. */
int32_t vocab_build_find(const struct vocab_build *build, const char *text, size_t size);

/* The next merge by rank; both tokens and the merged one must be there already. */
int vocab_build_merge(struct vocab_build *build, const char *left, size_t left_size,
                      const char *right, size_t right_size, struct llama3_error *err);
/* The same as one string with a space between the two. */
int vocab_build_merge_pair(struct vocab_build *build, const char *pair, size_t size,
                           struct llama3_error *err);

/* The merges that SentencePiece derives from scores: of the pairs whose union is a token, the one
 * of the highest score first, the leftmost among equals. In place of vocab_build_merge(). */
int vocab_build_scores(struct vocab_build *build, struct llama3_error *err);

/* The character of GPT-2's alphabet that stands for a byte. */
uint32_t vocab_alphabet(uint8_t byte);

/* Moves everything into *vocab: n, bytes, offsets, kinds, flags, merges and ranks; its other fields
 * are the reader's. Not every single byte need be a token: SmolLM2's vocabulary lacks 21 of them,
 * and the tokenizer leaves those out as the reference does. */
int vocab_build_finish(struct vocab_build *build, struct vocab *vocab, struct llama3_error *err);

#endif
