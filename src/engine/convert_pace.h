/* SPDX-License-Identifier: MIT */
/* convert_pace.h: progress of a conversion, in bytes that are weighted by the time they take. */
#ifndef ENGINE_CONVERT_PACE_H
#define ENGINE_CONVERT_PACE_H

#include <stdbool.h>
#include <stdint.h>

/* With calibration, measuring a layer's inputs counts as a share of its bytes: the share of the
 * time that it took in the layer before. Embedding and head need no calibration, and count less. */
struct convert_pace {
    bool calibrates;
    uint64_t done, total;
    uint64_t before, bytes, rows; /* of the current layer: done before it, its own, in rows */
    double began, measured;       /* seconds; measured 0: not yet */
    double share;
};

/* Adds a matrix to the total. */
void convert_pace_add(struct convert_pace *pace, bool in_layer, uint64_t bytes);

/* A layer begins; its inputs are measured. now: seconds */
void convert_pace_layer(struct convert_pace *pace, uint64_t bytes, double now);
void convert_pace_measured(struct convert_pace *pace, double now);

/* Rows are quantized; or an earlier run's are found. */
void convert_pace_rows(struct convert_pace *pace, bool in_layer, uint64_t bytes);
void convert_pace_found(struct convert_pace *pace, bool in_layer, uint64_t bytes);

#endif
