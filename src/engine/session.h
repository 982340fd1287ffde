/* SPDX-License-Identifier: MIT */
/*
 * session.h: one sequence of tokens, their KV pages and the logits after the last of them; and
 * generation on it. llama3.h says what the functions do; here they take the engine.
 */
#ifndef ENGINE_SESSION_H
#define ENGINE_SESSION_H

#include "engine/engine.h"
#include "text/tokenizer.h"

/* What a session shares with the others of its model. */
struct session_model {
    const struct llama3_model *owner;
    struct engine *engine;
    const struct tokenizer *tokenizer;
    const int32_t *stop_ids; /* [n_stop_ids] ascending */
    size_t n_stop_ids;
};

/* Keeps the pointer. */
struct llama3_session *session_open(const struct session_model *model, struct llama3_error *err);

bool session_is_stop(const struct session_model *model, int32_t token);

/* Makes the session hold exactly these tokens, with logits after the last: keeps what is common
 * from the front, evaluates the rest. *cached: how many were kept. Generation follows, until
 * session_leave(). */
int session_set(struct llama3_session *session, const int32_t *tokens, size_t n, size_t *cached,
                void (*on_prompt)(void *arg, size_t done, size_t total), void *arg,
                struct llama3_error *err);

/* llama3_eval for a part of a generation: leaves a cancellation for that to take. */
int session_append(struct llama3_session *session, const int32_t *tokens, size_t n,
                   struct llama3_error *err);

/* The generation has ended: the engine waits for no further token. */
void session_leave(struct llama3_session *session);

/* For generate.c. */
const struct session_model *session_model(const struct llama3_session *session);
size_t session_length(const struct llama3_session *session);
/* Ends a call that llama3_cancel may have been meant for: true if it was. */
bool session_take_cancel(struct llama3_session *session);
bool session_canceled(const struct llama3_session *session);

#endif
