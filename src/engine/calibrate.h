/*
 * calibrate.h: quantizing with a text at hand. A text's residual stream is carried through the
 * network a layer at a time: what a layer's linears read there says which errors matter
 * (backend/moments.h), and the stream goes on through the layer as it was quantized, so that later
 * layers know what the earlier ones lost.
 *
 * In memory: the stream, [tokens][dim], and for the layer at hand its KV for one window and cols^2
 * floats for each of its four inputs.
 *
 *     calibration_open
 *     for each layer, in ascending order:
 *         calibration_measure
 *         for each of its matrices, in any order: calibration_options, quantize_rows
 *         calibration_advance with the quantized layer
 *     calibration_close
 */
#ifndef ENGINE_CALIBRATE_H
#define ENGINE_CALIBRATE_H

#include "backend/quantize.h"
#include "engine/forward.h"

enum { CALIBRATE_WINDOW = 512 }; /* tokens that see each other */

struct calibration;

/* NULL, or why the factors of what inputs have in common can't be had, so that each input counts
 * alone. */
const char *calibration_lack(int threads);

/* The model must outlive it. tokens: n >= 1 of a text, without BOS; copied as embeddings. */
struct calibration *calibration_open(const struct model *model, const int32_t *tokens, size_t n,
                                     int threads, struct llama3_error *err);
void calibration_close(struct calibration *calibration);

/* What the linears of layers[layer] read. */
int calibration_measure(struct calibration *calibration, size_t layer, struct llama3_error *err);
/* Sets importance and feedback for a matrix that reads this input; valid until the next layer is
 * measured. */
void calibration_options(const struct calibration *calibration, enum layer_input input,
                         struct quantize_options *options);
/* layer: the same one with quantized matrices; not needed any more on return. */
int calibration_advance(struct calibration *calibration, const struct layer *layer,
                        struct llama3_error *err);

#endif
