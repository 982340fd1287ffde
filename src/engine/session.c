/* SPDX-License-Identifier: MIT */
#include "engine/session.h"

#include <stdlib.h>
#include <string.h>

#include "base/size.h"
#include "engine/sampler.h"

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
    if (model->engine != NULL)
        return wrap(model, engine_sequence(model->engine, err), err);
    error_input(err, "session: expected a model with weights, found one opened with vocab_only");
    return NULL;
}

/* -1 once a device has failed in this session, with the line that said so. */
static int check_ended(const struct llama3_session *s, struct llama3_error *err)
{
    return s->ended.code == LLAMA3_OK ? 0 : error_copy(err, &s->ended);
}

static int refuse_use(struct llama3_error *err)
{
    return error_input(err,
                       "session: expected a session that no call is using, found one in use: by "
                       "another thread, or by the call whose callback this is");
}

int session_begin(struct llama3_session *s, struct llama3_error *err)
{
    if (s->in_use)
        return refuse_use(err);
    s->in_use = true;
    return 0;
}

void session_end(struct llama3_session *s)
{
    s->in_use = false;
}

struct llama3_session *llama3_session_fork(struct llama3_session *from, size_t n,
                                           struct llama3_error *err)
{
    if (n > from->tokens.n) {
        error_input(err, "fork: expected at most the session's %zu tokens, found %zu",
                    from->tokens.n, n);
        return NULL;
    }
    if (from->evaluating)
        refuse_use(err);
    if (from->evaluating || check_ended(from, err) < 0)
        return NULL;
    struct engine *engine = from->model->engine;
    struct llama3_session *s = wrap(from->model, engine_fork(engine, from->sequence, n, err), err);
    if (s == NULL)
        return NULL;
    s->owner = from->owner;
    s->has_owner_key = from->has_owner_key;
    s->owner_key = from->owner_key;
    s->chain.root = from->chain.root;
    s->chain.begun = from->chain.begun && n > 0;
    s->chain.used = from->chain.used;
    for (size_t i = 0; i < n; i++)
        tokens_add(&s->tokens, from->tokens.ids[i]);
    if (s->tokens.failed) {
        error_memory(err, "a session", n * sizeof *s->tokens.ids);
        session_discard(s);
        return NULL;
    }
    if (n == from->tokens.n && from->has_logits) {
        memcpy(s->logits, from->logits, engine_vocab_size(engine) * sizeof *s->logits);
        s->has_logits = true;
    }
    return s;
}

/* retires: the prefix cache may have its tokens. */
static void close_session(struct llama3_session *s, bool retires)
{
    session_leave(s);
    if (retires)
        engine_retire(s->model->engine, s->owner, s->sequence, s->tokens.ids, s->tokens.n);
    else
        engine_release(s->model->engine, s->sequence);
    tokens_free(&s->tokens);
    kv_chain_free(&s->chain);
    free(s->logits);
    free(s);
}

void session_discard(struct llama3_session *s)
{
    close_session(s, false);
}

void llama3_session_close(struct llama3_session *s)
{
    if (s != NULL)
        close_session(s, s->ended.code == LLAMA3_OK);
}

int llama3_session_owner(struct llama3_session *s, int owner, struct llama3_error *err)
{
    if (s->tokens.n > 0)
        return error_input(err, "owner: expected a session without tokens, found %zu", s->tokens.n);
    s->owner = owner;
    return 0;
}

const int32_t *llama3_session_tokens(const struct llama3_session *s, size_t *n)
{
    *n = s->tokens.n;
    return s->tokens.ids;
}

int session_check_scale(double scale, struct llama3_error *err)
{
    enum { MOST = 1000 };
    return scale >= -MOST && scale <= MOST
               ? 0
               : error_input(err, "scale: expected -%d to %d, found %g", MOST, MOST, scale);
}

int llama3_session_adapt(struct llama3_session *s, const char *name, double scale,
                         struct llama3_error *err)
{
    const struct session_model *m = s->model;
    float *scales = sequence_scales(s->sequence);
    bool found = name == NULL;
    if (!m->loras_vary)
        return error_input(err, "adapters: expected a model opened with adapters_vary, found one "
                                "whose adapters are the same in all sessions");
    if (s->tokens.n > 0)
        return error_input(err, "adapters: expected a session without tokens, found %zu",
                           s->tokens.n);
    if (session_check_scale(scale, err) < 0)
        return -1;
    for (size_t i = 0; i < m->n_loras; i++) {
        if (name != NULL && strcmp(m->loras[i].name, name) != 0)
            continue;
        scales[i] = (float)scale;
        found = true;
    }
    return found ? 0
                 : error_input(err, "adapters: expected the name of one, found \"%.80s\"", name);
}

const float *llama3_session_scales(const struct llama3_session *s, size_t *n)
{
    *n = s->model->n_loras;
    return sequence_scales(s->sequence);
}

static void truncate_to(struct llama3_session *s, size_t n)
{
    if (n >= s->tokens.n)
        return;
    session_leave(s);
    engine_truncate(s->model->engine, s->sequence, n);
    kv_chain_cut(&s->chain, n);
    s->tokens.n = n;
    s->has_logits = false;
}

void llama3_session_truncate(struct llama3_session *s, size_t n)
{
    if (!s->in_use)
        truncate_to(s, n);
}

const float *llama3_session_logits(const struct llama3_session *s)
{
    return s->has_logits ? s->logits : NULL;
}

void llama3_session_cancel(struct llama3_session *s)
{
    atomic_store_explicit(&s->cancel, true, memory_order_relaxed);
}

bool session_take_cancel(struct llama3_session *s)
{
    return atomic_exchange_explicit(&s->cancel, false, memory_order_relaxed);
}

static int check_canceled(struct llama3_session *s, struct llama3_error *err)
{
    return session_take_cancel(s) ? error_set(err, LLAMA3_ECANCELED, "canceled") : 0;
}

void session_leave(struct llama3_session *s)
{
    if (s->stream.awaited != 0)
        engine_leave(s->model->engine, &s->stream);
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

/* Whether n tokens can follow the first `position` ones. */
static int check_tokens(const struct llama3_session *s, size_t position, const int32_t *tokens,
                        size_t n, struct llama3_error *err)
{
    size_t context = engine_context(s->model->engine), end = SIZE_MAX;
    if (n == 0)
        return error_input(err, "tokens: expected at least one token, found none");
    if (!size_add(position, n, &end) || end > context)
        return error_set(err, LLAMA3_ECONTEXT,
                         "the context: expected at most %zu tokens, found %zu", context, end);
    return tokens_check(tokens, n, engine_vocab_size(s->model->engine), err);
}

/* Whether tokens lie in the session's own memory, which moves when it grows. */
static bool are_own(const struct llama3_session *s, const int32_t *tokens)
{
    uintptr_t at = (uintptr_t)tokens, own = (uintptr_t)s->tokens.ids;
    return at >= own && at < own + s->tokens.capacity * sizeof *tokens;
}

/* Appends tokens that were checked. ask: what is wanted beside the last token's logits in the
 * session; with a stream another token may follow at once. */
static int append(struct llama3_session *s, const int32_t *tokens, size_t n,
                  const struct engine_job *ask, struct llama3_error *err)
{
    bool is_own = are_own(s, tokens);
    size_t before = s->tokens.n, offset = is_own ? (size_t)(tokens - s->tokens.ids) : 0;
    size_t n_logits = ask->n_logits;
    float *logits = ask->logits;
    struct engine_job job = *ask;
    job.sequence = s->sequence;
    job.position = before;
    job.n = n;
    job.cancel = &s->cancel;
    if (n_logits == 0) {
        job.n_logits = 1;
        job.logits = s->logits;
    }
    size_t vocab_size = engine_vocab_size(s->model->engine);
    struct llama3_error failure = {0};

    if (check_ended(s, err) < 0)
        return -1;
    if (ask->stream == NULL)
        session_leave(s);
    session_begin_chain(s);
    job.chain = s->chain.begun ? &s->chain : NULL;
    for (size_t i = 0; i < n; i++)
        tokens_add(&s->tokens, is_own ? s->tokens.ids[offset + i] : tokens[i]);
    job.tokens = s->tokens.ids + before;
    if (s->tokens.failed) {
        s->tokens.failed = false;
        s->tokens.n = before;
        return error_memory(err, "tokens", n * sizeof *tokens);
    }
    s->evaluating = true;
    int status = engine_run(s->model->engine, &job, &failure);
    s->evaluating = false;
    if (status < 0) {
        s->tokens.n = before;
        if (before > 0)
            kv_chain_cut(&s->chain, before);
        /* s->logits is written only once a job has succeeded, so it still holds. */
        if (failure.code == LLAMA3_EDEVICE)
            s->ended = failure;
        if (failure.code == LLAMA3_ECANCELED)
            session_take_cancel(s);
        return error_copy(err, &failure);
    }
    if (n_logits > 0)
        memcpy(s->logits, logits + (n_logits - 1) * vocab_size, vocab_size * sizeof *logits);
    s->has_logits = true;
    return 0;
}

int llama3_session_eval(struct llama3_session *s, const int32_t *tokens, size_t n, size_t n_logits,
                        float *logits, struct llama3_error *err)
{
    if (check_tokens(s, s->tokens.n, tokens, n, err) < 0)
        return -1;
    if (n_logits > n)
        return error_input(err, "n_logits: expected at most n, which is %zu, found %zu", n,
                           n_logits);
    if ((n_logits > 0) != (logits != NULL))
        return error_input(err, "logits: expected %s with n_logits %zu, found %s",
                           logits != NULL ? "NULL" : "memory", n_logits,
                           logits != NULL ? "memory" : "NULL");
    if (session_begin(s, err) < 0)
        return -1;
    const struct engine_job job = {.n_logits = n_logits, .logits = logits};
    int status = append(s, tokens, n, &job, err);
    session_end(s);
    return status;
}

int session_extend(struct llama3_sampling *sampling, struct llama3_session *s,
                   const int32_t *tokens, size_t n, void (*meanwhile)(void *arg), void *arg,
                   struct llama3_error *err)
{
    struct engine_job job = {.stream = &s->stream, .meanwhile = meanwhile, .meanwhile_arg = arg};
    if (sampling_prepare(sampling, engine_vocab_size(s->model->engine), err) < 0 ||
        check_canceled(s, err) < 0)
        return -1;
    if (n == 0)
        return 0;
    if (check_tokens(s, s->tokens.n, tokens, n, err) < 0 || append(s, tokens, n, &job, err) < 0)
        return -1;
    for (size_t i = 0; i < n; i++)
        if (llama3_sampling_accept(sampling, tokens[i], err) < 0)
            return -1;
    return 0;
}

int session_draw(struct llama3_sampling *sampling, const struct llama3_session *s,
                 const uint32_t *mask, int32_t *token, struct llama3_error *err)
{
    if (!s->has_logits)
        return error_input(err, "next: expected logits of a token before, found none");
    return sampling_draw(sampling, s->logits, s->tokens.n, mask, token, err);
}

int session_next(struct llama3_sampling *sampling, struct llama3_session *s, int32_t *token,
                 struct llama3_error *err)
{
    if (session_extend(sampling, s, token, *token != -1, NULL, NULL, err) < 0)
        return -1;
    *token = -1;
    return session_draw(sampling, s, NULL, token, err);
}

int llama3_next(struct llama3_sampling *sampling, struct llama3_session *s, int32_t *token,
                struct llama3_error *err)
{
    if (session_begin(s, err) < 0)
        return -1;
    int status = session_next(sampling, s, token, err);
    session_end(s);
    return status;
}

/* The session takes over a sequence of n tokens, and leaves its own to the prefix cache. -1 without
 * memory, with all as it was. */
static int replace_sequence(struct llama3_session *s, struct sequence *sequence,
                            const int32_t *tokens, size_t n)
{
    struct engine *engine = s->model->engine;
    struct tokens had = s->tokens, has = {0};
    for (size_t i = 0; i < n; i++)
        tokens_add(&has, tokens[i]);
    if (has.failed) {
        tokens_free(&has);
        engine_release(engine, sequence);
        return -1;
    }
    session_leave(s);
    engine_retire(engine, s->owner, s->sequence, had.ids, had.n);
    tokens_free(&had);
    kv_chain_cut(&s->chain, 0);
    s->sequence = sequence;
    s->tokens = has;
    s->has_logits = false;
    return 0;
}

/* Makes the session hold the longest beginning of these n tokens that it has, or the prefix cache,
 * but for the last one unless their logits are there as well. Returns its length. */
static size_t hold_in_memory(struct llama3_session *s, const int32_t *tokens, size_t n)
{
    struct engine *engine = s->model->engine;
    size_t length, held = s->tokens.n;
    size_t common = tokens_common(tokens, s->tokens.ids, held < n ? held : n);
    if (common == n && common == s->tokens.n && s->has_logits)
        return n;
    bool loses = common < s->tokens.n;
    common = common < n ? common : n - 1; /* the last one is evaluated for its logits */
    struct sequence *found =
        are_own(s, tokens)
            ? NULL
            : engine_take_prefix(engine, s->owner, s->sequence, tokens, n - 1, common, &length);
    if (found != NULL && replace_sequence(s, found, tokens, length) == 0)
        return length;
    if (loses)
        engine_retire_copy(engine, s->owner, s->sequence, s->tokens.ids, s->tokens.n);
    truncate_to(s, common);
    return common;
}

/* The same with what the store has. */
static size_t hold_prefix(struct llama3_session *s, const int32_t *tokens, size_t n)
{
    size_t held = hold_in_memory(s, tokens, n);
    s->stored = 0;
    if (s->model->store == NULL || are_own(s, tokens))
        return held;
    size_t holds = session_take_stored(s, tokens, n, held);
    s->stored = holds - held;
    session_note(s->model);
    return holds;
}

/* Whether the session may become one of these tokens. */
static int check_set(struct llama3_session *s, const int32_t *tokens, size_t n,
                     struct llama3_error *err)
{
    return check_ended(s, err) < 0 || check_tokens(s, 0, tokens, n, err) < 0 ? -1 : 0;
}

int session_set(struct llama3_session *s, const int32_t *tokens, size_t n,
                void (*on_prompt)(void *arg, size_t done, size_t total), void *arg, size_t *cached,
                struct llama3_error *err)
{
    if (check_set(s, tokens, n, err) < 0 || check_canceled(s, err) < 0)
        return -1;
    size_t held = *cached = hold_prefix(s, tokens, n);
    struct progress progress = {on_prompt, arg, held, n};
    const struct engine_job job = {.stream = &s->stream,
                                   .on_progress = on_prompt != NULL ? tell_progress : NULL,
                                   .arg = &progress};
    return held == n ? 0 : append(s, tokens + held, n - held, &job, err);
}

int llama3_session_adopt(struct llama3_session *s, const int32_t *tokens, size_t n, size_t *cached,
                         struct llama3_error *err)
{
    if (session_begin(s, err) < 0)
        return -1;
    int status = check_set(s, tokens, n, err);
    size_t held = status == 0 ? hold_prefix(s, tokens, n) : 0;
    session_end(s);
    if (cached != NULL)
        *cached = held;
    return status;
}

int llama3_session_set(struct llama3_session *s, const int32_t *tokens, size_t n,
                       void (*on_prompt)(void *arg, size_t done, size_t total), void *arg,
                       size_t *cached, struct llama3_error *err)
{
    size_t kept = 0;
    if (session_begin(s, err) < 0)
        return -1;
    int status = session_set(s, tokens, n, on_prompt, arg, &kept, err);
    session_end(s);
    if (cached != NULL)
        *cached = kept;
    return status;
}
