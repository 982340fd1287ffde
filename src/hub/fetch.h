/* SPDX-License-Identifier: MIT */
/*
 * fetch.h: fetches many blobs, in pieces, over several connections. Pieces are requested in order,
 * so that a file has few gaps and can be hashed while it comes. One thread runs it. A second
 * thread, the reader, may use the bytes meanwhile: it waits for those it needs and drops those it
 * has used.
 */
#ifndef HUB_FETCH_H
#define HUB_FETCH_H

#include <pthread.h>

#include "hub/hasher.h"
#include "hub/repo.h"
#include "hub/request.h"

enum { MAX_CONNECTIONS = 32, FETCH_PIECE = 32 << 20 };

/* Bytes of a blob. */
struct fetch_span {
    size_t blob;
    uint64_t begin, end;
};

/* One of the connections. */
struct fetch_slot {
    struct request request;
    struct fetch *fetch;
    struct blob *blob; /* NULL: free */
    struct fetch_span span;
    uint64_t at;  /* where the next byte goes */
    double begun; /* clock_seconds() */
    bool direct;  /* to an address that an earlier redirect gave */
    struct llama3_error err;
    bool failed; /* the body was given up; err may say why */
};

/* A blob's address and its failures. */
struct fetch_source {
    char *address;     /* signed, at the storage; NULL: not known */
    int failures;      /* in a row, without a new byte */
    double failed;     /* clock_seconds() of the last failure */
    double not_before; /* when to retry */
    bool whole;        /* the server ignores ranges */
};

struct fetch {
    /* set by the caller */
    struct hub *hub;
    const struct store *store;
    const char *repository;
    struct blob *blobs; /* [n] */
    size_t n;
    int connections;
    _Atomic uint64_t keep_free; /* bytes of disk reserved for what the reader waits for */
    bool used;                  /* there is a reader, until fetch_release() */
    _Atomic bool opens;         /* the reader opens files: no renames until fetch_opened() */
    bool drops;                 /* the reader drops bytes: verified files get no name */
    /* Called about ten times a second by fetch_run(). Non-zero cancels. */
    int (*on_tick)(void *arg);
    /* One line for the user, not an error. */
    void (*on_note)(void *arg, const char *note);
    /* Bytes that the reader used have a wrong hash. Delete what was made of them; they are deleted
     * afterwards, so that an interruption in between can't leave the result. May be NULL. */
    void (*on_wrong)(void *arg);
    void *arg;

    /* its own */
    struct hasher *hasher;
    struct fetch_source *sources; /* [n] */
    struct fetch_slot slots[MAX_CONNECTIONS];
    double not_before, recorded;
    int refusals; /* in a row, each with a Retry-After */
    bool waits;   /* for another program; the user was told */

    pthread_mutex_t lock; /* guards the blobs' ranges and what follows */
    pthread_cond_t arrived;
    const struct fetch_span *first; /* [n_first], fetched before the rest */
    size_t n_first;
    struct fetch_span *dropped; /* [n_dropped], not freed yet */
    size_t n_dropped;
    struct fetch_span wanted; /* the reader waits for it; begin == end: it doesn't wait */
    bool ended;
};

/* After the caller's fields are set and the blobs initialized. */
int fetch_open(struct fetch *fetch, struct llama3_error *err);
/* Returns when all blobs are verified and named; -1 on failure, and what has come stays. */
int fetch_run(struct fetch *fetch, struct llama3_error *err);
void fetch_close(struct fetch *fetch);

/* Seconds until the hub's Retry-After is over; 0: there is none. */
double fetch_pause(const struct fetch *fetch);

/* ---- for the reader ---------------------------------------------------------------------- */

/* The files are open: they may be renamed. */
void fetch_opened(struct fetch *fetch);
/* Spans to fetch before the rest, in this order. They must outlive the fetch. */
void fetch_order(struct fetch *fetch, const struct fetch_span *first, size_t n);
/* Waits for bytes; -1 if they won't come, or were dropped by an earlier run. */
int fetch_wait(struct fetch *fetch, const struct fetch_span *span);
/* These bytes aren't needed any more: their disk space can be freed. */
int fetch_drop(struct fetch *fetch, const struct fetch_span *span);
/* Waits until all is verified; -1 if that won't happen. */
int fetch_wait_all(struct fetch *fetch);
/* The reader is done: fetch_run() may return. */
void fetch_release(struct fetch *fetch);

/* A small answer of the hub: path is below the endpoint. Waits where the hub says so. */
int fetch_text(struct fetch *fetch, const char *path, const char *what, struct buf *text,
               struct llama3_error *err);

#endif
