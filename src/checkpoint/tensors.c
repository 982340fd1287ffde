/* SPDX-License-Identifier: MIT */
#include "checkpoint/tensors.h"

#include <stdio.h>

enum { LAYER_TENSORS = TENSOR_DOWN - TENSOR_ATTN_NORM + 1 };

size_t tensor_count(const struct model *model)
{
    return 1 + model->config.n_layers * LAYER_TENSORS + 1 + (model->config.tied ? 0 : 1);
}

struct matrix *layer_matrix(struct layer *layer, enum tensor_kind kind)
{
    struct matrix *const all[] = {
        &layer->attn_norm, &layer->q,    &layer->k,  &layer->v,    &layer->o,
        &layer->ffn_norm,  &layer->gate, &layer->up, &layer->down,
    };
    return all[kind - TENSOR_ATTN_NORM];
}

struct tensor tensor_at(const struct model *model, size_t index)
{
    size_t n = model->config.n_layers * LAYER_TENSORS;
    if (index == 0)
        return (struct tensor){TENSOR_EMBED, 0, &model->embed};
    if (index == n + 1)
        return (struct tensor){TENSOR_NORM, 0, &model->norm};
    if (index > n + 1)
        return (struct tensor){TENSOR_HEAD, 0, &model->head};
    size_t layer = (index - 1) / LAYER_TENSORS;
    enum tensor_kind kind = TENSOR_ATTN_NORM + (index - 1) % LAYER_TENSORS;
    return (struct tensor){kind, layer, layer_matrix(&model->layers[layer], kind)};
}

bool tensor_is_norm(enum tensor_kind kind)
{
    return kind == TENSOR_ATTN_NORM || kind == TENSOR_FFN_NORM || kind == TENSOR_NORM;
}

bool tensor_is_layers(enum tensor_kind kind)
{
    return kind >= TENSOR_ATTN_NORM && kind <= TENSOR_DOWN;
}

const char *tensor_kind_name(enum tensor_kind kind)
{
    static const char *const names[TENSOR_KINDS] = {
        [TENSOR_EMBED] = "embed", [TENSOR_ATTN_NORM] = "attn_norm",
        [TENSOR_Q] = "q",         [TENSOR_K] = "k",
        [TENSOR_V] = "v",         [TENSOR_O] = "o",
        [TENSOR_GATE] = "gate",   [TENSOR_FFN_NORM] = "ffn_norm",
        [TENSOR_UP] = "up",       [TENSOR_DOWN] = "down",
        [TENSOR_NORM] = "norm",   [TENSOR_HEAD] = "head",
    };
    return names[kind];
}

void tensor_name(const struct tensor *tensor, const struct tensor_names *names,
                 char out[TENSOR_NAME_SIZE])
{
    const char *name = names->kinds[tensor->kind];
    if (tensor_is_layers(tensor->kind))
        snprintf(out, TENSOR_NAME_SIZE, "%s%zu%s", names->layer, tensor->layer, name);
    else
        snprintf(out, TENSOR_NAME_SIZE, "%s", name);
}
