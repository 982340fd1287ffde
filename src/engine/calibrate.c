/* calibrate.c: a text's way through the network, a layer at a time. A layer is run as a model that
 * has no other. */
#include "engine/calibrate.h"

#include <stdlib.h>

#include "backend/moments.h"
#include "base/size.h"

struct calibration {
    const struct model *model;
    int threads;
    size_t n;               /* tokens, BOS included */
    size_t window;          /* CALIBRATE_WINDOW, or the model's context if less */
    float *x;               /* [n][dim] the residual stream before the layer at hand */
    float *copy;            /* [window][dim] */
    float *room;            /* [window][the widest input] */
    float *zeros;           /* [dim] a vocabulary of one token */
    struct batch_row *rows; /* [window] */
    struct moments *moments[INPUT_COUNT];
};

static size_t input_cols(const struct config *c, enum layer_input input)
{
    switch (input) {
    case INPUT_OUT:
        return c->n_heads * c->head_dim;
    case INPUT_DOWN:
        return c->ffn_dim;
    default:
        return c->dim;
    }
}

/* Every window begins as raw text does: with BOS where the checkpoint says so. */
static void embed(struct calibration *c, const int32_t *tokens)
{
    const struct vocab *vocab = &c->model->vocab;
    size_t dim = c->model->config.dim;
    for (size_t i = 0, next = 0; i < c->n; i++) {
        int32_t token = vocab->add_bos && i % c->window == 0 ? vocab->bos : tokens[next++];
        matrix_row(&c->model->embed, (size_t)token, c->x + i * dim);
    }
}

static int take_memory(struct calibration *c, struct llama3_error *err)
{
    const struct config *config = &c->model->config;
    size_t widest = 0, dim = config->dim;
    for (int i = 0; i < INPUT_COUNT; i++) {
        size_t cols = input_cols(config, (enum layer_input)i);
        widest = cols > widest ? cols : widest;
    }
    c->x = size_alloc(c->n, dim * sizeof *c->x);
    c->copy = size_alloc(c->window, dim * sizeof *c->copy);
    c->room = size_alloc(c->window, widest * sizeof *c->room);
    c->zeros = size_alloc(dim, sizeof *c->zeros);
    c->rows = size_alloc(c->window, sizeof *c->rows);
    if (c->x == NULL || c->copy == NULL || c->room == NULL || c->zeros == NULL || c->rows == NULL)
        return error_memory(err, "the calibration text", c->n * dim * sizeof *c->x);
    return 0;
}

struct calibration *calibration_open(const struct model *model, const int32_t *tokens, size_t n,
                                     int threads, struct llama3_error *err)
{
    struct calibration *c = size_alloc(1, sizeof *c);
    if (c == NULL) {
        error_memory(err, "the calibration", sizeof *c);
        return NULL;
    }
    *c = (struct calibration){.model = model, .threads = threads, .window = CALIBRATE_WINDOW};
    if (c->window > model->config.context)
        c->window = model->config.context;
    size_t text = model->vocab.add_bos && c->window > 1 ? c->window - 1 : c->window;
    c->n = n + (text < c->window ? (n + text - 1) / text : 0);
    for (size_t i = 0; i < n; i++)
        if (tokens[i] < 0 || (size_t)tokens[i] >= model->config.vocab_size) {
            error_set(err, LLAMA3_EINPUT, "calibration: token %d is not in the vocabulary of %zu",
                      tokens[i], model->config.vocab_size);
            calibration_close(c);
            return NULL;
        }
    if (take_memory(c, err) < 0) {
        calibration_close(c);
        return NULL;
    }
    embed(c, tokens);
    return c;
}

const char *calibration_lack(int threads)
{
    return moments_lack(threads);
}

static void drop_moments(struct calibration *c)
{
    for (int i = 0; i < INPUT_COUNT; i++) {
        moments_close(c->moments[i]);
        c->moments[i] = NULL;
    }
}

void calibration_close(struct calibration *c)
{
    if (c == NULL)
        return;
    drop_moments(c);
    free(c->x);
    free(c->copy);
    free(c->room);
    free(c->zeros);
    free(c->rows);
    free(c);
}

/* A window through the layer; its stream is overwritten unless that is only measured. */
static int run_window(struct calibration *c, struct forward *forward, struct sequence *sequence,
                      size_t first, const struct layer_taps *taps, struct llama3_error *err)
{
    size_t dim = c->model->config.dim, n = c->n - first < c->window ? c->n - first : c->window;
    float *x = c->x + first * dim;

    if (taps != NULL) {
        for (size_t i = 0; i < n * dim; i++)
            c->copy[i] = x[i];
        x = c->copy;
    }
    for (size_t i = 0; i < n; i++)
        c->rows[i] = (struct batch_row){.position = (int32_t)i};
    if (sequence_reserve(forward, sequence, 0, n, err) < 0 ||
        forward_layers(forward, c->rows, n, sequence, x, taps, err) < 0)
        return -1;
    sequence_truncate(forward, sequence, 0);
    return 0;
}

static int run_layer(struct calibration *c, const struct layer *layer,
                     const struct layer_taps *taps, struct llama3_error *err)
{
    struct layer copy = *layer;
    struct model alone = {.config = c->model->config, .layers = &copy, .norm = layer->attn_norm};
    alone.config.n_layers = 1;
    alone.config.vocab_size = 1;
    alone.config.tied = true;
    alone.embed = alone.head =
        (struct matrix){.type = DTYPE_F32, .rows = 1, .cols = alone.config.dim, .data = c->zeros};
    struct forward_options options = {
        .backend = {.threads = c->threads},
        .max_rows = c->window,
        .max_logit_rows = 1,
        .max_seqs = 1,
        .max_context = c->window,
        .kv_type = LLAMA3_KV_F16,
    };
    struct forward *forward = forward_open(&alone, NULL, &options, err);
    if (forward == NULL)
        return -1;
    struct sequence *sequence = sequence_open(forward, err);
    int status = sequence != NULL ? 0 : -1;
    for (size_t first = 0; status == 0 && first < c->n; first += c->window)
        status = run_window(c, forward, sequence, first, taps, err);
    sequence_close(forward, sequence);
    forward_close(forward);
    return status;
}

static void add_input(void *arg, enum layer_input input, const float *inputs, size_t n_rows)
{
    const struct calibration *c = arg;
    moments_add(c->moments[input], inputs, n_rows);
}

int calibration_measure(struct calibration *c, size_t layer, struct llama3_error *err)
{
    struct layer_taps taps = {.on_input = add_input, .arg = c, .room = c->room};
    drop_moments(c);
    for (int i = 0; i < INPUT_COUNT; i++) {
        size_t cols = input_cols(&c->model->config, (enum layer_input)i);
        c->moments[i] = moments_open(cols, c->threads, err);
        if (c->moments[i] == NULL)
            return -1;
    }
    if (run_layer(c, &c->model->layers[layer], &taps, err) < 0)
        return -1;
    for (int i = 0; i < INPUT_COUNT; i++)
        if (moments_solve(c->moments[i], err) < 0)
            return -1;
    return 0;
}

void calibration_options(const struct calibration *c, enum layer_input input,
                         struct quantize_options *options)
{
    moments_apply(c->moments[input], options);
}

int calibration_advance(struct calibration *c, const struct layer *layer, struct llama3_error *err)
{
    drop_moments(c);
    return run_layer(c, layer, NULL, err);
}
