/* SPDX-License-Identifier: MIT */
/*
 * identity.h: what the numbers of a session depend on besides its tokens, as digests: what was
 * computed under other ones is of no use.
 */
#ifndef ENGINE_IDENTITY_H
#define ENGINE_IDENTITY_H

#include "engine/session.h"

enum identity { OF_MODEL, OF_BUILD, OF_BACKENDS, OF_KV, OF_ADAPTERS, N_IDENTITIES };

struct identities {
    uint8_t digests[N_IDENTITIES][32]; /* SHA-256 */
};

void identities_make(const struct session_model *model, struct identities *identities);

#endif
