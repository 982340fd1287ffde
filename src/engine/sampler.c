/* SPDX-License-Identifier: MIT */
#include "engine/sampler.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/size.h"

/* A token whose logit is this far below the best (after the temperature) is never drawn: e^-30
 * times a vocabulary of 2^20 is below what a float's sum can hold. It keeps the sort short. */
static const float NEGLIGIBLE = 30.0f;

struct candidate {
    float logit; /* after penalties and temperature */
    int32_t id;
};

struct sampler {
    struct llama3_sampling sampling;
    size_t vocab_size;
    uint32_t *answer_counts;      /* [vocab_size] */
    bool *seen;                   /* [vocab_size] in prompt or answer */
    float *adjusted;              /* [vocab_size] logits after biases and penalties */
    struct candidate *candidates; /* [vocab_size] */
};

static int check(bool valid, const char *name, double value, const char *range,
                 struct llama3_error *err)
{
    return valid ? 0
                 : error_set(err, LLAMA3_EINPUT, "%s: expected a number in %s, found %g", name,
                             range, value);
}

static int check_ranges(const struct llama3_sampling *s, size_t vocab_size,
                        struct llama3_error *err)
{
    if (check(s->temperature >= 0 && s->temperature <= 100, "temperature", s->temperature,
              "[0, 100]", err) < 0 ||
        check(s->top_p > 0 && s->top_p <= 1, "top_p", s->top_p, "(0, 1]", err) < 0 ||
        check(s->min_p >= 0 && s->min_p <= 1, "min_p", s->min_p, "[0, 1]", err) < 0 ||
        check(s->top_k >= 0, "top_k", s->top_k, "[0, 2147483647]", err) < 0 ||
        check(s->repeat_penalty > 0 && s->repeat_penalty <= 100, "repeat_penalty",
              s->repeat_penalty, "(0, 100]", err) < 0 ||
        check(fabsf(s->frequency_penalty) <= 100, "frequency_penalty", s->frequency_penalty,
              "[-100, 100]", err) < 0 ||
        check(fabsf(s->presence_penalty) <= 100, "presence_penalty", s->presence_penalty,
              "[-100, 100]", err) < 0)
        return -1;
    for (size_t i = 0; i < s->n_bias; i++) {
        int32_t token = s->bias[i].token;
        if (token < 0 || (size_t)token >= vocab_size)
            return error_set(err, LLAMA3_EINPUT, "bias: expected a token below %zu, found %d",
                             vocab_size, (int)token);
        if (check(fabsf(s->bias[i].bias) <= 100, "bias", s->bias[i].bias, "[-100, 100]", err) < 0)
            return -1;
    }
    return 0;
}

struct sampler *sampler_open(const struct llama3_sampling *sampling, size_t vocab_size,
                             struct llama3_error *err)
{
    if (check_ranges(sampling, vocab_size, err) < 0)
        return NULL;
    struct sampler *s = size_alloc(1, sizeof *s);
    if (s != NULL) {
        s->sampling = *sampling;
        s->vocab_size = vocab_size;
        s->answer_counts = size_alloc(vocab_size, sizeof *s->answer_counts);
        s->seen = size_alloc(vocab_size, sizeof *s->seen);
        s->adjusted = size_alloc(vocab_size, sizeof *s->adjusted);
        s->candidates = size_alloc(vocab_size, sizeof *s->candidates);
    }
    if (s == NULL || s->answer_counts == NULL || s->seen == NULL || s->adjusted == NULL ||
        s->candidates == NULL) {
        error_memory(err, "the sampler", vocab_size * sizeof *s->candidates);
        sampler_close(s);
        return NULL;
    }
    return s;
}

void sampler_close(struct sampler *s)
{
    if (s == NULL)
        return;
    free(s->answer_counts);
    free(s->seen);
    free(s->adjusted);
    free(s->candidates);
    free(s);
}

void sampler_saw_prompt(struct sampler *s, const int32_t *tokens, size_t n)
{
    for (size_t i = 0; i < n; i++)
        s->seen[tokens[i]] = true;
}

void sampler_saw_answer(struct sampler *s, int32_t token)
{
    s->seen[token] = true;
    s->answer_counts[token]++;
}

/* SplitMix64's output function (Steele, Lea and Flood 2014). */
static uint64_t mix(uint64_t x)
{
    x += 0x9e3779b97f4a7c15u;
    x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9u;
    x = (x ^ x >> 27) * 0x94d049bb133111ebu;
    return x ^ x >> 31;
}

/* Uniform in [0, 1). */
static double uniform(uint64_t seed, size_t position)
{
    return (double)(mix(mix(seed) ^ position) >> 11) * 0x1p-53;
}

/* The logits after biases and penalties: repetition as in CTRL (Keskar et al. 2019, section 4.1),
 * frequency and presence as in the OpenAI API. */
static const float *penalize(struct sampler *s, const float *logits)
{
    const struct llama3_sampling *o = &s->sampling;
    bool penalties =
        o->repeat_penalty != 1 || o->frequency_penalty != 0 || o->presence_penalty != 0;
    if (!penalties && o->n_bias == 0)
        return logits;
    memcpy(s->adjusted, logits, s->vocab_size * sizeof *logits);
    for (size_t i = 0; i < o->n_bias; i++)
        s->adjusted[o->bias[i].token] += o->bias[i].bias;
    for (size_t i = 0; i < s->vocab_size && penalties; i++) {
        float logit = s->adjusted[i];
        if (s->seen[i])
            logit = logit > 0 ? logit / o->repeat_penalty : logit * o->repeat_penalty;
        if (s->answer_counts[i] > 0)
            logit -= (float)s->answer_counts[i] * o->frequency_penalty + o->presence_penalty;
        s->adjusted[i] = logit;
    }
    return s->adjusted;
}

/* The first of the largest, NaN aside. By lanes that a compiler makes vectors of: one maximum alone
 * waits for itself, and took a twentieth of a small model's time. */
static int32_t best_of(const float *logits, size_t n)
{
    enum { LANES = 16 };
    float lanes[LANES], best = -INFINITY;
    size_t i = 0;
    for (size_t lane = 0; lane < LANES; lane++)
        lanes[lane] = -INFINITY;
    for (; i + LANES <= n; i += LANES)
        for (size_t lane = 0; lane < LANES; lane++)
            lanes[lane] = logits[i + lane] > lanes[lane] ? logits[i + lane] : lanes[lane];
    for (size_t lane = 0; lane < LANES; lane++)
        best = lanes[lane] > best ? lanes[lane] : best;
    for (; i < n; i++)
        best = logits[i] > best ? logits[i] : best;
    for (i = 0; i < n; i++)
        if (logits[i] == best)
            return (int32_t)i;
    return 0;
}

static int by_logit(const void *a, const void *b)
{
    const struct candidate *x = a, *y = b;
    if (x->logit != y->logit)
        return x->logit > y->logit ? -1 : 1;
    return x->id < y->id ? -1 : x->id > y->id;
}

/* Candidates that are not negligible, best first; [*n]. */
static struct candidate *sorted_candidates(struct sampler *s, const float *logits, size_t *n)
{
    float best = logits[best_of(logits, s->vocab_size)];
    float scale = 1 / s->sampling.temperature;
    size_t count = 0;

    for (size_t i = 0; i < s->vocab_size; i++) {
        float logit = (logits[i] - best) * scale;
        if (logit >= -NEGLIGIBLE)
            s->candidates[count++] = (struct candidate){logit, (int32_t)i};
    }
    qsort(s->candidates, count, sizeof *s->candidates, by_logit);
    *n = count;
    return s->candidates;
}

static double sum_of(const struct candidate *c, size_t n)
{
    double sum = 0;
    for (size_t i = 0; i < n; i++)
        sum += exp((double)c[i].logit);
    return sum;
}

/* How many of the n best candidates top-k, top-p and min-p leave, at least one. */
static size_t cut(const struct llama3_sampling *o, const struct candidate *c, size_t n)
{
    if (o->top_k > 0 && (size_t)o->top_k < n)
        n = (size_t)o->top_k;
    if (o->top_p < 1) {
        double enough = (double)o->top_p * sum_of(c, n), sum = 0;
        size_t kept = 0;
        while (kept < n && (kept == 0 || sum < enough))
            sum += exp((double)c[kept++].logit);
        n = kept;
    }
    if (o->min_p > 0) {
        double least = log((double)o->min_p); /* the best candidate's logit is 0 */
        while (n > 1 && (double)c[n - 1].logit < least)
            n--;
    }
    return n;
}

int32_t sampler_draw(struct sampler *s, const float *logits, size_t position)
{
    logits = penalize(s, logits);
    int32_t best = best_of(logits, s->vocab_size);
    if (s->sampling.temperature == 0 || !isfinite(logits[best]))
        return best;

    size_t n;
    const struct candidate *c = sorted_candidates(s, logits, &n);
    if (n == 0) /* a temperature so small that the best one's logit is no number */
        return best;
    n = cut(&s->sampling, c, n);

    double left = uniform(s->sampling.seed, position) * sum_of(c, n);
    for (size_t i = 0; i + 1 < n; i++) {
        left -= exp((double)c[i].logit);
        if (left < 0)
            return c[i].id;
    }
    return c[n - 1].id;
}
