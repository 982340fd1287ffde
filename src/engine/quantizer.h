/* SPDX-License-Identifier: MIT */
/*
 * quantizer.h: a checkpoint made into one file, from opening the one to naming the other. All who
 * make such files do it by this: llama3_quantize(), and the cache of int4 weights (quantized.h). It
 * may run beside other threads, in one that doesn't block SIGBUS.
 *
 *     quantizer_open
 *     quantizer_text, or none
 *     quantizer_run       again after a failure: it goes on
 *     quantizer_close
 *
 * Files that are still arriving have to be there in their full size, with their headers: opening
 * reads these, and the small files whole, but no weights.
 */
#ifndef ENGINE_QUANTIZER_H
#define ENGINE_QUANTIZER_H

#include "base/tokens.h"
#include "engine/convert.h"

struct quantizer {
    struct sources sources;
    struct model model;
    struct tokens text;           /* that it is calibrated by; none: it isn't */
    struct convert_report report; /* of the last run */
};

struct quantizer_options {
    const char *out;   /* the file to make; NULL: one that never gets a name */
    bool private;      /* it is its owner's alone; without a text, which takes seconds, a run that
                          is ended leaves nothing */
    enum dtype layers; /* int4 or int8 */
    int embed, head;   /* enum dtype, or -1: the other's, where they are one, or what goes with the
                          layers */
    int threads;       /* >= 1 */
    /* As of llama3_quantize(). */
    const char *contents;
    int (*on_progress)(void *arg, uint64_t done, uint64_t total);
    void (*on_note)(void *arg, const char *note);
    int (*on_need)(void *arg, const char *file, uint64_t offset, uint64_t bytes,
                   struct llama3_error *err);
    void (*on_spent)(void *arg, const char *file, uint64_t offset, uint64_t bytes);
    int (*on_made)(void *arg, struct llama3_error *err);
    void *arg;
    /* What was made is opened before it gets its name, and anybody could replace it; NULL: not. */
    struct model *opened;
};

int quantizer_open(struct quantizer *quantizer, const char *in, struct llama3_error *err);
void quantizer_close(struct quantizer *quantizer); /* fine on a zeroed one */

/* Whether a text makes a difference: layers of this type get codes that were chosen. */
bool quantizer_calibrates(const struct model *model, enum dtype layers);
/* Appends the built-in text. */
int quantizer_text(struct quantizer *quantizer, struct llama3_error *err);

/* As convert_ranges(), by files and offsets. */
void quantizer_ranges(const struct quantizer *quantizer,
                      void (*each)(void *arg, const char *file, uint64_t offset, uint64_t bytes),
                      void *arg);

/* Makes the file, and names it. */
int quantizer_run(struct quantizer *quantizer, const struct quantizer_options *options,
                  struct llama3_error *err);

#endif
