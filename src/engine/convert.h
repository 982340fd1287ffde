/* SPDX-License-Identifier: MIT */
/*
 * convert.h: quantizes a checkpoint into our own file format (checkpoint/packed.h) or GGUF
 * (checkpoint/gguf_write.h), matrix by matrix, in a few megabytes of memory beside the page cache.
 */
#ifndef ENGINE_CONVERT_H
#define ENGINE_CONVERT_H

#include "base/partial.h"
#include "checkpoint/packed.h"
#include "checkpoint/sources.h"

struct convert_options {
    bool gguf;
    /* Of the layers' matrices: int4 or int8; of GGUF its types. Of a tied model, embed counts. */
    enum dtype layers;
    enum dtype embed, head; /* f32, f16 and bf16 as well */
    int threads;            /* >= 1 */
    const int32_t *tokens;  /* [n_tokens] of a calibration text, for the layers; NULL: none */
    size_t n_tokens;
    /* Bytes of the checkpoint that are converted, weighted by the time they take; total is 0 while
     * an interrupted file is resumed. Non-zero ends it with LLAMA3_ECANCELED. May be NULL. */
    int (*on_progress)(void *arg, uint64_t done, uint64_t total);
    /* An interrupted file is resumed: it has this many layers. May be NULL. */
    void (*on_resume)(void *arg, size_t layers);
    /* For a checkpoint whose files are still being downloaded; each may be NULL.
     * on_need waits until these bytes of a mapped file have arrived. Nothing is read before that;
     * matrices are asked for some rows at a time, in the order of convert_ranges(). -1 with err
     * filled ends the run; the partial file stays, unless LLAMA3_EINPUT says that the bytes are
     * bad. on_spent names bytes that no run reads again, because their result is on disk. A resumed
     * run first names again what earlier runs did. */
    int (*on_need)(void *arg, const void *data, size_t bytes, struct llama3_error *err);
    void (*on_spent)(void *arg, const void *data, size_t bytes);
    void *arg;
};

/* The result for all matrices of one kind. */
struct convert_kind {
    enum dtype type;
    uint64_t weights, bytes;
    uint64_t carried;   /* weights that were carried over: convert_carries() */
    double error, norm; /* of the others: sums of squared differences, and of squares */
};

struct convert_report {
    struct convert_kind kinds[TENSOR_KINDS];
    uint64_t file_bytes;
    size_t layers; /* in the file; of a resumable one, on disk */
};

/* int4, int8 and GGUF's blocks */
bool convert_is_quantized(enum dtype type);
/* Whether a matrix becomes another type without a second rounding: the types are the same, or the
 * codes are. */
bool convert_carries(const struct matrix *from, enum dtype to);

/* The default type of embedding or head beside layers of this type. A tied matrix gets 8 bits
 * beside layers of 4, unless it has 4 already: a head is worth them (BENCHMARKS.md, "int4:
 * quality"). In GGUF every head gets q6_k, as llama.cpp gives it. */
enum dtype convert_beside(const struct model *model, bool gguf, bool head, enum dtype layers);

/* The type of GGUF that a matrix with so many columns gets, as llama.cpp chooses it: 256 or 32 have
 * to divide them. */
enum dtype convert_fit(enum dtype type, size_t cols);

/* struct quantize_options' interleave for a tensor. */
size_t convert_interleave(const struct model *model, bool gguf, enum tensor_kind kind);

/* Writes the whole file; the caller commits it. A weight that is not finite is an error that names
 * its tensor, row and column.
 *
 * A file of base/partial.h with convert_key()'s key is marked after every layer, and resumed at the
 * last mark. Bytes and report are those of an uninterrupted run. It is forgotten if the checkpoint
 * turns out to be bad. */
int convert(const struct model *model, const struct convert_options *options, struct new_file *file,
            struct convert_report *report, struct llama3_error *err);

/* The bytes that convert() reads, in order. A resumed run leaves out what it names by on_spent.
 * With a text, some rows of the embedding are read again before the first layer. */
void convert_ranges(const struct model *model,
                    void (*each)(void *arg, const void *data, size_t bytes), void *arg);

/* A digest of everything that the file's bytes depend on. The checkpoint's files are identified by
 * contents, a text with their names and digests, wherever they are; or, if that is NULL, by their
 * names, inodes, sizes and times. */
int convert_key(const struct sources *sources, const char *contents,
                const struct convert_options *options, uint8_t key[PARTIAL_KEY],
                struct llama3_error *err);

#endif
