/* SPDX-License-Identifier: MIT */
/*
 * http_parts.h: what the files of http.h share: http.c (libmicrohttpd's callbacks), http_request.c
 * (requests and answers) and http_peers.c (connections and their watcher); for no one else.
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
    SPARE = 64, /* connections beyond the limit, until idle ones are closed */
    MAX_PEERS = HTTP_CONNECTIONS + SPARE,
    MAX_HEADERS = 16, /* of an answer */
    HEAD_SECONDS = 10,
    BODY_SECONDS = 30,
    STALL_SECONDS = 30, /* without a byte of the answer taken */
    IDLE_SECONDS = 30,  /* between two requests */
    LAST_SECONDS = 2    /* for answers still being sent when the server closes */
};

enum phase { PHASE_IDLE, PHASE_HEAD, PHASE_BODY, PHASE_ANSWER };

/* A connection. The server's lock guards what is written. */
struct peer {
    struct http *http;
    uint64_t number; /* unique, unlike the address and the descriptor, which are reused */
    int fd;
    char name[NI_MAXHOST];
    enum phase phase;
    double deadline; /* of the phase; PHASE_ANSWER has none */
    double hung_up;  /* when a disconnect was seen outside PHASE_ANSWER; 0: never */
    bool doomed;     /* shut down; libmicrohttpd will close it */
    bool surplus;    /* beyond the limit of connections */
    struct http_request *request;
    struct peer *next;
};

struct answer_header {
    char *name, *value;
};

/* Reference-counted. libmicrohttpd has a reference until the request is completed, the responder
 * until it has answered, and a streaming response until it is destroyed. */
struct http_request {
    struct http *http;
    struct peer *peer;
    char *method, *path, *client;

    pthread_mutex_t lock; /* guards all below; taken after the server's */
    pthread_cond_t moved; /* unsent bytes were sent, or the client is gone */
    int refs;
    struct MHD_Connection *connection; /* NULL once completed */
    bool leaves_body; /* the body isn't read: its end isn't known, or too far away */
    struct buf body;
    bool answered, suspended, gone, ended;
    void (*on_gone)(void *arg);
    void *arg;

    struct answer_header headers[MAX_HEADERS];
    size_t n_headers;
    int status;
    struct MHD_Response *response; /* until it is queued */

    bool streams;
    struct buf unsent;
    bool torn;       /* bytes are missing: memory ran out */
    size_t sent;     /* bytes of unsent */
    double moved_at; /* when bytes were last sent, or there were none to send */
    double written_at;
    const char *keep_alive;
};

struct http {
    struct http_events events;
    struct MHD_Daemon *daemons[HTTP_LISTENERS]; /* [n_daemons], one for each listener */
    size_t n_daemons;
    pthread_t watcher;
    bool watched; /* the thread has been started */
    pthread_mutex_t lock;
    struct peer *peers; /* newest first */
    size_t n_peers;
    uint64_t last_number;
    size_t body_bytes; /* of all requests */
    bool draining, closing;
    double cut_at; /* when clients that are behind are cut off; 0: never */
};

/* ---- http_request.c ---------------------------------------------------------------------- */

/* With one reference, which request_complete() drops. NULL: no memory. */
struct http_request *request_new(struct peer *peer, struct MHD_Connection *connection,
                                 const char *path, const char *method);
void request_hold(struct http_request *r);
void request_drop(struct http_request *r);
/* Updates the bytes of all bodies together, and returns them. */
size_t request_count_body(struct http_request *r, size_t more, size_t less);
/* With the request's lock held. */
void request_mark_gone(struct http_request *r);
/* Queues the answer, or suspends the connection until there is one. */
enum MHD_Result request_reply(struct http_request *r);
/* libmicrohttpd is done with the request. */
void request_complete(struct http_request *r);
/* With the server's lock held: sends a stream's keep-alive, and cuts off a client that takes
 * nothing for too long, or is behind after http_cut(). False: the client is gone. */
bool request_look_after(struct http_request *r, double time);

/* ---- http_peers.c ------------------------------------------------------------------------ */

void peers_add(struct http *http, struct peer *peer);
void peers_remove(struct http *http, struct peer *peer);
/* With the server's lock held: shuts the socket down, so that libmicrohttpd closes it. */
void peer_doom(struct peer *peer);
void peer_enter(struct peer *peer, enum phase phase, double seconds);
/* The thread that enforces deadlines and notices disconnects; until http->closing. */
void *peers_watch(void *arg);

#endif
