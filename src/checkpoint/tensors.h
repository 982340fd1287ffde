/* SPDX-License-Identifier: MIT */
/* tensors.h: the tensors of a model one after another, in the order in which a pass reads them. */
#ifndef CHECKPOINT_TENSORS_H
#define CHECKPOINT_TENSORS_H

#include "checkpoint/model.h"

enum tensor_kind {
    TENSOR_EMBED,
    TENSOR_ATTN_NORM,
    TENSOR_Q,
    TENSOR_K,
    TENSOR_V,
    TENSOR_O,
    TENSOR_FFN_NORM,
    TENSOR_GATE,
    TENSOR_UP,
    TENSOR_DOWN,
    TENSOR_NORM,
    TENSOR_HEAD, /* not if it is the embedding */
    TENSOR_KINDS
};

struct tensor {
    enum tensor_kind kind;
    size_t layer; /* of a layer's */
    const struct matrix *matrix;
};

size_t tensor_count(const struct model *model);
struct tensor tensor_at(const struct model *model, size_t index);

bool tensor_is_norm(enum tensor_kind kind);
bool tensor_is_layers(enum tensor_kind kind); /* the kinds that every layer has */
/* Of the kinds that every layer has. */
struct matrix *layer_matrix(struct layer *layer, enum tensor_kind kind);
const char *tensor_kind_name(enum tensor_kind kind);

/* A format's names of tensors. Those of a layer are the suffix of `layer` and its number, as in
 * "model.layers." 0 ".self_attn.q_proj.weight". */
struct tensor_names {
    const char *kinds[TENSOR_KINDS];
    const char *layer;
    const char *const *ignored; /* NULL-terminated: ends of names to ignore */
    bool absent_head_is_tied;   /* GGUF; else config.tied says so */
    bool several;               /* a matrix may be several tensors: stored.h */
};

enum { TENSOR_NAME_SIZE = 128 };
/* What a format calls it. */
void tensor_name(const struct tensor *tensor, const struct tensor_names *names,
                 char out[TENSOR_NAME_SIZE]);

#endif
