/* SPDX-License-Identifier: MIT */
/*
 * pool.h: the prefix cache: finished sequences, kept for prompts that begin with the same tokens.
 * They share KV pages, so that a new sequence takes memory only for the pages that differ.
 *
 * A sequence is used for prompts with the same adapters only, as its keys and values depend on
 * them; and for its owner's prompts only: how much of a prompt is cached, and how fast its prefill
 * is, would tell others what the owner has said. When there are too many sequences, or memory is
 * needed, the owner with most loses the least recently used one. So no owner can push out what
 * others keep.
 */
#ifndef SERVER_POOL_H
#define SERVER_POOL_H

#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>

#include "llama3.h"

struct pool;

/* Holds at most `most` sequences. bytes: the limit of all KV of the model. */
struct pool *pool_open(struct llama3_model *model, size_t most, uint64_t bytes,
                       struct llama3_error *err);
void pool_close(struct pool *pool);

/* A prompt in prefill. Another one that begins with the same tokens may wait for it. */
struct pool_reader {
    int owner;
    const float *scales;   /* [n_adapters] of the model's adapters */
    const int32_t *tokens; /* [n] */
    size_t n;
    size_t done; /* under the pool's lock */
    struct pool_reader *next;
};

/* A session with these scales of adapters and the owner's longest cached prefix of these tokens;
 * the caller owns it. scales: as long as the reader; NULL: of a model without adapters. If a prompt
 * of the owner in prefill will soon give a longer one, waits for it, unless *cancel becomes true.
 * Fills the reader, which must stay until pool_read(). NULL on failure; then there is no reader. */
struct llama3_session *pool_take(struct pool *pool, int owner, const float *scales,
                                 const int32_t *tokens, size_t n, struct pool_reader *reader,
                                 const atomic_bool *cancel, struct llama3_error *err);
/* So many of the reader's tokens have been evaluated. */
void pool_progress(struct pool *pool, struct pool_reader *reader, size_t done);
/* Prefill has ended, or was given up. A second call does nothing. */
void pool_read(struct pool *pool, struct pool_reader *reader);

/* Takes over a session. Its owner's sequences that it continues are dropped. */
void pool_put(struct pool *pool, int owner, struct llama3_session *session);
/* Drops sessions until `bytes` more of KV fit, or none is left. */
void pool_make_room(struct pool *pool, uint64_t bytes);
/* Wakes those that wait, to see their cancel flag. */
void pool_wake(struct pool *pool);

size_t pool_count(struct pool *pool);

#endif
