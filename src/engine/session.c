/* SPDX-License-Identifier: MIT */
#include "engine/session.h"

#include <stdlib.h>
#include <string.h>

#include "base/size.h"
#include "base/tokens.h"

struct llama3_session {
    const struct session_model *model;
    struct sequence *sequence;
    struct tokens tokens; /* evaluated */
    float *logits;        /* [vocab_size] after the last of them, if has_logits */
    bool has_logits;
    atomic_bool cancel;
    struct llama3_error ended;   /* by a device that failed; LLAMA3_OK: it goes on */
    struct engine_stream stream; /* while it generates */
};

/* A session around a sequence, which it takes over (NULL: that failed already). */
static struct llama3_session *wrap(const struct session_model *model, struct sequence *sequence,
                                   struct llama3_error *err)
{
    if (sequence == NULL)
        return NULL;
    struct llama3_session *s = size_alloc(1, sizeof *s);
    size_t vocab_size = engine_vocab_size(model->engine);
    float *logits = size_alloc(vocab_size, sizeof *logits);
    if (s == NULL || logits == NULL) {
        error_memory(err, "a session", vocab_size * sizeof *logits);
        free(s);
        free(logits);
        engine_release(model->engine, sequence);
        return NULL;
    }
    s->model = model;
    s->sequence = sequence;
    s->logits = logits;
    return s;
}

struct llama3_session *session_open(const struct session_model *model, struct llama3_error *err)
{
    return wrap(model, engine_sequence(model->engine, err), err);
}

/* -1 once a device has failed in this session, with the line that said so. */
static int check_ended(const struct llama3_session *s, struct llama3_error *err)
{
    return s->ended.code == LLAMA3_OK ? 0 : error_set(err, s->ended.code, "%s", s->ended.message);
}

struct llama3_session *llama3_session_fork(struct llama3_session *from, size_t n,
                                           struct llama3_error *err)
{
    if (n > from->tokens.n) {
        error_set(err, LLAMA3_EINPUT, "fork: expected at most the session's %zu tokens, found %zu",
                  from->tokens.n, n);
        return NULL;
    }
    if (check_ended(from, err) < 0)
        return NULL;
    struct engine *engine = from->model->engine;
    struct llama3_session *s = wrap(from->model, engine_fork(engine, from->sequence, n, err), err);
    if (s == NULL)
        return NULL;
    for (size_t i = 0; i < n; i++)
        tokens_add(&s->tokens, from->tokens.ids[i]);
    if (s->tokens.failed) {
        error_memory(err, "a session", n * sizeof *s->tokens.ids);
        llama3_session_close(s);
        return NULL;
    }
    if (n == from->tokens.n && from->has_logits) {
        memcpy(s->logits, from->logits, engine_vocab_size(engine) * sizeof *s->logits);
        s->has_logits = true;
    }
    return s;
}

void llama3_session_close(struct llama3_session *s)
{
    if (s == NULL)
        return;
    engine_release(s->model->engine, s->sequence);
    tokens_free(&s->tokens);
    free(s->logits);
    free(s);
}

const int32_t *llama3_session_tokens(const struct llama3_session *s, size_t *n)
{
    *n = s->tokens.n;
    return s->tokens.ids;
}

void llama3_session_truncate(struct llama3_session *s, size_t n)
{
    if (n >= s->tokens.n)
        return;
    engine_truncate(s->model->engine, s->sequence, n);
    s->tokens.n = n;
    s->has_logits = false;
}

const float *llama3_logits(const struct llama3_session *s)
{
    return s->has_logits ? s->logits : NULL;
}

void llama3_cancel(struct llama3_session *s)
{
    atomic_store_explicit(&s->cancel, true, memory_order_relaxed);
}

bool session_canceled(const struct llama3_session *s)
{
    return atomic_load_explicit(&s->cancel, memory_order_relaxed);
}

bool session_take_cancel(struct llama3_session *s)
{
    return atomic_exchange_explicit(&s->cancel, false, memory_order_relaxed);
}

const struct session_model *session_model(const struct llama3_session *s)
{
    return s->model;
}

size_t session_length(const struct llama3_session *s)
{
    return s->tokens.n;
}

bool session_is_stop(const struct session_model *model, int32_t token)
{
    for (size_t i = 0; i < model->n_stop_ids; i++)
        if (model->stop_ids[i] == token)
            return true;
    return false;
}

struct progress {
    void (*on_prompt)(void *arg, size_t done, size_t total);
    void *arg;
    size_t cached, total;
};

static void tell_progress(void *arg, size_t done)
{
    const struct progress *p = arg;
    p->on_prompt(p->arg, p->cached + done, p->total);
}

/* Appends tokens; the cancel flag stays as it is. generates: another token may follow. */
static int append(struct llama3_session *s, const int32_t *tokens, size_t n, float *logits,
                  bool generates, struct progress *progress, struct llama3_error *err)
{
    size_t before = s->tokens.n;
    struct engine_job job = {
        .sequence = s->sequence,
        .position = before,
        .tokens = tokens,
        .n = n,
        .all_logits = logits != NULL,
        .logits = logits != NULL ? logits : s->logits,
        .stream = generates ? &s->stream : NULL,
        .cancel = &s->cancel,
        .on_progress = progress != NULL && progress->on_prompt != NULL ? tell_progress : NULL,
        .arg = progress,
    };
    size_t vocab_size = engine_vocab_size(s->model->engine);
    struct llama3_error failure = {0};

    if (check_ended(s, err) < 0)
        return -1;
    for (size_t i = 0; i < n; i++)
        tokens_add(&s->tokens, tokens[i]);
    if (s->tokens.failed) {
        s->tokens.failed = false;
        s->tokens.n = before;
        return error_memory(err, "tokens", n * sizeof *tokens);
    }
    if (engine_run(s->model->engine, &job, &failure) < 0) {
        s->tokens.n = before;
        /* s->logits is written only once a job has succeeded, so it still holds. */
        if (failure.code == LLAMA3_EDEVICE)
            s->ended = failure;
        return error_set(err, failure.code, "%s", failure.message);
    }
    if (logits != NULL)
        memcpy(s->logits, logits + (n - 1) * vocab_size, vocab_size * sizeof *logits);
    s->has_logits = true;
    return 0;
}

int llama3_eval(struct llama3_session *s, const int32_t *tokens, size_t n, float *logits,
                struct llama3_error *err)
{
    if (n == 0)
        return error_set(err, LLAMA3_EINPUT, "eval: expected at least one token, found none");
    int status = append(s, tokens, n, logits, false, NULL, err);
    session_take_cancel(s);
    return status;
}

int session_append(struct llama3_session *s, const int32_t *tokens, size_t n,
                   struct llama3_error *err)
{
    return append(s, tokens, n, NULL, true, NULL, err);
}

void session_leave(struct llama3_session *s)
{
    engine_leave(s->model->engine, &s->stream);
}

int session_set(struct llama3_session *s, const int32_t *tokens, size_t n, size_t *cached,
                void (*on_prompt)(void *arg, size_t done, size_t total), void *arg,
                struct llama3_error *err)
{
    size_t context = engine_context(s->model->engine);
    if (check_ended(s, err) < 0)
        return -1;
    if (n == 0)
        return error_set(err, LLAMA3_EINPUT, "the prompt is empty");
    if (n > context)
        return error_set(err, LLAMA3_ECONTEXT,
                         "the prompt has %zu tokens, and the context holds %zu", n, context);

    size_t common = 0;
    while (common < n && common < s->tokens.n && tokens[common] == s->tokens.ids[common])
        common++;
    if (common == n && common == s->tokens.n && s->has_logits) {
        *cached = n;
        return 0;
    }
    common = common < n ? common : n - 1; /* the last one is evaluated for its logits */
    llama3_session_truncate(s, common);
    *cached = common;
    struct progress progress = {on_prompt, arg, common, n};
    return append(s, tokens + common, n - common, NULL, true, &progress, err);
}
