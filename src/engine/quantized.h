/* SPDX-License-Identifier: MIT */
/* quantized.h: opens any checkpoint as int4: quantizes it, or finds the result in a cache. */
#ifndef ENGINE_QUANTIZED_H
#define ENGINE_QUANTIZED_H

#include "checkpoint/model.h"

struct quantized_options {
    int threads;       /* >= 1 */
    bool calibrated;   /* by the built-in text (calibration_text.h) */
    const char *cache; /* directory for the result, created if missing; NULL: it is not kept */
    /* As of convert(). */
    int (*on_progress)(void *arg, uint64_t done, uint64_t total);
    /* One line that is not an error: how the weights are made, that a file in the cache was
     * broken, that the result is not kept, that a run resumes or can be resumed, or that there was
     * nothing to do. Called before the first on_progress or after the last. */
    void (*on_note)(void *arg, const char *note);
    void *arg;
};

/* As model_open(). A checkpoint with weights of 4 bits is opened as it is. A file in the cache is
 * used as long as the names, inodes, sizes and times of the checkpoint's files are the same, and
 * only if it and its directory belong to this user or root and nobody else can write to them.
 * Otherwise a note says so, and the file is made again or not kept. A calibrated file also serves
 * where an uncalibrated one is asked for. Interrupted calibration resumes. */
int quantized_open(struct model *model, const char *path, const struct quantized_options *options,
                   struct llama3_error *err);

#endif
