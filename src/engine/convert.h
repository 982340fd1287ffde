/* SPDX-License-Identifier: MIT */
/*
 * convert.h: a checkpoint becomes our own file (checkpoint/packed.h), its matrices quantized, one
 * after another in bounded memory: a few megabytes beside what the system keeps of the files.
 */
#ifndef ENGINE_CONVERT_H
#define ENGINE_CONVERT_H

#include "base/partial.h"
#include "checkpoint/packed.h"
#include "checkpoint/sources.h"

struct convert_options {
    enum dtype layers;      /* type of the layers' matrices: int4 or int8 */
    enum dtype embed, head; /* f32, f16 and bf16 as well; of a tied model, embed counts */
    int threads;            /* >= 1 */
    const int32_t *tokens;  /* [n_tokens] of a calibration text, for the layers; NULL: none */
    size_t n_tokens;
    /* Of the checkpoint's bytes, done are converted, as far as the time that they take goes; total
     * 0 while a file is gone on with and nobody knows yet. Non-zero ends it with LLAMA3_ECANCELED.
     * NULL: nobody wants to know. */
    int (*on_progress)(void *arg, uint64_t done, uint64_t total);
    /* The file goes on: so many layers are in it already. May be NULL. */
    void (*on_resume)(void *arg, size_t layers);
    /* Of a checkpoint whose files are still arriving; each may be NULL. on_need waits until these
     * bytes of a mapped file are there: nothing is read that wasn't asked for, of a matrix some
     * rows at a time, in the order of convert_ranges(). -1 with err filled ends it; what was made
     * stays, unless LLAMA3_EINPUT says that the bytes are no good. on_spent tells what is never
     * read again, not even by a run that goes on with this file: what became part of it, once that
     * is on disk. A run that goes on tells again what earlier ones told, before it asks for
     * anything. */
    int (*on_need)(void *arg, const void *data, size_t bytes, struct llama3_error *err);
    void (*on_spent)(void *arg, const void *data, size_t bytes);
    void *arg;
};

/* What became of all matrices of one kind. */
struct convert_kind {
    enum dtype type;
    uint64_t weights, bytes;
    uint64_t carried;   /* of the weights: as convert_carries() says */
    double error, norm; /* sums of squared differences and of squared weights, of the others */
};

struct convert_report {
    struct convert_kind kinds[TENSOR_KINDS];
    uint64_t file_bytes;
    size_t layers; /* that are in the file, and on disk if another run can go on with it */
};

/* Whether a matrix of one type becomes another without being rounded once more: they are the same,
 * or the first has the second's codes in GGUF's blocks. These become groups as they do where the
 * file is run as it is. */
bool convert_carries(enum dtype from, enum dtype to);

/* The type of an embedding, or of a head, that goes with layers of this type. A tied model's matrix
 * is both, and gets 8 bits beside layers of 4, unless it has 4 already: as a head it is worth them
 * (BENCHMARKS.md, "int4: quality"). */
enum dtype convert_beside(const struct model *model, enum dtype layers);

/* Writes the whole file, which then waits to be committed. What can be is carried over. A weight
 * that isn't finite is refused by its tensor, row and column.
 *
 * A file of base/partial.h, whose key is convert_key()'s, goes on where an earlier run ended, and
 * is marked after every layer; then the report and the bytes are those of one run. Once the
 * checkpoint turns out to be no good, it is forgotten. */
int convert(const struct model *model, const struct convert_options *options, struct new_file *file,
            struct convert_report *report, struct llama3_error *err);

/* All of a checkpoint that convert() reads, in the order in which it does; a run that goes on
 * leaves out what it tells by on_spent. With a text, some rows of the embedding are read again
 * before the first layer, and by a run that goes on. */
void convert_ranges(const struct model *model,
                    void (*each)(void *arg, const void *data, size_t bytes), void *arg);

/* Of all that the bytes of a file depend on, the checkpoint's files by their names, places on disk,
 * sizes and times. */
int convert_key(const struct sources *sources, const struct convert_options *options,
                uint8_t key[PARTIAL_KEY], struct llama3_error *err);
/* The same of files that are known by their contents, wherever they lie: a text that names them and
 * their digests. */
int convert_key_contents(const char *contents, const struct convert_options *options,
                         uint8_t key[PARTIAL_KEY], struct llama3_error *err);

#endif
