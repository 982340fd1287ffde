/* SPDX-License-Identifier: MIT */
/*
 * gain.h: what calibrating was worth: how far what was made is from its source, and how far it
 * would be without. Three streams (stream.h) of one text go through the layers side by side:
 * through the source's, through those that were made, and through the source's quantized without a
 * text, of which there is one at a time.
 */
#ifndef ENGINE_GAIN_H
#define ENGINE_GAIN_H

#include "engine/stream.h"

struct gain {
    size_t predictions;
    double kl, plain_kl; /* mean KL from the source, in nats: of what was made, and without */
};

/* made: of source, by convert(), with codes of its own. tokens: n of a text that it wasn't
 * calibrated by, without BOS, 2 or more. In memory: a quantized layer, and
 * three streams. */
int gain_measure(const struct model *source, const struct model *made, const int32_t *tokens,
                 size_t n, const struct stream_options *options, struct gain *gain,
                 struct llama3_error *err);

/* Of the file at `made`, of what is at `in`, on the beginning of a text that is built in
 * (base/sample.h) and that it wasn't calibrated by. */
int gain_of_file(const char *in, const char *made, int threads, struct gain *gain,
                 struct llama3_error *err);

#endif
