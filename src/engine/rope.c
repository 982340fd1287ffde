/* SPDX-License-Identifier: MIT */
/* rope.c: the frequencies that rotary positions turn with, computed once when a model is opened. */
#include <math.h>
#include <string.h>

#include "checkpoint/gguf_write.h"
#include "engine/forward.h"

/*
 * Llama 3.1's scaling, as Meta's reference code and transformers' `llama3` rope type define it:
 * long wavelengths are stretched by factor, short ones stay, those between are blended. In float,
 * like the reference.
 */
static float scale_llama3(float frequency, const struct rope *rope)
{
    float factor = (float)rope->factor;
    float low = (float)rope->low_freq_factor, high = (float)rope->high_freq_factor;
    float original = (float)rope->original_context;
    float wavelength = 2 * (float)M_PI / frequency;

    if (wavelength < original / high)
        return frequency;
    if (wavelength > original / low)
        return frequency / factor;
    float smooth = (original / wavelength - low) / (high - low);
    return (1 - smooth) * frequency / factor + smooth * frequency;
}

/* The dimension that turns so often in the original context. */
static double yarn_dimension(const struct config *config, double rotations)
{
    return (double)config->head_dim * log(config->rope.original_context / (rotations * 2 * M_PI)) /
           (2 * log(config->rope.theta));
}

/* YaRN as transformers computes it: fast dimensions stay, slow ones are divided by factor, those
 * between are blended. In float, and in double what transformers has in Python. */
static float scale_yarn(float power, size_t i, const struct config *config)
{
    const struct rope *rope = &config->rope;
    double low = yarn_dimension(config, rope->beta_fast);
    double high = yarn_dimension(config, rope->beta_slow), last = (double)config->head_dim - 1;
    low = rope->exact_range ? low : floor(low);
    high = rope->exact_range ? high : ceil(high);
    low = low > 0 ? low : 0;
    high = high < last ? high : last;
    if (low >= high && low <= high)
        high += 0.001;
    float ramp = ((float)i - (float)low) / (float)(high - low);
    ramp = ramp < 0 ? 0 : ramp > 1 ? 1 : ramp;
    float fast = 1 - ramp;
    return 1 / ((float)rope->factor * power) * (1 - fast) + 1 / power * fast;
}

void rope_frequencies(const struct config *config, float *out)
{
    const struct rope *rope = &config->rope;

    for (size_t i = 0; i < config->head_dim / 2; i++) {
        float exponent = (float)(2 * i) / (float)config->head_dim;
        float power = powf((float)rope->theta, exponent), frequency = 1.0f / power;
        if (rope->type == ROPE_LLAMA3)
            frequency = scale_llama3(frequency, rope);
        if (rope->type == ROPE_LINEAR)
            frequency /= (float)rope->factor;
        if (rope->type == ROPE_YARN)
            frequency = scale_yarn(power, i, config);
        if (rope->factors != NULL)
            frequency /= rope->factors[i];
        out[i] = frequency;
    }
}

bool rope_factors(const struct config *config, float *out)
{
    struct config plain = *config;
    struct rope *rope = &plain.rope;
    if (gguf_says_scaling(rope))
        return false;
    if (rope->factors != NULL && rope->type == ROPE_PLAIN) {
        memcpy(out, rope->factors, config->head_dim / 2 * sizeof *out);
        return true;
    }
    rope->type = ROPE_PLAIN;
    rope->factors = NULL;
    float wanted[MAX_HEAD_DIM / 2], from[MAX_HEAD_DIM / 2];
    rope_frequencies(config, wanted);
    rope_frequencies(&plain, from);
    for (size_t i = 0; i < config->head_dim / 2; i++) {
        out[i] = from[i] / wanted[i];
        for (int tries = 0; tries < 4 && from[i] / out[i] != wanted[i]; tries++)
            out[i] = nextafterf(out[i], from[i] / out[i] > wanted[i] ? INFINITY : 0);
    }
    return true;
}
