/* SPDX-License-Identifier: MIT */
/*
 * fetch.h: many blobs at a time, in pieces, over several connections. Pieces are asked for in
 * order, so that what is there of a file has few gaps and can be hashed as it comes. One thread
 * runs it; another may wait for bytes, and say which it has done with.
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
    bool direct;  /* its address is where storage sent us before */
    struct llama3_error err;
    bool failed; /* err says why its body was given up */
};

/* Of a blob: where its bytes are, and what went wrong last. */
struct fetch_source {
    char *address;     /* where storage has it, by its signature; NULL: not known */
    int failures;      /* in a row, without a new byte */
    double failed;     /* clock_seconds() of the last of these */
    double not_before; /* of the next try */
    bool whole;        /* it can't be had in pieces */
};

struct fetch {
    /* set by the caller */
    struct hub *hub;
    const struct store *store;
    const char *repository;
    struct blob *blobs; /* [n] */
    size_t n;
    int connections;
    _Atomic uint64_t keep_free; /* bytes of disk that only what is waited for may take */
    bool used;          /* another thread uses the bytes while they arrive, until fetch_release() */
    _Atomic bool opens; /* and opens the files by their names, which stay until fetch_opened() */
    bool drops;         /* and drops them: what is verified gets no name */
    /* Called some ten times a second, from the thread that runs it. Non-zero ends it. */
    int (*on_tick)(void *arg);
    /* One line about what is no failure. */
    void (*on_note)(void *arg, const char *note);
    /* Bytes that were used turn out to be wrong: what was made of them has to go, before they do,
     * or a run that is ended in between would leave it to the next one. NULL: nothing is made. */
    void (*on_wrong)(void *arg);
    void *arg;

    /* its own */
    struct hasher *hasher;
    struct fetch_source *sources; /* [n] */
    struct fetch_slot slots[MAX_CONNECTIONS];
    double not_before, recorded;
    int refusals; /* in a row, each with a time to wait */
    bool waits;   /* for another program, as was said */

    pthread_mutex_t lock; /* of the blobs' ranges and of what follows */
    pthread_cond_t arrived;
    const struct fetch_span *first; /* [n_first]: what is fetched before the rest */
    size_t n_first;
    struct fetch_span *dropped; /* [n_dropped]: done with, not yet freed */
    size_t n_dropped;
    struct fetch_span wanted; /* somebody waits for it; begin == end: nobody */
    bool ended;
};

/* Sets it up for blobs that are initialized. */
int fetch_open(struct fetch *fetch, struct llama3_error *err);
/* Returns when all are there, verified and named; -1 with what went wrong. What arrived stays. */
int fetch_run(struct fetch *fetch, struct llama3_error *err);
void fetch_close(struct fetch *fetch);

/* Seconds for which the hub asked to be left alone, from now; 0: it didn't. */
double fetch_pause(const struct fetch *fetch);

/* What follows is for the thread that uses the bytes. */

/* It has opened the files: they may get other names. */
void fetch_opened(struct fetch *fetch);
/* Spans that are fetched before the rest, in this order; they stay the caller's. */
void fetch_order(struct fetch *fetch, const struct fetch_span *first, size_t n);
/* Waits until the bytes are there; -1 if they won't be, or were dropped by an earlier run. */
int fetch_wait(struct fetch *fetch, const struct fetch_span *span);
/* Bytes whose disk can be freed. */
int fetch_drop(struct fetch *fetch, const struct fetch_span *span);
/* Waits until all is verified; -1 if it won't be. */
int fetch_wait_all(struct fetch *fetch);
/* It needs no more: fetch_run() may return. */
void fetch_release(struct fetch *fetch);

/* A small answer of the hub: path is below the endpoint. Waits where the hub says so. */
int fetch_text(struct fetch *fetch, const char *path, const char *what, struct buf *text,
               struct llama3_error *err);

#endif
