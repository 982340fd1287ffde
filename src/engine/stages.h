/* SPDX-License-Identifier: MIT */
/*
 * stages.h: the stages of a pass: what each reads and writes, and which backend runs it. forward.c
 * opens weights and activations by this list, and placement.c sums them up by it.
 */
#ifndef ENGINE_STAGES_H
#define ENGINE_STAGES_H

#include "backend/backend.h"
#include "checkpoint/lora.h"

/* In order: the embedding, then four for each layer, then the head. */
enum stage_kind {
    STAGE_EMBED,  /* embed */
    STAGE_QKV,    /* add_norm, linear q k v */
    STAGE_ATTEND, /* rope_store, attend */
    STAGE_OUT,    /* linear o */
    STAGE_FFN,    /* add_norm, linear gate up, swiglu, linear down */
    STAGE_HEAD    /* add_norm, linear head */
};
enum { STAGES_PER_LAYER = STAGE_HEAD - STAGE_QKV };

static inline size_t stage_count(size_t n_layers)
{
    return 1 + STAGES_PER_LAYER * n_layers + 1;
}

static inline size_t stage_of(size_t layer, enum stage_kind kind)
{
    return 1 + STAGES_PER_LAYER * layer + (size_t)(kind - STAGE_QKV);
}

/* The layer of a stage that belongs to one. */
static inline size_t stage_layer(size_t stage)
{
    return (stage - 1) / STAGES_PER_LAYER;
}

enum stage_kind stage_kind(size_t stage, size_t n_layers);

/* ---- activations ----------------------------------------------------------------------- */

enum activation {
    ACT_X,      /* [rows][dim] the residual stream */
    ACT_D,      /* [rows][dim] what is added to it next */
    ACT_H,      /* [rows][dim] normalized */
    ACT_Q,      /* [rows][n_heads * head_dim] */
    ACT_K,      /* [rows][n_kv_heads * head_dim] */
    ACT_V,      /* [rows][n_kv_heads * head_dim] */
    ACT_A,      /* [rows][n_heads * head_dim] what attention read */
    ACT_GATE,   /* [rows][ffn_dim] */
    ACT_UP,     /* [rows][ffn_dim] */
    ACT_LAST,   /* [logit rows][dim] normalized, only the rows whose logits are wanted */
    ACT_LOGITS, /* [logit rows][vocab_size] */
    ACT_COUNT
};

static inline enum rows activation_rows(enum activation activation)
{
    return activation >= ACT_LAST ? ROWS_LOGITS : ROWS_ALL;
}

size_t activation_cols(const struct config *config, enum activation activation);

/* Sets of activations, 1 << activation each: what earlier stages wrote and this one reads, and what
 * it writes, its intermediates included. */
unsigned stage_reads(size_t stage, size_t n_layers);
unsigned stage_writes(size_t stage, size_t n_layers);

/* ---- weights --------------------------------------------------------------------------- */

/* Indices of a stage's weights in its list. */
enum {
    W_EMBED = 0,
    W_NORM = 0, /* of the stages that begin with one */
    W_Q = 1,
    W_K,
    W_V,
    W_O = 0,
    W_GATE = 1,
    W_UP,
    W_DOWN,
    W_HEAD = 1,
    MAX_STAGE_WEIGHTS = 4
};

struct stage_weight {
    const struct matrix *matrix;
    enum weight_use use;
};

/* Returns how many there are. together: the same backend runs the first and the last stage. Then it
 * holds a tied matrix once, as the embedding, and the head's list leaves it out. */
size_t stage_weights(const struct model *model, size_t stage, bool together,
                     struct stage_weight out[MAX_STAGE_WEIGHTS]);

/* What an adapter has for a weight of a stage's list; NULL: nothing. */
const struct lora_pair *stage_pair(const struct lora *lora, size_t stage, size_t weight);

/* ---- plans ----------------------------------------------------------------------------- */

/* The stages [first, next span's first) run on backend number `backend`. */
struct span {
    size_t first;
    size_t backend;
};

enum { MAX_BACKENDS = 4 };

struct plan {
    const struct backend_ops *const *backends; /* [n_backends] */
    size_t n_backends;                         /* 1..MAX_BACKENDS */
    const struct span *spans;                  /* [n_spans] ascending, the first at stage 0 */
    size_t n_spans;
};

static inline size_t plan_end(const struct plan *plan, size_t span, size_t n_layers)
{
    return span + 1 < plan->n_spans ? plan->spans[span + 1].first : stage_count(n_layers);
}

static inline bool plan_is_together(const struct plan *plan)
{
    return plan->spans[0].backend == plan->spans[plan->n_spans - 1].backend;
}

#endif
