/* SPDX-License-Identifier: MIT */
#include "tool/quantize_gain.h"

#include <string.h>

#include "engine/evaluate.h"
#include "tool/quantize_sample.h"

/* What is compared to tell what calibrating gained: little, as a large model takes a tenth of a
 * second for each. */
enum { GAIN_TOKENS = STREAM_WINDOW - 1 };

int quantize_gain(const struct model *source, const char *path, int threads, struct gain *gain,
                  struct llama3_error *err)
{
    const struct stream_options options = {.threads = threads};
    struct tokens sample = {0};
    struct model made = {0};
    int result = evaluate_tokenize(source, quantize_sample, strlen(quantize_sample), &sample, err);
    size_t n = sample.n < GAIN_TOKENS ? sample.n : GAIN_TOKENS;
    if (result == 0)
        result = model_open(&made, path, err);
    if (result == 0)
        result = gain_measure(source, &made, sample.ids, n, &options, gain, err);
    model_close(&made);
    tokens_free(&sample);
    return result;
}
