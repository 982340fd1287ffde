/* SPDX-License-Identifier: MIT */
#include "engine/stages.h"

enum stage_kind stage_kind(size_t stage, size_t n_layers)
{
    if (stage == 0)
        return STAGE_EMBED;
    if (stage + 1 == stage_count(n_layers))
        return STAGE_HEAD;
    return (enum stage_kind)(STAGE_QKV + (stage - 1) % STAGES_PER_LAYER);
}

size_t activation_cols(const struct config *c, enum activation activation)
{
    switch (activation) {
    case ACT_Q:
    case ACT_A:
        return c->n_heads * c->head_dim;
    case ACT_K:
    case ACT_V:
        return c->n_kv_heads * c->head_dim;
    case ACT_GATE:
    case ACT_UP:
        return c->ffn_dim;
    case ACT_LOGITS:
        return c->vocab_size;
    case ACT_X:
    case ACT_D:
    case ACT_H:
    case ACT_LAST:
    case ACT_COUNT:
        break;
    }
    return c->dim;
}

enum {
    X = 1 << ACT_X,
    D = 1 << ACT_D,
    H = 1 << ACT_H,
    Q = 1 << ACT_Q,
    K = 1 << ACT_K,
    V = 1 << ACT_V,
    A = 1 << ACT_A,
    GATE = 1 << ACT_GATE,
    UP = 1 << ACT_UP,
    LAST = 1 << ACT_LAST,
    LOGITS = 1 << ACT_LOGITS
};

unsigned stage_reads(size_t stage, size_t n_layers)
{
    static const unsigned reads[] = {
        [STAGE_EMBED] = 0, [STAGE_QKV] = X | D, [STAGE_ATTEND] = Q | K | V,
        [STAGE_OUT] = A,   [STAGE_FFN] = X | D, [STAGE_HEAD] = X | D,
    };
    return stage == 1 ? X : reads[stage_kind(stage, n_layers)]; /* nothing is to be added yet */
}

unsigned stage_writes(size_t stage, size_t n_layers)
{
    static const unsigned writes[] = {
        [STAGE_EMBED] = X, [STAGE_QKV] = X | H | Q | K | V,     [STAGE_ATTEND] = Q | K | A,
        [STAGE_OUT] = D,   [STAGE_FFN] = X | H | GATE | UP | D, [STAGE_HEAD] = X | LAST | LOGITS,
    };
    return writes[stage_kind(stage, n_layers)];
}

static size_t list(struct stage_weight out[MAX_STAGE_WEIGHTS], const struct matrix *norm,
                   const struct matrix *const matrices[], size_t n)
{
    out[W_NORM] = (struct stage_weight){norm, WEIGHT_VECTOR};
    for (size_t i = 0; i < n; i++)
        out[1 + i] = (struct stage_weight){matrices[i], WEIGHT_MATRIX};
    return 1 + n;
}

size_t stage_weights(const struct model *m, size_t stage, bool together,
                     struct stage_weight out[MAX_STAGE_WEIGHTS])
{
    enum stage_kind kind = stage_kind(stage, m->config.n_layers);
    bool once = together && m->config.tied;
    if (kind == STAGE_EMBED) {
        out[W_EMBED] = (struct stage_weight){&m->embed, once ? WEIGHT_MATRIX : WEIGHT_TABLE};
        return 1;
    }
    if (kind == STAGE_HEAD)
        return list(out, &m->norm, (const struct matrix *const[]){&m->head}, once ? 0 : 1);

    const struct layer *l = &m->layers[stage_layer(stage)];
    if (kind == STAGE_ATTEND)
        return 0;
    if (kind == STAGE_OUT) {
        out[W_O] = (struct stage_weight){&l->o, WEIGHT_MATRIX};
        return 1;
    }
    return kind == STAGE_QKV
               ? list(out, &l->attn_norm, (const struct matrix *const[]){&l->q, &l->k, &l->v}, 3)
               : list(out, &l->ffn_norm, (const struct matrix *const[]){&l->gate, &l->up, &l->down},
                      3);
}

const struct lora_pair *stage_pair(const struct lora *lora, size_t stage, size_t weight)
{
    static const enum tensor_kind kinds[][MAX_STAGE_WEIGHTS] = {
        [STAGE_QKV] = {[W_Q] = TENSOR_Q, [W_K] = TENSOR_K, [W_V] = TENSOR_V},
        [STAGE_OUT] = {[W_O] = TENSOR_O},
        [STAGE_FFN] = {[W_GATE] = TENSOR_GATE, [W_UP] = TENSOR_UP, [W_DOWN] = TENSOR_DOWN},
        [STAGE_HEAD] = {[W_HEAD] = TENSOR_HEAD},
    };
    enum stage_kind kind = stage_kind(stage, lora->n_layers);
    const struct lora_pair *pair =
        lora_pair(lora, kinds[kind][weight], kind == STAGE_HEAD ? 0 : stage_layer(stage));
    return pair != NULL && pair->a.data != NULL ? pair : NULL;
}
