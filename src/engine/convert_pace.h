/* SPDX-License-Identifier: MIT */
/* convert_pace.h: how far a conversion is, so that what is done and what is left take their time.
 */
#ifndef ENGINE_CONVERT_PACE_H
#define ENGINE_CONVERT_PACE_H

#include <stdbool.h>
#include <stdint.h>

/* In bytes of the checkpoint. Where a text is read, a layer's bytes are spread over its time: a
 * share, as large as that of the layer before, is done once its inputs are measured. The embedding
 * and the head, which no text goes through, then count less. */
struct convert_pace {
    bool calibrates;
    uint64_t done, total;
    uint64_t before, bytes, rows; /* of the layer at hand: done before it, its own, of its rows */
    double began, measured;       /* seconds; measured 0: not yet */
    double share;
};

/* A matrix is part of the whole. */
void convert_pace_add(struct convert_pace *pace, bool in_layer, uint64_t bytes);

/* A layer begins, and its inputs are measured. now: seconds */
void convert_pace_layer(struct convert_pace *pace, uint64_t bytes, double now);
void convert_pace_measured(struct convert_pace *pace, double now);

/* Rows are made; or they were found, with nothing to measure. */
void convert_pace_rows(struct convert_pace *pace, bool in_layer, uint64_t bytes);
void convert_pace_found(struct convert_pace *pace, bool in_layer, uint64_t bytes);

#endif
