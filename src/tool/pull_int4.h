/* SPDX-License-Identifier: MIT */
/* pull_int4.h: quantizing a checkpoint while its files arrive. */
#ifndef TOOL_PULL_INT4_H
#define TOOL_PULL_INT4_H

#include "hub/fetch.h"
#include "tool/pull.h"

/* A thread that makes the int4 file of what fetch_run() fetches meanwhile. */
struct pull_int4;

struct pull_int4_options {
    const struct pull_args *args;
    struct fetch *fetch; /* of all files; set up, not yet run */
    const char *folder;  /* a folder of its own, for links to the files as they arrive */
    const char *out;     /* the file to make */
    const char
        *contents;   /* names and hashes of the files: what is made of them is known by these */
    uint64_t needed; /* bytes of disk for it, at most */
};

struct pull_int4 *pull_int4_start(const struct pull_int4_options *options,
                                  struct llama3_error *err);
struct pull_int4_state {
    uint64_t done, total; /* bytes of the checkpoint that are quantized; total 0: not known yet */
    bool failed;
    char note[600]; /* one line about what is no failure, each once; "": none */
};

void pull_int4_look(struct pull_int4 *int4, struct pull_int4_state *state);
/* Ends it as soon as possible. */
void pull_int4_cancel(struct pull_int4 *int4);
/* Waits for its end, and frees it: -1 with what went wrong. *lost: bytes that it needs were dropped
 * by an earlier run, so that the file they are of has to be fetched anew. */
int pull_int4_end(struct pull_int4 *int4, bool *lost, struct llama3_error *err);

#endif
