/* SPDX-License-Identifier: MIT */
/* parts.h: the matrices of a model one after another, in the order in which a pass reads them. */
#ifndef CHECKPOINT_PARTS_H
#define CHECKPOINT_PARTS_H

#include "checkpoint/assemble.h"

enum part_kind {
    PART_EMBED,
    PART_ATTN_NORM,
    PART_Q,
    PART_K,
    PART_V,
    PART_O,
    PART_FFN_NORM,
    PART_GATE,
    PART_UP,
    PART_DOWN,
    PART_NORM,
    PART_HEAD, /* not if it is the embedding */
    PART_COUNT
};

struct part {
    enum part_kind kind;
    size_t layer; /* of a layer's */
    const struct matrix *matrix;
};

size_t part_count(const struct model *model);
struct part part_at(const struct model *model, size_t index);

bool part_is_norm(enum part_kind kind);
bool part_is_layers(enum part_kind kind); /* the kinds that every layer has */
/* Of the kinds that every layer has. */
struct matrix *part_in_layer(struct layer *layer, enum part_kind kind);
const char *part_kind_name(enum part_kind kind);

enum { PART_NAME_SIZE = 128 };
/* What a format calls it. */
void part_name(const struct part *part, const struct tensor_names *names, char out[PART_NAME_SIZE]);

#endif
