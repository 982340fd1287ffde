/* kernels_scalar.c: what every kernel computes, in plain C. */
#include "backend/cpu/kernels.h"

#include <math.h>
#include <string.h>

static inline float load_f32(const uint8_t *p)
{
    float value;
    memcpy(&value, p, sizeof value);
    return value;
}

static inline float load_f16(const uint8_t *p)
{
    uint16_t bits;
    memcpy(&bits, p, sizeof bits);
    return f16_to_f32(bits);
}

static inline float load_bf16(const uint8_t *p)
{
    uint16_t bits;
    memcpy(&bits, p, sizeof bits);
    return bf16_to_f32(bits);
}

static inline __attribute__((always_inline)) void dot(const uint8_t *w, size_t w_stride,
                                                      size_t n_rows, const float *x,
                                                      size_t x_stride, size_t n_tokens, size_t cols,
                                                      float *y, size_t y_stride,
                                                      float (*load)(const uint8_t *), size_t bytes)
{
    for (size_t r = 0; r < n_rows; r++) {
        for (size_t t = 0; t < n_tokens; t++) {
            float sum = 0;
            for (size_t k = 0; k < cols; k++)
                sum += load(w + r * w_stride + k * bytes) * x[t * x_stride + k];
            y[t * y_stride + r] = sum;
        }
    }
}

static void dot_f32(const void *w, size_t w_stride, size_t n_rows, const float *x, size_t x_stride,
                    size_t n_tokens, size_t cols, float *y, size_t y_stride)
{
    dot(w, w_stride, n_rows, x, x_stride, n_tokens, cols, y, y_stride, load_f32, 4);
}

static void dot_f16(const void *w, size_t w_stride, size_t n_rows, const float *x, size_t x_stride,
                    size_t n_tokens, size_t cols, float *y, size_t y_stride)
{
    dot(w, w_stride, n_rows, x, x_stride, n_tokens, cols, y, y_stride, load_f16, 2);
}

static void dot_bf16(const void *w, size_t w_stride, size_t n_rows, const float *x, size_t x_stride,
                     size_t n_tokens, size_t cols, float *y, size_t y_stride)
{
    dot(w, w_stride, n_rows, x, x_stride, n_tokens, cols, y, y_stride, load_bf16, 2);
}

static inline __attribute__((always_inline)) void attend(
    const float *q, size_t group, size_t head_dim, const uint8_t *k, const uint8_t *v, size_t n,
    struct attention *state, float (*load)(const uint8_t *), size_t bytes)
{
    for (size_t g = 0; g < group; g++) {
        float scores[KV_PAGE], max = state->max[g];
        for (size_t p = 0; p < n; p++) {
            float score = 0;
            for (size_t d = 0; d < head_dim; d++)
                score += q[g * head_dim + d] * load(k + (d * KV_PAGE + p) * bytes);
            scores[p] = score;
            max = fmaxf(max, score);
        }

        float keep = expf(state->max[g] - max);
        float *acc = state->acc + g * head_dim;
        for (size_t d = 0; d < head_dim; d++)
            acc[d] *= keep;
        state->sum[g] *= keep;
        for (size_t p = 0; p < n; p++) {
            float weight = expf(scores[p] - max);
            state->sum[g] += weight;
            for (size_t d = 0; d < head_dim; d++)
                acc[d] += weight * load(v + (p * head_dim + d) * bytes);
        }
        state->max[g] = max;
    }
}

static void attend_f16(const float *q, size_t group, size_t head_dim, const void *k, const void *v,
                       size_t n, struct attention *state)
{
    attend(q, group, head_dim, k, v, n, state, load_f16, 2);
}

static void attend_f32(const float *q, size_t group, size_t head_dim, const void *k, const void *v,
                       size_t n, struct attention *state)
{
    attend(q, group, head_dim, k, v, n, state, load_f32, 4);
}

static void rms_norm(const float *x, const float *w, float eps, float *y, size_t n)
{
    float sum = 0;
    for (size_t i = 0; i < n; i++)
        sum += x[i] * x[i];
    float scale = 1 / sqrtf(sum / (float)n + eps);
    for (size_t i = 0; i < n; i++)
        y[i] = x[i] * scale * w[i];
}

static void add(float *x, const float *d, size_t n)
{
    for (size_t i = 0; i < n; i++)
        x[i] += d[i];
}

static void swiglu(float *gate, const float *up, size_t n)
{
    for (size_t i = 0; i < n; i++)
        gate[i] = gate[i] / (1 + expf(-gate[i])) * up[i];
}

const struct kernels kernels_scalar = {
    .name = "scalar",
    .dot_f32 = dot_f32,
    .dot_f16 = dot_f16,
    .dot_bf16 = dot_bf16,
    .attend_f16 = attend_f16,
    .attend_f32 = attend_f32,
    .expand = dtype_expand,
    .rms_norm = rms_norm,
    .add = add,
    .swiglu = swiglu,
};
