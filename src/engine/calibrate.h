/* SPDX-License-Identifier: MIT */
/*
 * calibrate.h: quantizing with a calibration text. The text's residual stream (stream.h) goes
 * through the layers as they are quantized. The inputs of a linear tell which of its errors matter
 * (backend/hessian.h). They come from the quantized layers before, so that later layers make up for
 * errors of earlier ones.
 *
 *     calibration_open
 *     for each layer, in ascending order:
 *         for each input, in ascending order:
 *             calibration_measure
 *             for each matrix that reads it: calibration_options, quantize_rows
 *         calibration_advance
 *     calibration_close
 *
 * In memory: the stream, and a square matrix of floats for the current input.
 */
#ifndef ENGINE_CALIBRATE_H
#define ENGINE_CALIBRATE_H

#include "backend/quantize.h"
#include "engine/stream.h"

struct calibration;

/* NULL, or why the Hessian can't be factored on this machine; then each column counts alone. */
const char *why_no_calibration(int threads);

/* As stream_open(). */
struct calibration *calibration_open(const struct model *model, const int32_t *tokens, size_t n,
                                     const struct stream_options *options,
                                     struct llama3_error *err);
void calibration_close(struct calibration *calibration);

/* Measures what the linears of an input read. layer: its norms, and the quantized matrices that
 * read earlier inputs. */
int calibration_measure(struct calibration *calibration, const struct layer *layer,
                        enum layer_input input, struct llama3_error *err);
/* Sets importance and feedback for a matrix that reads the input measured last; valid until the
 * next measurement. */
void calibration_options(const struct calibration *calibration, struct quantize_options *options);
/* Goes to the end of a layer whose matrices are all quantized; also from its beginning, for a layer
 * that an earlier run quantized. */
int calibration_advance(struct calibration *calibration, const struct layer *layer,
                        struct llama3_error *err);

#endif
