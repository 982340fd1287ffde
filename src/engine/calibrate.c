/* SPDX-License-Identifier: MIT */
#include "engine/calibrate.h"

#include <stdlib.h>

#include "backend/hessian.h"
#include "base/size.h"

struct calibration {
    const struct config *config;
    int threads;
    struct stream *stream;
    struct hessian *hessian; /* of the input measured last */
};

const char *why_no_calibration(int threads)
{
    return why_no_hessian(threads);
}

struct calibration *calibration_open(const struct model *model, const int32_t *tokens, size_t n,
                                     const struct stream_options *options, struct llama3_error *err)
{
    struct calibration *c = size_alloc_for(1, sizeof *c, "the calibration", err);
    if (c == NULL)
        return NULL;
    *c = (struct calibration){.config = &model->config, .threads = options->threads};
    c->stream = stream_open(model, tokens, n, options, err);
    if (c->stream == NULL) {
        calibration_close(c);
        return NULL;
    }
    return c;
}

static void drop_hessian(struct calibration *c)
{
    hessian_close(c->hessian);
    c->hessian = NULL;
}

void calibration_close(struct calibration *c)
{
    if (c == NULL)
        return;
    drop_hessian(c);
    stream_close(c->stream);
    free(c);
}

static void add_input(void *arg, const float *in, size_t n_rows)
{
    hessian_add(arg, in, n_rows);
}

int calibration_measure(struct calibration *c, const struct layer *layer, enum layer_input input,
                        struct llama3_error *err)
{
    drop_hessian(c);
    c->hessian = hessian_open(layer_input_cols(c->config, input), c->threads, err);
    return c->hessian == NULL ||
                   stream_advance(c->stream, layer, input, add_input, c->hessian, err) < 0 ||
                   hessian_solve(c->hessian, err) < 0
               ? -1
               : 0;
}

void calibration_options(const struct calibration *c, struct quantize_options *options)
{
    hessian_apply(c->hessian, options);
}

int calibration_advance(struct calibration *c, const struct layer *layer, struct llama3_error *err)
{
    drop_hessian(c);
    return stream_advance(c->stream, layer, INPUT_COUNT, NULL, NULL, err);
}
