/* SPDX-License-Identifier: MIT */
/* session.h: what most tests of the library begin with: a session, and tokens to read. */
#ifndef TESTS_SESSION_H
#define TESTS_SESSION_H

#include <check.h>

#include "llama3.h"

static inline struct llama3_session *open_session(struct llama3_model *model)
{
    struct llama3_error err = {.size = sizeof err};
    struct llama3_session *session = llama3_session_open(model, &err);
    ck_assert_msg(session != NULL, "%s", err.message);
    return session;
}

static inline void some_tokens(const struct llama3_model *model, int32_t *tokens, size_t n,
                               uint32_t seed)
{
    for (size_t i = 0; i < n; i++) {
        seed = seed * 1664525 + 1013904223;
        tokens[i] = (int32_t)((seed >> 8) % llama3_model_info(model)->vocab_size);
    }
}

#endif
