/* SPDX-License-Identifier: MIT */
/*
 * gain.h: what calibration was worth: the KL of the quantized file from its source, with and
 * without it. Three streams (stream.h) of one text go through the layers side by side: the
 * source's, the file's, and the source's quantized without calibration, one layer at a time.
 */
#ifndef ENGINE_GAIN_H
#define ENGINE_GAIN_H

#include "engine/stream.h"

struct gain {
    size_t predictions;
    double kl, plain_kl; /* mean KL from the source, in nats: calibrated, and not */
};

/* made: by convert() of source, with some codes that were not carried over. tokens: n >= 2 of a
 * text that it was not calibrated by, without BOS. In memory: a quantized layer, and three streams.
 */
int gain_measure(const struct model *source, const struct model *made, const int32_t *tokens,
                 size_t n, const struct stream_options *options, struct gain *gain,
                 struct llama3_error *err);

/* The same for the file at `made` of the checkpoint at `in`, with the built-in text of
 * base/sample.h. */
int gain_of_file(const char *in, const char *made, int threads, struct gain *gain,
                 struct llama3_error *err);

#endif
