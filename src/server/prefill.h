/* SPDX-License-Identifier: MIT */
/*
 * prefill.h: prompts that are being read. One that begins with the same tokens as another, which
 * will soon be in the prefix cache, waits for it instead of reading them as well.
 *
 * It waits for its owner's prompts with the same adapters only, as the cache shares these alone
 * (llama3_session_owner()).
 */
#ifndef SERVER_PREFILL_H
#define SERVER_PREFILL_H

#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>

#include "llama3.h"

struct keys;
struct prefills;

/* keys: of the owners, which must outlive it; NULL: all are one household. */
struct prefills *prefills_open(struct llama3_model *model, const struct keys *keys,
                               struct llama3_error *err);
void prefills_close(struct prefills *prefills);

/* A prompt in prefill. */
struct prefill {
    int owner;
    const float *scales;   /* [n_adapters] of the model's adapters */
    const int32_t *tokens; /* [n] */
    size_t n;
    size_t done; /* under the list's lock */
    struct prefill *next;
};

/* A session with these scales of adapters, and the owner's longest cached prefix of these tokens;
 * the caller owns it. scales: as long as the prefill; NULL: of a model without adapters. If a
 * prompt of the owner in prefill will soon give a longer one, waits for it, unless *cancel becomes
 * true. Fills the prefill, which must stay until prefill_end(). NULL on failure; then there is no
 * prefill. */
struct llama3_session *prefill_begin(struct prefills *prefills, int owner, const float *scales,
                                     const int32_t *tokens, size_t n, struct prefill *prefill,
                                     const atomic_bool *cancel, struct llama3_error *err);
/* So many of its tokens have been evaluated. */
void prefill_progress(struct prefills *prefills, struct prefill *prefill, size_t done);
/* It has ended, or was given up. A second call does nothing. */
void prefill_end(struct prefills *prefills, struct prefill *prefill);
/* Wakes those that wait, to see their cancel flag. */
void prefills_wake(struct prefills *prefills);

#endif
