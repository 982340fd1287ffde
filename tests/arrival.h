/* SPDX-License-Identifier: MIT */
/*
 * arrival.h: a checkpoint whose files arrive while it is read: a folder with copies that have
 * poison (NaNs) in the place of every byte of data, until it is asked for, and again once it is
 * spent. Reading anything else can't go unnoticed: it changes what is made; with AddressSanitizer
 * it is an error to the byte; and with `guarded` pages that were not asked for can't be read.
 */
#ifndef TESTS_ARRIVAL_H
#define TESTS_ARRIVAL_H

#include <pthread.h>

#include "engine/quantizer.h"

enum arrival_state { ARRIVAL_AWAY, ARRIVAL_THERE, ARRIVAL_SPENT };

struct arrival_file {
    char name[256];
    uint8_t *bytes;       /* [size] as they are in the source */
    uint8_t *state;       /* [size] enum arrival_state */
    size_t size, data;    /* data: where the header ends */
    int fd;               /* of the copy */
    const uint8_t *shown; /* its mapping, once the checkpoint is open */
};

struct arrival {
    char *folder;
    struct arrival_file files[4]; /* [n] */
    size_t n;
    struct quantizer *work; /* that reads it */

    /* What happens in a run. */
    size_t fails_at;          /* the call of on_need that fails, from 1 on; 0: none */
    enum llama3_code failure; /* how */
    size_t cancels_at;        /* the same of on_progress */
    bool guarded;
    bool (*made)(struct arrival *arrival, struct llama3_error *err); /* NULL: it is verified */

    /* What was seen of it. */
    size_t needs, progress, resumed; /* resumed: layers; SIZE_MAX: it didn't go on */
    uint64_t needed, spent;          /* bytes */
    bool spent_first;                /* something was told before anything was asked for */
    bool unsynced;                   /* bytes of the new file are not on disk */
    bool asked_for_name;

    /* A thread that fetches the pieces in any order. */
    bool fetches, stops;
    pthread_t thread;
    pthread_mutex_t lock;
    pthread_cond_t arrived;
    struct arrival_file *wanted; /* NULL: nothing */
    size_t wanted_at, wanted_bytes;
    uint64_t random;
};

/* A private copy of a source's folder. before: an earlier one, of which stays what was there and
 * not spent; NULL: nothing is there. */
void arrival_begin(struct arrival *arrival, const char *source, const struct arrival *before);
void arrival_end(struct arrival *arrival);

/* Fetches in any order, by a thread of its own. */
void arrival_fetch(struct arrival *arrival);

/* Opens the checkpoint, and makes what `options` says of it, with the callbacks of above. tokens:
 * of the built-in text. */
int arrival_run(struct arrival *arrival, const struct quantizer_options *options, size_t tokens,
                struct llama3_error *err);

/* A whole file, for free(). */
uint8_t *arrival_read(const char *path, size_t *size);

#endif
