/* SPDX-License-Identifier: MIT */
/* tokens.h: a growing list of token ids; its failure sticks like struct buf's. */
#ifndef BASE_TOKENS_H
#define BASE_TOKENS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct tokens {
    int32_t *ids; /* [n] */
    size_t n, capacity;
    bool failed;
};

void tokens_add(struct tokens *tokens, int32_t id);
void tokens_free(struct tokens *tokens); /* frees and zeroes */

#endif
