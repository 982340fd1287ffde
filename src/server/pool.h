/* SPDX-License-Identifier: MIT */
/*
 * pool.h: sequences that are over, kept for what begins like them. Comparing is by token and exact;
 * KV pages are shared, so that to begin where another sequence has been costs nothing but the pages
 * that differ.
 *
 * A sequence belongs to an owner, whom no other owner shares it with: how much of a prompt was
 * there already, and how soon it was read, would tell one what the other had said. Where there are
 * too many, or memory is needed, the owner of most loses the least recently used, so that nobody
 * can push out what others keep.
 */
#ifndef SERVER_POOL_H
#define SERVER_POOL_H

#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>

#include "llama3.h"

struct pool;

/* At most `most` sequences; bytes: of KV, those held by others included. */
struct pool *pool_open(struct llama3_model *model, size_t most, uint64_t bytes,
                       struct llama3_error *err);
void pool_close(struct pool *pool);

/* A prompt that is being read; what begins like it may wait for that instead of reading it too. */
struct pool_reader {
    int owner;
    const int32_t *tokens; /* [n] */
    size_t n;
    size_t done; /* under the pool's lock */
    struct pool_reader *next;
};

/* A session that begins with these tokens as far as any of this owner does; it is the caller's.
 * Waits where a prompt of theirs that is being read will soon be of more use; *cancel ends that.
 * The reader is filled, and stays the caller's until pool_read(). NULL on failure, with nothing to
 * be read. */
struct llama3_session *pool_take(struct pool *pool, int owner, const int32_t *tokens, size_t n,
                                 struct pool_reader *reader, const atomic_bool *cancel,
                                 struct llama3_error *err);
/* Of the reader's tokens so many have been evaluated. */
void pool_progress(struct pool *pool, struct pool_reader *reader, size_t done);
/* The prompt was read, or never will be. A second call does nothing. */
void pool_read(struct pool *pool, struct pool_reader *reader);

/* Takes a session over. Those of its owner that it continues are dropped. */
void pool_put(struct pool *pool, int owner, struct llama3_session *session);
/* Drops sessions until so many bytes more fit, or none is left. */
void pool_make_room(struct pool *pool, uint64_t bytes);
/* After a cancel was set. */
void pool_wake(struct pool *pool);

size_t pool_count(struct pool *pool);

#endif
