/* SPDX-License-Identifier: MIT */
/*
 * vocabulary.h: the tokens of a model as tries of their bytes, prepared once for all constraints.
 *
 * Most masks are asked for inside a JSON string, where nearly every token may come. So the tokens
 * that stay inside a string of any text have masks of their own ("slices"), by the most characters
 * they may stand for, and only the rest is walked; and those that close it are grouped by what they
 * go on with.
 */
#ifndef GRAMMAR_VOCABULARY_H
#define GRAMMAR_VOCABULARY_H

#include "grammar/constraint.h"

/* Nodes in depth-first order; a node's children begin right after it. */
struct trie_node {
    uint32_t end;   /* the first node behind its subtree */
    int32_t token;  /* the token that ends here, or -1 */
    uint16_t depth; /* bytes from the root, >= 1 */
    uint8_t byte;
};

struct trie {
    struct trie_node *nodes; /* [n] */
    uint32_t n;
};

enum { N_SLICES = 6 };

/* Tokens that close a string and go on with the same bytes. */
struct suffix {
    const uint8_t *bytes; /* [n], behind the quotation mark */
    uint32_t n;
    uint32_t first, n_tokens; /* in suffix_tokens */
};

struct vocabulary {
    const struct tokenizer *tokenizer;
    size_t size, n_words; /* tokens; words of a mask */
    size_t longest;       /* bytes of the longest token */
    uint32_t *stop;       /* [n_words] mask of the stop tokens */

    struct trie all;
    struct twin {
        int32_t first, other; /* tokens of the same bytes; the tries have the first */
    } * twins;                /* [n_twins] */
    size_t n_twins;

    /* Tokens that stay inside a string of any text: */
    struct slice {
        uint32_t chars;     /* those of at most so many characters ... */
        uint32_t *mask;     /* [n_words] */
        struct trie longer; /* ... and the others */
    } slices[N_SLICES];
    /* Tokens that close it: */
    struct trie closing;
    struct suffix *suffixes; /* [n_suffixes], sorted by bytes */
    uint32_t n_suffixes;
    int32_t *suffix_tokens;
};

static inline void mask_set(uint32_t *mask, int32_t token)
{
    mask[token / 32] |= UINT32_C(1) << token % 32;
}

static inline void mask_clear(uint32_t *mask, int32_t token)
{
    mask[token / 32] &= ~(UINT32_C(1) << token % 32);
}

static inline bool mask_has(const uint32_t *mask, int32_t token)
{
    return (mask[token / 32] >> token % 32 & 1) != 0;
}

#endif
