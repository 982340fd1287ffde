/* SPDX-License-Identifier: MIT */
/*
 * server: a model behind HTTP. It uses llama3.h and src/base, nothing else of the library, and as
 * little as the library does it print or exit.
 *
 * http.h: the one seam to libmicrohttpd. Requests come out whole, and are answered from any thread,
 * at once or as a stream. What a client may cost is bounded here: the size of head and body, and by
 * absolute deadlines the time for each, for taking the answer, and between requests. Whoever hangs
 * up is noticed while the answer is still being made, which libmicrohttpd doesn't do.
 */
#ifndef SERVER_HTTP_H
#define SERVER_HTTP_H

#include <stdbool.h>
#include <stddef.h>

#include "base/error.h"

enum {
    HTTP_MAX_HEAD = 32 << 10,
    HTTP_MAX_BODY = 8 << 20,
    HTTP_MAX_BODIES = 64 << 20, /* all that are held together */
    HTTP_CONNECTIONS = 256,
    HTTP_LISTENERS = 8
};

struct http;
struct http_request;

/* All are called on the thread that serves the connection, of which each listener has one: so they
 * have to be quick. */
struct http_events {
    /* The head has come: the last chance to answer before the body is read. */
    void (*on_head)(void *arg, struct http_request *request);
    /* The request is whole, and was not answered yet. It has to be, now or later. */
    void (*on_request)(void *arg, struct http_request *request);
    /* It can't be served: answer it with this status. */
    void (*on_refusal)(void *arg, struct http_request *request, int status, const char *why);
    void *arg;
};

/* listeners: up to HTTP_LISTENERS listening sockets, which are taken over. */
struct http *http_open(const int *listeners, size_t n, const struct http_events *events,
                       struct llama3_error *err);
/* Accepts no more connections, and closes each once it has been answered. */
void http_drain(struct http *http);
/* Waits for no client any longer: from some seconds on, who has not taken all that is there of a
 * stream is cut off. */
void http_cut(struct http *http);
/* Every request must have been answered. */
void http_close(struct http *http);
/* How many there are where this request came from. */
size_t http_connections(const struct http_request *request);

/* ---- a request --------------------------------------------------------------------------- */

const char *http_method(const struct http_request *request);
const char *http_path(const struct http_request *request);   /* without the query; unescaped */
const char *http_client(const struct http_request *request); /* its address */
/* NULL if there is none; of several the first. Only in on_head and on_request. */
const char *http_header(const struct http_request *request, const char *name);
const char *http_body(const struct http_request *request, size_t *n);
void http_free_body(struct http_request *request);

/* fn will be called once when the client has hung up, at once if it has, with locks held: it must
 * not call back. Never after the request was answered. */
void http_on_gone(struct http_request *request, void (*fn)(void *arg), void *arg);

/* ---- the answer -------------------------------------------------------------------------- */

/* Before the answer begins; both are copied. */
void http_set_header(struct http_request *request, const char *name, const char *value);

/* The whole answer. The request is then no longer the caller's. type: NULL if there is no body. */
void http_answer(struct http_request *request, int status, const char *type, const void *body,
                 size_t n);

/* Or a stream: begun, written in pieces that each make sense alone, ended. Where nothing was
 * written for KEEP_ALIVE seconds, keep_alive is sent. */
enum { HTTP_KEEP_ALIVE = 5 };
void http_stream(struct http_request *request, int status, const char *type,
                 const char *keep_alive);
/* Waits while the client is far behind. -1: it is gone. */
int http_write(struct http_request *request, const void *bytes, size_t n);
void http_end(struct http_request *request);

#endif
