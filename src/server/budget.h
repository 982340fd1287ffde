/* SPDX-License-Identifier: MIT */
/*
 * budget.h: memory that requests may hold besides keys and values. Whatever a client can make large
 * takes its part before it grows: JSON while it is parsed, text while it is tokenized, tokens, and
 * an answer until it is sent. A request that finds no room is refused, so that no number of clients
 * takes more than the limit. What is bounded elsewhere isn't counted: bodies (http.h), and what a
 * stream has not sent yet.
 */
#ifndef SERVER_BUDGET_H
#define SERVER_BUDGET_H

#include <stdatomic.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/error.h"

struct budget {
    uint64_t limit;
    atomic_uint_fast64_t held; /* by all shares */
};

/* What one request holds; any of its threads may take. */
struct share {
    struct budget *budget;
    atomic_uint_fast64_t held;
};

/* A limit for a machine with so much memory available: an eighth, at least enough for the largest
 * body (128 MiB), at most 1 GiB. */
uint64_t budget_default(uint64_t available);

/* LLAMA3_ENOMEM: others hold too much now. LLAMA3_EINPUT: this request alone needs more than there
 * is, so that it can never be served. */
int share_take(struct share *share, uint64_t bytes, struct llama3_error *err);
/* Gives back what is held beyond so many bytes. */
void share_keep(struct share *share, uint64_t bytes);

/* buf_add(), and takes what the buffer has grown by. */
int share_add(struct share *share, struct buf *buf, const void *bytes, size_t n,
              struct llama3_error *err);

#endif
