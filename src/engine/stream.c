/* SPDX-License-Identifier: MIT */
/* stream.c: a layer is run as a model that has no other. */
#include "engine/stream.h"

#include <stdlib.h>

#include "base/size.h"
#include "checkpoint/tensors.h"

struct stream {
    const struct model *model;
    struct stream_options options;
    size_t n;                 /* tokens, BOS included */
    size_t window;            /* STREAM_WINDOW, or the model's context if less */
    enum layer_input reached; /* INPUT_COUNT: a layer's beginning */
    float *x;                 /* [n][dim] */
    float *in;                /* [n][the widest input], rows of the input reached, packed */
    float *zeros;             /* [the widest input] in place of a matrix that is not read */
    struct batch_row *rows;   /* [window] */
};

static size_t widest_input(const struct config *config)
{
    size_t widest = config->dim;
    for (int i = 0; i < INPUT_COUNT; i++) {
        size_t cols = layer_input_cols(config, (enum layer_input)i);
        widest = cols > widest ? cols : widest;
    }
    return widest;
}

static void embed(struct stream *s, const int32_t *tokens)
{
    const struct vocab *vocab = &s->model->vocab;
    size_t dim = s->model->config.dim;
    for (size_t i = 0, next = 0; i < s->n; i++) {
        int32_t token = vocab->add_bos && i % s->window == 0 ? vocab->bos : tokens[next++];
        matrix_row(&s->model->embed, (size_t)token, s->x + i * dim);
    }
}

static int take_memory(struct stream *s, struct llama3_error *err)
{
    size_t dim = s->model->config.dim, widest = widest_input(&s->model->config);
    s->x = size_alloc_for(s->n, dim * sizeof *s->x, "a stream", err);
    s->in = size_alloc_for(s->n, widest * sizeof *s->in, "a stream", err);
    s->zeros = size_alloc_for(widest, sizeof *s->zeros, "a stream", err);
    s->rows = size_alloc_for(s->window, sizeof *s->rows, "a stream", err);
    return s->x != NULL && s->in != NULL && s->zeros != NULL && s->rows != NULL ? 0 : -1;
}

static int check_tokens(const struct model *model, const int32_t *tokens, size_t n,
                        struct llama3_error *err)
{
    for (size_t i = 0; i < n; i++)
        if (tokens[i] < 0 || (size_t)tokens[i] >= model->config.vocab_size)
            return error_input(err, "expected a token below %zu, found %d",
                               model->config.vocab_size, tokens[i]);
    return 0;
}

struct stream *stream_open(const struct model *model, const int32_t *tokens, size_t n,
                           const struct stream_options *options, struct llama3_error *err)
{
    struct stream *s = size_alloc_for(1, sizeof *s, "a stream", err);
    if (s == NULL)
        return NULL;
    *s = (struct stream){
        .model = model, .options = *options, .window = STREAM_WINDOW, .reached = INPUT_COUNT};
    if (s->window > model->config.context)
        s->window = model->config.context;
    size_t text = model->vocab.add_bos && s->window > 1 ? s->window - 1 : s->window;
    s->n = n + (text < s->window ? (n + text - 1) / text : 0);
    if (check_tokens(model, tokens, n, err) < 0 || take_memory(s, err) < 0) {
        stream_close(s);
        return NULL;
    }
    embed(s, tokens);
    return s;
}

void stream_close(struct stream *s)
{
    if (s == NULL)
        return;
    free(s->x);
    free(s->in);
    free(s->zeros);
    free(s->rows);
    free(s);
}

size_t stream_count(const struct stream *s)
{
    return s->n;
}

const float *stream_row(const struct stream *s, size_t token)
{
    return s->x + token * s->model->config.dim;
}

/* The layer, with a matrix of one row for each that is missing. */
static struct layer complete(const struct stream *s, const struct layer *layer)
{
    struct layer all = *layer;
    for (int kind = TENSOR_Q; kind <= TENSOR_DOWN; kind++) {
        struct matrix *m = layer_matrix(&all, (enum tensor_kind)kind);
        if (m->data == NULL)
            *m = (struct matrix){
                .type = DTYPE_F32, .rows = 1, .cols = s->model->config.dim, .data = s->zeros};
    }
    return all;
}

struct visit {
    const struct layer *layer;
    enum layer_input input;
    void (*on_input)(void *arg, const float *in, size_t n_rows);
    void *arg;
};

/* The steps after the input that was reached, of the window that begins with this token. */
static int run_window(struct stream *s, struct forward *forward, struct sequence *sequence,
                      size_t first, const struct visit *visit, struct llama3_error *err)
{
    const struct config *config = &s->model->config;
    size_t n = s->n - first < s->window ? s->n - first : s->window;
    float *in = s->in + first * widest_input(config);
    int step = s->reached == INPUT_COUNT ? 0 : (int)s->reached + 1;

    if (s->options.canceled != NULL && s->options.canceled(s->options.arg))
        return error_set(err, LLAMA3_ECANCELED, "canceled");
    for (size_t i = 0; i < n; i++)
        s->rows[i] = (struct batch_row){.position = (int32_t)i};
    if (sequence_reserve(forward, sequence, 0, n, err) < 0)
        return -1;
    for (; step <= (int)visit->input; step++)
        if (forward_step(forward, s->rows, n, sequence, (enum layer_input)step,
                         s->x + first * config->dim, in, err) < 0)
            return -1;
    sequence_truncate(forward, sequence, 0);
    if (visit->on_input != NULL)
        visit->on_input(visit->arg, in, n);
    return 0;
}

/* A model of one layer and one token. */
static struct model alone(const struct stream *s, struct layer *layer)
{
    struct model model = {.config = s->model->config, .layers = layer, .norm = layer->attn_norm};
    model.config.n_layers = 1;
    model.config.vocab_size = 1;
    model.config.tied = true;
    model.embed = model.head =
        (struct matrix){.type = DTYPE_F32, .rows = 1, .cols = model.config.dim, .data = s->zeros};
    return model;
}

static struct forward *open_forward(const struct stream *s, const struct model *model,
                                    size_t max_rows, struct llama3_error *err)
{
    const struct forward_options options = {
        .backend = {.threads = s->options.threads},
        .max_rows = max_rows,
        .max_logit_rows = max_rows,
        .max_seqs = 1,
        .max_context = max_rows,
        .kv_type = LLAMA3_KV_F16,
    };
    return forward_open(model, NULL, &options, err);
}

static int run_windows(struct stream *s, const struct visit *visit, struct llama3_error *err)
{
    struct layer layer = complete(s, visit->layer);
    struct model model = alone(s, &layer);
    struct forward *forward = open_forward(s, &model, s->window, err);
    if (forward == NULL)
        return -1;
    struct sequence *sequence = sequence_open(forward, err);
    int status = sequence != NULL ? 0 : -1;
    for (size_t first = 0; status == 0 && first < s->n; first += s->window)
        status = run_window(s, forward, sequence, first, visit, err);
    sequence_close(forward, sequence);
    forward_close(forward);
    return status;
}

int stream_advance(struct stream *s, const struct layer *layer, enum layer_input input,
                   void (*on_input)(void *arg, const float *in, size_t n_rows), void *arg,
                   struct llama3_error *err)
{
    struct visit visit = {layer, input, on_input, arg};
    if (run_windows(s, &visit, err) < 0)
        return -1;
    s->reached = input;
    return 0;
}

int stream_logits(struct stream *s, const struct model *model, size_t first, size_t n,
                  float *logits, struct llama3_error *err)
{
    struct layer layer =
        complete(s, &(struct layer){.attn_norm = model->norm, .ffn_norm = model->norm});
    struct model last = alone(s, &layer);
    last.config.vocab_size = model->config.vocab_size;
    last.config.tied = false;
    last.norm = model->norm;
    last.head = model->head;
    struct forward *forward = open_forward(s, &last, n, err);
    if (forward == NULL)
        return -1;
    struct sequence *sequence = sequence_open(forward, err);
    int status = sequence != NULL ? sequence_reserve(forward, sequence, 0, n, err) : -1;
    if (status == 0)
        status = forward_head(forward, n, sequence, stream_row(s, first), logits, err);
    sequence_close(forward, sequence);
    forward_close(forward);
    return status;
}
