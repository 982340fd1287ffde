/* SPDX-License-Identifier: MIT */
/* rope.c: the frequencies that rotary positions turn with, computed once when a model is opened. */
#include <math.h>

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

void rope_frequencies(const struct config *config, float *out)
{
    const struct rope *rope = &config->rope;

    for (size_t i = 0; i < config->head_dim / 2; i++) {
        float exponent = (float)(2 * i) / (float)config->head_dim;
        float frequency = 1.0f / powf((float)rope->theta, exponent);
        if (rope->type == ROPE_LLAMA3)
            frequency = scale_llama3(frequency, rope);
        if (rope->factors != NULL)
            frequency /= rope->factors[i];
        out[i] = frequency;
    }
}
