/* SPDX-License-Identifier: MIT */
/*
 * generate.c: the loop that makes an answer: draw, decode, look for stop strings, evaluate.
 */
#include "config.h" /* memmem */

#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "base/clock.h"
#include "engine/sampler.h"
#include "engine/session.h"

enum { DEFAULT_MAX_TOKENS = 4096 };

/* Text on its way out: whole characters, held back while they may begin a stop string. */
struct outlet {
    const struct llama3_generation *generation;
    struct decoder decoder;
    struct buf held;
    bool ended; /* a stop string came, or on_text had enough */
};

static void emit(struct outlet *o, size_t n)
{
    if (n > 0 && o->generation->on_text != NULL &&
        o->generation->on_text(o->generation->arg, o->held.data, n) != 0)
        o->ended = true;
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

/* Gives out what can be given out of held. */
static void drain(struct outlet *o)
{
    if (o->held.size == 0 || o->ended)
        return;
    const char *first = NULL;
    for (size_t i = 0; i < o->generation->n_stop; i++) {
        const char *stop = o->generation->stop[i];
        const char *found = memmem(o->held.data, o->held.size, stop, strlen(stop));
        if (found != NULL && (first == NULL || found < first))
            first = found;
    }
    if (first != NULL) {
        emit(o, (size_t)(first - o->held.data));
        o->ended = true;
        return;
    }
    emit(o, o->held.size - maybe_stop(o));
}

/* The end of the answer: nothing is held back any more. */
static void finish_text(struct outlet *o)
{
    if (o->ended)
        return;
    decoder_finish(&o->decoder, &o->held);
    drain(o);
    if (!o->ended && o->held.size > 0)
        emit(o, o->held.size);
}

static int check(const struct llama3_generation *g, struct llama3_error *err)
{
    for (size_t i = 0; i < g->n_stop; i++)
        if (g->stop[i] == NULL || g->stop[i][0] == '\0')
            return error_set(err, LLAMA3_EINPUT, "stop string %zu is empty", i + 1);
    return 0;
}

/* From the logits of the prompt to the end of the answer. */
static int answer(struct llama3_session *s, struct sampler *sampler, struct outlet *outlet,
                  struct llama3_result *result, struct llama3_error *err)
{
    const struct session_model *model = session_model(s);
    size_t max = outlet->generation->max_tokens;
    max = max > 0 ? max : DEFAULT_MAX_TOKENS;

    for (;;) {
        if (session_canceled(s)) {
            result->finish = LLAMA3_FINISH_CANCELED;
            return 0;
        }
        int32_t token = sampler_draw(sampler, llama3_logits(s), session_length(s));
        const struct llama3_generation *g = outlet->generation;
        if (g->on_token != NULL && g->on_token(g->arg, token, llama3_logits(s)) != 0) {
            result->finish = LLAMA3_FINISH_STOP;
            return 0;
        }
        if (session_is_stop(model, token)) {
            result->finish = LLAMA3_FINISH_STOP;
            result->stop_id = token;
            return 0;
        }
        result->answer_tokens++;
        sampler_saw_answer(sampler, token);
        if (tokenizer_kind(model->tokenizer, token) == TOKEN_TEXT) {
            size_t n;
            const uint8_t *bytes = tokenizer_bytes(model->tokenizer, token, &n);
            decoder_push(&outlet->decoder, bytes, n, &outlet->held);
            if (outlet->held.failed)
                return error_memory(err, "the answer's text", outlet->held.size + n);
            drain(outlet);
        }
        if (outlet->ended) {
            result->finish = LLAMA3_FINISH_STOP;
            return 0;
        }
        if (result->answer_tokens == max || session_length(s) == engine_context(model->engine)) {
            result->finish = LLAMA3_FINISH_LENGTH;
            return 0;
        }
        struct llama3_error failure;
        if (session_append(s, &token, 1, &failure) < 0) {
            if (failure.code == LLAMA3_ECANCELED) {
                result->finish = LLAMA3_FINISH_CANCELED;
                return 0;
            }
            return error_set(err, failure.code, "%s", failure.message);
        }
    }
}

static int generate(struct llama3_session *s, const int32_t *prompt, size_t n,
                    const struct llama3_generation *g, struct sampler *sampler,
                    struct llama3_result *result, struct llama3_error *err)
{
    double start = clock_seconds();
    if (session_set(s, prompt, n, &result->cached_tokens, g->on_prompt, g->arg, err) < 0)
        return -1;
    double ready = clock_seconds();
    result->prompt_seconds = ready - start;

    sampler_saw_prompt(sampler, prompt, n);
    struct outlet outlet = {.generation = g};
    int status = answer(s, sampler, &outlet, result, err);
    session_leave(s);
    if (status == 0)
        finish_text(&outlet);
    buf_free(&outlet.held);
    result->answer_seconds = clock_seconds() - ready;
    return status;
}

int llama3_generate(struct llama3_session *s, const int32_t *prompt, size_t n,
                    const struct llama3_generation *g, struct llama3_result *out,
                    struct llama3_error *err)
{
    struct llama3_result result = {.stop_id = -1, .prompt_tokens = n};
    struct llama3_error failure = {0};
    struct sampler *sampler = NULL;
    int status = check(g, &failure);

    if (status == 0) {
        sampler = sampler_open(&g->sampling, engine_vocab_size(session_model(s)->engine), &failure);
        status = sampler != NULL ? generate(s, prompt, n, g, sampler, &result, &failure) : -1;
    }
    if (status < 0 && failure.code == LLAMA3_ECANCELED) {
        result.finish = LLAMA3_FINISH_CANCELED;
        status = 0;
    }
    session_take_cancel(s);
    sampler_close(sampler);
    if (out != NULL)
        *out = result;
    if (status < 0 && err != NULL)
        *err = failure;
    return status;
}
