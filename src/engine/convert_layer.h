/* SPDX-License-Identifier: MIT */
/* convert_layer.h: calibrating while a checkpoint is converted: the layer at hand is kept as it
 * was quantized, until the text goes through it, which it does when the next one begins. */
#ifndef ENGINE_CONVERT_LAYER_H
#define ENGINE_CONVERT_LAYER_H

#include "checkpoint/tensors.h"
#include "engine/calibrate.h"

struct convert_layer {
    struct calibration *calibration; /* NULL: there is none, and nothing below does anything */
    struct layer layer;              /* as it is in the file that is made, data owned */
    bool whole;                      /* all of that layer is there */
};

/* Before and after the rows [first, first + n) of a tensor, norms included: tensors in order, all
 * rows of each. Before sets what the text says about the tensor in *options, and is not called for
 * layers that are there already. */
int convert_layer_before(struct convert_layer *c, const struct tensor *tensor, size_t first,
                         struct quantize_options *options, struct llama3_error *err);
int convert_layer_after(struct convert_layer *c, const struct tensor *tensor,
                        const struct matrix *target, size_t first, size_t n, const void *rows,
                        struct llama3_error *err);
void convert_layer_free(struct convert_layer *c);

#endif
