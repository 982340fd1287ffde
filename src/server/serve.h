/* SPDX-License-Identifier: MIT */
/*
 * serve.h: the server: what comes in by HTTP, who may ask it, and what becomes of it. It is up
 * before its model is: until then it says so.
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
    const struct keys *metrics_keys; /* may read /metrics, and all of it; NULL: none */
    bool share_prefixes;             /* keys are one household, without secrets from each other */
    const char *const *hosts; /* [n_hosts] allowed names of this server, besides loopback's */
    size_t n_hosts;
    bool any_host;              /* no name is asked for: not on loopback, and none was given */
    const char *const *origins; /* [n_origins] whose pages may ask */
    size_t n_origins;
    const char *alias;       /* the model's id; NULL: by its path */
    size_t parallel;         /* sequences at once */
    uint64_t kv_memory;      /* 0: a half of what is available */
    uint64_t request_memory; /* 0: an eighth, see budget.h */
    void (*on_log)(void *arg, const char *line);
    void *arg;
};

/* Serves the listening sockets, which are taken over. The options must outlive it. */
struct server *server_open(const int *listeners, size_t n, const struct server_options *options,
                           struct llama3_error *err);

/* While the model is opened: a share of it is done. */
void server_progress(struct server *server, double share);
/* It is; it has to outlive the server. */
int server_start(struct server *server, struct llama3_model *model, struct llama3_error *err);

/* Requests that are being answered. */
size_t server_working(struct server *server);
/* Accepts nothing more, and waits until what was asked is answered, for so many seconds; after them
 * answers are cut, and so are clients that don't take theirs. False: some were. */
bool server_drain(struct server *server, double seconds);
/* After server_drain(). */
void server_close(struct server *server);

/* Tokens that a sequence may have here, which may be fewer than the model's context. */
size_t server_context(const struct server *server);

#endif
