/* SPDX-License-Identifier: MIT */
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/size.h"
#include "server/http_parts.h"

enum { MAX_UNSENT = 256 << 10 }; /* of a stream */

/* ---- requests ---------------------------------------------------------------------------- */

size_t request_count_body(struct http_request *r, size_t more, size_t less)
{
    pthread_mutex_lock(&r->http->lock);
    size_t held = r->http->body_bytes = r->http->body_bytes + more - less;
    pthread_mutex_unlock(&r->http->lock);
    return held;
}

static void request_free(struct http_request *r)
{
    http_free_body(r);
    for (size_t i = 0; i < r->n_headers; i++) {
        free(r->headers[i].name);
        free(r->headers[i].value);
    }
    buf_free(&r->unsent);
    pthread_mutex_destroy(&r->lock);
    pthread_cond_destroy(&r->moved);
    free(r->method);
    free(r->path);
    free(r->client);
    free(r);
}

void request_hold(struct http_request *r)
{
    pthread_mutex_lock(&r->lock);
    r->refs++;
    pthread_mutex_unlock(&r->lock);
}

void request_drop(struct http_request *r)
{
    pthread_mutex_lock(&r->lock);
    bool last = --r->refs == 0;
    pthread_mutex_unlock(&r->lock);
    if (last)
        request_free(r);
}

struct http_request *request_new(struct peer *peer, struct MHD_Connection *connection,
                                 const char *path, const char *method)
{
    struct http_request *r = size_alloc(1, sizeof *r);
    if (r == NULL)
        return NULL;
    r->http = peer->http;
    r->peer = peer;
    r->connection = connection;
    r->refs = 1;
    pthread_mutex_init(&r->lock, NULL);
    pthread_cond_init(&r->moved, NULL);
    r->method = strdup(method);
    r->path = strdup(path);
    r->client = strdup(peer->name);
    if (r->method != NULL && r->path != NULL && r->client != NULL)
        return r;
    request_free(r);
    return NULL;
}

const char *http_method(const struct http_request *r)
{
    return r->method;
}

const char *http_path(const struct http_request *r)
{
    return r->path;
}

const char *http_client(const struct http_request *r)
{
    return r->client;
}

const char *http_header(const struct http_request *r, const char *name)
{
    return MHD_lookup_connection_value(r->connection, MHD_HEADER_KIND, name);
}

const char *http_body(const struct http_request *r, size_t *n)
{
    *n = r->body.size;
    return r->body.data;
}

void http_free_body(struct http_request *r)
{
    request_count_body(r, 0, r->body.size);
    buf_free(&r->body);
}

void http_on_gone(struct http_request *r, void (*fn)(void *arg), void *arg)
{
    pthread_mutex_lock(&r->lock);
    r->on_gone = fn;
    r->arg = arg;
    if (r->gone)
        fn(arg);
    pthread_mutex_unlock(&r->lock);
}

void request_mark_gone(struct http_request *r)
{
    if (r->gone)
        return;
    r->gone = true;
    if (r->on_gone != NULL)
        r->on_gone(r->arg);
    pthread_cond_broadcast(&r->moved);
}

/* ---- answers ----------------------------------------------------------------------------- */

void http_set_header(struct http_request *r, const char *name, const char *value)
{
    struct answer_header *h = &r->headers[r->n_headers];
    if (r->n_headers == MAX_HEADERS)
        return;
    *h = (struct answer_header){strdup(name), strdup(value)};
    if (h->name != NULL && h->value != NULL)
        r->n_headers++;
    else
        free(h->name), free(h->value);
}

/* With the request's lock held. */
static void resume(struct http_request *r)
{
    if (r->suspended && r->connection != NULL)
        MHD_resume_connection(r->connection);
    r->suspended = false;
}

static void set_response(struct http_request *r, int status, const char *type,
                         struct MHD_Response *response)
{
    bool draining;
    pthread_mutex_lock(&r->http->lock);
    draining = r->http->draining;
    pthread_mutex_unlock(&r->http->lock);
    if (response != NULL) {
        if (type != NULL)
            MHD_add_response_header(response, "Content-Type", type);
        MHD_add_response_header(response, "X-Content-Type-Options", "nosniff");
        if (draining)
            MHD_add_response_header(response, "Connection", "close");
        for (size_t i = 0; i < r->n_headers; i++)
            MHD_add_response_header(response, r->headers[i].name, r->headers[i].value);
    }
    pthread_mutex_lock(&r->lock);
    r->answered = true;
    r->status = status;
    bool late = r->connection == NULL;
    if (!late)
        r->response = response;
    resume(r);
    pthread_mutex_unlock(&r->lock);
    if (late && response != NULL)
        MHD_destroy_response(response);
}

/* The responder drops its reference. */
static void let_go(struct http_request *r)
{
    pthread_mutex_lock(&r->lock);
    r->on_gone = NULL;
    pthread_mutex_unlock(&r->lock);
    request_drop(r);
}

void http_answer(struct http_request *r, int status, const char *type, const void *body, size_t n)
{
    set_response(
        r, status, type,
        MHD_create_response_from_buffer(n, (void *)(uintptr_t)body, MHD_RESPMEM_MUST_COPY));
    let_go(r);
}

static ssize_t read_stream(void *cls, uint64_t position, char *out, size_t max)
{
    struct http_request *r = cls;
    (void)position;
    pthread_mutex_lock(&r->lock);
    ssize_t given = 0;
    size_t n = r->unsent.size - r->sent;
    if (n > 0) {
        n = n < max ? n : max;
        memcpy(out, r->unsent.data + r->sent, n);
        r->sent += n;
        if (r->sent == r->unsent.size) {
            buf_clear(&r->unsent);
            r->sent = 0;
        }
        given = (ssize_t)n;
        r->moved_at = clock_seconds();
        pthread_cond_broadcast(&r->moved);
    } else if (r->ended) {
        given = r->torn ? MHD_CONTENT_READER_END_WITH_ERROR : MHD_CONTENT_READER_END_OF_STREAM;
    } else {
        r->suspended = true;
        MHD_suspend_connection(r->connection);
    }
    pthread_mutex_unlock(&r->lock);
    return given;
}

static void drop_stream(void *cls)
{
    request_drop(cls);
}

void http_stream(struct http_request *r, int status, const char *type, const char *keep_alive)
{
    enum { BLOCK = 16 << 10 };
    pthread_mutex_lock(&r->lock);
    r->refs++;
    r->streams = true;
    r->keep_alive = keep_alive;
    r->moved_at = r->written_at = clock_seconds();
    pthread_mutex_unlock(&r->lock);
    struct MHD_Response *response =
        MHD_create_response_from_callback(MHD_SIZE_UNKNOWN, BLOCK, read_stream, r, drop_stream);
    if (response == NULL)
        request_drop(r);
    set_response(r, status, type, response);
}

/* With the request's lock held. */
static void append(struct http_request *r, const void *bytes, size_t n)
{
    r->written_at = clock_seconds();
    if (r->unsent.size == 0)
        r->moved_at = r->written_at;
    buf_add(&r->unsent, bytes, n);
    if (r->unsent.failed) {
        r->torn = true;
        request_mark_gone(r);
    }
    resume(r);
}

int http_write(struct http_request *r, const void *bytes, size_t n)
{
    pthread_mutex_lock(&r->lock);
    while (!r->gone && r->unsent.size - r->sent > MAX_UNSENT)
        pthread_cond_wait(&r->moved, &r->lock);
    int status = r->gone ? -1 : 0;
    if (status == 0)
        append(r, bytes, n);
    pthread_mutex_unlock(&r->lock);
    return status;
}

void http_end(struct http_request *r)
{
    pthread_mutex_lock(&r->lock);
    r->ended = true;
    resume(r);
    pthread_mutex_unlock(&r->lock);
    let_go(r);
}

bool request_look_after(struct http_request *r, double time)
{
    pthread_mutex_lock(&r->lock);
    if (r->streams && !r->gone) {
        double cut = r->http->cut_at;
        bool late = time - r->moved_at > STALL_SECONDS || (cut > 0 && time > cut);
        if (r->unsent.size > 0 && late) {
            peer_doom(r->peer);
            request_mark_gone(r);
        } else if (!r->ended && time - r->written_at > HTTP_KEEP_ALIVE) {
            append(r, r->keep_alive, strlen(r->keep_alive));
        }
    }
    bool there = !r->gone;
    pthread_mutex_unlock(&r->lock);
    return there;
}

enum MHD_Result request_reply(struct http_request *r)
{
    pthread_mutex_lock(&r->lock);
    bool answered = r->answered;
    struct MHD_Response *response = r->response;
    r->response = NULL;
    if (!answered) {
        r->suspended = true;
        MHD_suspend_connection(r->connection);
    }
    pthread_mutex_unlock(&r->lock);
    if (response == NULL)
        return answered ? MHD_NO : MHD_YES; /* no memory for the answer: the connection ends */
    enum MHD_Result result = MHD_queue_response(r->connection, (unsigned)r->status, response);
    MHD_destroy_response(response);
    return result;
}

void request_complete(struct http_request *r)
{
    pthread_mutex_lock(&r->lock);
    r->connection = NULL;
    r->suspended = false;
    request_mark_gone(r);
    struct MHD_Response *unused = r->response;
    r->response = NULL;
    pthread_mutex_unlock(&r->lock);
    if (unused != NULL)
        MHD_destroy_response(unused);
    request_drop(r);
}
