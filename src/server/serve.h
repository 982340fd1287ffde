/* SPDX-License-Identifier: MIT */
/*
 * serve.h: the server: routes, access, and the lifetime of requests. It listens before its model is
 * loaded, and answers 503 until then.
 */
#ifndef SERVER_SERVE_H
#define SERVER_SERVE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "llama3.h"
#include "server/keys.h"

struct server;

struct server_options {
    const struct keys *keys;
    const struct keys *metrics_keys; /* open all of /metrics, and nothing else; NULL: none */
    bool share_prefixes;             /* all keys are one user, without secrets from each other */
    const char *const *hosts;        /* [n_hosts] allowed in Host, besides loopback's */
    size_t n_hosts;
    bool any_host;              /* Host isn't checked */
    const char *const *origins; /* [n_origins] allowed by CORS; "*": any */
    size_t n_origins;
    const char *alias;                              /* the model's id; NULL: by its path */
    const char *template_date, *template_arguments; /* as in llama3_template_options; or NULL */
    const bool *loras_named; /* of each adapter, whether it has to be asked for */
    size_t parallel;         /* most sequences at once */
    uint64_t kv_memory;      /* 0: half of the available memory */
    uint64_t request_memory; /* 0: budget_default() */
    void (*on_log)(void *arg, const char *line);
    void *arg;
};

/* Serves listening sockets, and takes them over. The options must outlive the server. */
struct server *server_open(const int *listeners, size_t n, const struct server_options *options,
                           struct llama3_error *err);

/* This share of the model is loaded. */
void server_progress(struct server *server, double share);
/* The model is loaded. It must outlive the server. */
int server_start(struct server *server, struct llama3_model *model, struct llama3_error *err);

/* The number of requests that are running or queued. */
size_t server_working(struct server *server);
/* Accepts no more requests, and waits up to `seconds` for those there are. After that it cancels
 * them and cuts off clients that don't take their answers; then it returns false. */
bool server_drain(struct server *server, double seconds);
/* After server_drain(). */
void server_close(struct server *server);

/* The context in tokens, which --kv-memory may make smaller than the model's. */
size_t server_context(const struct server *server);

#endif
