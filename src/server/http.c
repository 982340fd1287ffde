/* SPDX-License-Identifier: MIT */
#include "server/http.h"

#include <ctype.h>
#include <netinet/in.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/size.h"
#include "server/http_parts.h"

/* ---- what libmicrohttpd calls ------------------------------------------------------------ */

static struct peer *peer_of(struct MHD_Connection *connection)
{
    return MHD_get_connection_info(connection, MHD_CONNECTION_INFO_SOCKET_CONTEXT)->socket_context;
}

static void connected(struct http *http, struct MHD_Connection *connection, void **context)
{
    struct peer *peer = size_alloc(1, sizeof *peer);
    *context = peer;
    if (peer == NULL)
        return;
    const struct sockaddr *address =
        MHD_get_connection_info(connection, MHD_CONNECTION_INFO_CLIENT_ADDRESS)->client_addr;
    socklen_t length =
        address->sa_family == AF_INET6 ? sizeof(struct sockaddr_in6) : sizeof(struct sockaddr_in);
    if (getnameinfo(address, length, peer->name, sizeof peer->name, NULL, 0, NI_NUMERICHOST) != 0)
        strcpy(peer->name, "-");
    peer->http = http;
    peer->fd = MHD_get_connection_info(connection, MHD_CONNECTION_INFO_CONNECTION_FD)->connect_fd;
    peer->phase = PHASE_HEAD;
    peer->deadline = clock_seconds() + HEAD_SECONDS;
    peers_add(http, peer);
}

static void on_connection(void *cls, struct MHD_Connection *connection, void **context,
                          enum MHD_ConnectionNotificationCode code)
{
    if (code == MHD_CONNECTION_NOTIFY_STARTED) {
        connected(cls, connection, context);
    } else if (*context != NULL) {
        peers_remove(cls, *context);
        free(*context);
    }
}

/* Called with a request's first line. */
static void *on_line(void *cls, const char *line, struct MHD_Connection *connection)
{
    (void)cls;
    (void)line;
    struct peer *peer = peer_of(connection);
    if (peer != NULL && peer->phase == PHASE_IDLE)
        peer_enter(peer, PHASE_HEAD, HEAD_SECONDS);
    return NULL;
}

static void on_completed(void *cls, struct MHD_Connection *connection, void **context,
                         enum MHD_RequestTerminationCode code)
{
    struct http_request *r = *context;
    (void)cls;
    (void)connection;
    (void)code;
    if (r == NULL)
        return;
    *context = NULL;
    pthread_mutex_lock(&r->http->lock);
    r->peer->request = NULL;
    r->peer->phase = PHASE_IDLE;
    r->peer->deadline = clock_seconds() + (r->http->draining ? 0 : IDLE_SECONDS);
    pthread_mutex_unlock(&r->http->lock);
    request_complete(r);
}

struct framing {
    size_t n_lengths, n_encodings, n_hosts;
    bool odd_encoding, odd_name;
    unsigned long long length;
};

/* Whether a field name is malformed (RFC 9110, section 5.1). libmicrohttpd makes a blank before the
 * colon a part of the name, and a continuation of the line before as well. */
static bool is_odd_name(const char *name)
{
    static const char *const framing[] = {"Content-Length", "Transfer-Encoding"};
    for (const char *c = name; *c != '\0'; c++)
        if (!isalnum((unsigned char)*c) && strchr("!#$%&'*+-.^_`|~", *c) == NULL)
            return true;
    for (size_t i = 0; i < sizeof framing / sizeof *framing; i++)
        if (strncasecmp(name, framing[i], strlen(framing[i])) == 0 &&
            name[strlen(framing[i])] != '\0')
            return true;
    return *name == '\0';
}

static enum MHD_Result see_header(void *cls, enum MHD_ValueKind kind, const char *name,
                                  const char *value)
{
    struct framing *f = cls;
    (void)kind;
    if (strcasecmp(name, "Content-Length") == 0) {
        f->n_lengths++;
        f->length = strtoull(value, NULL, 10);
    } else if (strcasecmp(name, "Transfer-Encoding") == 0) {
        f->n_encodings++;
        f->odd_encoding |= strcasecmp(value, "chunked") != 0;
    } else if (strcasecmp(name, "Host") == 0) {
        f->n_hosts++;
    }
    f->odd_name |= is_odd_name(name);
    return MHD_YES;
}

static void refuse(struct http_request *r, int status, const char *why)
{
    request_hold(r);
    r->http->events.on_refusal(r->http->events.arg, r, status, why);
}

/* Guards against request smuggling (RFC 9112, section 6.3). If a proxy could see the body end at
 * another byte, what follows may be a request that the proxy took for body. So nothing after the
 * head is read. */
static void check_framing(struct http_request *r, const struct framing *f, const char *version)
{
    size_t n = f->n_lengths + f->n_encodings;
    bool old = strcmp(version, MHD_HTTP_VERSION_1_0) == 0;
    r->leaves_body =
        n > 1 || f->n_hosts > 1 || f->odd_name || f->odd_encoding || (old && f->n_encodings > 0);
    if (f->odd_name)
        refuse(r, 400,
               "expected header fields like \"Name: value\", each on one line, found another");
    else if (f->n_hosts > 1)
        refuse(r, 400, "expected one Host, found more");
    else if (n > 1)
        refuse(r, 400, "expected one Content-Length or one Transfer-Encoding, found more");
    else if (f->odd_encoding)
        refuse(r, 501, "expected no Transfer-Encoding but chunked, found another");
    else if (r->leaves_body)
        refuse(r, 400, "expected no Transfer-Encoding in HTTP/1.0, found one");
}

static void check_head(struct http_request *r, const char *version)
{
    struct framing f = {0};
    MHD_get_connection_values(r->connection, MHD_HEADER_KIND, see_header, &f);
    size_t head = MHD_get_connection_info(r->connection, MHD_CONNECTION_INFO_REQUEST_HEADER_SIZE)
                      ->header_size;
    check_framing(r, &f, version);
    if (r->answered)
        return;
    if (r->peer->surplus)
        refuse(r, 503, "too many connections");
    else if (head > HTTP_MAX_HEAD)
        refuse(r, 431, "the headers are larger than 32 KiB");
    else if (f.length > HTTP_MAX_BODY)
        refuse(r, 413, "the body is larger than 8 MiB");
    r->leaves_body = f.length > 8ULL * HTTP_MAX_BODY;
    if (r->answered)
        return;
    request_hold(r);
    r->http->events.on_head(r->http->events.arg, r);
    if (!r->answered)
        request_drop(r);
}

/* After a refusal the body is still read, and dropped. Otherwise the client would see a reset while
 * it writes, and never the answer. */
static void take_body(struct http_request *r, const char *bytes, size_t n)
{
    if (r->answered)
        return;
    size_t before = r->body.size;
    buf_add(&r->body, bytes, n);
    size_t held = request_count_body(r, r->body.size - before, 0);
    if (r->body.size > HTTP_MAX_BODY) {
        http_free_body(r);
        refuse(r, 413, "the body is larger than 8 MiB");
    } else if (r->body.failed || held > HTTP_MAX_BODIES) {
        http_free_body(r);
        refuse(r, 503, "too many bodies are being read");
    }
}

static enum MHD_Result on_access(void *cls, struct MHD_Connection *connection, const char *path,
                                 const char *method, const char *version, const char *upload,
                                 size_t *n, void **context)
{
    struct http_request *r = *context;
    struct http *http = cls;
    if (r == NULL) {
        struct peer *peer = peer_of(connection);
        *context = r = peer != NULL ? request_new(peer, connection, path, method) : NULL;
        if (r == NULL)
            return MHD_NO;
        pthread_mutex_lock(&http->lock);
        peer->request = r;
        pthread_mutex_unlock(&http->lock);
        peer_enter(peer, PHASE_BODY, BODY_SECONDS);
        check_head(r, version);
        /* After an answer before the body, libmicrohttpd closes the connection. */
        bool at_once = r->leaves_body || (r->answered && http_header(r, "Expect") != NULL);
        return at_once ? request_reply(r) : MHD_YES;
    }
    if (*n > 0) {
        take_body(r, upload, *n);
        *n = 0;
        return MHD_YES;
    }
    if (r->peer->phase == PHASE_BODY) {
        peer_enter(r->peer, PHASE_ANSWER, 0);
        if (!r->answered) {
            request_hold(r);
            http->events.on_request(http->events.arg, r);
        }
    }
    return request_reply(r);
}

/* ---- opening ----------------------------------------------------------------------------- */

static struct MHD_Daemon *start(struct http *http, int listener)
{
    return MHD_start_daemon(
        MHD_USE_AUTO_INTERNAL_THREAD | MHD_USE_SUSPEND_RESUME, 0, NULL, NULL, on_access, http,
        MHD_OPTION_LISTEN_SOCKET, listener, MHD_OPTION_CONNECTION_LIMIT, (unsigned)MAX_PEERS,
        MHD_OPTION_CONNECTION_MEMORY_LIMIT, (size_t)HTTP_MAX_HEAD * 3 / 2,
        MHD_OPTION_CONNECTION_TIMEOUT, (unsigned)STALL_SECONDS, MHD_OPTION_STRICT_FOR_CLIENT, 1,
        MHD_OPTION_NOTIFY_CONNECTION, on_connection, http, MHD_OPTION_URI_LOG_CALLBACK, on_line,
        http, MHD_OPTION_NOTIFY_COMPLETED, on_completed, http, MHD_OPTION_END);
}

/* All signals are blocked: they belong to the application's threads. Returns how many listeners
 * were taken over; fewer than n is a failure. */
static size_t start_all(struct http *http, const int *listeners, size_t n)
{
    if (pthread_create(&http->watcher, NULL, peers_watch, http) != 0)
        return 0;
    http->watched = true;
    while (http->n_daemons < n) {
        struct MHD_Daemon *daemon = start(http, listeners[http->n_daemons]);
        if (daemon == NULL)
            break;
        http->daemons[http->n_daemons++] = daemon;
    }
    return http->n_daemons;
}

struct http *http_open(const int *listeners, size_t n, const struct http_events *events,
                       struct llama3_error *err)
{
    struct http *http = size_alloc_for(1, sizeof *http, "the server", err);
    size_t taken = 0;
    if (http != NULL) {
        sigset_t all, before;
        http->events = *events;
        pthread_mutex_init(&http->lock, NULL);
        sigfillset(&all);
        pthread_sigmask(SIG_SETMASK, &all, &before);
        taken = start_all(http, listeners, n);
        pthread_sigmask(SIG_SETMASK, &before, NULL);
        if (taken == n)
            return http;
        error_set(err, LLAMA3_EIO, "could not start libmicrohttpd");
    }
    for (size_t i = taken; i < n; i++)
        close(listeners[i]);
    http_close(http);
    return NULL;
}

void http_drain(struct http *http)
{
    for (size_t i = 0; i < http->n_daemons; i++) {
        int listener = MHD_quiesce_daemon(http->daemons[i]);
        if (listener >= 0)
            close(listener);
    }
    pthread_mutex_lock(&http->lock);
    http->draining = true;
    for (struct peer *p = http->peers; p != NULL; p = p->next)
        if (!p->doomed && p->phase == PHASE_IDLE)
            peer_doom(p);
    pthread_mutex_unlock(&http->lock);
}

void http_cut(struct http *http)
{
    pthread_mutex_lock(&http->lock);
    http->cut_at = clock_seconds() + LAST_SECONDS;
    pthread_mutex_unlock(&http->lock);
}

/* The number of answers that libmicrohttpd is still sending. */
static size_t being_sent(struct http *http)
{
    size_t n = 0;
    pthread_mutex_lock(&http->lock);
    for (const struct peer *p = http->peers; p != NULL; p = p->next)
        n += p->phase == PHASE_ANSWER && !p->doomed;
    pthread_mutex_unlock(&http->lock);
    return n;
}

void http_close(struct http *http)
{
    const struct timespec moment = {.tv_nsec = 10000000};
    if (http == NULL)
        return;
    for (double until = clock_seconds() + LAST_SECONDS;
         being_sent(http) > 0 && clock_seconds() < until;)
        nanosleep(&moment, NULL);
    pthread_mutex_lock(&http->lock);
    http->closing = true;
    pthread_mutex_unlock(&http->lock);
    if (http->watched)
        pthread_join(http->watcher, NULL);
    for (size_t i = 0; i < http->n_daemons; i++)
        MHD_stop_daemon(http->daemons[i]);
    pthread_mutex_destroy(&http->lock);
    free(http);
}
