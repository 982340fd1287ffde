/* SPDX-License-Identifier: MIT */
/*
 * quantize_work.h: a checkpoint made into one file, from opening the one to naming the other. It is
 * what llama3-quantize does, and what a program does that goes on to quantize files while they
 * arrive: so it prints nothing, handles no signals, and may run beside other threads, in one that
 * doesn't block SIGBUS.
 *
 *     quantize_work_open
 *     quantize_work_text, or none
 *     quantize_work_run       again after a failure: it goes on
 *     quantize_work_close
 *
 * Files that are still arriving have to be there in their full size, with their headers: opening
 * reads these, and the small files whole, but no weights.
 */
#ifndef TOOL_QUANTIZE_WORK_H
#define TOOL_QUANTIZE_WORK_H

#include "base/tokens.h"
#include "engine/convert.h"

struct quantize_work {
    struct sources sources;
    struct model model;
    struct tokens text;           /* that it is calibrated by; none: it isn't */
    struct convert_report report; /* of the last run */
    char *left; /* a failed run left this file, which another goes on with; NULL: none */
};

struct quantize_work_options {
    const char *out;   /* the file to make */
    enum dtype layers; /* int4 or int8 */
    int embed, head;   /* enum dtype, or -1: the other's, where they are one, or what goes with the
                          layers */
    int threads;       /* >= 1 */
    /* What the checkpoint's files are: their names and digests, as a text. What another run left is
     * gone on with wherever the files then lie. NULL: they are known by their places on disk. */
    const char *contents;
    /* As of convert(). What on_progress returns is how to cancel. Each may be NULL. */
    int (*on_progress)(void *arg, uint64_t done, uint64_t total);
    /* The file that another run left goes on: so many layers are in it. */
    void (*on_resume)(void *arg, const char *path, size_t layers);
    /* As of convert(), by the name of a file of the checkpoint and a place in it. */
    int (*on_need)(void *arg, const char *file, uint64_t offset, uint64_t bytes,
                   struct llama3_error *err);
    void (*on_spent)(void *arg, const char *file, uint64_t offset, uint64_t bytes);
    /* All is made, and waits for its name: it gets none if this returns -1 with err filled, and
     * what was made goes if err says LLAMA3_EINPUT, that the checkpoint is no good. */
    int (*on_made)(void *arg, struct llama3_error *err);
    void *arg;
};

int quantize_work_open(struct quantize_work *work, const char *in, struct llama3_error *err);
void quantize_work_close(struct quantize_work *work); /* fine on a zeroed one */

/* Whether a text makes a difference: layers of this type get codes that were chosen. */
bool quantize_can_calibrate(const struct model *model, enum dtype layers);
/* Why calibrating falls short on this machine, one line; "": it doesn't. */
void quantize_text_lack(int threads, char *note, size_t size);
/* Appends the built-in text to the work's. */
int quantize_work_text(struct quantize_work *work, struct llama3_error *err);

/* As convert_spans(), by files and places. */
void quantize_work_spans(const struct quantize_work *work,
                         void (*each)(void *arg, const char *file, uint64_t offset, uint64_t bytes),
                         void *arg);

/* Makes the file, and names it. */
int quantize_work_run(struct quantize_work *work, const struct quantize_work_options *options,
                      struct llama3_error *err);

#endif
