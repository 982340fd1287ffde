/* SPDX-License-Identifier: MIT */
/*
 * session.h: one sequence of tokens, their KV pages and the logits after the last of them; and
 * generation on it. llama3.h says what the functions do.
 */
#ifndef ENGINE_SESSION_H
#define ENGINE_SESSION_H

#include <pthread.h>

#include "engine/engine.h"
#include "engine/kv_store.h"
#include "text/tokenizer.h"
#include "text/tool_form.h"

/* What the sessions of a model share. */
struct session_model {
    const struct llama3_model *owner;
    const struct model *checkpoint;
    struct engine *engine; /* NULL: it was opened for its vocabulary alone */
    enum llama3_kv_type kv_type;
    const struct tokenizer *tokenizer;
    const struct tool_form *tool_form; /* how it writes calls */
    const int32_t *stop_ids;           /* [n_stop_ids] ascending */
    size_t n_stop_ids;
    const struct lora *loras; /* [n_loras] */
    size_t n_loras;
    bool loras_vary;           /* by session */
    struct kv_store *store;    /* of pages, from before to the next run; NULL: none */
    struct kv_digest identity; /* of the model, for chains in the store */
    void (*on_note)(void *arg, const char *note); /* about the store; may be NULL */
    void *note_arg;
    pthread_mutex_t vocabulary_lock;
    struct vocabulary *vocabulary; /* for constraints; NULL until the first one */
};

struct llama3_session {
    const struct session_model *model;
    int owner; /* whose prefixes it shares */
    bool has_owner_key;
    struct kv_digest owner_key; /* of the owner, wherever the program runs */
    struct sequence *sequence;
    struct tokens tokens;  /* evaluated */
    struct kv_chain chain; /* of their pages */
    size_t stored;         /* tokens that session_set() found in the store */
    float *logits;         /* [vocab_size] after the last of them, if has_logits */
    bool has_logits;
    bool in_use, evaluating; /* by a call, which may be in one of its callbacks */
    atomic_bool cancel;
    struct llama3_error ended;   /* by a device that failed; LLAMA3_OK: it goes on */
    struct engine_stream stream; /* while it generates */
};

/* Keeps the pointer to model. */
struct llama3_session *session_open(const struct session_model *model, struct llama3_error *err);

/* As llama3_session_load() (session_save.c). */
struct llama3_session *session_load(const struct session_model *model, const char *path,
                                    struct llama3_error *err);

/* As llama3_model_keep_prefixes_in() (session_stored.c), of a model without a store so far. */
int session_keep_in(struct session_model *model, const struct llama3_prefix_store *options,
                    struct llama3_error *err);
/* Hands the store's notes out. */
void session_note(const struct session_model *model);
/* With a store, what is evaluated from now on is kept there. */
void session_begin_chain(struct llama3_session *session);
/* The session holds the first `held` of n tokens, has no others, and takes what the store has of
 * those that follow, but for the last one. How many it holds then. */
size_t session_take_stored(struct llama3_session *session, const int32_t *tokens, size_t n,
                           size_t held);

/* -1 unless it can be an adapter's scale. */
int session_check_scale(double scale, struct llama3_error *err);

bool session_is_stop(const struct session_model *model, int32_t token);

/* -1 if another call is using the session: one of its callbacks calls. Else it is in use until
 * session_end(). */
int session_begin(struct llama3_session *session, struct llama3_error *err);
void session_end(struct llama3_session *session);

/* Closes a session whose tokens are not to be kept for others. */
void session_discard(struct llama3_session *session);

/* llama3_session_set() and llama3_next() in a session that is in use. The scheduler waits for
 * another token until session_leave(). */
int session_set(struct llama3_session *session, const int32_t *tokens, size_t n,
                void (*on_prompt)(void *arg, size_t done, size_t total), void *arg, size_t *cached,
                struct llama3_error *err);
int session_next(struct llama3_sampling *sampling, struct llama3_session *session, int32_t *token,
                 struct llama3_error *err);
/* The two steps of llama3_next(): appends n tokens of an answer, which may be none, and evaluates
 * them in one pass, beside which meanwhile (or NULL) is called; and draws the next token, among
 * those that a mask (or NULL) allows. */
int session_extend(struct llama3_sampling *sampling, struct llama3_session *session,
                   const int32_t *tokens, size_t n, void (*meanwhile)(void *arg), void *arg,
                   struct llama3_error *err);
int session_draw(struct llama3_sampling *sampling, const struct llama3_session *session,
                 const uint32_t *mask, int32_t *token, struct llama3_error *err);
void session_leave(struct llama3_session *session);

/* Whether the session was canceled: the caller has to report it. */
bool session_take_cancel(struct llama3_session *session);

#endif
