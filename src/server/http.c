#include "config.h" /* POLLRDHUP */

#include "server/http.h"

#include <microhttpd.h>
#include <netdb.h>
#include <netinet/in.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/clock.h"
#include "base/size.h"

enum {
    SPARE = 64, /* connections beyond the limit, while others make room for them */
    MAX_PEERS = HTTP_CONNECTIONS + SPARE,
    MAX_UNSENT = 256 << 10, /* of a stream */
    MAX_HEADERS = 16,       /* of an answer */
    HEAD_SECONDS = 10,
    BODY_SECONDS = 30,
    STALL_SECONDS = 30, /* for a client that takes nothing of its answer */
    IDLE_SECONDS = 30,  /* between two requests */
    LAST_SECONDS = 2,   /* for what is still being sent when the server closes */
    HANGUP_SECONDS = 1, /* for what came before a hang-up to be read */
    WATCH_MILLISECONDS = 200
};

enum phase { PHASE_IDLE, PHASE_HEAD, PHASE_BODY, PHASE_ANSWER };

/* A connection. What is written here is under the server's lock. */
struct peer {
    struct http *http;
    int fd;
    char name[NI_MAXHOST];
    enum phase phase;
    double deadline; /* of the phase; none of PHASE_ANSWER */
    double hung_up;  /* when that was seen outside PHASE_ANSWER; 0: it was not */
    bool doomed;     /* shut down, and soon closed */
    bool surplus;    /* one more than there may be */
    struct http_request *request;
    struct peer *next;
};

struct header {
    char *name, *value;
};

/* Held by libmicrohttpd until it has completed it, by who has to answer it until that is done, and
 * by the response that streams it. */
struct http_request {
    struct http *http;
    struct peer *peer;
    char *method, *path, *client;

    pthread_mutex_t lock; /* all below; taken after the server's */
    pthread_cond_t moved; /* unsent bytes were taken, or the client is gone */
    int refs;
    struct MHD_Connection *connection; /* NULL once completed */
    struct buf body;
    bool answered, suspended, gone, ended;
    void (*on_gone)(void *arg);
    void *arg;

    struct header headers[MAX_HEADERS];
    size_t n_headers;
    int status;
    struct MHD_Response *response; /* not queued yet */

    bool streams;
    struct buf unsent;
    size_t sent;     /* of unsent */
    double moved_at; /* when something was last taken, or there was nothing to take */
    double written_at;
    const char *keep_alive;
};

struct http {
    struct http_events events;
    struct MHD_Daemon *daemon;
    pthread_t watcher;
    pthread_mutex_t lock;
    struct peer *peers; /* latest first */
    size_t n_peers;
    size_t body_bytes; /* of all requests */
    bool draining, closing;
};

/* ---- requests ---------------------------------------------------------------------------- */

/* Returns what all requests hold then. */
static size_t count_body(struct http_request *r, size_t more, size_t less)
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

static void request_drop(struct http_request *r)
{
    pthread_mutex_lock(&r->lock);
    bool last = --r->refs == 0;
    pthread_mutex_unlock(&r->lock);
    if (last)
        request_free(r);
}

static struct http_request *request_new(struct peer *peer, struct MHD_Connection *connection,
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
    count_body(r, 0, r->body.size);
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

/* With the request's lock held. */
static void mark_gone(struct http_request *r)
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
    struct header *h = &r->headers[r->n_headers];
    if (r->n_headers == MAX_HEADERS)
        return;
    *h = (struct header){strdup(name), strdup(value)};
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

/* The request is no longer who answers it's. */
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
        given = MHD_CONTENT_READER_END_OF_STREAM;
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
    if (r->unsent.failed)
        mark_gone(r);
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

/* ---- what libmicrohttpd calls ------------------------------------------------------------ */

static struct peer *peer_of(struct MHD_Connection *connection)
{
    return MHD_get_connection_info(connection, MHD_CONNECTION_INFO_SOCKET_CONTEXT)->socket_context;
}

static void enter(struct peer *peer, enum phase phase, double seconds)
{
    pthread_mutex_lock(&peer->http->lock);
    peer->phase = phase;
    peer->deadline = clock_seconds() + seconds;
    pthread_mutex_unlock(&peer->http->lock);
}

/* With the server's lock held: libmicrohttpd finds the socket at its end, and closes it. */
static void doom(struct peer *peer)
{
    peer->doomed = true;
    shutdown(peer->fd, SHUT_RDWR);
}

/* One connection too many: whoever has asked for nothing for the longest time goes. */
static void make_room(struct http *http, struct peer *latest)
{
    struct peer *oldest = NULL;
    size_t n = 0;
    for (struct peer *p = http->peers; p != NULL; p = p->next) {
        n += !p->doomed;
        if (p != latest && !p->doomed && (p->phase == PHASE_IDLE || p->phase == PHASE_HEAD))
            oldest = p;
    }
    if (n <= HTTP_CONNECTIONS)
        return;
    if (oldest != NULL)
        doom(oldest);
    else
        latest->surplus = true;
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
    pthread_mutex_lock(&http->lock);
    peer->next = http->peers;
    http->peers = peer;
    http->n_peers++;
    make_room(http, peer);
    pthread_mutex_unlock(&http->lock);
}

static void disconnected(struct http *http, struct peer *peer)
{
    pthread_mutex_lock(&http->lock);
    for (struct peer **p = &http->peers; *p != NULL; p = &(*p)->next) {
        if (*p == peer) {
            *p = peer->next;
            http->n_peers--;
            break;
        }
    }
    pthread_mutex_unlock(&http->lock);
    free(peer);
}

static void on_connection(void *cls, struct MHD_Connection *connection, void **context,
                          enum MHD_ConnectionNotificationCode code)
{
    if (code == MHD_CONNECTION_NOTIFY_STARTED)
        connected(cls, connection, context);
    else if (*context != NULL)
        disconnected(cls, *context);
}

/* The request line has come. */
static void *on_line(void *cls, const char *line, struct MHD_Connection *connection)
{
    (void)cls;
    (void)line;
    struct peer *peer = peer_of(connection);
    if (peer != NULL && peer->phase == PHASE_IDLE)
        enter(peer, PHASE_HEAD, HEAD_SECONDS);
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
    pthread_mutex_lock(&r->lock);
    r->connection = NULL;
    r->suspended = false;
    mark_gone(r);
    struct MHD_Response *unused = r->response;
    r->response = NULL;
    pthread_mutex_unlock(&r->lock);
    if (unused != NULL)
        MHD_destroy_response(unused);
    request_drop(r);
}

struct framing {
    size_t n_lengths, n_encodings;
    bool odd_encoding;
    unsigned long long length;
};

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
    }
    return MHD_YES;
}

static void hold(struct http_request *r)
{
    pthread_mutex_lock(&r->lock);
    r->refs++;
    pthread_mutex_unlock(&r->lock);
}

static void refuse(struct http_request *r, int status, const char *why)
{
    hold(r);
    r->http->events.on_refusal(r->http->events.arg, r, status, why);
}

/* Two ways to tell a body's end could be understood in two ways (RFC 9112, section 6.3). */
static void check_head(struct http_request *r)
{
    struct framing f = {0};
    MHD_get_connection_values(r->connection, MHD_HEADER_KIND, see_header, &f);
    size_t head = MHD_get_connection_info(r->connection, MHD_CONNECTION_INFO_REQUEST_HEADER_SIZE)
                      ->header_size;
    if (r->peer->surplus)
        refuse(r, 503, "too many connections");
    else if (f.n_lengths + f.n_encodings > 1 || f.odd_encoding)
        refuse(r, 400, "expected either a Content-Length or chunks, found more or something else");
    else if (head > HTTP_MAX_HEAD)
        refuse(r, 431, "the headers are larger than 32 KiB");
    else if (f.length > HTTP_MAX_BODY)
        refuse(r, 413, "the body is larger than 8 MiB");
    if (r->answered)
        return;
    hold(r);
    r->http->events.on_head(r->http->events.arg, r);
    if (!r->answered)
        request_drop(r);
}

/* The body of what was refused is read all the same, so that the client reads the answer instead of
 * finding the connection reset while it writes. */
static void take_body(struct http_request *r, const char *bytes, size_t n)
{
    if (r->answered)
        return;
    size_t held = count_body(r, n, 0);
    buf_add(&r->body, bytes, n);
    if (r->body.size > HTTP_MAX_BODY) {
        http_free_body(r);
        refuse(r, 413, "the body is larger than 8 MiB");
    } else if (r->body.failed || held > HTTP_MAX_BODIES) {
        http_free_body(r);
        refuse(r, 503, "too many bodies are being read");
    }
}

/* Queues the answer, or leaves the connection until there is one. */
static enum MHD_Result reply(struct http_request *r)
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
        return answered ? MHD_NO : MHD_YES; /* without memory for an answer, the connection ends */
    enum MHD_Result result = MHD_queue_response(r->connection, (unsigned)r->status, response);
    MHD_destroy_response(response);
    return result;
}

static enum MHD_Result on_access(void *cls, struct MHD_Connection *connection, const char *path,
                                 const char *method, const char *version, const char *upload,
                                 size_t *n, void **context)
{
    struct http_request *r = *context;
    struct http *http = cls;
    (void)version;
    if (r == NULL) {
        struct peer *peer = peer_of(connection);
        *context = r = peer != NULL ? request_new(peer, connection, path, method) : NULL;
        if (r == NULL)
            return MHD_NO;
        pthread_mutex_lock(&http->lock);
        peer->request = r;
        pthread_mutex_unlock(&http->lock);
        enter(peer, PHASE_BODY, BODY_SECONDS);
        check_head(r);
        const char *expect = http_header(r, "Expect");
        return expect != NULL && r->answered ? reply(r) : MHD_YES;
    }
    if (*n > 0) {
        take_body(r, upload, *n);
        *n = 0;
        return MHD_YES;
    }
    if (r->peer->phase == PHASE_BODY) {
        enter(r->peer, PHASE_ANSWER, 0);
        if (!r->answered) {
            hold(r);
            http->events.on_request(http->events.arg, r);
        }
    }
    return reply(r);
}

/* ---- the watcher ------------------------------------------------------------------------- */

/* A stream's client that takes nothing, or hears nothing. False: it is gone. */
static bool look_after(struct peer *peer, double time)
{
    struct http_request *r = peer->request;
    pthread_mutex_lock(&r->lock);
    if (r->streams && !r->gone) {
        if (r->unsent.size > 0 && time - r->moved_at > STALL_SECONDS) {
            doom(peer);
            mark_gone(r);
        } else if (!r->ended && time - r->written_at > HTTP_KEEP_ALIVE) {
            append(r, r->keep_alive, strlen(r->keep_alive));
        }
    }
    bool there = !r->gone;
    pthread_mutex_unlock(&r->lock);
    return there;
}

/* Whether a peer that has no request to be answered is to be closed: it is late, or hung up some
 * time ago. libmicrohttpd can miss the hang-up of a client whose answer it was about to send, and
 * would keep the connection as long as one that may ask again. */
static bool is_over(const struct peer *peer, double time)
{
    return time > peer->deadline || (peer->hung_up > 0 && time > peer->hung_up + HANGUP_SECONDS);
}

/* Whom to poll; deadlines are looked at on the way. */
static nfds_t gather(struct http *http, struct pollfd *fds, struct peer **polled)
{
    nfds_t n = 0;
    double time = clock_seconds();
    pthread_mutex_lock(&http->lock);
    for (struct peer *p = http->peers; p != NULL; p = p->next) {
        if (p->doomed)
            continue;
        bool watched = p->hung_up == 0;
        if (p->phase == PHASE_ANSWER)
            watched = p->request != NULL && look_after(p, time);
        else if (is_over(p, time))
            doom(p);
        if (watched && !p->doomed && n < MAX_PEERS) {
            polled[n] = p;
            fds[n++] = (struct pollfd){.fd = p->fd, .events = POLLRDHUP};
        }
    }
    pthread_mutex_unlock(&http->lock);
    return n;
}

/* With the server's lock held. */
static void note_hangup(struct peer *peer)
{
    if (peer->phase != PHASE_ANSWER) {
        peer->hung_up = clock_seconds();
    } else if (peer->request != NULL) {
        pthread_mutex_lock(&peer->request->lock);
        mark_gone(peer->request);
        pthread_mutex_unlock(&peer->request->lock);
    }
}

/* A peer in the list whose socket is the one that was polled has not been closed meanwhile. */
static void note_hangups(struct http *http, const struct pollfd *fds, struct peer *const *polled,
                         nfds_t n)
{
    pthread_mutex_lock(&http->lock);
    for (struct peer *p = http->peers; p != NULL; p = p->next)
        for (nfds_t i = 0; i < n; i++)
            if (polled[i] == p && fds[i].revents != 0 && p->fd == fds[i].fd)
                note_hangup(p);
    pthread_mutex_unlock(&http->lock);
}

static void *watch(void *arg)
{
    struct http *http = arg;
    struct pollfd fds[MAX_PEERS];
    struct peer *polled[MAX_PEERS];
    for (bool closing = false; !closing;) {
        nfds_t n = gather(http, fds, polled);
        int found = poll(fds, n, WATCH_MILLISECONDS);
        if (found > 0)
            note_hangups(http, fds, polled, n);
        pthread_mutex_lock(&http->lock);
        closing = http->closing;
        pthread_mutex_unlock(&http->lock);
    }
    return NULL;
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

struct http *http_open(int listener, const struct http_events *events, struct llama3_error *err)
{
    struct http *http = size_alloc(1, sizeof *http);
    if (http == NULL) {
        error_memory(err, "the server", sizeof *http);
        close(listener);
        return NULL;
    }
    http->events = *events;
    pthread_mutex_init(&http->lock, NULL);
    /* The application's signals are for the application's threads. */
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    int failed = pthread_create(&http->watcher, NULL, watch, http);
    http->daemon = failed == 0 ? start(http, listener) : NULL;
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (http->daemon != NULL)
        return http;
    error_set(err, LLAMA3_EIO, "libmicrohttpd does not start");
    close(listener);
    if (failed != 0)
        free(http);
    else
        http_close(http);
    return NULL;
}

void http_drain(struct http *http)
{
    int listener = MHD_quiesce_daemon(http->daemon);
    if (listener >= 0)
        close(listener);
    pthread_mutex_lock(&http->lock);
    http->draining = true;
    for (struct peer *p = http->peers; p != NULL; p = p->next)
        if (!p->doomed && p->phase == PHASE_IDLE)
            doom(p);
    pthread_mutex_unlock(&http->lock);
}

/* Answers that libmicrohttpd is still sending. */
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
    pthread_join(http->watcher, NULL);
    if (http->daemon != NULL)
        MHD_stop_daemon(http->daemon);
    pthread_mutex_destroy(&http->lock);
    free(http);
}

size_t http_connections(struct http *http)
{
    pthread_mutex_lock(&http->lock);
    size_t n = http->n_peers;
    pthread_mutex_unlock(&http->lock);
    return n;
}
