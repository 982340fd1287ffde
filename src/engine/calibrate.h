/* SPDX-License-Identifier: MIT */
/*
 * calibrate.h: quantizing with a text at hand. The text's residual stream (stream.h) is carried
 * through the layers as they are quantized: what the linears of an input read there says which of
 * their errors matter (backend/hessian.h), and they read what the linears before, quantized, made
 * of the text, so that they know what was lost so far.
 *
 *     calibration_open
 *     for each layer, in ascending order:
 *         for each input, in ascending order:
 *             calibration_measure
 *             for each matrix that reads it: calibration_options, quantize_rows
 *         calibration_advance
 *     calibration_close
 *
 * In memory: the stream, and a square matrix of floats for the input at hand.
 */
#ifndef ENGINE_CALIBRATE_H
#define ENGINE_CALIBRATE_H

#include "backend/quantize.h"
#include "engine/stream.h"

struct calibration;

/* NULL, or why the factors of what inputs have in common can't be had, so that each input counts
 * alone. */
const char *calibration_lack(int threads);

/* As stream_open(). */
struct calibration *calibration_open(const struct model *model, const int32_t *tokens, size_t n,
                                     const struct stream_options *options,
                                     struct llama3_error *err);
void calibration_close(struct calibration *calibration);

/* What the linears of an input read. layer: its norms, and the quantized matrices that read the
 * inputs before. */
int calibration_measure(struct calibration *calibration, const struct layer *layer,
                        enum layer_input input, struct llama3_error *err);
/* Sets importance and feedback for a matrix that reads the input measured last; valid until the
 * next is measured. */
void calibration_options(const struct calibration *calibration, struct quantize_options *options);
/* To the end of a layer, all of whose matrices are quantized: also from its beginning, of a layer
 * that was quantized before and needs no measuring. */
int calibration_advance(struct calibration *calibration, const struct layer *layer,
                        struct llama3_error *err);

#endif
