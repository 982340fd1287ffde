/* SPDX-License-Identifier: MIT */
/*
 * quantized.h: a checkpoint opened as int4, whatever it is stored as: made while it is opened, or
 * found where it was kept the last time.
 */
#ifndef ENGINE_QUANTIZED_H
#define ENGINE_QUANTIZED_H

#include "checkpoint/model.h"

struct quantized_options {
    int threads;     /* >= 1 */
    bool calibrated; /* by the built-in text (calibration_text.h) */
    const char
        *cache; /* directory where the result is kept, made if it is missing; NULL: nowhere */
    /* As of convert(). */
    int (*on_progress)(void *arg, uint64_t done, uint64_t total);
    /* One line that is no error: how the weights are made, that a file in the cache was broken,
     * that nothing was kept, that making it goes on or is going to, or that there was nothing to
     * do. They come before the first of on_progress or after the last. */
    void (*on_note)(void *arg, const char *note);
    void *arg;
};

/* As model_open(). What has weights of 4 bits already is opened as it is. A file in the cache
 * stands for the checkpoint as long as all its files are the same: their names, places on disk,
 * sizes and times. It counts only if it and its directory belong to this user or to root and nobody
 * else can write to them; otherwise a note says so, and the file is made again or not kept. Where
 * uncalibrated weights are asked for, calibrated ones that are kept will do. Calibrating, an
 * interrupted one goes on. */
int quantized_open(struct model *model, const char *path, const struct quantized_options *options,
                   struct llama3_error *err);

#endif
