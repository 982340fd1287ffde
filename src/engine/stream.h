/* SPDX-License-Identifier: MIT */
/*
 * stream.h: a text's residual stream, carried through the network a layer at a time, and in a layer
 * from one input of its linears to the next. Each layer is given as it comes, so that the whole
 * network needn't be in memory, and a layer's matrices may be chosen by what they are going to
 * read.
 *
 * The text is cut into windows that see only themselves; each begins as raw text does: with BOS
 * where the checkpoint says so. In memory: [tokens][dim] floats, and as many of the widest input.
 */
#ifndef ENGINE_STREAM_H
#define ENGINE_STREAM_H

#include "engine/forward.h"

enum { STREAM_WINDOW = 512 }; /* tokens that see each other; the model's context if that is less */

struct stream_options {
    int threads;                 /* >= 1 */
    bool (*canceled)(void *arg); /* once true, a call ends with LLAMA3_ECANCELED; may be NULL */
    void *arg;
};

struct stream;

/* The model must outlive it; of its weights only the embedding is read. tokens: n >= 1 of a text,
 * without BOS; not needed any more on return. */
struct stream *stream_open(const struct model *model, const int32_t *tokens, size_t n,
                           const struct stream_options *options, struct llama3_error *err);
void stream_close(struct stream *stream);

/* Goes on to an input of the layer at hand, or with INPUT_COUNT to the layer's end: ahead only.
 * layer: its norms, and the matrices that are read on the way; the data of others may be NULL.
 * on_input, which may be NULL, sees the input, window by window: [n_rows][its columns].
 * After a failure the stream can only be closed. */
int stream_advance(struct stream *stream, const struct layer *layer, enum layer_input input,
                   void (*on_input)(void *arg, const float *in, size_t n_rows), void *arg,
                   struct llama3_error *err);

/* After the last layer: logits after the tokens [first, first + n), [n][vocab_size], by a model's
 * final norm and head. */
int stream_logits(struct stream *stream, const struct model *model, size_t first, size_t n,
                  float *logits, struct llama3_error *err);

/* Of a token, BOS included, by its place in the text: [dim]. */
size_t stream_count(const struct stream *stream);
const float *stream_row(const struct stream *stream, size_t token);

#endif
