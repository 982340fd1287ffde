/* SPDX-License-Identifier: MIT */
/*
 * http_parts.h: what http.c (libmicrohttpd's callbacks), http_request.c (requests and their
 * answers) and http_peers.c (connections, and the thread that watches them) share; for no one else.
 */
#ifndef SERVER_HTTP_PARTS_H
#define SERVER_HTTP_PARTS_H

#include <microhttpd.h>
#include <netdb.h>
#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "server/http.h"

enum {
    SPARE = 64, /* connections beyond the limit, while others make room for them */
    MAX_PEERS = HTTP_CONNECTIONS + SPARE,
    MAX_HEADERS = 16, /* of an answer */
    HEAD_SECONDS = 10,
    BODY_SECONDS = 30,
    STALL_SECONDS = 30, /* for a client that takes nothing of its answer */
    IDLE_SECONDS = 30,  /* between two requests */
    LAST_SECONDS = 2    /* for what is still being sent when the server ends */
};

enum phase { PHASE_IDLE, PHASE_HEAD, PHASE_BODY, PHASE_ANSWER };

/* A connection. What is written here is under the server's lock. */
struct peer {
    struct http *http;
    uint64_t number; /* no other connection has it, while memory and descriptors are used again */
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

struct answer_header {
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
    bool leaves_body; /* its body isn't read: where it ends can't be known, or is too far away */
    struct buf body;
    bool answered, suspended, gone, ended;
    void (*on_gone)(void *arg);
    void *arg;

    struct answer_header headers[MAX_HEADERS];
    size_t n_headers;
    int status;
    struct MHD_Response *response; /* not queued yet */

    bool streams;
    struct buf unsent;
    bool torn;       /* something is missing in it, for want of memory */
    size_t sent;     /* of unsent */
    double moved_at; /* when something was last taken, or there was nothing to take */
    double written_at;
    const char *keep_alive;
};

struct http {
    struct http_events events;
    struct MHD_Daemon *daemons[HTTP_LISTENERS]; /* [n_daemons] one for each listener */
    size_t n_daemons;
    pthread_t watcher;
    bool watched; /* there is that thread */
    pthread_mutex_t lock;
    struct peer *peers; /* latest first */
    size_t n_peers;
    uint64_t last_number;
    size_t body_bytes; /* of all requests */
    bool draining, closing;
    double cut_at; /* from when on nobody is waited for; 0: not yet */
};

/* ---- http_request.c ---------------------------------------------------------------------- */

/* NULL: no memory. The one reference is for request_complete. */
struct http_request *request_new(struct peer *peer, struct MHD_Connection *connection,
                                 const char *path, const char *method);
void request_hold(struct http_request *r);
void request_drop(struct http_request *r);
/* Adds to what all requests hold, which is returned. */
size_t request_count_body(struct http_request *r, size_t more, size_t less);
/* With the request's lock held. */
void request_mark_gone(struct http_request *r);
/* Queues the answer, or leaves the connection until there is one. */
enum MHD_Result request_reply(struct http_request *r);
/* libmicrohttpd is done with it. */
void request_complete(struct http_request *r);
/* With the server's lock held. A stream's client that hears nothing is sent the keep-alive, one
 * that takes nothing for too long is given up, as is one that is behind after http_cut(). False: it
 * is gone. */
bool request_look_after(struct http_request *r, double time);

/* ---- http_peers.c ------------------------------------------------------------------------ */

void peers_add(struct http *http, struct peer *peer);
void peers_remove(struct http *http, struct peer *peer);
/* With the server's lock held: libmicrohttpd finds the socket at its end, and closes it. */
void peer_doom(struct peer *peer);
void peer_enter(struct peer *peer, enum phase phase, double seconds);
/* The thread that keeps deadlines and notices hang-ups; until http->closing. arg: struct http. */
void *peers_watch(void *arg);

#endif
