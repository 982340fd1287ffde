/* SPDX-License-Identifier: MIT */
/*
 * quantizer.h: quantizes a checkpoint into one file, from opening it to the file's final name. It
 * is the only way to make such files: llama3_quantize() and the cache of int4 weights (quantized.h)
 * use it. Its thread must not block SIGBUS.
 *
 *     quantizer_open
 *     quantizer_text, or none
 *     quantizer_run       again after a failure: it resumes
 *     quantizer_close
 *
 * Files that are still being downloaded must have their full size and their headers: opening reads
 * these, and the small files whole, but no weights.
 */
#ifndef ENGINE_QUANTIZER_H
#define ENGINE_QUANTIZER_H

#include "base/tokens.h"
#include "engine/convert.h"

struct quantizer {
    struct sources sources;
    struct model model;
    struct tokens text;           /* for calibration; empty: none */
    struct convert_report report; /* of the last run */
};

struct quantizer_options {
    const char *out;   /* the file to make; NULL: one without a name */
    bool private;      /* only its owner may read it; without a text, which takes seconds, an
                          interrupted run leaves nothing */
    bool gguf;         /* else our own format */
    enum dtype layers; /* int4 or int8; of GGUF its types */
    int embed, head;   /* enum dtype, or -1: in a tied model the other's, else convert_beside() */
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
    /* The new file, opened before it gets a name under which others could replace it; or NULL. */
    struct model *opened;
};

int quantizer_open(struct quantizer *quantizer, const char *in, struct llama3_error *err);
void quantizer_close(struct quantizer *quantizer); /* fine on a zeroed one */

/* Whether calibration has an effect: some layer's codes are not carried over. */
bool quantizer_calibrates(const struct model *model, bool gguf, enum dtype layers);
/* Whether most of the weights have 4 bits in the file. */
bool quantizer_has_4_bits(const struct model *model);
/* Appends the built-in text. */
int quantizer_text(struct quantizer *quantizer, struct llama3_error *err);

/* As convert_ranges(), by files and offsets. */
void quantizer_ranges(const struct quantizer *quantizer,
                      void (*each)(void *arg, const char *file, uint64_t offset, uint64_t bytes),
                      void *arg);

/* Tells on_note, which may be NULL, one line. */
void quantizer_note(void (*on_note)(void *arg, const char *note), void *arg, const char *format,
                    ...) __attribute__((format(printf, 3, 4)));

/* Writes the file and gives it its name. */
int quantizer_run(struct quantizer *quantizer, const struct quantizer_options *options,
                  struct llama3_error *err);

#endif
