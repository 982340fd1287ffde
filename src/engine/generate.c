/* SPDX-License-Identifier: MIT */
/*
 * generate.c: an answer: llama3_next() in a loop, its text, and the search for stop strings; of an
 * answer that is held, the tokens that must come, in passes of as many as there are.
 */
#include "config.h" /* memmem */

#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "base/clock.h"
#include "base/sized.h"
#include "engine/calls.h"
#include "engine/held.h"
#include "engine/session.h"
#include "engine/thoughts.h"

enum { DEFAULT_MAX_TOKENS = 4096 };

/* Output of text: whole characters, held back while they may begin a stop string. */
struct outlet {
    const struct llama3_generation *generation;
    const struct tokenizer *tokenizer;
    struct llama3_detokenizer *detokenizer;
    struct buf held;
    struct thoughts thoughts;       /* if they are told apart */
    struct calls calls;             /* as well */
    struct llama3_generation texts; /* where text and thoughts go: to the caller, or to `calls` */
    bool ended;                     /* a stop string came, or a callback returned non-zero */
    int *stop_string;               /* of the result: which one came */
};

/* Text on its way to the caller goes through `calls`. */
static int text_with_calls(void *arg, const char *text, size_t length)
{
    struct outlet *o = arg;
    return calls_push(&o->calls, text, length);
}

static int thought(void *arg, const char *text, size_t length)
{
    const struct outlet *o = arg;
    return o->generation->on_thought(o->generation->arg, text, length);
}

static void emit(struct outlet *o, size_t n)
{
    const struct llama3_generation *g = &o->texts;
    if (n > 0 && g->on_thought != NULL)
        o->ended = thoughts_push(&o->thoughts, o->held.data, n) != 0;
    else if (n > 0 && g->on_text != NULL)
        o->ended = g->on_text(g->arg, o->held.data, n) != 0;
    memmove(o->held.data, o->held.data + n, o->held.size - n);
    o->held.size -= n;
}

/* Bytes at the end of held that begin a stop string. */
static size_t maybe_stop(const struct outlet *o)
{
    size_t longest = 0;
    for (size_t i = 0; i < o->generation->n_stop; i++) {
        const char *stop = o->generation->stop[i];
        size_t most = strlen(stop);
        most = most > o->held.size ? o->held.size : most;
        for (size_t n = most; n > longest; n--)
            if (memcmp(o->held.data + o->held.size - n, stop, n) == 0)
                longest = n;
    }
    return longest;
}

/* Outputs the held text up to a stop string, or to what may begin one. */
static void drain(struct outlet *o)
{
    if (o->held.size == 0 || o->ended)
        return;
    const char *first = NULL;
    for (size_t i = 0; i < o->generation->n_stop; i++) {
        const char *stop = o->generation->stop[i];
        const char *found = memmem(o->held.data, o->held.size, stop, strlen(stop));
        if (found != NULL && (first == NULL || found < first)) {
            first = found;
            *o->stop_string = (int)i;
        }
    }
    if (first != NULL) {
        emit(o, (size_t)(first - o->held.data));
        o->ended = true;
        return;
    }
    emit(o, o->held.size - maybe_stop(o));
}

/* The text of a control token that thoughts, as long as they may begin or end, or calls are told
 * by; else NULL. Other control tokens are no text. */
static const char *tag_of(const struct outlet *o, int32_t token, size_t *n)
{
    const char *name = (const char *)tokenizer_bytes(o->tokenizer, token, n);
    if (tokenizer_kind(o->tokenizer, token) != TOKEN_CONTROL)
        return NULL;
    if (o->generation->on_thought != NULL && o->thoughts.state <= THINKING &&
        thoughts_tag(name, *n) != NULL)
        return name;
    return o->generation->tools != NULL && calls_mark(&o->calls, name, *n) ? name : NULL;
}

static int check_memory(const struct outlet *o, struct llama3_error *err)
{
    return o->thoughts.held.failed || o->calls.failed
               ? error_memory(err, "the answer's text", o->held.size)
               : 0;
}

static int push(struct outlet *o, int32_t token, struct llama3_error *err)
{
    size_t n, n_tag;
    const char *tag = tag_of(o, token, &n_tag);
    const char *text = tag != NULL ? llama3_detokenizer_finish(o->detokenizer, &n, err)
                                   : llama3_detokenizer_next(o->detokenizer, token, &n, err);
    if (text == NULL)
        return -1;
    buf_add(&o->held, text, n);
    if (tag != NULL)
        buf_add(&o->held, tag, n_tag);
    if (o->held.failed)
        return error_memory(err, "the answer's text", o->held.size + n);
    drain(o);
    return check_memory(o, err);
}

static void finish_parts(struct outlet *o)
{
    if (thoughts_finish(&o->thoughts) == 0 && o->generation->tools != NULL)
        calls_finish(&o->calls);
}

/* Outputs all that is held, at the end of the answer. */
static int finish_text(struct outlet *o, struct llama3_error *err)
{
    size_t n;
    if (o->ended) {
        if (*o->stop_string >= 0)
            finish_parts(o);
        return 0;
    }
    const char *text = llama3_detokenizer_finish(o->detokenizer, &n, err);
    if (text == NULL)
        return -1;
    buf_add(&o->held, text, n);
    drain(o);
    if (!o->ended && o->held.size > 0)
        emit(o, o->held.size);
    if (!o->ended || *o->stop_string >= 0)
        finish_parts(o);
    return check_memory(o, err);
}

static int check(const struct llama3_session *s, const struct llama3_generation *g,
                 struct llama3_error *err)
{
    if (g->constraint != NULL && g->constraint->model != s->model)
        return error_input(err, "constraint: expected one of the session's model, found another's");
    for (size_t i = 0; i < g->n_stop; i++)
        if (g->stop[i] == NULL || g->stop[i][0] == '\0')
            return error_input(err, "stop string %zu: expected some text, found none", i + 1);
    return 0;
}

/* An answer that is being made. */
struct course {
    struct llama3_session *session;
    const struct llama3_generation *generation;
    struct outlet *outlet;
    struct held *held;
    struct llama3_result *result;
    struct tokens pending; /* taken, and not evaluated yet */
    struct tokens forced;  /* that come next */
};

enum { GOES_ON = -2 };

/* Takes a token: tells it, and outputs its text. logits: those it was drawn by, or NULL. Returns
 * GOES_ON, why the answer ended, or -1. */
static int take(struct course *c, int32_t token, const float *logits, struct llama3_error *err)
{
    const struct llama3_generation *g = c->generation;
    struct llama3_result *result = c->result;
    struct outlet *o = c->outlet;
    size_t max = g->max_tokens > 0 ? g->max_tokens : DEFAULT_MAX_TOKENS;
    if (g->on_token != NULL && g->on_token(g->arg, token, g->no_logits ? NULL : logits) != 0)
        return LLAMA3_FINISH_CALLBACK;
    if (held_accept(c->held, token, err) < 0)
        return -1;
    if (session_is_stop(c->session->model, token)) {
        result->stop_id = token;
        return LLAMA3_FINISH_STOP;
    }
    result->answer_tokens++;
    if (c->held->model != NULL)
        o->thoughts.spaces = c->held->spaces;
    if (push(o, token, err) < 0)
        return -1;
    if (o->ended)
        return result->stop_string >= 0 || o->calls.full ? LLAMA3_FINISH_STOP
                                                         : LLAMA3_FINISH_CALLBACK;
    if (held_ended(c->held))
        return LLAMA3_FINISH_STOP;
    size_t context = engine_context(c->session->model->engine);
    if (result->answer_tokens == max || c->session->tokens.n + c->pending.n == context)
        return LLAMA3_FINISH_LENGTH;
    tokens_add(&c->pending, token);
    return c->pending.failed ? error_memory(err, "tokens", c->pending.n * sizeof token) : GOES_ON;
}

/* Evaluates the tokens that were taken, and makes the mask of the next one beside it. */
static int evaluate(struct course *c, bool draws, struct llama3_error *err)
{
    int status = session_extend(c->generation->sampling, c->session, c->pending.ids, c->pending.n,
                                draws ? held_prepare : NULL, c->held, err);
    c->pending.n = 0;
    return status;
}

/* Takes the tokens of which there is no choice. They are evaluated with the next draw, or one by
 * one for who wants their logits. */
static int take_forced(struct course *c, struct llama3_error *err)
{
    const struct llama3_generation *g = c->generation;
    const bool wants_logits = g->on_token != NULL && !g->no_logits;
    c->forced.n = 0;
    if (held_forced(c->held, &c->forced, err) < 0)
        return -1;
    for (size_t i = 0; i < c->forced.n; i++) {
        if (wants_logits && evaluate(c, false, err) < 0)
            return -1;
        int finish = take(c, c->forced.ids[i], c->session->logits, err);
        if (finish != GOES_ON)
            return finish;
    }
    return GOES_ON;
}

/* Draws a token that may come next. */
static int draw(struct course *c, int32_t *token, struct llama3_error *err)
{
    const uint32_t *mask;
    do {
        if (held_mask(c->held, &mask, err) < 0 ||
            session_draw(c->generation->sampling, c->session, mask, token, err) < 0)
            return -1;
    } while (held_refuses(c->held, *token));
    return 0;
}

/* Generates from the logits of the prompt on. Returns why the answer ended, or -1. */
static int answer(struct course *c, struct llama3_error *err)
{
    int32_t token;
    int finish;
    do {
        finish = take_forced(c, err);
        if (finish == GOES_ON)
            finish = evaluate(c, true, err) < 0 || draw(c, &token, err) < 0
                         ? -1
                         : take(c, token, c->session->logits, err);
    } while (finish == GOES_ON);
    return finish == -1 && err->code == LLAMA3_ECANCELED ? LLAMA3_FINISH_CANCELED : finish;
}

/* The bytes that the prompt, which the session holds, ends with: <think> or </think> and line ends,
 * if it has them. */
static void prompt_end(const struct llama3_session *s, struct buf *text)
{
    enum { LOOK = 16 }; /* tokens */
    size_t n = s->tokens.n;
    for (size_t i = n > LOOK ? n - LOOK : 0; i < n; i++) {
        size_t length;
        const uint8_t *bytes = tokenizer_bytes(s->model->tokenizer, s->tokens.ids[i], &length);
        buf_add(text, bytes, length);
    }
}

/* Where a constraint begins to hold: behind thoughts, if they are told apart or have begun. */
static enum held_state holds_from(const struct llama3_generation *g, enum thinking thinking,
                                  const struct buf *end)
{
    return thinking == THINKING                                               ? HELD_THINKING
           : g->on_thought == NULL || thoughts_are_over(end->data, end->size) ? HELD_ANSWER
                                                                              : HELD_PERHAPS;
}

static int set_texts(struct outlet *o, const struct tool_form *form, struct llama3_error *err)
{
    const struct llama3_generation *g = o->generation;
    o->texts = *g;
    if (g->tools == NULL)
        return 0;
    o->texts.on_text = text_with_calls;
    o->texts.on_thought = g->on_thought != NULL ? thought : NULL;
    o->texts.arg = o;
    o->calls = (struct calls){
        .form = form,
        .most = g->max_calls,
        .sink = {g->on_text, g->on_call, g->on_arguments, g->arg},
    };
    return calls_declare(&o->calls, g->tools, err);
}

static int generate(struct llama3_session *s, const int32_t *prompt, size_t n,
                    const struct llama3_generation *g, struct llama3_result *result,
                    struct llama3_error *err)
{
    double start = clock_seconds();
    if (session_set(s, prompt, n, g->on_prompt, g->arg, &result->cached_tokens, err) < 0)
        return -1;
    result->stored_tokens = s->stored;
    double ready = clock_seconds();
    result->prompt_seconds = ready - start;

    struct outlet outlet = {
        .generation = g, .tokenizer = s->model->tokenizer, .stop_string = &result->stop_string};
    struct held held;
    struct course course = {
        .session = s, .generation = g, .outlet = &outlet, .held = &held, .result = result};
    struct buf end = {0};
    prompt_end(s, &end);
    enum thinking state = thoughts_after(end.data, end.failed ? 0 : end.size);
    outlet.thoughts =
        (struct thoughts){.state = state, .callbacks = &outlet.texts, .spaces = SIZE_MAX};
    outlet.detokenizer = llama3_detokenizer_open(s->model->owner, false, err);
    int finish = -1;
    /* By the session's copy: the caller's tokens may have been the session's, and be gone. */
    if (held_begin(&held, g->constraint, holds_from(g, state, &end), err) == 0 &&
        outlet.detokenizer != NULL && set_texts(&outlet, s->model->tool_form, err) == 0 &&
        llama3_sampling_begin(g->sampling, s->tokens.ids, n, err) == 0)
        finish = answer(&course, err);
    held_end(&held);
    tokens_free(&course.pending);
    tokens_free(&course.forced);
    buf_free(&end);
    session_leave(s);
    if (finish >= 0 && finish_text(&outlet, err) < 0)
        finish = -1;
    llama3_detokenizer_close(outlet.detokenizer);
    buf_free(&outlet.held);
    buf_free(&outlet.thoughts.held);
    result->calls = outlet.calls.n;
    calls_free(&outlet.calls);
    result->answer_seconds = clock_seconds() - ready;
    return finish;
}

int llama3_session_generate(struct llama3_session *s, const int32_t *prompt, size_t n,
                            const struct llama3_generation *generation,
                            struct llama3_result *callers, struct llama3_error *err)
{
    struct llama3_generation g;
    struct llama3_result result;
    struct llama3_error failure = {0};
    int finish = -1;

    if (sized_take(&result, sizeof result, callers, "llama3_result", err) < 0)
        return -1;
    result = (struct llama3_result){
        .size = sizeof result, .stop_id = -1, .stop_string = -1, .prompt_tokens = n};
    if (sized_take(&g, sizeof g, generation, "llama3_generation", &failure) == 0 &&
        check(s, &g, &failure) == 0 && session_begin(s, &failure) == 0) {
        struct llama3_sampling *own = NULL;
        if (g.sampling == NULL)
            g.sampling = own = llama3_sampling_open(s->model->owner, &failure);
        if (g.sampling != NULL)
            finish = generate(s, prompt, n, &g, &result, &failure);
        llama3_sampling_close(own);
        session_end(s);
        /* One that came too late to end anything is reported as well: it was for this call. */
        if ((finish < 0 && failure.code == LLAMA3_ECANCELED) ||
            (finish >= 0 && session_take_cancel(s)))
            finish = LLAMA3_FINISH_CANCELED;
    }
    result.finish = finish >= 0 ? (enum llama3_finish)finish : LLAMA3_FINISH_FAILED;
    if (callers != NULL)
        sized_give(callers, &result, sizeof result);
    return finish >= 0 ? 0 : error_copy(err, &failure);
}
