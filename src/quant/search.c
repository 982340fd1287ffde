/* SPDX-License-Identifier: MIT */
/* search.c: the scalar definition of the search for scales and codes. */
#include "quant/search.h"

#include <math.h>

void codebook_fill(struct codebook *codebook, const int8_t levels[16])
{
    for (int i = 0; i < 16; i++)
        codebook->levels[i] = levels[i];
    for (int i = 0; i < 15; i++)
        codebook->bounds[i] = (float)(levels[i] + levels[i + 1]) * 0.5f;
    codebook->bounds[15] = INFINITY;
}

const struct search_starts *search_starts(enum dtype type)
{
    static const float int4[] = {127, 121, 133, 115, 139, 109, 146, 103, 153, 97};
    static const float int8[] = {127, 127.5f, 129};
    static const struct search_starts starts[2] = {
        {sizeof int4 / sizeof int4[0], int4, true},
        {sizeof int8 / sizeof int8[0], int8, false},
    };
    return &starts[type == DTYPE_INT8];
}

/* The code whose level is nearest; of two, the lower one. */
static int nearest(const struct group_search *s, float y)
{
    if (s->type == DTYPE_INT8)
        return (int)rintf(fminf(SCALE_MAX, fmaxf(-SCALE_MAX, y)));
    int code = 0;
    for (int i = 0; i < 15; i++)
        code += y > s->codebook->bounds[i];
    return code;
}

static float level(const struct group_search *s, int code)
{
    return s->type == DTYPE_INT8 ? (float)code : s->codebook->levels[code];
}

static float weight(const struct group_search *s, size_t lane, size_t col)
{
    return s->x[col * s->x_stride + lane];
}

static float inverse_of(float scale)
{
    return scale == 0 ? 0 : 1 / scale;
}

static void error_weights(const struct group_search *s, size_t lane, float *out /* [GROUP] */)
{
    float mean = 0;
    for (size_t col = 0; col < GROUP; col++)
        mean += weight(s, lane, col) * weight(s, lane, col);
    mean *= 1.0f / GROUP;
    for (size_t col = 0; col < GROUP; col++) {
        float x = weight(s, lane, col);
        out[col] = s->importance[col] * sqrtf(sqrtf(x * x + mean));
    }
}

/* Takes the levels nearest to inverse * x and fits the scale to them. Keeps it if it is the best so
 * far. */
static void refit(const struct group_search *s, size_t lane, const float *weights, float inverse,
                  float *best, float *scale)
{
    float product = 0, square = 0;
    for (size_t col = 0; col < GROUP; col++) {
        float x = weight(s, lane, col), l = level(s, nearest(s, x * inverse));
        float weighted = weights[col] * l;
        product += weighted * x;
        square += weighted * l;
    }
    float fitted = product / square, gain = product * fitted;
    if (gain > *best) {
        *best = gain;
        *scale = fitted;
    }
}

void search_scales(const struct group_search *s, float *scales)
{
    const struct search_starts *starts = search_starts(s->type);

    for (size_t lane = 0; lane < STRIP; lane++) {
        float weights[GROUP], max = 0x1p-60f, best = 0, scale = 0;
        error_weights(s, lane, weights);
        for (size_t col = 0; col < GROUP; col++)
            max = fmaxf(max, fabsf(weight(s, lane, col)));
        for (size_t i = 0; i < starts->n; i++) {
            refit(s, lane, weights, starts->ends[i] / max, &best, &scale);
            if (starts->both_signs)
                refit(s, lane, weights, -starts->ends[i] / max, &best, &scale);
        }
        for (int i = 0; i < SEARCH_REFITS; i++)
            refit(s, lane, weights, inverse_of(scale), &best, &scale);
        scales[lane] = scale;
    }
}

void search_steps(const struct group_search *s, const float *row_scales, float *scales)
{
    static const float neighbours[] = {0, -1, 1};

    for (size_t lane = 0; lane < STRIP; lane++) {
        float weights[GROUP], best = INFINITY, chosen = 0;
        float start = rintf(scales[lane] / row_scales[lane]);
        error_weights(s, lane, weights);
        for (int i = 0; i < 3; i++) {
            float whole = fminf(SCALE_MAX, fmaxf(-SCALE_MAX, start + neighbours[i]));
            float scale = whole * row_scales[lane], inverse = inverse_of(scale), error = 0;
            for (size_t col = 0; col < GROUP; col++) {
                float x = weight(s, lane, col);
                float difference = x - scale * level(s, nearest(s, x * inverse));
                error += weights[col] * (difference * difference);
            }
            if (best > error) {
                best = error;
                chosen = whole;
            }
        }
        scales[lane] = chosen;
    }
}

void search_codes(const struct group_search *s, const float *row_scales, const float *scales,
                  struct group_codes *out)
{
    for (size_t lane = 0; lane < STRIP; lane++) {
        float scale = scales[lane] * row_scales[lane], inverse = inverse_of(scale), error = 0;
        for (size_t col = 0; col < GROUP; col++) {
            float x = weight(s, lane, col);
            int code = nearest(s, x * inverse);
            float difference = x - scale * level(s, code);
            out->codes[col][lane] = (uint8_t)code;
            if (s->importance[col] > 0)
                error += difference * difference;
        }
        out->errors[lane] = error;
    }
}

/* Codes of a lane, a column at a time, each making up for the errors before it. Returns the sum of
 * weighted squared errors. lost: [GROUP] errors of the weights. */
static float feed_back(const struct group_search *s, const struct group_feedback *f, size_t lane,
                       float scale, int *codes /* [GROUP] */, float *lost)
{
    float inverse = inverse_of(scale), error = 0;
    for (size_t col = 0; col < GROUP; col++) {
        size_t at = col * s->x_stride + lane;
        float target = s->x[at];
        for (size_t j = 0; j < col; j++)
            target = fmaf(lost[j], f->factors[j * GROUP + col], target);
        codes[col] = nearest(s, target * inverse);
        float value = scale * level(s, codes[col]), difference = target - value;
        lost[col] = f->weights[at] - value;
        error = fmaf(s->importance[col] * difference, difference, error);
    }
    return error;
}

void search_feedback(const struct group_search *s, const struct group_feedback *f,
                     const float *row_scales, float *scales, struct group_codes *out)
{
    for (size_t lane = 0; lane < STRIP; lane++) {
        float lost[GROUP] = {0}, best = INFINITY, chosen = 0, error = 0;
        float start = rintf(scales[lane] / row_scales[lane]);
        int codes[GROUP];
        for (int i = 0; i <= 2 * SEARCH_REACH; i++) {
            float whole = fminf(SCALE_MAX, fmaxf(-SCALE_MAX, start + search_offset(i)));
            float found = feed_back(s, f, lane, whole * row_scales[lane], codes, lost);
            if (best > found) {
                best = found;
                chosen = whole;
            }
        }
        feed_back(s, f, lane, chosen * row_scales[lane], codes, lost);
        for (size_t col = 0; col < GROUP; col++) {
            f->errors[col * s->x_stride + lane] = lost[col];
            out->codes[col][lane] = (uint8_t)codes[col];
            if (s->importance[col] > 0)
                error += lost[col] * lost[col];
        }
        scales[lane] = chosen;
        out->errors[lane] = error;
    }
}
