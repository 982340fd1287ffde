/* SPDX-License-Identifier: MIT */
/*
 * saver.h: a thread that puts pages of keys and values into the store (kv_store.h) beside the
 * passes: each page once all of its positions have been evaluated. It gets references to pages, not
 * copies, and writes files from the pages themselves. While passes run it takes about a
 * four-hundredth of a core's time; it takes what it needs when there are none, and at the end for a
 * moment.
 */
#ifndef ENGINE_SAVER_H
#define ENGINE_SAVER_H

#include <pthread.h>

#include "engine/forward.h"
#include "engine/kv_store.h"

/* The places of a session's pages. Zero to begin with: nothing is kept. */
struct kv_chain {
    bool begun; /* the root is known */
    struct kv_root root;
    struct kv_digest *digests; /* [n] of its first pages */
    size_t n, room;
    size_t offered; /* of these, to the saver since the chain was last used */
    uint64_t used;  /* then: nanoseconds since 1970 */
};

/* Knows the digests of n pages, by all tokens of the chain; false without memory. */
bool kv_chain_extend(struct kv_chain *chain, const int32_t *tokens, size_t n);
/* The place of a page; the same. */
bool kv_chain_place(struct kv_chain *chain, const int32_t *tokens, size_t page,
                    struct kv_place *place);
/* The digest before a page; those of the pages before it are known. */
const struct kv_digest *kv_chain_before(const struct kv_chain *chain, size_t page);
/* Only the first n tokens stay. */
void kv_chain_cut(struct kv_chain *chain, size_t n);
void kv_chain_use(struct kv_chain *chain); /* now */
void kv_chain_free(struct kv_chain *chain);

struct saver;

/* kv_lock serializes what changes sequences of the forward. All three must outlive it. */
struct saver *saver_open(struct kv_store *store, struct forward *forward, pthread_mutex_t *kv_lock,
                         struct llama3_error *err);
/* Goes on for a moment, so that what a short run has read is kept; drops the rest. */
void saver_close(struct saver *saver);

/* The first n tokens of a sequence have been evaluated: whole pages of these that were not offered
 * are to be kept. Without the kv_lock. */
void saver_offer(struct saver *saver, struct kv_chain *chain, struct sequence *sequence,
                 const int32_t *tokens, size_t n);
/* Whether a pass runs. */
void saver_pass(struct saver *saver, bool runs);
/* Lets go of all pages that wait, with the kv_lock held: memory is short. False: none waited. */
bool saver_shed(struct saver *saver);

#endif
