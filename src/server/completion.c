/* SPDX-License-Identifier: MIT */
/*
 * completion.c: a request that generates. Each choice is a sequence; the first one evaluates the
 * prompt, and the others are forked from it.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/error.h"
#include "base/json.h"
#include "base/size.h"
#include "server/answer.h"
#include "server/budget.h"
#include "server/reply.h"
#include "server/server.h"

enum {
    DEFAULT_MAX_TOKENS = 4096,
    MAX_PENDING = 2048 /* tokens whose logprobs wait for text: more than a stop string holds back */
};
static const double PROGRESS_SECONDS = 0.5;

struct choice {
    struct completion *of;
    size_t index;
    pthread_t thread;
    bool has_thread;
    struct llama3_session *session; /* under the completion's lock: others may cancel it */
    struct prefill prefill;
    struct slot slot;
    bool began;
    struct buf text, thoughts; /* of a whole answer */
    struct buf calls;          /* as well, as JSON; the last one is open */
    size_t sent;               /* bytes of a stream */
    struct buf logprobs;       /* records; in a stream, those that wait for their text */
    size_t n_tokens;           /* generated */
    struct llama3_result result;
};

struct completion {
    const struct work *work;
    struct server *server;
    struct api_request request;
    struct answer_head head;
    int32_t *tokens; /* [n_tokens] of the prompt */
    size_t n_tokens, max_tokens;
    float scales[MAX_ADAPTERS];         /* of the model's adapters */
    struct kept_constraint *constraint; /* NULL: the answer may be anything */
    double told;                        /* when progress was last sent */
    atomic_bool over;                   /* canceled, or failed */
    atomic_bool gone;                   /* the client disconnected */

    pthread_mutex_t lock;
    struct api_error failure; /* of the first choice that failed */
    bool failed;
    struct choice choices[MAX_CHOICES];
    struct completion *next; /* in the server's list, under its lock */
};

/* ---- cancellation ------------------------------------------------------------------------ */

void completion_cut(struct completion *c)
{
    atomic_store(&c->over, true);
    pthread_mutex_lock(&c->lock);
    for (size_t i = 0; i < MAX_CHOICES; i++)
        if (c->choices[i].session != NULL)
            llama3_session_cancel(c->choices[i].session);
    pthread_mutex_unlock(&c->lock);
    slots_wake(c->server->slots);
    prefills_wake(c->server->prefills);
}

static void on_gone(void *arg)
{
    struct completion *c = arg;
    atomic_store(&c->gone, true);
    completion_cut(c);
}

struct completion *completion_next(struct completion *c)
{
    return c->next;
}

static void fail(struct completion *c, const struct llama3_error *err)
{
    pthread_mutex_lock(&c->lock);
    if (!c->failed)
        api_error_from(&c->failure, err, c->server->model_path, c->server->model_id);
    c->failed = true;
    pthread_mutex_unlock(&c->lock);
    completion_cut(c);
}

/* Gives a choice its session, which can be canceled from now on. */
static void adopt(struct choice *choice, struct llama3_session *session)
{
    struct completion *c = choice->of;
    pthread_mutex_lock(&c->lock);
    choice->session = session;
    if (atomic_load(&c->over))
        llama3_session_cancel(session);
    pthread_mutex_unlock(&c->lock);
}

/* Closes a choice's session, whose tokens the prefix cache takes over. */
static void leave(struct choice *choice)
{
    struct completion *c = choice->of;
    pthread_mutex_lock(&c->lock);
    struct llama3_session *session = choice->session;
    choice->session = NULL;
    pthread_mutex_unlock(&c->lock);
    llama3_session_close(session);
}

/* ---- callbacks of a generation ----------------------------------------------------------- */

static void *run_forked(void *arg);

static void send(struct completion *c, struct buf *events)
{
    if (events->failed || http_write(c->work->http, events->data, events->size) < 0)
        atomic_store(&c->over, true);
    buf_free(events);
}

static void on_prompt(void *arg, size_t done, size_t total)
{
    struct choice *choice = arg;
    struct completion *c = choice->of;
    double now = clock_seconds();
    prefill_progress(c->server->prefills, &choice->prefill, done);
    if (!c->request.stream || done == total || now - c->told < PROGRESS_SECONDS)
        return;
    char line[64];
    c->told = now;
    done -= done % c->server->page_tokens; /* see whole_pages() */
    snprintf(line, sizeof line, ": prompt %zu/%zu\n\n", done, total);
    http_write(c->work->http, line, strlen(line));
}

/* session: NULL if forking failed, which `why` tells. */
static int start_choice(struct choice *choice, struct llama3_session *session,
                        const struct llama3_error *why)
{
    struct llama3_error err;
    if (session == NULL) {
        fail(choice->of, why);
        return -1;
    }
    adopt(choice, session);
    if (pthread_create(&choice->thread, NULL, run_forked, choice) == 0) {
        choice->has_thread = true;
        return 0;
    }
    error_set(&err, LLAMA3_ENOMEM, "could not start a thread");
    fail(choice->of, &err);
    leave(choice);
    return -1;
}

/* Prefill is done: the prompt goes into the prefix cache, and the other choices start. */
static int prompt_done(struct choice *choice)
{
    struct completion *c = choice->of;
    struct llama3_error err = {.size = sizeof err};
    choice->began = true;
    if (choice->index > 0)
        return 0;
    struct llama3_session *copy = llama3_session_fork(choice->session, c->n_tokens, NULL);
    llama3_session_close(copy);
    prefill_end(c->server->prefills, &choice->prefill);
    for (size_t i = 1; i < c->request.n; i++) {
        copy = llama3_session_fork(choice->session, c->n_tokens, &err);
        if (start_choice(&c->choices[i], copy, &err) < 0)
            return -1;
    }
    return 0;
}

/* Sends a piece of a stream, or of its thoughts, with the logprobs of its tokens. */
static void send_piece(struct choice *choice, const char *text, size_t length, bool is_thought)
{
    struct completion *c = choice->of;
    struct buf events = {0};
    const struct answer_logprobs logprobs = {c->request.top_logprobs, &choice->logprobs};
    const struct answer_logprobs *asked = c->request.logprobs ? &logprobs : NULL;
    if (is_thought)
        answer_thought(&c->head, choice->index, text, length, asked, &events);
    else
        answer_piece(&c->head, choice->index, text, length, choice->sent, asked, &events);
    buf_clear(&choice->logprobs);
    choice->sent += is_thought ? 0 : length;
    send(c, &events);
}

static void keep_logprobs(struct choice *choice, int32_t token, const float *logits)
{
    struct completion *c = choice->of;
    struct answer_record record;
    struct llama3_error err;
    size_t n = answer_record(c->server->model, token, logits, c->request.top_logprobs, &record);
    if (share_add(c->work->memory, &choice->logprobs, &record, n, &err) < 0)
        fail(c, &err);
    /* No stop string holds back so many tokens: they have no text to be sent with. */
    else if (c->request.stream && choice->logprobs.size > MAX_PENDING * n)
        send_piece(choice, "", 0, false);
}

static int on_token(void *arg, int32_t token, const float *logits)
{
    struct choice *choice = arg;
    struct completion *c = choice->of;
    if (!choice->began && prompt_done(choice) < 0)
        return -1;
    choice->n_tokens++;
    if (c->request.logprobs && !llama3_token_is_stop(c->server->model, token))
        keep_logprobs(choice, token, logits);
    return atomic_load(&c->over);
}

static int on_piece(struct choice *choice, const char *text, size_t length, bool is_thought)
{
    struct completion *c = choice->of;
    struct buf *kept = is_thought ? &choice->thoughts : &choice->text;
    struct llama3_error err;
    if (c->request.stream)
        send_piece(choice, text, length, is_thought);
    else if (share_add(c->work->memory, kept, text, length, &err) < 0)
        fail(c, &err);
    return atomic_load(&c->over);
}

static int on_text(void *arg, const char *text, size_t length)
{
    return on_piece(arg, text, length, false);
}

static int on_thought(void *arg, const char *text, size_t length)
{
    return on_piece(arg, text, length, true);
}

/* Appends JSON of calls, which counts as memory of the request. */
static void add_calls(struct choice *choice, const struct buf *json)
{
    struct llama3_error err;
    if (json->failed)
        error_memory(&err, "calls of tools", json->size);
    if (json->failed ||
        share_add(choice->of->work->memory, &choice->calls, json->data, json->size, &err) < 0)
        fail(choice->of, &err);
}

static int on_call(void *arg, size_t index, const char *name)
{
    struct choice *choice = arg;
    struct completion *c = choice->of;
    struct buf json = {0};
    if (c->request.stream) {
        answer_call(&c->head, choice->index, index, name, &json);
        send(c, &json);
        return atomic_load(&c->over);
    }
    if (index > 0)
        answer_call_end(&json);
    answer_add_call(&c->head, choice->index, index, name, &json);
    add_calls(choice, &json);
    buf_free(&json);
    return atomic_load(&c->over);
}

static int on_arguments(void *arg, size_t index, const char *text, size_t length)
{
    struct choice *choice = arg;
    struct completion *c = choice->of;
    struct buf json = {0};
    if (c->request.stream) {
        answer_arguments(&c->head, choice->index, index, text, length, &json);
        send(c, &json);
        return atomic_load(&c->over);
    }
    answer_add_arguments(text, length, &json);
    add_calls(choice, &json);
    buf_free(&json);
    return atomic_load(&c->over);
}

/* ---- a choice ---------------------------------------------------------------------------- */

/* Clients see cached tokens in whole pages. With an exact count somebody could guess another's
 * prompt token by token. */
static void whole_pages(const struct completion *c, struct llama3_result *result)
{
    result->cached_tokens -= result->cached_tokens % c->server->page_tokens;
}

/* The request was checked before, so this is a failure of the model or the machine. The log gets
 * the whole message. */
static void fail_inside(struct completion *c, struct llama3_error *err)
{
    const struct server_options *o = &c->server->options;
    if (err->code == LLAMA3_EINPUT)
        err->code = LLAMA3_EIO;
    o->on_log(o->arg, err->message);
    fail(c, err);
}

/* The request's sampling, with the choice's seed. */
static struct llama3_sampling *make_sampling(const struct choice *choice, struct llama3_error *err)
{
    const struct api_request *r = &choice->of->request;
    struct llama3_sampling *sampling = llama3_sampling_copy(r->sampling, err);
    char seed[32];
    snprintf(seed, sizeof seed, "%" PRIu64, r->seed + choice->index);
    if (sampling != NULL && llama3_sampling_set(sampling, "seed", seed, err) == 0)
        return sampling;
    llama3_sampling_close(sampling);
    return NULL;
}

static int generate(struct choice *choice)
{
    struct completion *c = choice->of;
    struct llama3_error err = {.size = sizeof err};
    struct llama3_generation g = {
        .size = sizeof g,
        .sampling = make_sampling(choice, &err),
        .max_tokens = c->max_tokens,
        .stop = c->request.stop,
        .n_stop = c->request.n_stop,
        .on_text = on_text,
        .on_thought =
            c->head.chat && llama3_model_info(c->server->model)->thinks ? on_thought : NULL,
        .on_token = on_token,
        .on_prompt = choice->index == 0 ? on_prompt : NULL,
        .tools = c->request.callable.size > 0 ? c->request.callable.data
                 : c->request.tools.size > 0  ? c->request.tools.data
                                              : NULL,
        .max_calls = c->request.one_call,
        .on_call = on_call,
        .on_arguments = on_arguments,
        .arg = choice,
        .constraint = constraints_of(c->constraint),
        .no_logits = !c->request.logprobs,
    };
    choice->result.size = sizeof choice->result;
    int status = g.sampling == NULL
                     ? -1
                     : llama3_session_generate(choice->session, c->tokens, c->n_tokens, &g,
                                               &choice->result, &err);
    llama3_sampling_close(g.sampling);
    whole_pages(c, &choice->result);
    if (status < 0) {
        fail_inside(c, &err);
        return -1;
    }
    if (choice->result.finish == LLAMA3_FINISH_CANCELED ||
        choice->result.finish == LLAMA3_FINISH_CALLBACK ||
        (choice->result.finish == LLAMA3_FINISH_STOP && atomic_load(&c->over)))
        return -1;
    return 0;
}

static void finish(struct choice *choice)
{
    struct completion *c = choice->of;
    struct buf events = {0};
    if (!c->request.stream && choice->calls.size > 0) {
        answer_call_end(&events);
        add_calls(choice, &events);
        buf_free(&events);
    }
    if (!c->request.stream)
        return;
    answer_end(&c->head, choice->index, &choice->result, &events);
    send(c, &events);
}

/* Waits for a slot, generates with a forked session or one from the prefix cache, and leaves it. */
static void run_choice(struct choice *choice)
{
    struct completion *c = choice->of;
    struct server *s = c->server;
    struct llama3_error err = {.size = sizeof err};
    size_t tokens = c->n_tokens + c->max_tokens;
    tokens = tokens < s->context ? tokens : s->context;
    choice->slot.client = c->work->client;
    choice->slot.pages = (tokens + s->page_tokens - 1) / s->page_tokens;
    if (slots_take(s->slots, &choice->slot, &c->over) < 0)
        return;
    if (choice->index == 0) {
        struct llama3_session *session =
            prefill_begin(s->prefills, c->work->user, c->scales, c->tokens, c->n_tokens,
                          &choice->prefill, &c->over, &err);
        if (session == NULL && !atomic_load(&c->over))
            fail(c, &err);
        if (session != NULL)
            adopt(choice, session);
    }
    if (choice->session != NULL && generate(choice) == 0)
        finish(choice);
    prefill_end(s->prefills, &choice->prefill);
    leave(choice);
    slots_give(s->slots, &choice->slot);
}

static void *run_forked(void *arg)
{
    struct choice *choice = arg;
    run_choice(choice);
    leave(choice); /* if it got no slot */
    return NULL;
}

/* ---- the request ------------------------------------------------------------------------- */

/* Makes the prompt's tokens, and checks that they fit. */
static int make_prompt(struct completion *c, struct api_error *err)
{
    const struct api_request *r = &c->request;
    const struct server *s = c->server;
    struct llama3_error error = {.size = sizeof error};
    int status = 0;
    if (r->kind == API_CHAT)
        status = api_request_render(r, s->model, &s->template, &c->tokens, &c->n_tokens, &error);
    else if (r->tokens == NULL)
        status = llama3_tokenize(s->model, r->prompt, r->prompt_length, true, &c->tokens,
                                 &c->n_tokens, &error);
    else if ((c->tokens = size_alloc(r->n_tokens, sizeof *c->tokens)) != NULL)
        memcpy(c->tokens, r->tokens, (c->n_tokens = r->n_tokens) * sizeof *c->tokens);
    else
        return api_error_set(err, 503, NULL, NULL, "not enough memory for the prompt");
    if (status < 0)
        return api_error_from(err, &error, s->model_path, s->model_id);
    const char *param = r->kind == API_CHAT ? "messages" : "prompt";
    if (c->n_tokens == 0)
        return api_error_set(err, 400, NULL, param, "the prompt is empty");
    if (c->n_tokens > s->context)
        return api_error_set(err, 400, "context_length_exceeded", param,
                             "the prompt has %zu tokens, but the context holds %zu", c->n_tokens,
                             s->context);
    size_t most = s->context - c->n_tokens + 1; /* the last token is not evaluated */
    c->max_tokens = r->max_tokens > 0 ? r->max_tokens : DEFAULT_MAX_TOKENS;
    c->max_tokens = c->max_tokens < most ? c->max_tokens : most;
    return 0;
}

/* Compiles what the answer has to be, if anything. The text is read once more, as JSON perhaps. */
static int take_constraint(struct completion *c, struct api_error *err)
{
    const struct server *s = c->server;
    const struct constraint_request *r = &c->request.constraint;
    struct llama3_error error = {.size = sizeof error};
    if (r->field == NULL)
        return 0;
    const char *text = r->text.data != NULL ? r->text.data : "";
    uint64_t bytes = json_cost(text, r->text.size) + r->text.size;
    if (share_take(c->work->memory, bytes, &error) == 0)
        c->constraint = constraints_take(s->constraints, c->work->user, r, &error);
    if (c->constraint != NULL)
        return 0;
    if (error.code == LLAMA3_EINPUT)
        return api_error_set(err, 400, NULL, r->field, "%s", error.message);
    return api_error_from(err, &error, s->model_path, s->model_id);
}

static int prepare(struct completion *c, struct api_error *err)
{
    const struct server *s = c->server;
    size_t n;
    uint64_t id[2] = {0}, seed = 0;
    struct llama3_error error;
    const enum api_kind kind = c->head.chat ? API_CHAT : API_COMPLETION;
    const char *body = http_body(c->work->http, &n);
    if (share_take(c->work->memory, api_request_cost(kind, body, n, &s->template), &error) < 0)
        return api_error_from(err, &error, s->model_path, s->model_id);
    int status = api_request_parse(&c->request, kind, body, n, s->sampling,
                                   llama3_model_info(s->model)->vocab_size, err);
    http_free_body(c->work->http);
    if (status < 0)
        return -1;
    if (getentropy(id, sizeof id) == 0 && getentropy(&seed, sizeof seed) == 0 &&
        !c->request.has_seed)
        c->request.seed = seed;
    c->head.model = s->model;
    c->head.model_id = s->model_id;
    c->head.created = time(NULL);
    c->head.with_usage = c->request.stream && c->request.include_usage;
    snprintf(c->head.id, sizeof c->head.id, "%s-%016llx%08llx", c->head.chat ? "chatcmpl" : "cmpl",
             (unsigned long long)id[0], (unsigned long long)id[1] & 0xffffffff);
    for (size_t i = 0; i < MAX_CHOICES; i++) {
        c->choices[i].of = c;
        c->choices[i].index = i;
    }
    status = adapters_choose(s, &c->request, c->scales, &c->head.model_id, err);
    if (status == 0)
        status = take_constraint(c, err);
    if (status == 0)
        status = make_prompt(c, err);
    api_request_free_texts(&c->request);
    if (status == 0)
        share_keep(c->work->memory, c->n_tokens * sizeof *c->tokens);
    return status;
}

static void enlist(struct completion *c)
{
    struct server *s = c->server;
    pthread_mutex_lock(&s->lock);
    c->next = s->completions;
    s->completions = c;
    bool cutting = s->cutting;
    pthread_mutex_unlock(&s->lock);
    if (cutting)
        completion_cut(c);
    http_on_gone(c->work->http, on_gone, c);
}

static void delist(struct completion *c)
{
    struct server *s = c->server;
    pthread_mutex_lock(&s->lock);
    struct completion **at = &s->completions;
    while (*at != c)
        at = &(*at)->next;
    *at = c->next;
    pthread_mutex_unlock(&s->lock);
}

static void run_choices(struct completion *c)
{
    if (c->request.stream) {
        struct buf events = {0};
        http_set_header(c->work->http, "Cache-Control", "no-cache");
        http_stream(c->work->http, 200, "text/event-stream", ": keep-alive\n\n");
        for (size_t i = 0; i < c->request.n; i++)
            answer_role(&c->head, i, &events);
        if (events.size > 0)
            send(c, &events);
    }
    run_choice(&c->choices[0]);
    for (size_t i = 1; i < c->request.n; i++)
        if (c->choices[i].has_thread)
            pthread_join(c->choices[i].thread, NULL);
    if (!c->failed && !c->gone && atomic_load(&c->over)) {
        api_error_set(&c->failure, 503, NULL, NULL, "the server is shutting down");
        c->failed = true;
    }
}

static struct outcome count(const struct completion *c)
{
    const struct choice *first = &c->choices[0];
    struct outcome o = {
        .prompt_tokens = c->n_tokens,
        .cached_tokens = first->result.cached_tokens,
        .prompt_seconds = first->result.prompt_seconds,
        .finish = c->gone                                        ? "hung up"
                  : c->failed                                    ? "failed"
                  : first->result.finish == LLAMA3_FINISH_LENGTH ? "length"
                  : first->result.calls > 0                      ? "tool_calls"
                                                                 : "stop",
    };
    for (size_t i = 0; i < c->request.n; i++) {
        o.answer_tokens += c->choices[i].result.answer_tokens;
        if (c->choices[i].result.answer_seconds > o.answer_seconds)
            o.answer_seconds = c->choices[i].result.answer_seconds;
    }
    work_count(c->work, COUNT_PROMPT_TOKENS, o.prompt_tokens);
    work_count(c->work, COUNT_CACHED_TOKENS, o.cached_tokens);
    work_count(c->work, COUNT_ANSWER_TOKENS, o.answer_tokens);
    work_count(c->work, COUNT_PROMPT_MICROSECONDS, (uint64_t)(o.prompt_seconds * 1e6));
    work_count(c->work, COUNT_ANSWER_MICROSECONDS, (uint64_t)(o.answer_seconds * 1e6));
    work_count(c->work, COUNT_HANGUPS, c->gone);
    return o;
}

/* The choices for answer.h. */
struct answer_list {
    struct answer_choice choices[MAX_CHOICES];
    struct answer_logprobs logprobs[MAX_CHOICES];
};

static void list_choices(const struct completion *c, struct answer_list *list)
{
    for (size_t i = 0; i < c->request.n; i++) {
        const struct choice *choice = &c->choices[i];
        struct answer_logprobs *logprobs = &list->logprobs[i];
        *logprobs = (struct answer_logprobs){c->request.top_logprobs, &choice->logprobs};
        list->choices[i] = (struct answer_choice){i,
                                                  &choice->thoughts,
                                                  &choice->text,
                                                  c->request.logprobs ? logprobs : NULL,
                                                  &choice->result,
                                                  &choice->calls};
    }
}

static void end_stream(struct completion *c)
{
    struct answer_list list;
    struct buf events = {0};
    list_choices(c, &list);
    if (c->failed) {
        buf_add_str(&events, "data: ");
        api_error_print(&c->failure, &events);
        buf_add_str(&events, "\n\n");
    } else {
        if (c->head.with_usage)
            answer_usage(&c->head, list.choices, c->request.n, &events);
        buf_add_str(&events, "data: [DONE]\n\n");
    }
    struct outcome outcome = count(c);
    work_log(c->work, c->failed ? c->failure.status : 200, &outcome);
    send(c, &events);
    http_end(c->work->http);
}

static void end_whole(struct completion *c)
{
    struct answer_list list;
    struct reply reply = {.http = c->work->http, .type = "application/json"};
    struct outcome outcome = count(c);
    int status = c->gone ? 499 : c->failed ? c->failure.status : 200;
    list_choices(c, &list);
    work_log(c->work, status, &outcome);
    if (status == 503)
        http_set_header(c->work->http, "Retry-After", "2");
    if (c->failed || c->gone)
        api_error_print(&c->failure, &reply.text);
    else
        answer_whole(&c->head, list.choices, c->request.n, &reply);
    reply_end(&reply, status);
}

void completion_run(const struct work *work)
{
    struct api_error err;
    struct completion *c = size_alloc(1, sizeof *c);
    if (c == NULL) {
        api_error_set(&err, 503, NULL, NULL, "not enough memory");
        work_fail(work, &err);
        return;
    }
    c->work = work;
    c->server = work->server;
    c->head.chat = work->route == ROUTE_CHAT;
    pthread_mutex_init(&c->lock, NULL);
    if (prepare(c, &err) < 0) {
        work_fail(work, &err);
    } else {
        enlist(c);
        run_choices(c);
        if (c->request.stream)
            end_stream(c);
        else
            end_whole(c);
        delist(c);
    }
    for (size_t i = 0; i < MAX_CHOICES; i++) {
        buf_free(&c->choices[i].text);
        buf_free(&c->choices[i].thoughts);
        buf_free(&c->choices[i].calls);
        buf_free(&c->choices[i].logprobs);
    }
    constraints_give(c->server->constraints, c->constraint);
    api_request_free(&c->request);
    llama3_free(c->tokens);
    pthread_mutex_destroy(&c->lock);
    free(c);
}
