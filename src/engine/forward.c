/* SPDX-License-Identifier: MIT */
/*
 * forward.c: the network. run_stage() below is the only place that knows the order in which a
 * Llama computes; everything else here is where its weights and activations are: handles on each
 * backend, and the copies between one backend and the next.
 */
#include "engine/forward.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/size.h"
#include "engine/load.h"

/* A batch of at least this many rows runs a layer at a time, so that it can be canceled. It takes
 * so long that entering the backend for each layer costs nothing. */
enum { ROWS_WORTH_CANCELING = 16 };

/* What an adapter has for a weight; NULL: nothing. */
struct factors {
    struct weight *a, *b;
};

/* A backend, and what it holds of the model. */
struct holder {
    struct backend *backend;
    const struct backend_ops *ops;
    struct buffer *act[ACT_COUNT]; /* NULL if none of its stages needs it */
    /* [n_stages], NULL where a stage runs elsewhere */
    struct weight *(*weights)[MAX_STAGE_WEIGHTS];
    struct factors (*factors)[MAX_STAGE_WEIGHTS]; /* [n_loras][n_stages] of the adapters */
    size_t n_stages, n_loras;
    const bool *used; /* [n_loras] adapters with a scale in this batch */
    const uint32_t *(*orders)[MAX_STAGE_WEIGHTS]; /* [n_stages] of their columns */
    size_t n_kv_layers;
    unsigned activations; /* that its stages need */
};

/* A span of the plan, and the activations that it reads from other backends. */
struct run_span {
    struct holder *holder;
    size_t first, end;              /* stages */
    unsigned carried;               /* activations, */
    struct holder *from[ACT_COUNT]; /* each from a holder that has its current value */
};

struct forward {
    const struct model *model;
    struct forward_options options;
    struct holder holders[MAX_BACKENDS];
    size_t n_holders;
    struct run_span *spans; /* [n_spans] */
    size_t n_spans;
    bool together;    /* see stages.h */
    size_t *kv_layer; /* [n_layers] number of the layer among those whose KV its backend holds */
    float *carry;     /* [max_rows][widest activation] between backends; NULL if there is one */
    struct kv **kvs;  /* [max_seqs] for the batch of one holder */
    float *scales;    /* [max_seqs][n_loras] of the batch */
    bool used[MAX_LORAS];
    char description[256], exactness[512];
    struct load *load;
    uint64_t taken_bytes, total_bytes; /* of matrices, while it is opened */
};

struct sequence {
    struct kv *kv[MAX_BACKENDS]; /* NULL where a backend holds no layer's KV */
    float scales[MAX_LORAS];
};

/* ---- what a layer does, from one input of its linears to the next ---------------------------- */

/* Adds the output of the previous linears, if any, to the residual stream, and normalizes it. */
static void normalize(const struct holder *h, size_t stage, struct buffer *added)
{
    h->ops->add_norm(h->backend, ROWS_ALL, h->act[ACT_X], added, h->weights[stage][W_NORM],
                     h->act[ACT_H]);
}

/* What one adapter adds to n linears of a stage. */
static void adapt(const struct holder *h, size_t lora, size_t stage, size_t first, size_t n,
                  enum rows rows, const enum activation y[], enum activation x)
{
    const struct factors *factors = &h->factors[lora * h->n_stages + stage][first];
    struct buffer *to[3];
    const struct weight *a[3], *b[3];
    size_t with = 0;
    for (size_t i = 0; i < n; i++) {
        if (factors[i].a == NULL)
            continue;
        to[with] = h->act[y[i]];
        a[with] = factors[i].a;
        b[with++] = factors[i].b;
    }
    if (with > 0)
        h->ops->adapt(h->backend, rows, to, a, b, with, lora, h->act[x]);
}

/* y[i] = the stage's weight number first + i times x, for i in [0, n), n <= 3. An operation for
 * those whose columns have the same order. */
static void linear(const struct holder *h, size_t stage, size_t first, size_t n, enum rows rows,
                   const enum activation y[], enum activation x)
{
    struct buffer *to[3];
    const struct weight *w[3];
    const uint32_t *const *orders = h->orders[stage] + first;
    for (size_t i = 0; i < n; i++) {
        to[i] = h->act[y[i]];
        w[i] = h->weights[stage][first + i];
    }
    for (size_t i = 0, same = 1; i < n; i += same, same = 1) {
        while (i + same < n && orders[i + same] == orders[i])
            same++;
        h->ops->linear(h->backend, rows, to + i, w + i, same, h->act[x]);
    }
    for (size_t i = 0; i < h->n_loras; i++)
        if (h->used[i])
            adapt(h, i, stage, first, n, rows, y, x);
}

static void project_qkv(const struct holder *h, size_t stage)
{
    static const enum activation y[] = {ACT_Q, ACT_K, ACT_V};
    linear(h, stage, W_Q, 3, ROWS_ALL, y, ACT_H);
}

static void attend(const struct holder *h, size_t kv_layer)
{
    h->ops->rope_store(h->backend, kv_layer, h->act[ACT_Q], h->act[ACT_K], h->act[ACT_V]);
    h->ops->attend(h->backend, kv_layer, h->act[ACT_Q], h->act[ACT_A]);
}

static void project_out(const struct holder *h, size_t stage)
{
    linear(h, stage, W_O, 1, ROWS_ALL, (const enum activation[]){ACT_D}, ACT_A);
}

static void gate_up(const struct holder *h, size_t stage)
{
    static const enum activation y[] = {ACT_GATE, ACT_UP};
    linear(h, stage, W_GATE, 2, ROWS_ALL, y, ACT_H);
    h->ops->swiglu(h->backend, h->act[ACT_GATE], h->act[ACT_UP]);
}

static void project_down(const struct holder *h, size_t stage)
{
    linear(h, stage, W_DOWN, 1, ROWS_ALL, (const enum activation[]){ACT_D}, ACT_GATE);
}

static void project_head(const struct holder *h, size_t stage, struct buffer *added)
{
    h->ops->add_norm(h->backend, ROWS_LOGITS, h->act[ACT_X], added, h->weights[stage][W_NORM],
                     h->act[ACT_LAST]);
    linear(h, stage, W_HEAD, 1, ROWS_LOGITS, (const enum activation[]){ACT_LOGITS}, ACT_LAST);
}

static void run_stage(const struct forward *f, const struct holder *h, size_t stage)
{
    const struct backend_ops *ops = h->ops;
    struct backend *b = h->backend;
    struct buffer *const *act = h->act;
    struct weight *const *w = h->weights[stage];

    switch (stage_kind(stage, f->model->config.n_layers)) {
    case STAGE_EMBED:
        ops->embed(b, act[ACT_X], w[W_EMBED]);
        break;
    case STAGE_QKV:
        normalize(h, stage, stage_layer(stage) == 0 ? NULL : act[ACT_D]);
        project_qkv(h, stage);
        break;
    case STAGE_ATTEND:
        attend(h, f->kv_layer[stage_layer(stage)]);
        break;
    case STAGE_OUT:
        project_out(h, stage);
        break;
    case STAGE_FFN:
        normalize(h, stage, act[ACT_D]);
        gate_up(h, stage);
        project_down(h, stage);
        break;
    case STAGE_HEAD:
        project_head(h, stage, act[ACT_D]);
        break;
    }
}

/* ---- opening --------------------------------------------------------------------------- */

static int check_plan(const struct plan *plan, size_t n_stages, struct llama3_error *err)
{
    if (plan->n_backends < 1 || plan->n_backends > MAX_BACKENDS || plan->n_spans < 1)
        return error_input(err, "plan: expected 1 to %d backends and a span, found %zu and %zu",
                           MAX_BACKENDS, plan->n_backends, plan->n_spans);
    for (size_t i = 0; i < plan->n_spans; i++) {
        const struct span *span = &plan->spans[i];
        if (span->backend >= plan->n_backends || span->first >= n_stages ||
            (i == 0 ? span->first != 0 : span->first <= span[-1].first))
            return error_input(err,
                               "plan: span %zu (stage %zu, backend %zu) is out of order or range",
                               i, span->first, span->backend);
    }
    return 0;
}

/* The activations that a span reads and that its backend lacks. current: of each activation, the
 * holders that have its current value, 1 << holder each. */
static void plan_carries(struct forward *f, struct run_span *span, unsigned current[ACT_COUNT])
{
    size_t n_layers = f->model->config.n_layers;
    unsigned own = 1U << (span->holder - f->holders);

    for (size_t stage = span->first; stage < span->end; stage++) {
        unsigned reads = stage_reads(stage, n_layers), writes = stage_writes(stage, n_layers);
        span->holder->activations |= reads | writes;
        for (int a = 0; a < ACT_COUNT; a++) {
            if ((reads >> a & 1) != 0 && (current[a] & own) == 0) {
                span->carried |= 1U << a;
                span->from[a] = &f->holders[__builtin_ctz(current[a])];
                current[a] |= own;
            }
            if ((writes >> a & 1) != 0)
                current[a] = own;
        }
    }
}

static void make_spans(struct forward *f, const struct plan *plan)
{
    size_t n_layers = f->model->config.n_layers;
    unsigned current[ACT_COUNT] = {0};

    f->n_spans = plan->n_spans;
    for (size_t i = 0; i < f->n_spans; i++) {
        struct run_span *span = &f->spans[i];
        span->holder = &f->holders[plan->spans[i].backend];
        span->first = plan->spans[i].first;
        span->end = plan_end(plan, i, n_layers);
        plan_carries(f, span, current);
        for (size_t stage = span->first; stage < span->end; stage++)
            if (stage_kind(stage, n_layers) == STAGE_ATTEND)
                f->kv_layer[stage_layer(stage)] = span->holder->n_kv_layers++;
    }
}

static int take_plan(struct forward *f, const struct plan *plan, struct llama3_error *err)
{
    static const struct span everything = {0, 0};
    const struct backend_ops *cpu = NULL;
    struct plan simple = {.backends = &cpu, .n_backends = 1, .spans = &everything, .n_spans = 1};
    size_t n_layers = f->model->config.n_layers;

    if (plan == NULL) {
        cpu = backend_find(f->options.backend.name, err);
        if (cpu == NULL)
            return -1;
        plan = &simple;
    }
    if (check_plan(plan, stage_count(n_layers), err) < 0)
        return -1;

    f->spans = size_alloc_for(plan->n_spans, sizeof *f->spans, "the plan", err);
    f->kv_layer = size_alloc_for(n_layers, sizeof *f->kv_layer, "the plan", err);
    if (f->spans == NULL || f->kv_layer == NULL)
        return -1;
    f->n_holders = plan->n_backends;
    for (size_t i = 0; i < f->n_holders; i++)
        f->holders[i].ops = plan->backends[i];
    f->together = plan_is_together(plan);
    make_spans(f, plan);
    return 0;
}

static size_t max_rank(const struct forward_options *o)
{
    size_t most = 0;
    for (size_t i = 0; i < o->n_loras; i++)
        most = o->loras[i].rank > most ? o->loras[i].rank : most;
    return most;
}

struct backend_shape forward_shape(const struct config *c, const struct forward_options *o,
                                   size_t n_kv_layers)
{
    return (struct backend_shape){
        .n_heads = c->n_heads,
        .n_kv_heads = c->n_kv_heads,
        .head_dim = c->head_dim,
        .n_layers = n_kv_layers,
        .max_rows = o->max_rows,
        .max_logit_rows = o->max_logit_rows,
        .max_seqs = o->max_seqs,
        .max_context = o->max_context,
        .n_adapters = o->n_loras,
        .max_rank = max_rank(o),
        .kv_type = o->kv_type,
        .rope_interleaved = c->rope.interleaved,
        .rope_scale = c->rope.attention_factor > 0 ? (float)c->rope.attention_factor : 1,
        .rms_eps = c->rms_eps,
    };
}

static int open_holder(struct forward *f, struct holder *h, const float *inv_freq,
                       struct llama3_error *err)
{
    const struct config *c = &f->model->config;
    struct backend_shape shape = forward_shape(c, &f->options, h->n_kv_layers);
    shape.inv_freq = inv_freq;
    h->backend = h->ops->open(&f->options.backend, &shape, err);
    if (h->backend == NULL)
        return -1;
    for (int i = 0; i < ACT_COUNT; i++) {
        enum activation a = (enum activation)i;
        if ((h->activations >> a & 1) == 0)
            continue;
        h->act[a] = h->ops->buffer(h->backend, activation_rows(a), activation_cols(c, a), err);
        if (h->act[a] == NULL)
            return -1;
    }
    size_t n_stages = stage_count(c->n_layers);
    h->n_stages = n_stages;
    h->n_loras = f->options.n_loras;
    h->used = f->used;
    h->weights = size_alloc_for(n_stages, sizeof *h->weights, "stages", err);
    h->factors = size_alloc_for(h->n_loras, n_stages * sizeof *h->factors, "stages", err);
    h->orders = size_alloc_for(n_stages, sizeof *h->orders, "stages", err);
    return h->weights != NULL && h->factors != NULL && h->orders != NULL ? 0 : -1;
}

static int take(struct forward *f, const struct holder *h, struct weight **weight,
                const struct matrix *matrix, enum weight_use use, struct llama3_error *err)
{
    const struct forward_options *o = &f->options;
    *weight = h->ops->weight(h->backend, matrix, use, err);
    if (*weight == NULL)
        return -1;
    if (load_add(f->load, h->ops, h->backend, *weight, matrix, use, err) < 0)
        return -1;
    f->taken_bytes += matrix_bytes(matrix);
    return o->on_progress != NULL && o->on_progress(o->arg, f->taken_bytes, f->total_bytes) != 0
               ? error_set(err, LLAMA3_ECANCELED, "canceled")
               : 0;
}

/* What the adapters have for a stage. */
static int take_factors(struct forward *f, struct holder *h, size_t stage, struct llama3_error *err)
{
    for (size_t lora = 0; lora < h->n_loras; lora++)
        for (size_t i = 0; i < MAX_STAGE_WEIGHTS; i++) {
            const struct lora_pair *pair = stage_pair(&f->options.loras[lora], stage, i);
            struct factors *factors = &h->factors[lora * h->n_stages + stage][i];
            if (pair == NULL)
                continue;
            factors->a = h->ops->weight(h->backend, &pair->a, WEIGHT_FACTOR, err);
            factors->b = h->ops->weight(h->backend, &pair->b, WEIGHT_FACTOR, err);
            if (factors->a == NULL || factors->b == NULL)
                return -1;
        }
    return 0;
}

/* Has the weight after this one read while this one is laid out anew, if they are. */
static void want_next(const struct forward *f, size_t stage, size_t i)
{
    struct stage_weight list[MAX_STAGE_WEIGHTS];
    size_t n = stage_weights(f->model, stage, f->together, list);
    if (!load_copies(f->load))
        return;
    for (i++; i >= n || list[i].use == WEIGHT_VECTOR; i++) {
        if (i < n)
            continue;
        if (++stage == stage_count(f->model->config.n_layers))
            return;
        n = stage_weights(f->model, stage, f->together, list);
        i = SIZE_MAX;
    }
    load_want(f->load, list[i].matrix);
}

/* The matrices that a stage reads, or its vectors. */
static int take_weights(struct forward *f, struct holder *h, size_t stage, bool vectors,
                        struct llama3_error *err)
{
    struct stage_weight list[MAX_STAGE_WEIGHTS];
    size_t n = stage_weights(f->model, stage, f->together, list);
    for (size_t i = 0; i < n; i++) {
        const struct parts *parts = list[i].matrix->parts;
        if ((list[i].use == WEIGHT_VECTOR) != vectors)
            continue;
        want_next(f, stage, i);
        if (take(f, h, &h->weights[stage][i], list[i].matrix, list[i].use, err) < 0)
            return -1;
        h->orders[stage][i] = parts != NULL ? parts->order : NULL;
    }
    if (f->together && f->model->config.tied && stage + 1 == stage_count(f->model->config.n_layers))
        h->weights[stage][W_HEAD] = h->weights[0][W_EMBED];
    return 0;
}

static void count_weights(struct forward *f)
{
    struct stage_weight list[MAX_STAGE_WEIGHTS];
    for (size_t stage = 0; stage < stage_count(f->model->config.n_layers); stage++)
        for (size_t i = stage_weights(f->model, stage, f->together, list); i > 0; i--)
            f->total_bytes += matrix_bytes(list[i - 1].matrix);
}

/* Vectors come last, while matrices are read ahead: a system that reads some MB around each would
 * leave the rest of these in small pages. */
static int take_all_weights(struct forward *f, bool vectors, struct llama3_error *err)
{
    for (size_t i = 0; i < f->n_spans; i++)
        for (size_t stage = f->spans[i].first; stage < f->spans[i].end; stage++)
            if (take_weights(f, f->spans[i].holder, stage, vectors, err) < 0 ||
                (vectors && take_factors(f, f->spans[i].holder, stage, err) < 0))
                return -1;
    if (vectors)
        return 0;
    load_begin(f->load);
    return take_all_weights(f, true, err);
}

static int open_load(struct forward *f, struct llama3_error *err)
{
    const struct config *c = &f->model->config;
    uint64_t kv_bytes =
        c->n_layers * kv_position_bytes(c, f->options.kv_type) * f->options.max_context;
    f->load = load_open(f->model, f->options.load, kv_bytes, err);
    return f->load != NULL ? 0 : -1;
}

/* Memory for the copies between backends, and for the batch of one holder. */
static int open_room(struct forward *f, struct llama3_error *err)
{
    size_t widest = 0, rows = f->options.max_rows;
    for (int a = 0; a < ACT_LAST; a++) {
        size_t cols = activation_cols(&f->model->config, (enum activation)a);
        widest = cols > widest ? cols : widest;
    }
    if (f->n_holders > 1) {
        f->carry = size_alloc_for(rows, widest * sizeof(float), "activations", err);
        if (f->carry == NULL)
            return -1;
    }
    f->kvs = size_alloc_for(f->options.max_seqs, sizeof(struct kv *), "sequences", err);
    f->scales = size_alloc_for(f->options.max_seqs, f->options.n_loras * sizeof *f->scales,
                               "adapters", err);
    return f->kvs != NULL && f->scales != NULL ? 0 : -1;
}

/* Appends to a text of a fixed size; what does not fit is cut. */
__attribute__((format(printf, 3, 4))) static void append(char *text, size_t size,
                                                         const char *format, ...)
{
    va_list args;
    size_t used = strlen(text);
    va_start(args, format);
    vsnprintf(text + used, size - used, format, args);
    va_end(args);
}

static void describe(struct forward *f)
{
    const char *names[MAX_BACKENDS], *exactness[MAX_BACKENDS];
    bool same = true;
    for (size_t i = 0; i < f->n_holders; i++) {
        names[i] = f->holders[i].ops->describe(f->holders[i].backend, &exactness[i]);
        same = same && strcmp(exactness[i], exactness[0]) == 0;
        append(f->description, sizeof f->description, "%s%s", i > 0 ? " and " : "", names[i]);
    }
    for (size_t i = 0; i < (same ? 1 : f->n_holders); i++)
        append(f->exactness, sizeof f->exactness, "%s%s%s%s", i > 0 ? "; " : "",
               same ? "" : names[i], same ? "" : ": ", exactness[i]);
}

static int open_holders(struct forward *f, struct llama3_error *err)
{
    float inv_freq[MAX_HEAD_DIM / 2];
    rope_frequencies(&f->model->config, inv_freq);
    for (size_t i = 0; i < f->n_holders; i++)
        if (open_holder(f, &f->holders[i], inv_freq, err) < 0)
            return -1;
    count_weights(f);
    if (open_load(f, err) < 0 || take_all_weights(f, false, err) < 0 || open_room(f, err) < 0)
        return -1;
    describe(f);
    return 0;
}

struct forward *forward_open(const struct model *model, const struct plan *plan,
                             const struct forward_options *options, struct llama3_error *err)
{
    struct forward *f = size_alloc_for(1, sizeof *f, "the network", err);
    if (f == NULL)
        return NULL;
    f->model = model;
    f->options = *options;
    if (take_plan(f, plan, err) < 0 || open_holders(f, err) < 0 ||
        model_check_files(model, err) < 0) {
        forward_close(f);
        return NULL;
    }
    return f;
}

static void close_holder(struct forward *f, struct holder *h)
{
    struct stage_weight list[MAX_STAGE_WEIGHTS];
    if (h->backend == NULL)
        return;
    for (size_t stage = 0; h->weights != NULL && stage < stage_count(f->model->config.n_layers);
         stage++)
        for (size_t i = stage_weights(f->model, stage, f->together, list); i > 0; i--)
            if (h->weights[stage][i - 1] != NULL)
                h->ops->weight_free(h->backend, h->weights[stage][i - 1]);
    for (size_t i = 0; h->factors != NULL && i < h->n_loras * h->n_stages * MAX_STAGE_WEIGHTS;
         i++) {
        struct factors *factors = &h->factors[i / MAX_STAGE_WEIGHTS][i % MAX_STAGE_WEIGHTS];
        if (factors->a != NULL)
            h->ops->weight_free(h->backend, factors->a);
        if (factors->b != NULL)
            h->ops->weight_free(h->backend, factors->b);
    }
    for (int a = 0; a < ACT_COUNT; a++)
        if (h->act[a] != NULL)
            h->ops->buffer_free(h->backend, h->act[a]);
    free(h->weights);
    free(h->factors);
    free(h->orders);
    h->ops->close(h->backend);
}

void forward_close(struct forward *f)
{
    if (f == NULL)
        return;
    load_close(f->load);
    for (size_t i = 0; i < f->n_holders; i++)
        close_holder(f, &f->holders[i]);
    free(f->spans);
    free(f->kv_layer);
    free(f->carry);
    free(f->kvs);
    free(f->scales);
    free(f);
}

const char *forward_describe(const struct forward *f, const char **exactness)
{
    if (exactness != NULL)
        *exactness = f->exactness;
    return f->description;
}

const char *forward_describe_backend(const struct forward *f, size_t backend)
{
    return f->holders[backend].ops->describe(f->holders[backend].backend, NULL);
}

const char *forward_path(const struct forward *f)
{
    return f->model->path;
}

/* ---- sequences ------------------------------------------------------------------------- */

struct sequence *sequence_open(struct forward *f, struct llama3_error *err)
{
    return sequence_fork(f, NULL, 0, err);
}

/* A fork of no sequence is a new, empty one. */
struct sequence *sequence_fork(struct forward *f, struct sequence *sequence, size_t n,
                               struct llama3_error *err)
{
    struct sequence *made = size_alloc_for(1, sizeof *made, "a sequence", err);
    if (made == NULL)
        return NULL;
    for (size_t i = 0; i < f->options.n_loras; i++)
        made->scales[i] = sequence != NULL ? sequence->scales[i] : f->options.loras[i].scale;
    for (size_t i = 0; i < f->n_holders; i++) {
        struct holder *h = &f->holders[i];
        if (h->n_kv_layers == 0)
            continue;
        made->kv[i] = sequence != NULL ? h->ops->kv_fork(h->backend, sequence->kv[i], n, err)
                                       : h->ops->kv_open(h->backend, err);
        if (made->kv[i] == NULL) {
            sequence_close(f, made);
            return NULL;
        }
    }
    return made;
}

void sequence_close(struct forward *f, struct sequence *sequence)
{
    if (sequence == NULL)
        return;
    for (size_t i = 0; i < f->n_holders; i++)
        if (sequence->kv[i] != NULL)
            f->holders[i].ops->kv_close(f->holders[i].backend, sequence->kv[i]);
    free(sequence);
}

float *sequence_scales(struct sequence *sequence)
{
    return sequence->scales;
}

uint64_t sequence_missing(const struct forward *f, const struct sequence *sequence, size_t from,
                          size_t to)
{
    uint64_t bytes = 0;
    for (size_t i = 0; i < f->n_holders; i++)
        if (f->holders[i].n_kv_layers > 0)
            bytes += f->holders[i].ops->kv_missing(
                f->holders[i].backend, sequence != NULL ? sequence->kv[i] : NULL, from, to);
    return bytes;
}

void sequence_share(struct forward *f, struct sequence *sequence, const struct sequence *from,
                    size_t n)
{
    for (size_t i = 0; i < f->n_holders; i++)
        if (sequence->kv[i] != NULL)
            f->holders[i].ops->kv_share(f->holders[i].backend, sequence->kv[i], from->kv[i], n);
}

int sequence_reserve(struct forward *f, struct sequence *sequence, size_t from, size_t to,
                     struct llama3_error *err)
{
    for (size_t i = 0; i < f->n_holders; i++)
        if (sequence->kv[i] != NULL &&
            f->holders[i].ops->kv_reserve(f->holders[i].backend, sequence->kv[i], from, to, err) <
                0) {
            sequence_truncate(f, sequence, from);
            return -1;
        }
    return 0;
}

void sequence_truncate(struct forward *f, struct sequence *sequence, size_t n)
{
    for (size_t i = 0; i < f->n_holders; i++)
        if (sequence->kv[i] != NULL)
            f->holders[i].ops->kv_truncate(f->holders[i].backend, sequence->kv[i], n);
}

/* The holder that attends in a layer. */
static const struct holder *attending(const struct forward *f, size_t layer)
{
    const struct run_span *span = f->spans;
    while (span->end <= stage_of(layer, STAGE_ATTEND))
        span++;
    return span->holder;
}

int sequence_export(struct forward *f, struct sequence *sequence, size_t layer, size_t from,
                    size_t to, void *k, void *v, struct llama3_error *err)
{
    const struct holder *h = attending(f, layer);
    return h->ops->kv_export(h->backend, sequence->kv[h - f->holders], f->kv_layer[layer], from, to,
                             k, v, err);
}

int sequence_import(struct forward *f, struct sequence *sequence, size_t layer, size_t from,
                    size_t to, const void *k, const void *v, struct llama3_error *err)
{
    const struct holder *h = attending(f, layer);
    return h->ops->kv_import(h->backend, sequence->kv[h - f->holders], f->kv_layer[layer], from, to,
                             k, v, err);
}

/* ---- pages, as they are kept outside --------------------------------------------------- */

/* The only backend with KV, if its pages are in the host's memory. */
static const struct holder *lender(const struct forward *f)
{
    const struct holder *only = NULL;
    for (size_t i = 0; i < f->n_holders; i++) {
        if (f->holders[i].n_kv_layers == 0)
            continue;
        if (only != NULL)
            return NULL;
        only = &f->holders[i];
    }
    return only != NULL && only->ops->kv_page != NULL ? only : NULL;
}

/* Of a layer. */
static size_t page_key_bytes(const struct forward *f)
{
    const struct config *c = &f->model->config;
    return KV_PAGE * c->n_kv_heads * kv_key_bytes(f->options.kv_type, c->head_dim);
}

static size_t layer_page_bytes(const struct forward *f)
{
    return KV_PAGE * (size_t)kv_position_bytes(&f->model->config, f->options.kv_type);
}

size_t forward_page_bytes(const struct forward *f)
{
    const struct holder *h = lender(f);
    return h != NULL ? h->ops->kv_page_size(h->backend)
                     : f->model->config.n_layers * layer_page_bytes(f);
}

const char *forward_page_layout(const struct forward *f)
{
    return lender(f) != NULL ? "as it lies" : "by layers";
}

const void *sequence_page(const struct forward *f, const struct sequence *sequence, size_t page)
{
    const struct holder *h = lender(f);
    return h != NULL ? h->ops->kv_page(h->backend, sequence->kv[h - f->holders], page) : NULL;
}

int sequence_copy_page(struct forward *f, struct sequence *sequence, size_t page, void *out,
                       struct llama3_error *err)
{
    size_t bytes = layer_page_bytes(f), keys = page_key_bytes(f), from = page * KV_PAGE;
    char *at = out;
    for (size_t layer = 0; layer < f->model->config.n_layers; layer++, at += bytes)
        if (sequence_export(f, sequence, layer, from, from + KV_PAGE, at, at + keys, err) < 0)
            return -1;
    return 0;
}

static int copy_lent(struct forward *f, struct sequence *sequence, size_t page,
                     const struct kv_lent *lent, struct llama3_error *err)
{
    size_t bytes = layer_page_bytes(f), keys = page_key_bytes(f), from = page * KV_PAGE;
    const char *at = lent->data;
    if (sequence_reserve(f, sequence, from, from + KV_PAGE, err) < 0)
        return -1;
    for (size_t layer = 0; layer < f->model->config.n_layers; layer++, at += bytes)
        if (sequence_import(f, sequence, layer, from, from + KV_PAGE, at, at + keys, err) < 0)
            return -1;
    return 0;
}

int sequence_put_page(struct forward *f, struct sequence *sequence, size_t page,
                      struct kv_lent *lent, struct llama3_error *err)
{
    const struct holder *h = lender(f);
    int status = h != NULL
                     ? h->ops->kv_lend(h->backend, sequence->kv[h - f->holders], page, lent, err)
                     : copy_lent(f, sequence, page, lent, err);
    if (status < 0)
        sequence_truncate(f, sequence, page * KV_PAGE);
    if (status < 0 || h == NULL)
        lent->release(lent);
    return status;
}

int sequence_check(const struct forward *f, const struct sequence *sequence,
                   struct llama3_error *err)
{
    const struct holder *h = lender(f);
    return h != NULL ? h->ops->kv_check(h->backend, sequence->kv[h - f->holders], err) : 0;
}

/* ---- a pass ---------------------------------------------------------------------------- */

struct stage_range {
    const struct forward *forward;
    const struct holder *holder;
    size_t first, end; /* stages */
};

/* Does nothing but issue operations. */
static void run_stages(void *arg)
{
    const struct stage_range *range = arg;
    for (size_t stage = range->first; stage < range->end; stage++)
        run_stage(range->forward, range->holder, stage);
}

/* Copies what the span reads from other backends. */
static int carry_over(struct forward *f, const struct run_span *span, struct llama3_error *err)
{
    struct holder *to = span->holder;
    for (int a = 0; span->carried >> a != 0; a++) {
        if ((span->carried >> a & 1) == 0)
            continue;
        struct holder *from = span->from[a];
        enum rows rows = activation_rows((enum activation)a);
        if (from->ops->read(from->backend, rows, from->act[a], f->carry, err) < 0)
            return -1;
        to->ops->write(to->backend, rows, to->act[a], f->carry);
    }
    return 0;
}

/* Waits until a backend has done all that was issued, and returns its failure. */
static int finish(struct forward *f, const struct holder *h, float *logits,
                  struct llama3_error *err)
{
    if (h->act[ACT_LOGITS] != NULL)
        return h->ops->read(h->backend, ROWS_LOGITS, h->act[ACT_LOGITS], logits, err);
    size_t any = 0;
    while (h->act[any] == NULL)
        any++;
    return h->ops->read(h->backend, ROWS_LOGITS, h->act[any], f->carry, err);
}

void forward_pin(const struct forward *f, float *logits, size_t n)
{
    const struct holder *h = f->spans[f->n_spans - 1].holder;
    if (h->ops->pin != NULL)
        h->ops->pin(h->backend, logits, n * sizeof *logits);
}

/* The adapters of the batch's sequences. */
static void give_scales(struct forward *f, struct sequence *const *seqs, size_t n_seqs)
{
    size_t n = f->options.n_loras;
    memset(f->used, 0, sizeof f->used);
    for (size_t s = 0; s < n_seqs; s++)
        for (size_t i = 0; i < n; i++) {
            f->scales[s * n + i] = seqs[s]->scales[i];
            f->used[i] |= seqs[s]->scales[i] != 0;
        }
}

static int give_batch(struct forward *f, struct holder *h, struct batch *batch,
                      struct sequence *const *seqs, struct llama3_error *err)
{
    for (size_t s = 0; s < batch->n_seqs; s++)
        f->kvs[s] = seqs[s]->kv[h - f->holders];
    batch->seqs = f->kvs;
    batch->scales = f->scales;
    give_scales(f, seqs, batch->n_seqs);
    return h->ops->batch(h->backend, batch, err);
}

int forward_run(struct forward *f, const struct batch_row *rows, size_t n_rows,
                struct sequence *const *seqs, size_t n_seqs, float *logits,
                bool (*canceled)(void *arg), void *arg, struct llama3_error *err)
{
    struct batch batch = {.n_rows = n_rows, .rows = rows, .n_seqs = n_seqs};
    if (n_seqs > f->options.max_seqs)
        return error_input(err, "a batch holds at most %zu sequences, found %zu",
                           f->options.max_seqs, n_seqs);
    if (model_check_files(f->model, err) < 0)
        return -1;
    for (size_t i = 0; i < f->n_holders; i++)
        if (give_batch(f, &f->holders[i], &batch, seqs, err) < 0)
            return -1;

    bool wants_logits = false, stop = false;
    for (size_t r = 0; r < n_rows; r++)
        wants_logits |= rows[r].wants_logits;
    bool stepwise = canceled != NULL && n_rows >= ROWS_WORTH_CANCELING;

    const struct holder *holder = f->spans[0].holder;
    for (size_t i = 0; i < f->n_spans && !stop; i++) {
        const struct run_span *span = &f->spans[i];
        size_t first = span->first, end = span->end;
        if (!wants_logits && i + 1 == f->n_spans)
            end--; /* the head */
        if (first == end)
            break;
        if (carry_over(f, span, err) < 0)
            return -1;
        holder = span->holder;
        while (first < end && !stop) {
            size_t until =
                stepwise && end - first > STAGES_PER_LAYER ? first + STAGES_PER_LAYER : end;
            struct stage_range range = {f, holder, first, until};
            holder->ops->run(holder->backend, run_stages, &range);
            first = until;
            stop = stepwise && canceled(arg);
        }
    }

    if (finish(f, holder, logits, err) < 0 || model_check_files(f->model, err) < 0)
        return -1;
    return stop ? error_set(err, LLAMA3_ECANCELED, "canceled") : 0;
}

struct load *forward_load(const struct forward *f)
{
    return f->load;
}

uint64_t forward_kv_bytes(const struct forward *f)
{
    uint64_t bytes = 0;
    for (size_t h = 0; h < f->n_holders; h++)
        bytes += f->holders[h].ops->kv_bytes(f->holders[h].backend);
    return bytes;
}

/* ---- a layer, input by input ----------------------------------------------------------------- */

/* The activation that holds an input. */
static enum activation input_activation(enum layer_input input)
{
    static const enum activation activations[] = {
        [INPUT_QKV] = ACT_H,
        [INPUT_OUT] = ACT_A,
        [INPUT_GATE_UP] = ACT_H,
        [INPUT_DOWN] = ACT_GATE,
    };
    return activations[input];
}

size_t layer_input_cols(const struct config *config, enum layer_input input)
{
    return activation_cols(config, input_activation(input));
}

struct step {
    const struct holder *holder;
    enum layer_input input;
};

static void run_step(void *arg)
{
    const struct step *s = arg;
    const struct holder *h = s->holder;
    switch (s->input) {
    case INPUT_QKV:
        normalize(h, stage_of(0, STAGE_QKV), NULL);
        break;
    case INPUT_OUT:
        project_qkv(h, stage_of(0, STAGE_QKV));
        attend(h, 0);
        break;
    case INPUT_GATE_UP:
        project_out(h, stage_of(0, STAGE_OUT));
        normalize(h, stage_of(0, STAGE_FFN), h->act[ACT_D]);
        break;
    case INPUT_DOWN:
        gate_up(h, stage_of(0, STAGE_FFN));
        break;
    case INPUT_COUNT:
        project_down(h, stage_of(0, STAGE_FFN));
        break;
    }
}

static int read_all(const struct holder *h, enum activation activation, float *out,
                    struct llama3_error *err)
{
    return h->ops->read(h->backend, ROWS_ALL, h->act[activation], out, err);
}

int forward_step(struct forward *f, const struct batch_row *rows, size_t n_rows,
                 struct sequence *sequence, enum layer_input input, float *x, float *in,
                 struct llama3_error *err)
{
    struct batch batch = {.n_rows = n_rows, .rows = rows, .n_seqs = 1};
    struct holder *h = &f->holders[0];
    struct step step = {h, input};

    if (give_batch(f, h, &batch, &sequence, err) < 0)
        return -1;
    if (input == INPUT_QKV || input == INPUT_GATE_UP)
        h->ops->write(h->backend, ROWS_ALL, h->act[ACT_X], x);
    if (input != INPUT_QKV)
        h->ops->write(h->backend, ROWS_ALL, h->act[input_activation(input - 1)], in);
    h->ops->run(h->backend, run_step, &step);
    if (input < INPUT_COUNT)
        return (input == INPUT_GATE_UP && read_all(h, ACT_X, x, err) < 0) ||
                       read_all(h, input_activation(input), in, err) < 0
                   ? -1
                   : 0;
    if (read_all(h, ACT_D, in, err) < 0)
        return -1;
    for (size_t i = 0; i < n_rows * f->model->config.dim; i++)
        x[i] += in[i];
    return 0;
}

static void run_head(void *arg)
{
    const struct holder *h = arg;
    project_head(h, stage_count(1) - 1, NULL);
}

int forward_head(struct forward *f, size_t n_rows, struct sequence *sequence, const float *x,
                 float *logits, struct llama3_error *err)
{
    struct holder *h = &f->holders[0];
    struct batch_row *rows = size_alloc_for(n_rows, sizeof *rows, "rows", err);
    struct batch batch = {.n_rows = n_rows, .rows = rows, .n_seqs = 1};
    if (rows == NULL)
        return -1;
    for (size_t i = 0; i < n_rows; i++)
        rows[i] = (struct batch_row){.position = (int32_t)i, .wants_logits = true};
    int status = give_batch(f, h, &batch, &sequence, err);
    if (status == 0) {
        h->ops->write(h->backend, ROWS_ALL, h->act[ACT_X], x);
        h->ops->run(h->backend, run_head, h);
        status = h->ops->read(h->backend, ROWS_LOGITS, h->act[ACT_LOGITS], logits, err);
    }
    free(rows);
    return status;
}
