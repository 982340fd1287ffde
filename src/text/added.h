/* SPDX-License-Identifier: MIT */
/*
 * added.h: added tokens in a text, found where the `tokenizers` package finds them: the leftmost
 * first, the longest of those that begin there; first the tokens that are not normalized, then, in
 * each piece between, the others.
 */
#ifndef TEXT_ADDED_H
#define TEXT_ADDED_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"
#include "checkpoint/vocab.h"

struct added_token {
    const uint8_t *name; /* [n] */
    size_t n;
    int32_t id;
    uint8_t flags; /* ADDED_* */
    bool control;
};

struct added {
    struct added_list {
        struct added_token *tokens; /* [n] by name; the vocabulary's memory */
        size_t n;
        bool begins[256]; /* some name begins with this byte */
    } lists[2];           /* those that are not normalized, and those that are */
    bool in_text;         /* some are no control tokens */
    bool normalizes;      /* SentencePiece: text changes between the two lists */
    bool prepends;        /* and gets a blank, as do the names of the second list */
};

int added_open(struct added *added, const struct vocab *vocab, struct llama3_error *err);
void added_close(struct added *added); /* frees and zeroes */

/* The token of this name, or NULL. */
const struct added_token *added_find(const struct added *added, const char *name);

/* Gets text[from..to), a piece of text or, with id >= 0, a token; false ends the search. The id of
 * a piece is -1, or ADDED_SECTION where a normalizer begins. */
enum { ADDED_SECTION = -2 };
typedef bool added_put(void *arg, size_t from, size_t to, int32_t id);

/* A text to be cut. Without `controls` the names of control tokens are text, as they are for
 * `tokenizers` with encode_special_tokens: no other token is found in one. */
struct added_text {
    const uint8_t *text;  /* [n], valid UTF-8 */
    const uint8_t *given; /* [n] bytes that belong to no token's name are not 0; NULL: all may */
    size_t n;
    bool controls;
    added_put *put;
    void *arg;
};

/* Puts all of a text, in order; false if put() was false. */
bool added_cut(const struct added *added, const struct added_text *text);

#endif
