/* SPDX-License-Identifier: MIT */
#include "engine/calibrate.h"

#include <stdlib.h>

#include "backend/moments.h"
#include "base/size.h"

struct calibration {
    const struct config *config;
    int threads;
    struct stream *stream;
    struct moments *moments; /* of the input measured last */
};

const char *calibration_lack(int threads)
{
    return moments_lack(threads);
}

struct calibration *calibration_open(const struct model *model, const int32_t *tokens, size_t n,
                                     const struct stream_options *options, struct llama3_error *err)
{
    struct calibration *c = size_alloc(1, sizeof *c);
    if (c == NULL) {
        error_memory(err, "the calibration", sizeof *c);
        return NULL;
    }
    *c = (struct calibration){.config = &model->config, .threads = options->threads};
    c->stream = stream_open(model, tokens, n, options, err);
    if (c->stream == NULL) {
        calibration_close(c);
        return NULL;
    }
    return c;
}

static void drop_moments(struct calibration *c)
{
    moments_close(c->moments);
    c->moments = NULL;
}

void calibration_close(struct calibration *c)
{
    if (c == NULL)
        return;
    drop_moments(c);
    stream_close(c->stream);
    free(c);
}

static void add_input(void *arg, const float *in, size_t n_rows)
{
    moments_add(arg, in, n_rows);
}

int calibration_measure(struct calibration *c, const struct layer *layer, enum layer_input input,
                        struct llama3_error *err)
{
    drop_moments(c);
    c->moments = moments_open(layer_input_cols(c->config, input), c->threads, err);
    return c->moments == NULL ||
                   stream_advance(c->stream, layer, input, add_input, c->moments, err) < 0 ||
                   moments_solve(c->moments, err) < 0
               ? -1
               : 0;
}

void calibration_options(const struct calibration *c, struct quantize_options *options)
{
    moments_apply(c->moments, options);
}

int calibration_advance(struct calibration *c, const struct layer *layer, struct llama3_error *err)
{
    drop_moments(c);
    return stream_advance(c->stream, layer, INPUT_COUNT, NULL, NULL, err);
}
