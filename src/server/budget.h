/* SPDX-License-Identifier: MIT */
/*
 * budget.h: a limit on the memory that requests hold besides KV. Whatever a client can make large
 * is counted before it grows: JSON while it is parsed, text while it is tokenized, tokens, and an
 * answer until it is sent. A request beyond the limit is refused, however many clients there are.
 * Bodies (http.h) and unsent bytes of a stream have limits of their own and aren't counted.
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

/* What one request holds. All of its threads may use it. */
struct share {
    struct budget *budget;
    atomic_uint_fast64_t held;
};

/* The default limit: an eighth of the available memory, at least 128 MiB (enough for the largest
 * text, or a chat of 3 MiB), at most 1 GiB. */
uint64_t budget_default(uint64_t available);

/* LLAMA3_ENOMEM: other requests hold too much now. LLAMA3_EINPUT: this request alone exceeds the
 * limit and can never be served. */
int share_take(struct share *share, uint64_t bytes, struct llama3_error *err);
/* Gives back all but `bytes`. */
void share_keep(struct share *share, uint64_t bytes);

/* buf_add(), which also takes what the buffer has grown by. */
int share_add(struct share *share, struct buf *buf, const void *bytes, size_t n,
              struct llama3_error *err);

#endif
