/* SPDX-License-Identifier: MIT */
#include "server/server.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/error.h"
#include "base/file.h"
#include "base/json.h"
#include "base/size.h"
#include "server/answer.h"
#include "server/page.h"

/* ---- routes ------------------------------------------------------------------------------ */

struct endpoint {
    const char *method, *path;
    enum route route;
    bool open;        /* without a key */
    bool needs_model; /* 503 until it is loaded */
    void (*run)(const struct work *work);
    bool at_once; /* quick enough for the connection's thread */
};

static void run_models(const struct work *work);
static void run_adapters(const struct work *work);
static void run_health(const struct work *work);
static void run_metrics(const struct work *work);
static void run_page(const struct work *work);

static const char one_model[] = "/v1/models/";

static const struct endpoint endpoints[] = {
    {"POST", "/v1/chat/completions", ROUTE_CHAT, false, true, completion_run, false},
    {"POST", "/v1/completions", ROUTE_COMPLETIONS, false, true, completion_run, false},
    {"GET", "/v1/models", ROUTE_MODELS, false, true, run_models, true},
    {"GET", one_model, ROUTE_MODELS, false, true, run_models, true}, /* a prefix */
    {"GET", "/lora-adapters", ROUTE_MODELS, false, true, run_adapters, true},
    {"POST", "/tokenize", ROUTE_TOKENIZE, false, true, tokenize_run, false},
    {"POST", "/apply-template", ROUTE_TEMPLATE, false, true, tokenize_run, false},
    {"GET", "/health", ROUTE_HEALTH, true, false, run_health, true},
    {"GET", "/metrics", ROUTE_METRICS, false, false, run_metrics, true},
    {"GET", "/", ROUTE_PAGE, true, false, run_page, true},
};

static const struct endpoint *find_path(const char *path)
{
    for (size_t i = 0; i < sizeof endpoints / sizeof *endpoints; i++)
        if (strcmp(path, endpoints[i].path) == 0 ||
            (endpoints[i].path == one_model && strncmp(path, one_model, sizeof one_model - 1) == 0))
            return &endpoints[i];
    return NULL;
}

static bool takes_method(const struct endpoint *endpoint, const char *method)
{
    return strcmp(method, endpoint->method) == 0 ||
           (strcmp(endpoint->method, "GET") == 0 && strcmp(method, "HEAD") == 0);
}

/* ---- the log ----------------------------------------------------------------------------- */

/* The log must not hold what a client sent: an unknown path could be a text. */
static struct work begin(struct server *s, struct http_request *http)
{
    static const char *const methods[] = {"GET", "POST", "HEAD", "OPTIONS"};
    const struct endpoint *endpoint = find_path(http_path(http));
    struct work work = {
        .server = s,
        .http = http,
        .route = endpoint != NULL ? endpoint->route : ROUTE_OTHER,
        .path = endpoint != NULL ? endpoint->path : "-",
        .method = "-",
        .user = -1,
        .began = clock_seconds(),
    };
    for (size_t i = 0; i < sizeof methods / sizeof *methods; i++)
        if (strcmp(http_method(http), methods[i]) == 0)
            work.method = methods[i];
    snprintf(work.client, sizeof work.client, "%s", http_client(http));
    return work;
}

void work_log(const struct work *work, int status, const struct outcome *o)
{
    struct server *s = work->server;
    char line[512], when[32];
    time_t now = time(NULL);
    struct tm tm;
    metrics_request(&s->metrics, work->route, status);
    if (s->of_users != NULL && work->user >= 0)
        metrics_request(&s->of_users[work->user], work->route, status);
    gmtime_r(&now, &tm);
    strftime(when, sizeof when, "%Y-%m-%dT%H:%M:%SZ", &tm);
    int n = snprintf(line, sizeof line, "%s %s %s %s %d %.3f s", when, work->client, work->method,
                     work->path, status, clock_seconds() - work->began);
    if (o != NULL && o->finish != NULL)
        snprintf(line + n, sizeof line - (size_t)n,
                 ", prompt %zu (%zu cached, %.1f/s), answer %zu (%.1f/s), %s", o->prompt_tokens,
                 o->cached_tokens,
                 answer_rate(o->prompt_tokens - o->cached_tokens, o->prompt_seconds),
                 o->answer_tokens, answer_rate(o->answer_tokens, o->answer_seconds), o->finish);
    s->options.on_log(s->options.arg, line);
}

void work_count(const struct work *work, enum counter counter, uint64_t n)
{
    struct server *s = work->server;
    metrics_add(&s->metrics, counter, n);
    if (s->of_users != NULL && work->user >= 0)
        metrics_add(&s->of_users[work->user], counter, n);
}

/* ---- answers ----------------------------------------------------------------------------- */

void work_answer(const struct work *work, int status, const char *type, const struct buf *body)
{
    work_log(work, status, NULL);
    http_answer(work->http, status, type, body->size > 0 ? body->data : "", body->size);
}

static void answer_object(const struct work *work, int status, json_t *value)
{
    struct buf body = {0};
    answer_json(value, &body);
    if (body.failed)
        status = 503;
    work_answer(work, status, "application/json", &body);
    buf_free(&body);
}

void work_fail(const struct work *work, const struct api_error *err)
{
    struct buf body = {0};
    api_error_print(err, &body);
    if (err->status == 429 || err->status == 503)
        http_set_header(work->http, "Retry-After", "2");
    work_answer(work, err->status, "application/json", &body);
    buf_free(&body);
}

static void refuse(const struct work *work, int status, const char *code, const char *format, ...)
    __attribute__((format(printf, 4, 5)));
static void refuse(const struct work *work, int status, const char *code, const char *format, ...)
{
    char text[256];
    struct api_error err;
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    api_error_set(&err, status, code, NULL, "%s", text);
    work_fail(work, &err);
}

/* ---- access ------------------------------------------------------------------------------ */

/* The length of the name in a Host header, without the port; 0 if the header is malformed. */
static size_t host_length(const char *host)
{
    size_t n = host[0] == '[' ? strcspn(host, "]") + 1 : strcspn(host, ":");
    if (n > strlen(host) || (host[n] != '\0' && host[n] != ':'))
        return 0;
    const char *port = host[n] == ':' ? host + n + 1 : host + n;
    return port[strspn(port, "0123456789")] == '\0' ? n : 0;
}

static bool names(const char *host, size_t n, const char *name)
{
    return strlen(name) == n && strncasecmp(host, name, n) == 0;
}

/* Guards against DNS rebinding: another site's page can let a name of its own resolve to this
 * address, and then reach the server under that name. */
static bool host_allowed(const struct server *s, const char *host)
{
    static const char *const loopback[] = {"localhost", "127.0.0.1", "[::1]"};
    if (s->options.any_host)
        return true;
    size_t n = host != NULL ? host_length(host) : 0;
    for (size_t i = 0; n > 0 && i < sizeof loopback / sizeof *loopback; i++)
        if (names(host, n, loopback[i]))
            return true;
    for (size_t i = 0; n > 0 && i < s->options.n_hosts; i++)
        if (names(host, n, s->options.hosts[i]))
            return true;
    return false;
}

static bool origin_allowed(const struct server *s, const char *origin)
{
    for (size_t i = 0; origin != NULL && i < s->options.n_origins; i++)
        if (strcmp(s->options.origins[i], "*") == 0 || strcmp(s->options.origins[i], origin) == 0)
            return true;
    return false;
}

static bool reads_all_metrics(const struct server *s, const char *authorization)
{
    const struct keys *keys = s->options.metrics_keys;
    return keys != NULL && keys_find(keys, authorization) >= 0;
}

/* /metrics also takes the keys that are for it alone. */
static bool key_allows(const struct server *s, enum route route, const char *authorization)
{
    const struct server_options *o = &s->options;
    if (route != ROUTE_METRICS || o->metrics_keys == NULL)
        return keys_find(o->keys, authorization) >= 0;
    return reads_all_metrics(s, authorization) ||
           (keys_count(o->keys) > 0 && keys_find(o->keys, authorization) >= 0);
}

/* Each key is a user, unless keys share prefixes or there is only one. */
static int user_of(const struct server *s, const struct work *work)
{
    const char *authorization = http_header(work->http, "Authorization");
    if (work->route == ROUTE_METRICS && reads_all_metrics(s, authorization))
        return -1;
    return s->of_users != NULL ? keys_find(s->options.keys, authorization) : 0;
}

static bool is_json(const char *type)
{
    static const char json[] = "application/json";
    size_t n = sizeof json - 1;
    return type != NULL && strncasecmp(type, json, n) == 0 &&
           (type[n] == '\0' || type[n] == ';' || type[n] == ' ');
}

/* CORS: the browser asks before a page's request. */
static void answer_preflight(const struct work *work)
{
    struct buf nothing = {0};
    http_set_header(work->http, "Access-Control-Allow-Methods", "GET, POST");
    http_set_header(work->http, "Access-Control-Allow-Headers", "Authorization, Content-Type");
    http_set_header(work->http, "Access-Control-Max-Age", "600");
    work_answer(work, 204, NULL, &nothing);
}

static const char shutting_down[] = "the server is shutting down";

/* Why the server can't answer yet, or no more; NULL if it can. */
static const char *not_ready(struct server *s, double *progress)
{
    pthread_mutex_lock(&s->lock);
    const char *why = s->draining        ? shutting_down
                      : s->model == NULL ? "the model is still loading"
                                         : NULL;
    *progress = s->progress;
    pthread_mutex_unlock(&s->lock);
    return why;
}

/* Refuses a request by its head. If it doesn't, the body is read next. */
static void check(const struct work *work, const struct endpoint *endpoint)
{
    struct server *s = work->server;
    struct http_request *http = work->http;
    const char *origin = http_header(http, "Origin");
    double progress;
    const char *why = endpoint != NULL && endpoint->needs_model ? not_ready(s, &progress) : NULL;
    bool allowed = origin_allowed(s, origin);
    if (allowed) {
        http_set_header(http, "Access-Control-Allow-Origin", origin);
        http_set_header(http, "Vary", "Origin");
    }
    if (!host_allowed(s, http_header(http, "Host"))) {
        refuse(work, 403, "host_not_allowed", "host not allowed; add it with --allow-host");
    } else if (endpoint == NULL) {
        refuse(work, 404, "not_found", "no such path");
    } else if (allowed && strcmp(http_method(http), "OPTIONS") == 0) {
        answer_preflight(work);
    } else if (!takes_method(endpoint, http_method(http))) {
        http_set_header(http, "Allow", endpoint->method);
        refuse(work, 405, "method_not_allowed", "%s: expected the method %s, found %.20s",
               endpoint->path, endpoint->method, http_method(http));
    } else if (!endpoint->open &&
               !key_allows(s, endpoint->route, http_header(http, "Authorization"))) {
        http_set_header(http, "WWW-Authenticate", "Bearer");
        refuse(work, 401, "invalid_api_key",
               "expected a valid API key in \"Authorization: Bearer KEY\"");
    } else if (strcmp(endpoint->method, "POST") == 0 &&
               !is_json(http_header(http, "Content-Type"))) {
        refuse(work, 415, "unsupported_media_type", "Content-Type: expected application/json");
    } else if (why != NULL) {
        refuse(work, 503, "unavailable", "%s", why);
    }
}

/* ---- requests ---------------------------------------------------------------------------- */

static void on_head(void *arg, struct http_request *http)
{
    struct work work = begin(arg, http);
    check(&work, find_path(http_path(http)));
}

static void on_refusal(void *arg, struct http_request *http, int status, const char *why)
{
    struct work work = begin(arg, http);
    refuse(&work, status, NULL, "%s", why);
}

static void finish_work(struct server *s)
{
    pthread_mutex_lock(&s->lock);
    if (--s->n_working == 0)
        pthread_cond_broadcast(&s->idle);
    pthread_mutex_unlock(&s->lock);
}

static void *run_work(void *arg)
{
    struct work *work = arg;
    struct server *s = work->server;
    struct share memory = {.budget = &s->requests};
    work->memory = &memory;
    work->endpoint->run(work);
    share_keep(&memory, 0);
    free(work);
    finish_work(s);
    return NULL;
}

/* Starts a thread for a request, unless the queue is full. It checks for draining again: a body may
 * have been completed after server_drain() found no request. */
static void start_work(const struct work *work)
{
    struct server *s = work->server;
    pthread_t thread;
    pthread_mutex_lock(&s->lock);
    bool draining = s->draining;
    bool room = s->n_working < s->options.parallel + MAX_WAITING;
    s->n_working += room && !draining;
    pthread_mutex_unlock(&s->lock);
    if (draining) {
        refuse(work, 503, "unavailable", "%s", shutting_down);
        return;
    }
    if (!room) {
        refuse(work, 429, "queue_full",
               "the queue is full: %zu requests are running, %d are waiting", s->options.parallel,
               MAX_WAITING);
        return;
    }
    struct work *copy = size_alloc(1, sizeof *copy);
    if (copy != NULL) {
        *copy = *work;
        if (pthread_create(&thread, NULL, run_work, copy) == 0) {
            pthread_detach(thread);
            return;
        }
    }
    free(copy);
    refuse(work, 503, NULL, "could not start a thread");
    finish_work(s);
}

static void on_request(void *arg, struct http_request *http)
{
    struct work work = begin(arg, http);
    work.endpoint = find_path(http_path(http));
    work.user = user_of(work.server, &work);
    if (work.endpoint->at_once)
        work.endpoint->run(&work);
    else
        start_work(&work);
}

/* ---- endpoints --------------------------------------------------------------------------- */

static json_t *describe_model(const struct server *s)
{
    const struct llama3_info *info = llama3_model_info(s->model);
    return json_pack("{s:s,s:s,s:I,s:s,s:{s:I,s:I,s:I,s:s}}", "id", s->model_id, "object", "model",
                     "created", (json_int_t)s->created, "owned_by", "llama3", "meta", "context",
                     (json_int_t)s->context, "vocab_size", (json_int_t)info->vocab_size,
                     "parameters", (json_int_t)info->parameters, "type", info->dtype);
}

/* An adapter as a model of its own. */
static json_t *describe_adapter(const struct server *s, size_t i)
{
    return json_pack("{s:s,s:s,s:I,s:s,s:s}", "id", llama3_model_info(s->model)->adapters[i]->name,
                     "object", "model", "created", (json_int_t)s->created, "owned_by", "llama3",
                     "parent", s->model_id);
}

/* As llama.cpp has it: the scales of requests that choose none. */
static void run_adapters(const struct work *work)
{
    const struct server *s = work->server;
    const struct llama3_info *info = llama3_model_info(s->model);
    json_t *list = json_array();
    for (size_t i = 0; i < info->n_adapters; i++)
        json_array_append_new(list,
                              json_pack("{s:I,s:s,s:f}", "id", (json_int_t)i, "name",
                                        info->adapters[i]->name, "scale", (double)s->scales[i]));
    answer_object(work, 200, list);
}

static json_t *list_models(const struct server *s)
{
    json_t *list = json_array();
    json_array_append_new(list, describe_model(s));
    for (size_t i = 0; i < llama3_model_info(s->model)->n_adapters; i++)
        json_array_append_new(list, describe_adapter(s, i));
    return list;
}

static void run_models(const struct work *work)
{
    const struct server *s = work->server;
    const char *path = http_path(work->http);
    if (strncmp(path, one_model, sizeof one_model - 1) != 0)
        answer_object(work, 200, json_pack("{s:s,s:o}", "object", "list", "data", list_models(s)));
    else if (adapters_find(s, path + sizeof one_model - 1) >= 0)
        answer_object(work, 200,
                      describe_adapter(s, (size_t)adapters_find(s, path + sizeof one_model - 1)));
    else if (strcmp(path + sizeof one_model - 1, s->model_id) == 0)
        answer_object(work, 200, describe_model(s));
    else
        refuse(work, 404, "model_not_found", "no such model; this server has %s", s->model_id);
}

static void run_health(const struct work *work)
{
    double progress;
    const char *why = not_ready(work->server, &progress);
    http_set_header(work->http, "Cache-Control", "no-store");
    if (why == NULL) {
        answer_object(work, 200, json_pack("{s:s}", "status", "ok"));
        return;
    }
    http_set_header(work->http, "Retry-After", "2");
    answer_object(work, 503,
                  json_pack("{s:s,s:f,s:{s:s,s:s,s:n,s:s}}", "status", "unavailable", "progress",
                            progress, "error", "message", why, "type", "overloaded_error", "param",
                            "code", "unavailable"));
}

static void run_metrics(const struct work *work)
{
    struct server *s = work->server;
    struct buf body = {0};
    struct gauges gauges = {.connections = http_connections(work->http)};
    pthread_mutex_lock(&s->lock);
    gauges.requests = s->n_working;
    bool loaded = s->model != NULL;
    pthread_mutex_unlock(&s->lock);
    if (loaded) {
        slots_count(s->slots, &gauges.sequences, &gauges.waiting);
        gauges.prefix_bytes = llama3_model_prefix_bytes(s->model);
        gauges.kv_bytes = llama3_model_kv_bytes(s->model);
        gauges.kv_limit = s->kv_limit;
        gauges.request_bytes = atomic_load(&s->requests.held);
        gauges.request_limit = s->requests.limit;
    }
    if (s->of_users != NULL && work->user >= 0)
        metrics_print(&s->of_users[work->user], NULL, &body);
    else
        metrics_print(&s->metrics, &gauges, &body);
    work_answer(work, body.failed ? 503 : 200, "text/plain; version=0.0.4", &body);
    buf_free(&body);
}

static void run_page(const struct work *work)
{
    http_set_header(work->http, "Content-Security-Policy", work->server->policy);
    http_set_header(work->http, "Referrer-Policy", "no-referrer");
    http_set_header(work->http, "Cache-Control", "no-cache");
    work_log(work, 200, NULL);
    http_answer(work->http, 200, "text/html; charset=utf-8", page_text, page_size);
}

/* ---- the server -------------------------------------------------------------------------- */

struct server *server_open(const int *listeners, size_t n, const struct server_options *options,
                           struct llama3_error *err)
{
    struct server *s = size_alloc_for(1, sizeof *s, "the server", err);
    if (s == NULL)
        return NULL;
    const struct http_events events = {
        .on_head = on_head, .on_request = on_request, .on_refusal = on_refusal, .arg = s};
    s->options = *options;
    s->template = (struct llama3_template_options){.size = sizeof s->template,
                                                   .date = options->template_date,
                                                   .arguments = options->template_arguments};
    if (s->template.arguments != NULL)
        s->template.memory =
            (size_t)json_cost(s->template.arguments, strlen(s->template.arguments));
    size_t n_users = options->share_prefixes ? 1 : keys_count(options->keys);
    if (n_users > 1 && (s->of_users = size_alloc_for(n_users, sizeof *s->of_users,
                                                     "counts of each key", err)) == NULL) {
        for (size_t i = 0; i < n; i++)
            close(listeners[i]);
        free(s);
        return NULL;
    }
    pthread_mutex_init(&s->lock, NULL);
    clock_condition(&s->idle);
    page_policy(s->policy, sizeof s->policy);
    json_object_seed(0); /* before threads use it */
    s->http = http_open(listeners, n, &events, err);
    if (s->http != NULL)
        return s;
    server_close(s);
    return NULL;
}

void server_progress(struct server *s, double share)
{
    pthread_mutex_lock(&s->lock);
    s->progress = share;
    pthread_mutex_unlock(&s->lock);
}

/* The alias, or the path's last name without its extension. */
static char *name_model(const char *alias, const char *path)
{
    static const char *const endings[] = {".gguf", ".safetensors"};
    if (alias != NULL)
        return strdup(alias);
    size_t n = strlen(path);
    while (n > 1 && path[n - 1] == '/')
        n--;
    size_t from = n;
    while (from > 0 && path[from - 1] != '/')
        from--;
    for (size_t i = 0; i < sizeof endings / sizeof *endings; i++) {
        size_t length = strlen(endings[i]);
        if (n - from > length && strncmp(path + n - length, endings[i], length) == 0)
            n -= length;
    }
    return strndup(path + from, n - from);
}

/* Chooses the limits of KV and request memory, and the context that fits them in whole pages. */
static int choose_memory(struct server *s, const struct llama3_info *info, struct llama3_error *err)
{
    uint64_t available;
    bool known = memory_available(&available);
    s->requests.limit = s->options.request_memory > 0 ? s->options.request_memory
                                                      : budget_default(known ? available : 0);
    s->page_tokens = info->kv_page_tokens;
    s->page_bytes = info->kv_page_tokens * info->kv_bytes_per_token;
    s->kv_limit = s->options.kv_memory > 0 ? s->options.kv_memory
                  : known                  ? available / 2
                                           : (info->context / s->page_tokens + 1) * s->page_bytes;
    uint64_t tokens = s->kv_limit / s->page_bytes * s->page_tokens;
    s->context = info->context;
    if (tokens < s->context)
        s->context = (size_t)tokens;
    if (s->context == 0)
        return error_set(err, LLAMA3_ENOMEM,
                         "keys and values: expected memory for %zu tokens (%llu bytes) or more, "
                         "found %llu bytes",
                         s->page_tokens, (unsigned long long)s->page_bytes,
                         (unsigned long long)s->kv_limit);
    return 0;
}

int server_start(struct server *s, struct llama3_model *model, struct llama3_error *err)
{
    if (choose_memory(s, llama3_model_info(model), err) < 0)
        return -1;
    s->created = time(NULL);
    s->model_path = llama3_model_info(model)->path;
    s->model_id = name_model(s->options.alias, llama3_model_info(model)->path);
    if (s->model_id == NULL)
        return error_memory(err, "the model's name", 1);
    const struct llama3_info *info = llama3_model_info(model);
    for (size_t i = 0; i < info->n_adapters; i++) {
        bool named = s->options.loras_named != NULL && s->options.loras_named[i];
        s->scales[i] = named ? 0 : (float)info->adapters[i]->scale;
        if (strcmp(info->adapters[i]->name, s->model_id) == 0)
            return error_input(err,
                               "--lora: expected another name than the model's, found \"%.80s\"",
                               s->model_id);
    }
    s->sampling = llama3_sampling_open(model, err);
    if (s->sampling == NULL)
        return -1;
    s->slots = slots_open(s->options.parallel, s->kv_limit / s->page_bytes, err);
    s->prefills =
        s->slots != NULL
            ? prefills_open(model, s->options.share_prefixes ? NULL : s->options.keys, err)
            : NULL;
    s->constraints = s->prefills != NULL ? constraints_open(model, err) : NULL;
    if (s->constraints == NULL)
        return -1;
    llama3_model_keep_prefixes(model, s->kv_limit);
    pthread_mutex_lock(&s->lock);
    s->model = model; /* from now on requests use the fields above */
    pthread_mutex_unlock(&s->lock);
    return 0;
}

/* False if time ran out. The lock is held. */
static bool wait_until_idle(struct server *s, double seconds)
{
    struct timespec until = clock_moment(clock_seconds() + seconds);
    while (s->n_working > 0)
        if (pthread_cond_timedwait(&s->idle, &s->lock, &until) != 0)
            return s->n_working == 0;
    return true;
}

size_t server_working(struct server *s)
{
    pthread_mutex_lock(&s->lock);
    size_t n = s->n_working;
    pthread_mutex_unlock(&s->lock);
    return n;
}

bool server_drain(struct server *s, double seconds)
{
    pthread_mutex_lock(&s->lock);
    s->draining = true;
    pthread_mutex_unlock(&s->lock);
    http_drain(s->http);
    pthread_mutex_lock(&s->lock);
    bool idle = wait_until_idle(s, seconds);
    if (!idle) {
        s->cutting = true;
        for (struct completion *c = s->completions; c != NULL; c = completion_next(c))
            completion_cut(c);
        http_cut(s->http);
        while (s->n_working > 0)
            pthread_cond_wait(&s->idle, &s->lock);
    }
    pthread_mutex_unlock(&s->lock);
    return idle;
}

void server_close(struct server *s)
{
    if (s == NULL)
        return;
    http_close(s->http);
    prefills_close(s->prefills);
    constraints_close(s->constraints);
    slots_close(s->slots);
    llama3_sampling_close(s->sampling);
    free(s->model_id);
    free(s->of_users);
    pthread_mutex_destroy(&s->lock);
    pthread_cond_destroy(&s->idle);
    free(s);
}

size_t server_context(const struct server *s)
{
    return s->context;
}
