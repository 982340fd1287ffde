/* SPDX-License-Identifier: MIT */
/*
 * activation.h: activations as int8, for products with group-quantized weights. Every kernel of
 * every backend computes the same numbers from a row of floats.
 *
 * A row has a scale, max |x| / 127. Each of its groups has a k <= 0, the least that keeps codes
 * within +-127: code = round(x / scale / 2^k), to nearest even. A row with a NaN or a magnitude
 * above 2^100 has a scale of NaN. A row with no magnitude above 2^-100 has a scale of 0. Codes of
 * such rows are 0, and so are those of groups below 2^-60 of the row's largest magnitude.
 *
 * A group's int32 sum of products becomes f32 without a conversion: it starts at the bits of
 * base = 1.5 * 2^(23 + k), where f32 numbers are 2^k apart. As |sum| < 2^22 (it is at most
 * 32 * 128 * 127), the result read as f32 is base + sum * 2^k. One exact subtraction gives
 * sum * 2^k.
 */
#ifndef QUANT_ACTIVATION_H
#define QUANT_ACTIVATION_H

#include <math.h>
#include <stdint.h>
#include <string.h>

/* How these functions are declared; CUDA needs more. */
#ifndef ACTIVATION_FUNCTION
#define ACTIVATION_FUNCTION static inline
#endif

enum { ACT_LEAST = -60 }; /* of k */

/* The scale of a row whose largest magnitude is max. */
ACTIVATION_FUNCTION float activation_scale(float max)
{
    if (!(max <= 0x1p100f))
        return NAN;
    return max > 0x1p-100f ? max / 127 : 0;
}

/* k of a group whose largest magnitude is max, in a row with this scale. */
ACTIVATION_FUNCTION int activation_power(float max, float scale)
{
    float limit = 127 * scale;
    int32_t a, b;
    memcpy(&a, &max, sizeof a);
    memcpy(&b, &limit, sizeof b);
    /* Positive floats are ordered as their bits; the upper bits are the exponent. */
    int k = ((a - b - 1) >> 23) + 1;
    return k > ACT_LEAST ? k : ACT_LEAST;
}

/* 2^k for k in [-126, 127]. */
ACTIVATION_FUNCTION float power_of_two(int k)
{
    uint32_t bits = (uint32_t)(k + 127) << 23;
    float x;
    memcpy(&x, &bits, sizeof x);
    return x;
}

/* Where a group's integer sums start. */
ACTIVATION_FUNCTION float activation_base(int k)
{
    return 0x1.8p23f * power_of_two(k);
}

#endif
