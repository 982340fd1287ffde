/* SPDX-License-Identifier: MIT */
#include "checkpoint/parts.h"

#include <stdio.h>

enum { LAYER_PARTS = PART_DOWN - PART_ATTN_NORM + 1 };

size_t part_count(const struct model *model)
{
    return 1 + model->config.n_layers * LAYER_PARTS + 1 + (model->config.tied ? 0 : 1);
}

struct matrix *part_in_layer(struct layer *layer, enum part_kind kind)
{
    struct matrix *const all[] = {
        &layer->attn_norm, &layer->q,    &layer->k,  &layer->v,    &layer->o,
        &layer->ffn_norm,  &layer->gate, &layer->up, &layer->down,
    };
    return all[kind - PART_ATTN_NORM];
}

struct part part_at(const struct model *model, size_t index)
{
    size_t n = model->config.n_layers * LAYER_PARTS;
    if (index == 0)
        return (struct part){PART_EMBED, 0, &model->embed};
    if (index == n + 1)
        return (struct part){PART_NORM, 0, &model->norm};
    if (index > n + 1)
        return (struct part){PART_HEAD, 0, &model->head};
    size_t layer = (index - 1) / LAYER_PARTS;
    enum part_kind kind = PART_ATTN_NORM + (index - 1) % LAYER_PARTS;
    return (struct part){kind, layer, part_in_layer(&model->layers[layer], kind)};
}

bool part_is_norm(enum part_kind kind)
{
    return kind == PART_ATTN_NORM || kind == PART_FFN_NORM || kind == PART_NORM;
}

bool part_is_layers(enum part_kind kind)
{
    return kind >= PART_ATTN_NORM && kind <= PART_DOWN;
}

const char *part_kind_name(enum part_kind kind)
{
    static const char *const names[PART_COUNT] = {
        [PART_EMBED] = "embed", [PART_ATTN_NORM] = "attn_norm",
        [PART_Q] = "q",         [PART_K] = "k",
        [PART_V] = "v",         [PART_O] = "o",
        [PART_GATE] = "gate",   [PART_FFN_NORM] = "ffn_norm",
        [PART_UP] = "up",       [PART_DOWN] = "down",
        [PART_NORM] = "norm",   [PART_HEAD] = "head",
    };
    return names[kind];
}

void part_name(const struct part *part, const struct tensor_names *names, char out[PART_NAME_SIZE])
{
    const char *const all[PART_COUNT] = {
        [PART_EMBED] = names->embed,
        [PART_ATTN_NORM] = names->attn_norm,
        [PART_Q] = names->q,
        [PART_K] = names->k,
        [PART_V] = names->v,
        [PART_O] = names->o,
        [PART_FFN_NORM] = names->ffn_norm,
        [PART_GATE] = names->gate,
        [PART_UP] = names->up,
        [PART_DOWN] = names->down,
        [PART_NORM] = names->norm,
        [PART_HEAD] = names->head,
    };
    if (part_is_layers(part->kind))
        snprintf(out, PART_NAME_SIZE, "%s%zu%s", names->layer, part->layer, all[part->kind]);
    else
        snprintf(out, PART_NAME_SIZE, "%s", all[part->kind]);
}
