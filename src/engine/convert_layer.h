/* SPDX-License-Identifier: MIT */
/* convert_layer.h: calibration during conversion. The current layer is kept as it was quantized,
 * until the text goes through it when the next layer begins. */
#ifndef ENGINE_CONVERT_LAYER_H
#define ENGINE_CONVERT_LAYER_H

#include "checkpoint/tensors.h"
#include "engine/calibrate.h"

struct convert_layer {
    struct calibration *calibration; /* NULL: none; the functions do nothing */
    struct layer layer;              /* as in the new file; owns its data */
    bool whole;                      /* the layer is complete */
};

/* Called before and after the rows [first, first + n) of each tensor, norms included, in order.
 * `before` sets what calibration says about the tensor in *options; it is not called for layers
 * that an earlier run made. */
int convert_layer_before(struct convert_layer *c, const struct tensor *tensor, size_t first,
                         struct quantize_options *options, struct llama3_error *err);
int convert_layer_after(struct convert_layer *c, const struct tensor *tensor,
                        const struct matrix *target, size_t first, size_t n, const void *rows,
                        struct llama3_error *err);
void convert_layer_free(struct convert_layer *c);

#endif
