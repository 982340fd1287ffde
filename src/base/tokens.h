/* SPDX-License-Identifier: MIT */
/* tokens.h: a growing list of token ids; its failure sticks like struct buf's. */
#ifndef BASE_TOKENS_H
#define BASE_TOKENS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"

struct tokens {
    int32_t *ids; /* [n] */
    size_t n, capacity;
    bool failed;
};

void tokens_add(struct tokens *tokens, int32_t id);
/* -1 unless all n ids are tokens of a vocabulary of this size, >= 1. */
int tokens_check(const int32_t *ids, size_t n, size_t vocab_size, struct llama3_error *err);
void tokens_free(struct tokens *tokens); /* frees and zeroes */

/* How many of n tokens are the same from the front. */
static inline size_t tokens_common(const int32_t *a, const int32_t *b, size_t n)
{
    size_t i = 0;
    while (i < n && a[i] == b[i])
        i++;
    return i;
}

#endif
