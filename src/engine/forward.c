/* SPDX-License-Identifier: MIT */
/*
 * forward.c: the network. run_stage() below is the only place that knows the order in which a
 * Llama computes; everything else here is where its parts live: handles on each backend, and the
 * activations that cross from one backend to the next.
 */
#include "engine/forward.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/size.h"

/* A batch of at least this many rows runs a layer at a time, so that it can be canceled: it takes
 * long enough for entering the backend once more to cost nothing. */
enum { ROWS_WORTH_CANCELING = 16 };

/* One backend's share of the model. */
struct part {
    struct backend *backend;
    const struct backend_ops *ops;
    struct buffer *act[ACT_COUNT]; /* NULL where none of its stages needs it */
    struct weight *(
        *weights)[MAX_STAGE_WEIGHTS]; /* [n_stages], NULL where a stage runs elsewhere */
    size_t n_kv_layers;
    unsigned activations; /* that its stages need */
};

/* A span, and what comes over the border before it. */
struct leg {
    struct part *part;
    size_t first, end;            /* stages */
    unsigned carried;             /* activations, */
    struct part *from[ACT_COUNT]; /* each from a part that holds it as it is now */
};

struct forward {
    const struct model *model;
    struct forward_options options;
    struct part parts[MAX_BACKENDS];
    size_t n_parts;
    struct leg *legs; /* [n_legs] */
    size_t n_legs;
    bool together;    /* see stages.h */
    size_t *kv_layer; /* [n_layers] number of the layer among those whose KV its backend holds */
    float *carry;     /* [max_rows][widest activation] between backends; NULL if there is one */
    struct kv **kvs;  /* [max_seqs] for the batch of one part */
    char description[256], exactness[512];
    uint64_t taken_bytes, total_bytes; /* of matrices, while it is opened */
};

struct sequence {
    struct kv *kv[MAX_BACKENDS]; /* NULL where a backend holds no layer's KV */
};

/* ---- what a layer does, from one input of its linears to the next -----------------------------
 */

/* Adds what the linears before made, if anything, to the residual stream. */
static void normalize(const struct part *p, size_t stage, struct buffer *added)
{
    p->ops->add_norm(p->backend, ROWS_ALL, p->act[ACT_X], added, p->weights[stage][W_NORM],
                     p->act[ACT_H]);
}

static void project_qkv(const struct part *p, size_t stage)
{
    struct weight *const *w = p->weights[stage];
    p->ops->linear(p->backend, ROWS_ALL,
                   (struct buffer *const[]){p->act[ACT_Q], p->act[ACT_K], p->act[ACT_V]},
                   (const struct weight *const[]){w[W_Q], w[W_K], w[W_V]}, 3, p->act[ACT_H]);
}

static void attend(const struct part *p, size_t kv_layer)
{
    p->ops->rope_store(p->backend, kv_layer, p->act[ACT_Q], p->act[ACT_K], p->act[ACT_V]);
    p->ops->attend(p->backend, kv_layer, p->act[ACT_Q], p->act[ACT_A]);
}

static void project_out(const struct part *p, size_t stage)
{
    p->ops->linear(p->backend, ROWS_ALL, &p->act[ACT_D],
                   (const struct weight *const[]){p->weights[stage][W_O]}, 1, p->act[ACT_A]);
}

static void gate_up(const struct part *p, size_t stage)
{
    struct weight *const *w = p->weights[stage];
    p->ops->linear(p->backend, ROWS_ALL, (struct buffer *const[]){p->act[ACT_GATE], p->act[ACT_UP]},
                   (const struct weight *const[]){w[W_GATE], w[W_UP]}, 2, p->act[ACT_H]);
    p->ops->swiglu(p->backend, p->act[ACT_GATE], p->act[ACT_UP]);
}

static void project_down(const struct part *p, size_t stage)
{
    p->ops->linear(p->backend, ROWS_ALL, &p->act[ACT_D],
                   (const struct weight *const[]){p->weights[stage][W_DOWN]}, 1, p->act[ACT_GATE]);
}

static void project_head(const struct part *p, size_t stage, struct buffer *added)
{
    struct weight *const *w = p->weights[stage];
    p->ops->add_norm(p->backend, ROWS_LOGITS, p->act[ACT_X], added, w[W_NORM], p->act[ACT_LAST]);
    p->ops->linear(p->backend, ROWS_LOGITS, &p->act[ACT_LOGITS],
                   (const struct weight *const[]){w[W_HEAD]}, 1, p->act[ACT_LAST]);
}

static void run_stage(const struct forward *f, const struct part *p, size_t stage)
{
    const struct backend_ops *ops = p->ops;
    struct backend *b = p->backend;
    struct buffer *const *act = p->act;
    struct weight *const *w = p->weights[stage];

    switch (stage_kind(stage, f->model->config.n_layers)) {
    case STAGE_EMBED:
        ops->embed(b, act[ACT_X], w[W_EMBED]);
        break;
    case STAGE_QKV:
        normalize(p, stage, stage_layer(stage) == 0 ? NULL : act[ACT_D]);
        project_qkv(p, stage);
        break;
    case STAGE_ATTEND:
        attend(p, f->kv_layer[stage_layer(stage)]);
        break;
    case STAGE_OUT:
        project_out(p, stage);
        break;
    case STAGE_FFN:
        normalize(p, stage, act[ACT_D]);
        gate_up(p, stage);
        project_down(p, stage);
        break;
    case STAGE_HEAD:
        project_head(p, stage, act[ACT_D]);
        break;
    }
}

/* ---- opening --------------------------------------------------------------------------- */

static int check_plan(const struct plan *plan, size_t n_stages, struct llama3_error *err)
{
    if (plan->n_backends < 1 || plan->n_backends > MAX_BACKENDS || plan->n_spans < 1)
        return error_set(err, LLAMA3_EINPUT,
                         "plan: expected 1 to %d backends and a span, found %zu and %zu",
                         MAX_BACKENDS, plan->n_backends, plan->n_spans);
    for (size_t i = 0; i < plan->n_spans; i++) {
        const struct span *span = &plan->spans[i];
        if (span->backend >= plan->n_backends || span->first >= n_stages ||
            (i == 0 ? span->first != 0 : span->first <= span[-1].first))
            return error_set(err, LLAMA3_EINPUT,
                             "plan: span %zu (stage %zu, backend %zu) is out of order or range", i,
                             span->first, span->backend);
    }
    return 0;
}

/* What a leg reads that another part has written since its own last did. holders: of each
 * activation, the parts that hold it as it is now, 1 << part each. */
static void plan_carries(struct forward *f, struct leg *leg, unsigned holders[ACT_COUNT])
{
    size_t n_layers = f->model->config.n_layers;
    unsigned own = 1U << (leg->part - f->parts);

    for (size_t stage = leg->first; stage < leg->end; stage++) {
        unsigned reads = stage_reads(stage, n_layers), writes = stage_writes(stage, n_layers);
        leg->part->activations |= reads | writes;
        for (int a = 0; a < ACT_COUNT; a++) {
            if ((reads >> a & 1) != 0 && (holders[a] & own) == 0) {
                leg->carried |= 1U << a;
                leg->from[a] = &f->parts[__builtin_ctz(holders[a])];
                holders[a] |= own;
            }
            if ((writes >> a & 1) != 0)
                holders[a] = own;
        }
    }
}

static void make_legs(struct forward *f, const struct plan *plan)
{
    size_t n_layers = f->model->config.n_layers;
    unsigned holders[ACT_COUNT] = {0};

    f->n_legs = plan->n_spans;
    for (size_t i = 0; i < f->n_legs; i++) {
        struct leg *leg = &f->legs[i];
        leg->part = &f->parts[plan->spans[i].backend];
        leg->first = plan->spans[i].first;
        leg->end = plan_end(plan, i, n_layers);
        plan_carries(f, leg, holders);
        for (size_t stage = leg->first; stage < leg->end; stage++)
            if (stage_kind(stage, n_layers) == STAGE_ATTEND)
                f->kv_layer[stage_layer(stage)] = leg->part->n_kv_layers++;
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

    f->legs = size_alloc(plan->n_spans, sizeof *f->legs);
    f->kv_layer = size_alloc(n_layers, sizeof *f->kv_layer);
    if (f->legs == NULL || f->kv_layer == NULL)
        return error_memory(err, "the plan", plan->n_spans * sizeof *f->legs);
    f->n_parts = plan->n_backends;
    for (size_t i = 0; i < f->n_parts; i++)
        f->parts[i].ops = plan->backends[i];
    f->together = plan_is_together(plan);
    make_legs(f, plan);
    return 0;
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
        .kv_type = o->kv_type,
        .rope_interleaved = c->rope.interleaved,
        .rms_eps = c->rms_eps,
    };
}

static int open_part(struct forward *f, struct part *p, const float *inv_freq,
                     struct llama3_error *err)
{
    const struct config *c = &f->model->config;
    struct backend_shape shape = forward_shape(c, &f->options, p->n_kv_layers);
    shape.inv_freq = inv_freq;
    p->backend = p->ops->open(&f->options.backend, &shape, err);
    if (p->backend == NULL)
        return -1;
    for (int i = 0; i < ACT_COUNT; i++) {
        enum activation a = (enum activation)i;
        if ((p->activations >> a & 1) == 0)
            continue;
        p->act[a] = p->ops->buffer(p->backend, activation_rows(a), activation_cols(c, a), err);
        if (p->act[a] == NULL)
            return -1;
    }
    size_t n_stages = stage_count(c->n_layers);
    p->weights = size_alloc(n_stages, sizeof *p->weights);
    return p->weights != NULL ? 0 : error_memory(err, "stages", n_stages * sizeof *p->weights);
}

/* What a backend has copied needn't lie in memory twice. */
static void drop_copied(const struct forward *f, const struct part *p, const struct weight *weight,
                        const struct matrix *matrix)
{
    if (!p->ops->weight_is_copy(p->backend, weight))
        return;
    for (size_t i = 0; i < f->model->n_maps; i++)
        map_drop(&f->model->maps[i], matrix->data, matrix_bytes(matrix));
}

static int take(struct forward *f, const struct part *p, struct weight **weight,
                const struct matrix *matrix, enum weight_use use, struct llama3_error *err)
{
    const struct forward_options *o = &f->options;
    *weight = p->ops->weight(p->backend, matrix, use, err);
    if (*weight == NULL)
        return -1;
    drop_copied(f, p, *weight, matrix);
    f->taken_bytes += matrix_bytes(matrix);
    return o->on_progress != NULL && o->on_progress(o->arg, f->taken_bytes, f->total_bytes) != 0
               ? error_set(err, LLAMA3_ECANCELED, "canceled")
               : 0;
}

/* The weights that a stage reads. */
static int take_weights(struct forward *f, struct part *p, size_t stage, struct llama3_error *err)
{
    struct stage_weight list[MAX_STAGE_WEIGHTS];
    size_t n = stage_weights(f->model, stage, f->together, list);
    for (size_t i = 0; i < n; i++)
        if (take(f, p, &p->weights[stage][i], list[i].matrix, list[i].use, err) < 0)
            return -1;
    if (f->together && f->model->config.tied && stage + 1 == stage_count(f->model->config.n_layers))
        p->weights[stage][W_HEAD] = p->weights[0][W_EMBED];
    return 0;
}

static void count_weights(struct forward *f)
{
    struct stage_weight list[MAX_STAGE_WEIGHTS];
    for (size_t stage = 0; stage < stage_count(f->model->config.n_layers); stage++)
        for (size_t i = stage_weights(f->model, stage, f->together, list); i > 0; i--)
            f->total_bytes += matrix_bytes(list[i - 1].matrix);
}

static int take_all_weights(struct forward *f, struct llama3_error *err)
{
    count_weights(f);
    for (size_t i = 0; i < f->n_legs; i++)
        for (size_t stage = f->legs[i].first; stage < f->legs[i].end; stage++)
            if (take_weights(f, f->legs[i].part, stage, err) < 0)
                return -1;
    return 0;
}

/* Room for what is carried and for the batch of one part. */
static int open_room(struct forward *f, struct llama3_error *err)
{
    size_t widest = 0, rows = f->options.max_rows;
    for (int a = 0; a < ACT_LAST; a++) {
        size_t cols = activation_cols(&f->model->config, (enum activation)a);
        widest = cols > widest ? cols : widest;
    }
    if (f->n_parts > 1) {
        f->carry = size_alloc(rows, widest * sizeof(float));
        if (f->carry == NULL)
            return error_memory(err, "activations", rows * widest * sizeof(float));
    }
    f->kvs = size_alloc(f->options.max_seqs, sizeof(struct kv *));
    return f->kvs != NULL ? 0 : error_memory(err, "sequences", f->options.max_seqs);
}

/* Appends to a text of a fixed size; what doesn't fit is cut. */
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
    for (size_t i = 0; i < f->n_parts; i++) {
        names[i] = f->parts[i].ops->describe(f->parts[i].backend, &exactness[i]);
        same = same && strcmp(exactness[i], exactness[0]) == 0;
        append(f->description, sizeof f->description, "%s%s", i > 0 ? " and " : "", names[i]);
    }
    for (size_t i = 0; i < (same ? 1 : f->n_parts); i++)
        append(f->exactness, sizeof f->exactness, "%s%s%s%s", i > 0 ? "; " : "",
               same ? "" : names[i], same ? "" : ": ", exactness[i]);
}

static int open_parts(struct forward *f, struct llama3_error *err)
{
    float inv_freq[MAX_HEAD_DIM / 2];
    rope_frequencies(&f->model->config, inv_freq);
    for (size_t i = 0; i < f->n_parts; i++)
        if (open_part(f, &f->parts[i], inv_freq, err) < 0)
            return -1;
    if (take_all_weights(f, err) < 0 || open_room(f, err) < 0)
        return -1;
    describe(f);
    return 0;
}

struct forward *forward_open(const struct model *model, const struct plan *plan,
                             const struct forward_options *options, struct llama3_error *err)
{
    struct forward *f = size_alloc(1, sizeof *f);
    if (f == NULL) {
        error_memory(err, "the network", sizeof *f);
        return NULL;
    }
    f->model = model;
    f->options = *options;
    if (take_plan(f, plan, err) < 0 || open_parts(f, err) < 0 ||
        model_check_files(model, err) < 0) {
        forward_close(f);
        return NULL;
    }
    return f;
}

static void close_part(struct forward *f, struct part *p)
{
    struct stage_weight list[MAX_STAGE_WEIGHTS];
    if (p->backend == NULL)
        return;
    for (size_t stage = 0; p->weights != NULL && stage < stage_count(f->model->config.n_layers);
         stage++)
        for (size_t i = stage_weights(f->model, stage, f->together, list); i > 0; i--)
            if (p->weights[stage][i - 1] != NULL)
                p->ops->weight_free(p->backend, p->weights[stage][i - 1]);
    for (int a = 0; a < ACT_COUNT; a++)
        if (p->act[a] != NULL)
            p->ops->buffer_free(p->backend, p->act[a]);
    free(p->weights);
    p->ops->close(p->backend);
}

void forward_close(struct forward *f)
{
    if (f == NULL)
        return;
    for (size_t i = 0; i < f->n_parts; i++)
        close_part(f, &f->parts[i]);
    free(f->legs);
    free(f->kv_layer);
    free(f->carry);
    free(f->kvs);
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
    return f->parts[backend].ops->describe(f->parts[backend].backend, NULL);
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
    struct sequence *made = size_alloc(1, sizeof *made);
    if (made == NULL) {
        error_memory(err, "a sequence", sizeof *made);
        return NULL;
    }
    for (size_t i = 0; i < f->n_parts; i++) {
        struct part *p = &f->parts[i];
        if (p->n_kv_layers == 0)
            continue;
        made->kv[i] = sequence != NULL ? p->ops->kv_fork(p->backend, sequence->kv[i], n, err)
                                       : p->ops->kv_open(p->backend, err);
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
    for (size_t i = 0; i < f->n_parts; i++)
        if (sequence->kv[i] != NULL)
            f->parts[i].ops->kv_close(f->parts[i].backend, sequence->kv[i]);
    free(sequence);
}

int sequence_reserve(struct forward *f, struct sequence *sequence, size_t from, size_t to,
                     struct llama3_error *err)
{
    for (size_t i = 0; i < f->n_parts; i++)
        if (sequence->kv[i] != NULL &&
            f->parts[i].ops->kv_reserve(f->parts[i].backend, sequence->kv[i], from, to, err) < 0) {
            sequence_truncate(f, sequence, from);
            return -1;
        }
    return 0;
}

void sequence_truncate(struct forward *f, struct sequence *sequence, size_t n)
{
    for (size_t i = 0; i < f->n_parts; i++)
        if (sequence->kv[i] != NULL)
            f->parts[i].ops->kv_truncate(f->parts[i].backend, sequence->kv[i], n);
}

/* The part that attends in a layer. */
static size_t attending_part(const struct forward *f, size_t layer)
{
    const struct leg *leg = f->legs;
    while (leg->end <= stage_of(layer, STAGE_ATTEND))
        leg++;
    return (size_t)(leg->part - f->parts);
}

int sequence_import(struct forward *f, struct sequence *sequence, size_t layer, size_t from,
                    size_t to, const void *k, const void *v, struct llama3_error *err)
{
    size_t i = attending_part(f, layer);
    return f->parts[i].ops->kv_import(f->parts[i].backend, sequence->kv[i], f->kv_layer[layer],
                                      from, to, k, v, err);
}

/* ---- a pass ---------------------------------------------------------------------------- */

struct stretch {
    const struct forward *forward;
    const struct part *part;
    size_t first, end; /* stages */
};

/* Does nothing but issue operations. */
static void run_stretch(void *arg)
{
    const struct stretch *s = arg;
    for (size_t stage = s->first; stage < s->end; stage++)
        run_stage(s->forward, s->part, stage);
}

/* What a leg reads that other parts have written. */
static int carry_over(struct forward *f, const struct leg *leg, struct llama3_error *err)
{
    struct part *to = leg->part;
    for (int a = 0; leg->carried >> a != 0; a++) {
        if ((leg->carried >> a & 1) == 0)
            continue;
        struct part *from = leg->from[a];
        enum rows rows = activation_rows((enum activation)a);
        if (from->ops->read(from->backend, rows, from->act[a], f->carry, err) < 0)
            return -1;
        to->ops->write(to->backend, rows, to->act[a], f->carry);
    }
    return 0;
}

/* Waits for what a part was given, and hears of its failures. */
static int finish(struct forward *f, const struct part *p, float *logits, struct llama3_error *err)
{
    if (p->act[ACT_LOGITS] != NULL)
        return p->ops->read(p->backend, ROWS_LOGITS, p->act[ACT_LOGITS], logits, err);
    size_t any = 0;
    while (p->act[any] == NULL)
        any++;
    return p->ops->read(p->backend, ROWS_LOGITS, p->act[any], f->carry, err);
}

void forward_pin(const struct forward *f, float *logits, size_t n)
{
    const struct part *p = f->legs[f->n_legs - 1].part;
    if (p->ops->pin != NULL)
        p->ops->pin(p->backend, logits, n * sizeof *logits);
}

static int give_batch(struct forward *f, struct part *p, struct batch *batch,
                      struct sequence *const *seqs, struct llama3_error *err)
{
    for (size_t s = 0; s < batch->n_seqs; s++)
        f->kvs[s] = seqs[s]->kv[p - f->parts];
    batch->seqs = f->kvs;
    return p->ops->batch(p->backend, batch, err);
}

int forward_run(struct forward *f, const struct batch_row *rows, size_t n_rows,
                struct sequence *const *seqs, size_t n_seqs, float *logits,
                bool (*canceled)(void *arg), void *arg, struct llama3_error *err)
{
    struct batch batch = {.n_rows = n_rows, .rows = rows, .n_seqs = n_seqs};
    if (n_seqs > f->options.max_seqs)
        return error_set(err, LLAMA3_EINPUT, "a batch holds at most %zu sequences, found %zu",
                         f->options.max_seqs, n_seqs);
    if (model_check_files(f->model, err) < 0)
        return -1;
    for (size_t i = 0; i < f->n_parts; i++)
        if (give_batch(f, &f->parts[i], &batch, seqs, err) < 0)
            return -1;

    bool wants_logits = false, stop = false;
    for (size_t r = 0; r < n_rows; r++)
        wants_logits |= rows[r].wants_logits;
    bool stepwise = canceled != NULL && n_rows >= ROWS_WORTH_CANCELING;

    const struct part *part = f->legs[0].part;
    for (size_t i = 0; i < f->n_legs && !stop; i++) {
        const struct leg *leg = &f->legs[i];
        size_t first = leg->first, end = leg->end;
        if (!wants_logits && i + 1 == f->n_legs)
            end--; /* the head */
        if (first == end)
            break;
        if (carry_over(f, leg, err) < 0)
            return -1;
        part = leg->part;
        while (first < end && !stop) {
            size_t until =
                stepwise && end - first > STAGES_PER_LAYER ? first + STAGES_PER_LAYER : end;
            struct stretch stretch = {f, part, first, until};
            part->ops->run(part->backend, run_stretch, &stretch);
            first = until;
            stop = stepwise && canceled(arg);
        }
    }

    if (finish(f, part, logits, err) < 0 || model_check_files(f->model, err) < 0)
        return -1;
    return stop ? error_set(err, LLAMA3_ECANCELED, "canceled") : 0;
}

uint64_t forward_kv_bytes(const struct forward *f)
{
    uint64_t bytes = 0;
    for (size_t p = 0; p < f->n_parts; p++)
        bytes += f->parts[p].ops->kv_bytes(f->parts[p].backend);
    return bytes;
}

/* ---- a layer, input by input ------------------------------------------------------------------
 */

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
    const struct part *part;
    enum layer_input input;
};

static void run_step(void *arg)
{
    const struct step *s = arg;
    const struct part *p = s->part;
    switch (s->input) {
    case INPUT_QKV:
        normalize(p, stage_of(0, STAGE_QKV), NULL);
        break;
    case INPUT_OUT:
        project_qkv(p, stage_of(0, STAGE_QKV));
        attend(p, 0);
        break;
    case INPUT_GATE_UP:
        project_out(p, stage_of(0, STAGE_OUT));
        normalize(p, stage_of(0, STAGE_FFN), p->act[ACT_D]);
        break;
    case INPUT_DOWN:
        gate_up(p, stage_of(0, STAGE_FFN));
        break;
    case INPUT_COUNT:
        project_down(p, stage_of(0, STAGE_FFN));
        break;
    }
}

static int read_all(const struct part *p, enum activation activation, float *out,
                    struct llama3_error *err)
{
    return p->ops->read(p->backend, ROWS_ALL, p->act[activation], out, err);
}

int forward_step(struct forward *f, const struct batch_row *rows, size_t n_rows,
                 struct sequence *sequence, enum layer_input input, float *x, float *in,
                 struct llama3_error *err)
{
    struct batch batch = {.n_rows = n_rows, .rows = rows, .n_seqs = 1};
    struct part *p = &f->parts[0];
    struct step step = {p, input};

    if (give_batch(f, p, &batch, &sequence, err) < 0)
        return -1;
    if (input == INPUT_QKV || input == INPUT_GATE_UP)
        p->ops->write(p->backend, ROWS_ALL, p->act[ACT_X], x);
    if (input != INPUT_QKV)
        p->ops->write(p->backend, ROWS_ALL, p->act[input_activation(input - 1)], in);
    p->ops->run(p->backend, run_step, &step);
    if (input < INPUT_COUNT)
        return (input == INPUT_GATE_UP && read_all(p, ACT_X, x, err) < 0) ||
                       read_all(p, input_activation(input), in, err) < 0
                   ? -1
                   : 0;
    if (read_all(p, ACT_D, in, err) < 0)
        return -1;
    for (size_t i = 0; i < n_rows * f->model->config.dim; i++)
        x[i] += in[i];
    return 0;
}

static void run_head(void *arg)
{
    const struct part *p = arg;
    project_head(p, stage_count(1) - 1, NULL);
}

int forward_head(struct forward *f, size_t n_rows, struct sequence *sequence, const float *x,
                 float *logits, struct llama3_error *err)
{
    struct part *p = &f->parts[0];
    struct batch_row *rows = size_alloc(n_rows, sizeof *rows);
    struct batch batch = {.n_rows = n_rows, .rows = rows, .n_seqs = 1};
    if (rows == NULL)
        return error_memory(err, "rows", n_rows * sizeof *rows);
    for (size_t i = 0; i < n_rows; i++)
        rows[i] = (struct batch_row){.position = (int32_t)i, .wants_logits = true};
    int status = give_batch(f, p, &batch, &sequence, err);
    if (status == 0) {
        p->ops->write(p->backend, ROWS_ALL, p->act[ACT_X], x);
        p->ops->run(p->backend, run_head, p);
        status = p->ops->read(p->backend, ROWS_LOGITS, p->act[ACT_LOGITS], logits, err);
    }
    free(rows);
    return status;
}
