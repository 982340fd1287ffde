/* SPDX-License-Identifier: MIT */
#include "config.h" /* newlocale, strtod_l */

#include "engine/sampler.h"

#include <errno.h>
#include <inttypes.h>
#include <locale.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/size.h"
#include "base/tokens.h"

/* A token whose logit is this far below the best (after the temperature) is never drawn: e^-30
 * times a vocabulary of 2^20 is below what a float's sum can hold. It keeps the sort short. */
static const float NEGLIGIBLE = 30.0f;

struct candidate {
    float logit; /* after penalties and temperature */
    int32_t id;
};

struct llama3_sampling {
    float temperature, top_p, min_p, repeat_penalty, frequency_penalty, presence_penalty;
    int top_k;
    uint64_t seed;
    float *biases;        /* [vocab_size], or NULL: none */
    const uint32_t *mask; /* [(vocab_size + 31) / 32], or NULL */

    size_t vocab_size; /* 0: of no model */
    /* Allocated before the first draw: */
    uint32_t *answer_counts;      /* [vocab_size] */
    bool *seen;                   /* [vocab_size] in prompt or answer */
    float *adjusted;              /* [vocab_size] logits after mask, biases and penalties */
    struct candidate *candidates; /* [vocab_size] */
};

/* ---- settings ------------------------------------------------------------------------------- */

enum setting_type { SETTING_FLOAT, SETTING_INT, SETTING_SEED };

static const struct setting {
    const char *name;
    enum setting_type type;
    size_t offset;
    double min, max;
    bool above; /* min itself is not allowed */
} settings[] = {
#define AT(field) offsetof(struct llama3_sampling, field)
    {"temperature", SETTING_FLOAT, AT(temperature), 0, 100, false},
    {"top_p", SETTING_FLOAT, AT(top_p), 0, 1, true},
    {"min_p", SETTING_FLOAT, AT(min_p), 0, 1, false},
    {"top_k", SETTING_INT, AT(top_k), 0, 1 << 20, false},
    {"repeat_penalty", SETTING_FLOAT, AT(repeat_penalty), 0, 100, true},
    {"frequency_penalty", SETTING_FLOAT, AT(frequency_penalty), -100, 100, false},
    {"presence_penalty", SETTING_FLOAT, AT(presence_penalty), -100, 100, false},
    {"seed", SETTING_SEED, AT(seed), 0, 0x1p64, false},
#undef AT
};
enum { N_SETTINGS = sizeof settings / sizeof *settings };

const char *const *llama3_sampling_names(void)
{
    static const char *const names[] = {
        "temperature",      "top_p", "min_p", "top_k", "repeat_penalty", "frequency_penalty",
        "presence_penalty", "seed",  NULL,
    };
    return names;
}

static const struct setting *find_setting(const char *name, struct llama3_error *err)
{
    char list[160];
    size_t n = 0;
    for (size_t i = 0; i < N_SETTINGS; i++)
        if (strcmp(settings[i].name, name) == 0)
            return &settings[i];
    for (size_t i = 0; i < N_SETTINGS; i++)
        n += (size_t)snprintf(list + n, sizeof list - n, "%s%s", i > 0 ? ", " : "",
                              settings[i].name);
    error_input(err, "sampling: expected one of %s, found \"%.40s\"", list, name);
    return NULL;
}

/* A decimal number in C's notation without a plus sign, whatever the locale. */
static bool parse_number(const char *text, double *value)
{
    locale_t c = newlocale(LC_NUMERIC_MASK, "C", NULL);
    char *end;
    if (c == NULL || text[0] == '+' || text[strspn(text, "+-.0123456789eE")] != '\0') {
        if (c != NULL)
            freelocale(c);
        return false;
    }
    *value = strtod_l(text, &end, c);
    freelocale(c);
    return end != text && *end == '\0';
}

static bool parse_seed(const char *text, uint64_t *seed)
{
    char *end;
    errno = 0;
    *seed = strtoull(text, &end, 10);
    return text[0] >= '0' && text[0] <= '9' && *end == '\0' && errno == 0;
}

/* The shortest text that stands for this float. */
static void text_of_float(float value, char text[32])
{
    enum { FLOAT_DIGITS = 9 };                               /* are always enough */
    for (int digits = 3; digits <= FLOAT_DIGITS; digits++) { /* 100 without an exponent */
        double read;
        snprintf(text, 32, "%.*g", digits, (double)value);
        text[strcspn(text, ",")] = strchr(text, ',') != NULL ? '.' : '\0'; /* of the locale */
        if (parse_number(text, &read) && (float)read == value)
            break;
    }
}

static int refuse(const struct setting *setting, const char *text, struct llama3_error *err)
{
    if (setting->type == SETTING_SEED)
        return error_input(err, "seed: expected an integer in [0, %" PRIu64 "], found \"%.40s\"",
                           UINT64_MAX, text);
    return error_input(err, "%s: expected %s in %c%g, %.7g], found \"%.40s\"", setting->name,
                       setting->type == SETTING_INT ? "an integer" : "a number",
                       setting->above ? '(' : '[', setting->min, setting->max, text);
}

int llama3_sampling_set(struct llama3_sampling *s, const char *name, const char *text,
                        struct llama3_error *err)
{
    const struct setting *setting = find_setting(name, err);
    double value;
    uint64_t seed;
    if (setting == NULL)
        return -1;
    void *at = (char *)s + setting->offset;
    if (setting->type == SETTING_SEED) {
        if (!parse_seed(text, &seed))
            return refuse(setting, text, err);
        *(uint64_t *)at = seed;
        return 0;
    }
    if (!parse_number(text, &value))
        return refuse(setting, text, err);
    bool whole = setting->type == SETTING_INT;
    float kept = (float)value + 0.0f; /* -0 becomes 0 */
    if (!(value >= setting->min && value <= setting->max) ||
        (setting->above && (double)kept == setting->min) || (whole && floor(value) != value))
        return refuse(setting, text, err);
    if (whole)
        *(int *)at = (int)value;
    else
        *(float *)at = kept;
    return 0;
}

int llama3_sampling_get(const struct llama3_sampling *s, const char *name, char *text, size_t size,
                        struct llama3_error *err)
{
    const struct setting *setting = find_setting(name, err);
    if (setting == NULL)
        return -1;
    const void *at = (const char *)s + setting->offset;
    char digits[32];
    if (setting->type == SETTING_SEED)
        snprintf(digits, sizeof digits, "%" PRIu64, *(const uint64_t *)at);
    else if (setting->type == SETTING_INT)
        snprintf(digits, sizeof digits, "%d", *(const int *)at);
    else
        text_of_float(*(const float *)at, digits);
    size_t n = strlen(digits);
    if (n >= size)
        return error_input(err, "sampling: expected room for %zu bytes, found %zu", n + 1, size);
    memcpy(text, digits, n + 1);
    return 0;
}

static int check_has_model(const struct llama3_sampling *s, struct llama3_error *err)
{
    return s->vocab_size > 0
               ? 0
               : error_input(err, "sampling: expected one of a model, found one of none");
}

int llama3_sampling_bias(struct llama3_sampling *s, int32_t token, float bias,
                         struct llama3_error *err)
{
    if (check_has_model(s, err) < 0)
        return -1;
    if (token < 0 || (size_t)token >= s->vocab_size)
        return error_input(err, "bias: expected a token below %zu, found %d", s->vocab_size,
                           (int)token);
    if (!(fabsf(bias) <= 100))
        return error_input(err, "bias: expected a number in [-100, 100], found %g", (double)bias);
    if (s->biases == NULL)
        s->biases = size_alloc_for(s->vocab_size, sizeof *s->biases, "biases", err);
    if (s->biases == NULL)
        return -1;
    s->biases[token] = bias;
    return 0;
}

void llama3_sampling_mask(struct llama3_sampling *s, const uint32_t *allowed)
{
    s->mask = allowed;
}

/* ---- a sampling ----------------------------------------------------------------------------- */

static int allocate(struct llama3_sampling *s, struct llama3_error *err)
{
    if (check_has_model(s, err) < 0)
        return -1;
    if (s->candidates != NULL)
        return 0;
    size_t n = s->vocab_size; /* one piece of memory, in the order of alignment */
    s->candidates = size_alloc_for(
        n, sizeof *s->candidates + sizeof *s->answer_counts + sizeof *s->adjusted + sizeof *s->seen,
        "the sampling", err);
    if (s->candidates == NULL)
        return -1;
    s->answer_counts = (uint32_t *)(s->candidates + n);
    s->adjusted = (void *)(s->answer_counts + n);
    s->seen = (void *)(s->adjusted + n);
    return 0;
}

struct llama3_sampling *sampling_open(const struct generation_defaults *g, size_t vocab_size,
                                      struct llama3_error *err)
{
    struct llama3_sampling *s = size_alloc_for(1, sizeof *s, "the sampling", err);
    if (s == NULL)
        return NULL;
    *s = (struct llama3_sampling){
        .temperature = isnan(g->temperature) ? 0.6f : (float)g->temperature,
        .top_p = isnan(g->top_p) ? 0.9f : (float)g->top_p,
        .min_p = isnan(g->min_p) ? 0 : (float)g->min_p,
        .top_k = g->top_k < 0 ? 0 : (int)g->top_k,
        .repeat_penalty = isnan(g->repeat_penalty) ? 1 : (float)g->repeat_penalty,
        .vocab_size = vocab_size,
    };
    if (g->do_sample == 0)
        s->temperature = 0;
    return s;
}

struct llama3_sampling *llama3_sampling_copy(const struct llama3_sampling *from,
                                             struct llama3_error *err)
{
    struct llama3_sampling *s = size_alloc_for(1, sizeof *s, "the sampling", err);
    if (s == NULL)
        return NULL;
    *s = *from;
    s->candidates = NULL;
    if (from->biases != NULL) {
        s->biases = size_alloc_for(s->vocab_size, sizeof *s->biases, "biases", err);
        if (s->biases == NULL) {
            free(s);
            return NULL;
        }
        memcpy(s->biases, from->biases, s->vocab_size * sizeof *s->biases);
    }
    return s;
}

void llama3_sampling_close(struct llama3_sampling *s)
{
    if (s == NULL)
        return;
    free(s->candidates);
    free(s->biases);
    free(s);
}

int sampling_prepare(struct llama3_sampling *s, size_t vocab_size, struct llama3_error *err)
{
    if (s->vocab_size != vocab_size)
        return error_input(err, "sampling: expected one of %zu tokens, found %zu", vocab_size,
                           s->vocab_size);
    return allocate(s, err);
}

int llama3_sampling_begin(struct llama3_sampling *s, const int32_t *prompt, size_t n,
                          struct llama3_error *err)
{
    if (allocate(s, err) < 0 || tokens_check(prompt, n, s->vocab_size, err) < 0)
        return -1;
    memset(s->seen, 0, s->vocab_size * sizeof *s->seen);
    memset(s->answer_counts, 0, s->vocab_size * sizeof *s->answer_counts);
    for (size_t i = 0; i < n; i++)
        s->seen[prompt[i]] = true;
    return 0;
}

int llama3_sampling_accept(struct llama3_sampling *s, int32_t token, struct llama3_error *err)
{
    if (allocate(s, err) < 0 || tokens_check(&token, 1, s->vocab_size, err) < 0)
        return -1;
    s->seen[token] = true;
    s->answer_counts[token]++;
    return 0;
}

/* ---- drawing -------------------------------------------------------------------------------- */

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

/* Takes what a mask doesn't allow out of n logits. Most words of a mask are all or nothing. */
static void apply_mask(float *logits, size_t n, const uint32_t *mask)
{
    for (size_t i = 0; i < n && mask != NULL; i += 32) {
        uint32_t word = mask[i / 32];
        for (size_t bit = 0; word != UINT32_MAX && bit < 32 && i + bit < n; bit++)
            if ((word >> bit & 1) == 0)
                logits[i + bit] = -INFINITY;
    }
}

/* The logits after mask, biases and penalties: repetition as in CTRL (Keskar et al. 2019, section
 * 4.1), frequency and presence as in the OpenAI API. */
static const float *adjust(struct llama3_sampling *s, const float *logits, const uint32_t *also)
{
    bool penalties =
        s->repeat_penalty != 1 || s->frequency_penalty != 0 || s->presence_penalty != 0;
    if (!penalties && s->biases == NULL && s->mask == NULL && also == NULL)
        return logits;
    memcpy(s->adjusted, logits, s->vocab_size * sizeof *logits);
    for (size_t i = 0; i < s->vocab_size && s->biases != NULL; i++)
        s->adjusted[i] += s->biases[i];
    for (size_t i = 0; i < s->vocab_size && penalties; i++) {
        float logit = s->adjusted[i];
        if (s->seen[i])
            logit = logit > 0 ? logit / s->repeat_penalty : logit * s->repeat_penalty;
        if (s->answer_counts[i] > 0)
            logit -= (float)s->answer_counts[i] * s->frequency_penalty + s->presence_penalty;
        s->adjusted[i] = logit;
    }
    apply_mask(s->adjusted, s->vocab_size, s->mask);
    apply_mask(s->adjusted, s->vocab_size, also);
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
static struct candidate *sorted_candidates(struct llama3_sampling *s, const float *logits,
                                           size_t *n)
{
    float best = logits[best_of(logits, s->vocab_size)];
    float scale = 1 / s->temperature;
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
static size_t cut(const struct llama3_sampling *s, const struct candidate *c, size_t n)
{
    if (s->top_k > 0 && (size_t)s->top_k < n)
        n = (size_t)s->top_k;
    if (s->top_p < 1) {
        double enough = (double)s->top_p * sum_of(c, n), sum = 0;
        size_t kept = 0;
        while (kept < n && (kept == 0 || sum < enough))
            sum += exp((double)c[kept++].logit);
        n = kept;
    }
    if (s->min_p > 0) {
        double least = log((double)s->min_p); /* the best candidate's logit is 0 */
        while (n > 1 && (double)c[n - 1].logit < least)
            n--;
    }
    return n;
}

int sampling_draw(struct llama3_sampling *s, const float *logits, size_t position,
                  const uint32_t *also, int32_t *token, struct llama3_error *err)
{
    if (allocate(s, err) < 0)
        return -1;
    logits = adjust(s, logits, also);
    int32_t best = best_of(logits, s->vocab_size);
    if (!(logits[best] > -INFINITY)) /* all are -inf or NaN, and `best` is none of them */
        return error_input(err, "%s to draw by, found none",
                           s->mask != NULL || also != NULL
                               ? "mask: expected an allowed token with a logit"
                               : "logits: expected one");
    *token = best;
    if (s->temperature == 0 || !isfinite(logits[best]))
        return 0;

    size_t n;
    const struct candidate *c = sorted_candidates(s, logits, &n);
    if (n == 0) /* a temperature so small that the best one's logit is no number */
        return 0;
    n = cut(s, c, n);

    double left = uniform(s->seed, position) * sum_of(c, n);
    size_t i = 0;
    while (i + 1 < n && (left -= exp((double)c[i].logit)) >= 0)
        i++;
    *token = c[i].id;
    return 0;
}

int llama3_sampling_draw(struct llama3_sampling *s, const float *logits, size_t position,
                         int32_t *token, struct llama3_error *err)
{
    return sampling_draw(s, logits, position, NULL, token, err);
}
