/* SPDX-License-Identifier: MIT */
/*
 * kernels_scalar.c: every kernel in plain C, the reference for the fast tables. Sums run over LANES
 * lanes like those of the widest table: more exact than one running sum, and compilers can
 * vectorize it.
 */
#include "backend/cpu/kernels.h"

#include <float.h>
#include <math.h>
#include <string.h>

#include "quant/dtype.h"

static float add_lanes(const float *lanes /* [LANES] */)
{
    float sums[LANES];
    memcpy(sums, lanes, sizeof sums);
    for (size_t half = LANES / 2; half > 0; half /= 2)
        for (size_t i = 0; i < half; i++)
            sums[i] += sums[i + half];
    return sums[0];
}

/* Adds a dot product of expanded weights to the lanes. */
static void dot_lanes(const float *w, const float *x, size_t n, float *lanes /* [LANES] */)
{
    float sums[LANES];
    memcpy(sums, lanes, sizeof sums);
    for (size_t i = 0; i < n; i += LANES)
        for (size_t j = 0; j < LANES; j++)
            sums[j] += w[i + j] * x[i + j];
    memcpy(lanes, sums, sizeof sums);
}

static void linear(const struct linear_block *b, enum dtype type)
{
    enum { STEP = 256 };
    float w[STEP];
    size_t element = type == DTYPE_F32 ? 4 : 2;

    for (size_t row = 0; row < b->rows; row++) {
        float *partial = b->partial + row * b->tokens * LANES;
        if (b->first)
            memset(partial, 0, b->tokens * LANES * sizeof *partial);
        const char *stored = (const char *)b->w + row * b->w_stride;
        for (size_t col = 0; col < b->cols; col += STEP) {
            size_t n = b->cols - col < STEP ? b->cols - col : STEP;
            dtype_expand(type, stored + col * element, w, n);
            for (size_t token = 0; token < b->tokens; token++)
                dot_lanes(w, (const float *)b->x + token * b->x_stride + col, n,
                          partial + token * LANES);
        }
        if (!b->last)
            continue;
        for (size_t token = 0; token < b->tokens; token++)
            b->y[token * b->y_stride + row] = add_lanes(partial + token * LANES);
    }
}

static void linear_f32(const struct linear_block *block)
{
    linear(block, DTYPE_F32);
}

static void linear_f16(const struct linear_block *block)
{
    linear(block, DTYPE_F16);
}

static void linear_bf16(const struct linear_block *block)
{
    linear(block, DTYPE_BF16);
}

static void add_wide(const struct wide_block *b)
{
    for (size_t token = 0; token < b->tokens; token++)
        for (size_t col = 0; col < b->cols; col += LANES) {
            const float *x = b->x + token * b->x_stride, *w = b->w + col;
            float *y = b->y + token * b->y_stride + col, sums[LANES] = {0};
            for (size_t k = 0; k < b->rank; k++, w += b->w_stride)
                for (size_t i = 0; i < LANES; i++)
                    sums[i] += x[k] * w[i];
            for (size_t i = 0; i < LANES; i++)
                y[i] += sums[i];
        }
}

static void add(float *x, const float *d, size_t n)
{
    for (size_t i = 0; i < n; i++)
        x[i] += d[i];
}

static void norm(const float *x, const float *w, float eps, float *y, size_t n)
{
    float lanes[LANES] = {0};
    dot_lanes(x, x, round_up(n, LANES), lanes);
    float scale = 1.0f / sqrtf(add_lanes(lanes) / (float)n + eps);
    for (size_t i = 0; i < n; i++)
        y[i] = x[i] * scale * w[i];
}

static void swiglu(float *gate, const float *up, size_t n)
{
    for (size_t i = 0; i < n; i++)
        gate[i] = gate[i] / (1.0f + expf(-gate[i])) * up[i];
}

static float load_kv(const void *data, size_t i, enum dtype type)
{
    return type == DTYPE_F16 ? f16_to_f32(((const uint16_t *)data)[i]) : ((const float *)data)[i];
}

static void attend_query(const struct attend_page *a, size_t query, enum dtype type)
{
    const float *q = a->q + query * a->head_dim;
    float *out = a->states + query * a->state_size, *state = out + a->padded_dim;
    float scores[KV_PAGE] = {0};
    float max = state[0], sum = 0;

    for (size_t i = 0; i < a->head_dim; i++)
        for (size_t j = 0; j < a->count; j++)
            scores[j] += q[i] * load_kv(a->k, i * KV_PAGE + j, type);
    for (size_t j = 0; j < a->count; j++) {
        scores[j] *= a->scale;
        max = scores[j] > max ? scores[j] : max;
    }
    for (size_t j = 0; j < a->count; j++) {
        scores[j] = expf(scores[j] - max);
        sum += scores[j];
    }
    float shrink = expf(state[0] - max);
    for (size_t i = 0; i < a->head_dim; i++)
        out[i] *= shrink;
    for (size_t j = 0; j < a->count; j++)
        for (size_t i = 0; i < a->head_dim; i++)
            out[i] += scores[j] * load_kv(a->v, j * a->padded_dim + i, type);
    state[0] = max;
    state[1] = state[1] * shrink + sum;
}

/* V of int8 or int4 as integers, times the position's scale. */
struct values {
    bool nibbles;
    struct nibble_page page; /* of int4 */
    const int8_t *codes;     /* of int8 */
    const float *scales;
    size_t padded_dim;
};

static struct values values_of(const struct attend_page *a, bool nibbles)
{
    struct values v = {.nibbles = nibbles, .codes = a->v, .padded_dim = a->padded_dim};
    v.page = nibble_page(a->v, a->padded_dim);
    v.scales =
        nibbles ? v.page.scales : (const float *)(const void *)(v.codes + a->padded_dim * KV_PAGE);
    return v;
}

static int32_t value_at(const struct values *v, size_t position, size_t col)
{
    if (!v->nibbles)
        return v->codes[(position / 2 * v->padded_dim + col) * 2 + position % 2];
    size_t groups = v->page.columns / KV_GROUP, group = col / KV_GROUP;
    size_t word = (position / 4 * groups + group) / 2 * KV_GROUP + col % KV_GROUP;
    const int8_t *step = v->page.steps + ((position / 2 * groups + group) * 2 + position % 2) * 2;
    unsigned char two = (unsigned char)v->page.codes[4 * word + nibble_byte(position)];
    return step[0] * (two >> 4 * (group % 2) & 15) + KV_BASE * step[1];
}

/* As all tables: products of codes are summed up as integers. */
static void attend_codes(const struct attend_page *a, size_t query, bool nibbles)
{
    const char *q = (const char *)(a->q + query * a->head_dim);
    const int8_t *k = a->k;
    const struct values v = values_of(a, nibbles);
    float *out = a->states + query * a->state_size, *state = out + a->padded_dim;
    float scores[KV_PAGE], weights[KV_PAGE], scale, factor;
    float max = state[0], sum = 0, largest_weight = 0;
    int32_t codes[KV_PAGE];

    memcpy(&scale, q + 2 * a->head_dim, sizeof scale);
    scale *= a->scale;
    for (size_t j = 0; j < a->count; j++) {
        int32_t dot = 0;
        int16_t code;
        float k_scale;
        for (size_t i = 0; i < a->head_dim; i++) {
            memcpy(&code, q + 2 * i, sizeof code);
            dot += code * k[(i / 2 * KV_PAGE + j) * 2 + i % 2];
        }
        memcpy(&k_scale, k + a->head_dim * KV_PAGE + j * sizeof k_scale, sizeof k_scale);
        scores[j] = (float)dot * scale * k_scale;
        max = scores[j] > max ? scores[j] : max;
    }
    for (size_t j = 0; j < a->count; j++) {
        scores[j] = expf(scores[j] - max);
        sum += scores[j];
        weights[j] = scores[j] * v.scales[j];
        largest_weight = fmaxf(largest_weight, weights[j]);
    }
    scale = code_scale(largest_weight, WIDE_CODE, &factor);
    for (size_t j = 0; j < a->count; j++)
        codes[j] = isnan(weights[j]) ? 0 : (int32_t)rintf(weights[j] * factor);
    float shrink = expf(state[0] - max);
    for (size_t i = 0; i < a->head_dim; i++) {
        uint32_t dot = 0; /* wraps around, as in all tables, if imported steps are too large */
        for (size_t j = 0; j < a->count; j++)
            dot += (uint32_t)(codes[j] * value_at(&v, j, i));
        out[i] = fmaf((float)(int32_t)dot, scale, out[i] * shrink);
    }
    state[0] = max;
    state[1] = state[1] * shrink + sum;
}

static void attend_int8(const struct attend_page *page)
{
    for (size_t query = 0; query < page->n_queries; query++)
        attend_codes(page, query, false);
}

static void attend_int4(const struct attend_page *page)
{
    for (size_t query = 0; query < page->n_queries; query++)
        attend_codes(page, query, true);
}

static void attend_f16(const struct attend_page *page)
{
    for (size_t query = 0; query < page->n_queries; query++)
        attend_query(page, query, DTYPE_F16);
}

static void attend_f32(const struct attend_page *page)
{
    for (size_t query = 0; query < page->n_queries; query++)
        attend_query(page, query, DTYPE_F32);
}

/* ---- integers ---------------------------------------------------------------------------- */

/* NaN if there is one. */
static float largest(const float *x, size_t n)
{
    float max = 0;
    for (size_t i = 0; i < n; i++)
        max = isnan(x[i]) || isnan(max) ? NAN : fmaxf(max, fabsf(x[i]));
    return max;
}

static void quantize(const float *x, size_t n, const struct quantized *q)
{
    float scale = activation_scale(largest(x, n));
    float factor = scale > 0 ? 1 / scale : 0;
    q->scales[0] = scale;
    for (size_t group = 0; group < q->groups; group++) {
        const struct quantized at = quantized_at(*q, 0, group);
        size_t first = group * GROUP, count = n - first < GROUP ? n - first : GROUP;
        int k = scale > 0 ? activation_power(largest(x + first, count), scale) : ACT_LEAST;
        float sums[2] = {0};
        for (size_t i = 0; i < GROUP; i++) {
            float code =
                scale > 0 && i < count ? rintf(x[first + i] * factor * power_of_two(-k)) : 0;
            at.codes[i / 4 * 4 * q->tile + i % 4] = (int8_t)code;
            sums[i / (GROUP / 2)] += code;
        }
        activation_numbers(&at, k, sums);
    }
}

/* Adds columns [col, col + n) of a row, which share a scale, times a token to y. */
static float add_group(const struct group_block *b, const uint8_t *strip, size_t lane, size_t col,
                       size_t n, size_t token, float y)
{
    const struct quantized x = quantized_at(b->x, b->token + token, col / GROUP);
    int32_t sum = 0, codes = 0;
    for (size_t i = col % GROUP; i < col % GROUP + n; i++) {
        int code = group_code(b->type, &b->layout, strip, lane, col / GROUP * GROUP + i);
        int level = b->type == DTYPE_INT4 ? b->format->codebook[code] : code;
        int x_code = x.codes[i / 4 * 4 * x.tile + i % 4];
        sum += level * x_code;
        codes += x_code;
    }
    /* base is 1.5 * 2^23 * 2^k */
    float power = x.numbers[ACT_BASE * x.tile] / 0x1.8p23f;
    y = fmaf((float)sum * power, group_scale_at(b->format, &b->layout, strip, lane, col), y);
    return !b->format->offset ? y
                              : fmaf(group_offset_at(b->format, &b->layout, strip, lane, col),
                                     (float)codes * power, y);
}

static float dot_groups(const struct group_block *b, size_t row, size_t token)
{
    const uint8_t *strip = b->strips + row / STRIP * b->layout.bytes;
    size_t lane = row % STRIP, n = b->format->cols < GROUP ? b->format->cols : GROUP;
    float y = 0, row_scale;

    for (size_t col = 0; col < b->layout.groups * GROUP; col += n)
        y = add_group(b, strip, lane, col, n, token, y);
    memcpy(&row_scale, strip + lane * sizeof row_scale, sizeof row_scale);
    return y * row_scale * b->x.scales[b->token + token];
}

static void linear_groups(const struct group_block *b)
{
    for (size_t token = 0; token < b->tokens; token++)
        for (size_t row = 0; row < b->rows; row++)
            b->y[token * b->y_stride + row] = dot_groups(b, row, token);
}

/* ------------------------------------------------------------------------------------------ */

static void store_f16(const float *in, void *out, size_t n)
{
    for (size_t i = 0; i < n; i++)
        ((uint16_t *)out)[i] = f32_to_f16(in[i]);
}

static void store_int8(const float *in, void *out, size_t n)
{
    float factor, scale = code_scale(largest(in, n), KV_CODE, &factor);
    for (size_t i = 0; i < n; i++)
        ((int8_t *)out)[i] = (int8_t)(factor > 0 ? rintf(in[i] * factor) : 0);
    memcpy((char *)out + n, &scale, sizeof scale);
}

/* The codes of a group in the range; returns their error. */
static float value_codes(const float *y /* [KV_GROUP] */, struct value_range r,
                         uint8_t codes[KV_GROUP])
{
    float error = 0;
    for (size_t i = 0; i < KV_GROUP; i++) {
        float above = y[i] - KV_BASE * r.base;
        float code = fminf(fmaxf(rintf(above * (1 / r.step)), 0), 15);
        float off = above - code * r.step;
        error += off * off;
        codes[i] = (uint8_t)code;
    }
    return error;
}

/* One group of integers. */
static void store_group(const float *y /* [KV_GROUP] */, size_t group, uint8_t *out /* [16] */,
                        int8_t step[2])
{
    uint8_t codes[KV_GROUP];
    float low = y[0], high = y[0], least = INFINITY;
    struct value_range best = {0};
    for (size_t i = 1; i < KV_GROUP; i++) {
        low = fminf(low, y[i]);
        high = fmaxf(high, y[i]);
    }
    for (int k = 0; k < VALUE_TRIES; k++) {
        struct value_range r = value_range(low, high, k);
        float error = value_codes(y, r, codes);
        best = error < least ? r : best;
        least = fminf(error, least);
    }
    value_codes(y, best, codes);
    for (size_t i = 0; i < KV_GROUP; i++)
        out[i] = (uint8_t)(group % 2 == 0 ? codes[i] : out[i] | codes[i] << 4);
    step[0] = (int8_t)best.step;
    step[1] = (int8_t)best.base;
}

static void store_int4(const float *in, void *out, size_t n)
{
    float factor, scale = code_scale(largest(in, n), VALUE_CODE, &factor);
    size_t columns = kv_group_columns(n);
    uint8_t *codes = out;
    int8_t *steps = (int8_t *)out + columns / 2;
    for (size_t group = 0; group < columns / KV_GROUP; group++) {
        float y[KV_GROUP];
        for (size_t i = 0; i < KV_GROUP; i++) {
            size_t col = group * KV_GROUP + i;
            y[i] = factor > 0 && col < n ? rintf(in[col] * factor) : 0;
        }
        store_group(y, group, codes + group / 2 * KV_GROUP, steps + 2 * group);
    }
    memcpy(steps + columns / KV_GROUP * 2, &scale, sizeof scale);
}

static void prepare_int8(float *q, size_t n)
{
    float factor, scale = code_scale(largest(q, n), WIDE_CODE, &factor);
    for (size_t i = 0; i < n; i++) {
        int16_t code = (int16_t)(factor > 0 ? rintf(q[i] * factor) : 0);
        memcpy((char *)q + 2 * i, &code, sizeof code);
    }
    memcpy((char *)q + 2 * n, &scale, sizeof scale);
}

#include "backend/cpu/kernels_block.inc"

#define KERNELS                                                                                 \
    .linear = {linear_f32, linear_f16, linear_bf16}, .add_wide = add_wide, .add = add,          \
    .norm = norm, .swiglu = swiglu,                                                             \
    .kv = {[LLAMA3_KV_F16] = {attend_f16, store_f16, store_f16, NULL},                          \
           [LLAMA3_KV_F32] = {attend_f32, NULL, NULL, NULL},                                    \
           [LLAMA3_KV_INT8] = {attend_int8, store_int8, store_int8, prepare_int8},              \
           [LLAMA3_KV_INT4] = {attend_int4, store_int8, store_int4, prepare_int8}},             \
    .search_scales = search_scales, .search_steps = search_steps, .search_codes = search_codes, \
    .search_feedback = search_feedback, .block_fit = fit_blocks, .block_choose = choose_block

/* Without integer kernels: grouped weights are expanded to f32. */
const struct kernels kernels_scalar = {
    .name = "scalar",
    .description = "cpu (scalar)",
    KERNELS,
};

const struct kernels kernels_scalar_int8 = {
    .name = "scalar-int8",
    .description = "cpu (scalar, activations in int8)",
    .linear_groups = linear_groups,
    .group_tile = 3,
    .group_most = 5,
    .quantize = quantize,
    KERNELS,
};
