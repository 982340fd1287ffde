/* SPDX-License-Identifier: MIT */
/*
 * constraint.h: a grammar against a vocabulary: after each token, the mask of those that may come
 * next.
 *
 * A vocabulary is prepared once per model and shared. A constraint is compiled once and shared by
 * any number of matchers, one for each answer; what one learns (a DFA's states, masks) serves the
 * others, under the constraint's lock. A matcher belongs to one thread.
 */
#ifndef GRAMMAR_CONSTRAINT_H
#define GRAMMAR_CONSTRAINT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"

struct tokenizer;

/* ---- a vocabulary --------------------------------------------------------------------------- */

struct vocabulary;
/* Keeps the tokenizer, which must outlive it. Control tokens and unused ids are never allowed by a
 * mask, but for stop[n_stop], which are allowed where the text may end. */
struct vocabulary *vocabulary_open(const struct tokenizer *tokenizer, size_t vocab_size,
                                   const int32_t *stop, size_t n_stop, struct llama3_error *err);
void vocabulary_close(struct vocabulary *vocabulary);

/* ---- a constraint --------------------------------------------------------------------------- */

enum constraint_kind {
    CONSTRAINT_JSON,   /* any JSON value; text is ignored */
    CONSTRAINT_OBJECT, /* any JSON object; text is ignored */
    CONSTRAINT_SCHEMA, /* JSON text of a schema */
    CONSTRAINT_REGEX,  /* the whole answer matches */
    CONSTRAINT_CHOICE, /* JSON text of an array of strings */
    CONSTRAINT_GBNF,
    CONSTRAINT_LARK
};

struct constraint;
/* where: what errors call the text. The vocabulary must outlive it. Shared: _ref() and _close()
 * count, and may be called by any thread. */
struct constraint *constraint_open(const struct vocabulary *vocabulary, enum constraint_kind kind,
                                   const char *text, size_t n, const char *where,
                                   struct llama3_error *err);
/* What a constraint learns takes at most about so many bytes (128 MiB unless it is set), then it
 * begins anew; and how often it did. */
void constraint_renew_at(struct constraint *constraint, size_t bytes);
unsigned constraint_renewals(struct constraint *constraint);
struct constraint *constraint_ref(struct constraint *constraint);
void constraint_close(struct constraint *constraint);

/* ---- a matcher ------------------------------------------------------------------------------ */

struct matcher;
struct matcher *matcher_open(struct constraint *constraint, struct llama3_error *err);
struct matcher *matcher_copy(const struct matcher *from, struct llama3_error *err);
void matcher_close(struct matcher *matcher);

/* The mask of the next token: [(vocab_size + 31) / 32], bit i % 32 of word i / 32 for token i; at
 * least one bit is set. Valid until the matcher is used again. NULL: LLAMA3_EINPUT where the
 * constraint's limits on work or memory are reached, LLAMA3_ENOMEM. */
const uint32_t *matcher_mask(struct matcher *matcher, struct llama3_error *err);
/* Takes a token of the mask; LLAMA3_EINPUT for another, and the matcher is as before. A stop token
 * ends the text. */
int matcher_accept(struct matcher *matcher, int32_t token, struct llama3_error *err);
/* The same for bytes of any tokenization, as far as they are allowed. *taken of n. */
int matcher_accept_bytes(struct matcher *matcher, const void *bytes, size_t n, size_t *taken,
                         struct llama3_error *err);
bool matcher_may_end(const struct matcher *matcher); /* the text so far is complete */
bool matcher_ended(const struct matcher *matcher);   /* and nothing can follow */
/* The bytes that must come next, whatever is drawn: up to room of them, their number. */
size_t matcher_forced(struct matcher *matcher, uint8_t *bytes, size_t room);

#endif
