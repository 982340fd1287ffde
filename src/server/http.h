/* SPDX-License-Identifier: MIT */
/*
 * server: a model behind HTTP. Of the library it uses only llama3.h and src/base. It neither prints
 * nor exits.
 *
 * http.h: the only interface to libmicrohttpd. It delivers whole requests, which any thread may
 * answer, at once or as a stream. It bounds what a client can cost: the size of head and body, and
 * by absolute deadlines the time for each, for taking the answer, and between requests. It notices
 * a client's disconnect while the answer is still being made, which libmicrohttpd doesn't.
 */
#ifndef SERVER_HTTP_H
#define SERVER_HTTP_H

#include <stdbool.h>
#include <stddef.h>

#include "base/error.h"

enum {
    HTTP_MAX_HEAD = 32 << 10,
    HTTP_MAX_BODY = 8 << 20,
    HTTP_MAX_BODIES = 64 << 20, /* of all requests together */
    HTTP_CONNECTIONS = 256,
    HTTP_LISTENERS = 8
};

struct http;
struct http_request;

/* Each listener has one thread for all its connections. These are called on it, so they must be
 * quick. */
struct http_events {
    /* The head is complete. An answer now spares the body. */
    void (*on_head)(void *arg, struct http_request *request);
    /* The request is complete and not answered yet. Answer it, now or later. */
    void (*on_request)(void *arg, struct http_request *request);
    /* The request can't be served. Answer it with this status. */
    void (*on_refusal)(void *arg, struct http_request *request, int status, const char *why);
    void *arg;
};

/* Takes over listening sockets, at most HTTP_LISTENERS. */
struct http *http_open(const int *listeners, size_t n, const struct http_events *events,
                       struct llama3_error *err);
/* Accepts no more connections, and closes each after its answer. */
void http_drain(struct http *http);
/* After LAST_SECONDS, cuts off clients that are behind with a stream. */
void http_cut(struct http *http);
/* All requests must have been answered. */
void http_close(struct http *http);
/* The number of open connections of the request's server. */
size_t http_connections(const struct http_request *request);

/* ---- a request --------------------------------------------------------------------------- */

const char *http_method(const struct http_request *request);
const char *http_path(const struct http_request *request);   /* without the query; unescaped */
const char *http_client(const struct http_request *request); /* its address */
/* The first of this name, or NULL. Only in on_head and on_request. */
const char *http_header(const struct http_request *request, const char *name);
const char *http_body(const struct http_request *request, size_t *n);
void http_free_body(struct http_request *request);

/* Calls fn once if the client disconnects before the answer is complete; at once if it already has.
 * fn is called with locks held, and must not call functions of this file. */
void http_on_gone(struct http_request *request, void (*fn)(void *arg), void *arg);

/* ---- the answer -------------------------------------------------------------------------- */

/* Before the answer begins. Both strings are copied. */
void http_set_header(struct http_request *request, const char *name, const char *value);

/* Sends the whole answer, and drops the caller's reference. type: NULL if there is no body. */
void http_answer(struct http_request *request, int status, const char *type, const void *body,
                 size_t n);

/* Begins a stream. keep_alive is sent after HTTP_KEEP_ALIVE seconds without a write. It may come
 * between any two writes. */
enum { HTTP_KEEP_ALIVE = 5 };
void http_stream(struct http_request *request, int status, const char *type,
                 const char *keep_alive);
/* Waits while the client is far behind. -1: it is gone. */
int http_write(struct http_request *request, const void *bytes, size_t n);
/* Ends the stream, and drops the caller's reference. */
void http_end(struct http_request *request);

#endif
