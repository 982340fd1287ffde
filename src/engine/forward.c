/*
 * forward.c: the network. run_stage() below is the only place that knows the order in which a
 * Llama computes; everything else here is where its parts live: handles on each backend, and the
 * activations that cross from one backend to the next.
 */
#include "engine/forward.h"

#include <stdlib.h>
#include <string.h>

#include "base/size.h"

/* A batch of at least this many rows runs a layer at a time, so that it can be canceled: it takes
 * long enough for entering the backend once more to cost nothing. */
enum { ROWS_WORTH_CANCELING = 16 };

enum { MAX_BACKENDS = 4 };

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

struct layer_weights {
    struct weight *attn_norm, *q, *k, *v, *o, *ffn_norm, *gate, *up, *down;
};

/* One backend's share of the model. */
struct part {
    struct backend *backend;
    const struct backend_ops *ops;
    struct buffer *act[ACT_COUNT];
    struct weight *embed, *norm, *head;
    struct layer_weights *layers; /* [n_layers], NULL where a stage runs elsewhere */
    size_t n_kv_layers;
};

struct forward {
    const struct model *model;
    struct forward_options options;
    struct part parts[MAX_BACKENDS];
    size_t n_parts;
    struct span *spans; /* [n_spans] */
    size_t n_spans;
    size_t *kv_layer; /* [n_layers] number of the layer among those whose KV its backend holds */
    size_t cols[ACT_COUNT];
    float *carry;    /* [max_rows][widest activation] between backends; NULL if there is one */
    struct kv **kvs; /* [max_seqs] for the batch of one part */
    uint64_t scratch_bytes;
    uint64_t taken_bytes, total_bytes; /* of matrices, while it is opened */
};

struct sequence {
    struct kv *kv[MAX_BACKENDS]; /* NULL where a backend holds no layer's KV */
};

static void run_stage(const struct forward *f, const struct part *p, size_t stage)
{
    const struct backend_ops *ops = p->ops;
    struct backend *b = p->backend;
    struct buffer *const *act = p->act;

    if (stage == 0) {
        ops->embed(b, act[ACT_X], p->embed);
        return;
    }
    if (stage + 1 == stage_count(f->model->config.n_layers)) {
        ops->add_norm(b, ROWS_LOGITS, act[ACT_X], act[ACT_D], p->norm, act[ACT_LAST]);
        ops->linear(b, ROWS_LOGITS, &act[ACT_LOGITS], (const struct weight *const[]){p->head}, 1,
                    act[ACT_LAST]);
        return;
    }

    size_t layer = (stage - 1) / STAGES_PER_LAYER;
    const struct layer_weights *w = &p->layers[layer];
    switch ((enum layer_stage)((stage - 1) % STAGES_PER_LAYER)) {
    case STAGE_QKV:
        ops->add_norm(b, ROWS_ALL, act[ACT_X], layer == 0 ? NULL : act[ACT_D], w->attn_norm,
                      act[ACT_H]);
        ops->linear(b, ROWS_ALL, (struct buffer *const[]){act[ACT_Q], act[ACT_K], act[ACT_V]},
                    (const struct weight *const[]){w->q, w->k, w->v}, 3, act[ACT_H]);
        break;
    case STAGE_ATTEND:
        ops->rope_store(b, f->kv_layer[layer], act[ACT_Q], act[ACT_K], act[ACT_V]);
        ops->attend(b, f->kv_layer[layer], act[ACT_Q], act[ACT_A]);
        break;
    case STAGE_OUT:
        ops->linear(b, ROWS_ALL, &act[ACT_D], (const struct weight *const[]){w->o}, 1, act[ACT_A]);
        break;
    case STAGE_FFN:
        ops->add_norm(b, ROWS_ALL, act[ACT_X], act[ACT_D], w->ffn_norm, act[ACT_H]);
        ops->linear(b, ROWS_ALL, (struct buffer *const[]){act[ACT_GATE], act[ACT_UP]},
                    (const struct weight *const[]){w->gate, w->up}, 2, act[ACT_H]);
        ops->swiglu(b, act[ACT_GATE], act[ACT_UP]);
        ops->linear(b, ROWS_ALL, &act[ACT_D], (const struct weight *const[]){w->down}, 1,
                    act[ACT_GATE]);
        break;
    case STAGES_PER_LAYER:
        break;
    }
}

/* The activations that a stage reads from the ones before it, ended by ACT_COUNT. */
static const enum activation *live_before(size_t stage)
{
    static const enum activation none[] = {ACT_COUNT};
    static const enum activation embedded[] = {ACT_X, ACT_COUNT};
    static const enum activation between[] = {ACT_X, ACT_D, ACT_COUNT};
    static const enum activation projected[] = {ACT_X, ACT_Q, ACT_K, ACT_V, ACT_COUNT};
    static const enum activation attended[] = {ACT_X, ACT_A, ACT_COUNT};

    if (stage <= 1)
        return stage == 0 ? none : embedded;
    switch ((enum layer_stage)((stage - 1) % STAGES_PER_LAYER)) {
    case STAGE_ATTEND:
        return projected;
    case STAGE_OUT:
        return attended;
    default:
        return between;
    }
}

/* ---- opening --------------------------------------------------------------------------- */

static size_t span_end(const struct forward *f, size_t span)
{
    return span + 1 < f->n_spans ? f->spans[span + 1].first
                                 : stage_count(f->model->config.n_layers);
}

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

static int take_plan(struct forward *f, const struct plan *plan, struct llama3_error *err)
{
    static const struct span everything = {0, 0};
    const struct backend_ops *best = NULL;
    struct plan simple = {.backends = &best, .n_backends = 1, .spans = &everything, .n_spans = 1};
    size_t n_layers = f->model->config.n_layers;

    if (plan == NULL) {
        best = backend_find(f->options.backend.name, err);
        if (best == NULL)
            return -1;
        plan = &simple;
    }
    if (check_plan(plan, stage_count(n_layers), err) < 0)
        return -1;

    f->spans = size_alloc(plan->n_spans, sizeof *f->spans);
    f->kv_layer = size_alloc(n_layers, sizeof *f->kv_layer);
    if (f->spans == NULL || f->kv_layer == NULL)
        return error_memory(err, "the plan", n_layers * sizeof *f->kv_layer);
    memcpy(f->spans, plan->spans, plan->n_spans * sizeof *f->spans);
    f->n_spans = plan->n_spans;
    f->n_parts = plan->n_backends;
    for (size_t i = 0; i < f->n_parts; i++)
        f->parts[i].ops = plan->backends[i];

    for (size_t i = 0; i < f->n_spans; i++)
        for (size_t stage = f->spans[i].first; stage < span_end(f, i); stage++)
            if (stage > 0 && stage <= STAGES_PER_LAYER * n_layers &&
                (stage - 1) % STAGES_PER_LAYER == STAGE_ATTEND)
                f->kv_layer[(stage - 1) / STAGES_PER_LAYER] =
                    f->parts[f->spans[i].backend].n_kv_layers++;
    return 0;
}

static int open_part(struct forward *f, struct part *p, const float *inv_freq,
                     struct llama3_error *err)
{
    const struct config *c = &f->model->config;
    const struct forward_options *o = &f->options;
    struct backend_shape shape = {
        .n_heads = c->n_heads,
        .n_kv_heads = c->n_kv_heads,
        .head_dim = c->head_dim,
        .n_layers = p->n_kv_layers,
        .max_rows = o->max_rows,
        .max_logit_rows = o->max_logit_rows,
        .max_seqs = o->max_seqs,
        .max_context = o->max_context,
        .kv_type = o->kv_type,
        .inv_freq = inv_freq,
        .rope_interleaved = c->rope.interleaved,
        .rms_eps = c->rms_eps,
    };
    p->backend = p->ops->open(&o->backend, &shape, err);
    if (p->backend == NULL)
        return -1;

    for (int a = 0; a < ACT_COUNT; a++) {
        enum rows rows = a >= ACT_LAST ? ROWS_LOGITS : ROWS_ALL;
        p->act[a] = p->ops->buffer(p->backend, rows, f->cols[a], err);
        if (p->act[a] == NULL)
            return -1;
        f->scratch_bytes +=
            sizeof(float) * f->cols[a] * (rows == ROWS_ALL ? o->max_rows : o->max_logit_rows);
    }
    p->layers = size_alloc(c->n_layers, sizeof *p->layers);
    return p->layers != NULL ? 0 : error_memory(err, "layers", c->n_layers * sizeof *p->layers);
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
    const struct model *m = f->model;
    if (stage == 0)
        return take(f, p, &p->embed, &m->embed, m->config.tied ? WEIGHT_MATRIX : WEIGHT_TABLE, err);
    if (stage + 1 == stage_count(m->config.n_layers)) {
        if (take(f, p, &p->norm, &m->norm, WEIGHT_VECTOR, err) < 0)
            return -1;
        if (m->config.tied && p->embed != NULL) {
            p->head = p->embed;
            return 0;
        }
        return take(f, p, &p->head, &m->head, WEIGHT_MATRIX, err);
    }

    const struct layer *l = &m->layers[(stage - 1) / STAGES_PER_LAYER];
    struct layer_weights *w = &p->layers[(stage - 1) / STAGES_PER_LAYER];
    switch ((enum layer_stage)((stage - 1) % STAGES_PER_LAYER)) {
    case STAGE_QKV:
        return take(f, p, &w->attn_norm, &l->attn_norm, WEIGHT_VECTOR, err) < 0 ||
                       take(f, p, &w->q, &l->q, WEIGHT_MATRIX, err) < 0 ||
                       take(f, p, &w->k, &l->k, WEIGHT_MATRIX, err) < 0 ||
                       take(f, p, &w->v, &l->v, WEIGHT_MATRIX, err) < 0
                   ? -1
                   : 0;
    case STAGE_OUT:
        return take(f, p, &w->o, &l->o, WEIGHT_MATRIX, err);
    case STAGE_FFN:
        return take(f, p, &w->ffn_norm, &l->ffn_norm, WEIGHT_VECTOR, err) < 0 ||
                       take(f, p, &w->gate, &l->gate, WEIGHT_MATRIX, err) < 0 ||
                       take(f, p, &w->up, &l->up, WEIGHT_MATRIX, err) < 0 ||
                       take(f, p, &w->down, &l->down, WEIGHT_MATRIX, err) < 0
                   ? -1
                   : 0;
    case STAGE_ATTEND:
    case STAGES_PER_LAYER:
        break;
    }
    return 0;
}

static int open_parts(struct forward *f, struct llama3_error *err)
{
    float inv_freq[MAX_HEAD_DIM / 2];
    rope_frequencies(&f->model->config, inv_freq);
    for (size_t i = 0; i < f->n_parts; i++)
        if (open_part(f, &f->parts[i], inv_freq, err) < 0)
            return -1;
    for (size_t i = 0; i < f->n_spans; i++)
        for (size_t stage = f->spans[i].first; stage < span_end(f, i); stage++)
            if (take_weights(f, &f->parts[f->spans[i].backend], stage, err) < 0)
                return -1;

    size_t widest = 0;
    for (int a = 0; a < ACT_LAST; a++)
        widest = f->cols[a] > widest ? f->cols[a] : widest;
    if (f->n_spans > 1) {
        f->carry = size_alloc(f->options.max_rows, widest * sizeof(float));
        if (f->carry == NULL)
            return error_memory(err, "activations", f->options.max_rows * widest * sizeof(float));
    }
    f->kvs = size_alloc(f->options.max_seqs, sizeof(struct kv *));
    return f->kvs != NULL ? 0 : error_memory(err, "sequences", f->options.max_seqs);
}

struct forward *forward_open(const struct model *model, const struct plan *plan,
                             const struct forward_options *options, struct llama3_error *err)
{
    const struct config *c = &model->config;
    struct forward *f = size_alloc(1, sizeof *f);
    if (f == NULL) {
        error_memory(err, "the network", sizeof *f);
        return NULL;
    }
    f->model = model;
    f->options = *options;
    f->total_bytes = model_bytes(model);
    f->cols[ACT_X] = f->cols[ACT_D] = f->cols[ACT_H] = f->cols[ACT_LAST] = c->dim;
    f->cols[ACT_Q] = f->cols[ACT_A] = c->n_heads * c->head_dim;
    f->cols[ACT_K] = f->cols[ACT_V] = c->n_kv_heads * c->head_dim;
    f->cols[ACT_GATE] = f->cols[ACT_UP] = c->ffn_dim;
    f->cols[ACT_LOGITS] = c->vocab_size;
    if (take_plan(f, plan, err) < 0 || open_parts(f, err) < 0) {
        forward_close(f);
        return NULL;
    }
    return f;
}

static void close_part(struct forward *f, struct part *p)
{
    if (p->backend == NULL)
        return;
    if (p->head == p->embed)
        p->head = NULL;
    struct weight *const others[] = {p->embed, p->norm, p->head};
    for (size_t i = 0; i < sizeof others / sizeof others[0]; i++)
        if (others[i] != NULL)
            p->ops->weight_free(p->backend, others[i]);
    for (size_t l = 0; p->layers != NULL && l < f->model->config.n_layers; l++) {
        const struct layer_weights *w = &p->layers[l];
        struct weight *const all[] = {w->attn_norm, w->q,    w->k,  w->v,   w->o,
                                      w->ffn_norm,  w->gate, w->up, w->down};
        for (size_t i = 0; i < sizeof all / sizeof all[0]; i++)
            if (all[i] != NULL)
                p->ops->weight_free(p->backend, all[i]);
    }
    for (int a = 0; a < ACT_COUNT; a++)
        if (p->act[a] != NULL)
            p->ops->buffer_free(p->backend, p->act[a]);
    free(p->layers);
    p->ops->close(p->backend);
}

void forward_close(struct forward *f)
{
    if (f == NULL)
        return;
    for (size_t i = 0; i < f->n_parts; i++)
        close_part(f, &f->parts[i]);
    free(f->spans);
    free(f->kv_layer);
    free(f->carry);
    free(f->kvs);
    free(f);
}

const char *forward_describe(const struct forward *f, const char **exactness)
{
    return f->parts[0].ops->describe(f->parts[0].backend, exactness);
}

const char *forward_path(const struct forward *f)
{
    return f->model->path;
}

uint64_t forward_scratch_bytes(const struct forward *f)
{
    return f->scratch_bytes;
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
    size_t span = 0, stage = 1 + layer * STAGES_PER_LAYER + STAGE_ATTEND;
    while (span_end(f, span) <= stage)
        span++;
    return f->spans[span].backend;
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

/* Runs on every thread of a backend that has several: it does nothing but issue operations. */
static void run_stretch(void *arg)
{
    const struct stretch *s = arg;
    for (size_t stage = s->first; stage < s->end; stage++)
        run_stage(s->forward, s->part, stage);
}

/* Activations over the border before a stage. */
static int carry_over(struct forward *f, struct part *from, struct part *to, size_t stage,
                      struct llama3_error *err)
{
    for (const enum activation *a = live_before(stage); *a != ACT_COUNT; a++) {
        if (from->ops->read(from->backend, ROWS_ALL, from->act[*a], f->carry, err) < 0)
            return -1;
        to->ops->write(to->backend, ROWS_ALL, to->act[*a], f->carry);
    }
    return 0;
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
    for (size_t i = 0; i < f->n_parts; i++)
        if (give_batch(f, &f->parts[i], &batch, seqs, err) < 0)
            return -1;

    bool wants_logits = false, stop = false;
    for (size_t r = 0; r < n_rows; r++)
        wants_logits |= rows[r].wants_logits;
    bool stepwise = canceled != NULL && n_rows >= ROWS_WORTH_CANCELING;

    struct part *part = NULL;
    for (size_t i = 0; i < f->n_spans && !stop; i++) {
        struct part *next = &f->parts[f->spans[i].backend];
        size_t first = f->spans[i].first, end = span_end(f, i);
        if (part != NULL && part != next && carry_over(f, part, next, first, err) < 0)
            return -1;
        part = next;
        if (!wants_logits && i + 1 == f->n_spans)
            end--; /* the head */
        while (first < end && !stop) {
            size_t until =
                stepwise && end - first > STAGES_PER_LAYER ? first + STAGES_PER_LAYER : end;
            struct stretch stretch = {f, part, first, until};
            part->ops->run(part->backend, run_stretch, &stretch);
            first = until;
            stop = stepwise && canceled(arg);
        }
    }

    /* Waits, and hears of failures, even where no logits are wanted. */
    if (part->ops->read(part->backend, ROWS_LOGITS, part->act[ACT_LOGITS], logits, err) < 0)
        return -1;
    return stop ? error_set(err, LLAMA3_ECANCELED, "canceled") : 0;
}

static int tap(const struct forward *f, const struct layer_taps *taps, size_t n_rows,
               enum activation activation, enum layer_input input, struct llama3_error *err)
{
    const struct part *p = &f->parts[0];
    if (p->ops->read(p->backend, ROWS_ALL, p->act[activation], taps->room, err) < 0)
        return -1;
    taps->on_input(taps->arg, input, taps->room, n_rows);
    return 0;
}

static int tap_stage(const struct forward *f, const struct layer_taps *taps, size_t n_rows,
                     enum layer_stage stage, struct llama3_error *err)
{
    switch (stage) {
    case STAGE_QKV:
        return tap(f, taps, n_rows, ACT_H, INPUT_QKV, err);
    case STAGE_ATTEND:
        return tap(f, taps, n_rows, ACT_A, INPUT_OUT, err);
    case STAGE_FFN:
        return tap(f, taps, n_rows, ACT_H, INPUT_GATE_UP, err) < 0
                   ? -1
                   : tap(f, taps, n_rows, ACT_GATE, INPUT_DOWN, err);
    case STAGE_OUT:
    case STAGES_PER_LAYER:
        break;
    }
    return 0;
}

int forward_layers(struct forward *f, const struct batch_row *rows, size_t n_rows,
                   struct sequence *sequence, float *x, const struct layer_taps *taps,
                   struct llama3_error *err)
{
    struct batch batch = {.n_rows = n_rows, .rows = rows, .n_seqs = 1};
    struct part *p = &f->parts[0];
    size_t end = stage_count(f->model->config.n_layers) - 1, count = n_rows * f->cols[ACT_X];
    float *added = size_alloc(count, sizeof *added);
    int status = -1;

    if (added == NULL)
        return error_memory(err, "activations", count * sizeof *added);
    if (give_batch(f, p, &batch, &sequence, err) < 0)
        goto out;
    p->ops->write(p->backend, ROWS_ALL, p->act[ACT_X], x);
    for (size_t stage = 1; stage < end; stage++) {
        struct stretch stretch = {f, p, stage, stage + 1};
        p->ops->run(p->backend, run_stretch, &stretch);
        if (taps != NULL &&
            tap_stage(f, taps, n_rows, (enum layer_stage)((stage - 1) % STAGES_PER_LAYER), err) < 0)
            goto out;
    }
    if (p->ops->read(p->backend, ROWS_ALL, p->act[ACT_X], x, err) < 0 ||
        p->ops->read(p->backend, ROWS_ALL, p->act[ACT_D], added, err) < 0)
        goto out;
    for (size_t i = 0; i < count; i++)
        x[i] += added[i];
    status = 0;
out:
    free(added);
    return status;
}
