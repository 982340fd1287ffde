/* SPDX-License-Identifier: MIT */
/*
 * stream.h: the residual stream of a text, carried through the network a layer at a time, and in a
 * layer from one input of its linears to the next. The caller passes each layer in turn, so the
 * whole network need not be in memory, and a layer's matrices can be made after their input is
 * known.
 *
 * The text is cut into windows that attend only to themselves; each begins with BOS where the
 * checkpoint says so. In memory: [tokens][dim] floats, and [tokens][widest input].
 */
#ifndef ENGINE_STREAM_H
#define ENGINE_STREAM_H

#include "engine/forward.h"

enum { STREAM_WINDOW = 512 }; /* tokens; the model's context if that is less */

struct stream_options {
    int threads;                 /* >= 1 */
    bool (*canceled)(void *arg); /* once true, a call ends with LLAMA3_ECANCELED; may be NULL */
    void *arg;
};

struct stream;

/* The model must outlive it; only its embedding is read. tokens: n >= 1, without BOS; copied. */
struct stream *stream_open(const struct model *model, const int32_t *tokens, size_t n,
                           const struct stream_options *options, struct llama3_error *err);
void stream_close(struct stream *stream);

/* Advances to an input of the current layer, or with INPUT_COUNT to the layer's end. layer: its
 * norms and the matrices that are read on the way; the data of others may be NULL. on_input (or
 * NULL) sees the input, window by window: [n_rows][its columns]. After a failure the stream can
 * only be closed. */
int stream_advance(struct stream *stream, const struct layer *layer, enum layer_input input,
                   void (*on_input)(void *arg, const float *in, size_t n_rows), void *arg,
                   struct llama3_error *err);

/* After the last layer: the logits, [n][vocab_size], of the tokens [first, first + n), by a model's
 * final norm and head. */
int stream_logits(struct stream *stream, const struct model *model, size_t first, size_t n,
                  float *logits, struct llama3_error *err);

/* The tokens, BOS included, and a token's row of the stream, [dim]. */
size_t stream_count(const struct stream *stream);
const float *stream_row(const struct stream *stream, size_t token);

#endif
