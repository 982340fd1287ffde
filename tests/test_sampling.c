/* SPDX-License-Identifier: MIT */
/* The sampler: settings by name, and what is drawn from given logits. */
#include <check.h>
#include <locale.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "engine/sampler.h"
#include "run.h"
#include "sampling.h"

static struct llama3_error err;

/* One of so many tokens that changes nothing, but for the pairs of a name and a value. */
static struct llama3_sampling *neutral(size_t n_tokens)
{
    static const struct generation_defaults none = GENERATION_NONE;
    return sampling_with(sampling_open(&none, n_tokens, NULL), "temperature", "1", "top_p", "1",
                         NULL);
}

#define NEUTRAL(n_tokens, ...) sampling_with(neutral(n_tokens), __VA_ARGS__, NULL)

static int32_t draw(struct llama3_sampling *s, const float *logits, size_t position)
{
    int32_t token = -1;
    ck_assert_msg(llama3_sampling_draw(s, logits, position, &token, &err) == 0, "%s", err.message);
    return token;
}

/* How often each of 6 tokens is drawn in 20,000. Closes the sampling. */
static void histogram(struct llama3_sampling *s, const float *logits, double *share)
{
    enum { DRAWS = 20000 };
    memset(share, 0, 6 * sizeof *share);
    for (size_t i = 0; i < DRAWS; i++)
        share[draw(s, logits, i)] += 1.0 / DRAWS;
    llama3_sampling_close(s);
}

START_TEST(draws_follow_the_distribution)
{
    float logits[6];
    static const double p[6] = {0.05, 0.4, 0.3, 0.15, 0.1, 0};
    double share[6];
    for (size_t i = 0; i < 6; i++)
        logits[i] = p[i] > 0 ? (float)log(p[i]) + 3 : -INFINITY;

    histogram(neutral(6), logits, share);
    for (size_t i = 0; i < 6; i++)
        ck_assert_double_eq_tol(share[i], p[i], 0.015);

    histogram(NEUTRAL(6, "top_k", "2"), logits, share);
    ck_assert_double_eq_tol(share[1], 4.0 / 7, 0.015);
    ck_assert_double_eq_tol(share[1] + share[2], 1, 1e-9);
    histogram(NEUTRAL(6, "top_p", "0.69"), logits, share);
    ck_assert_double_eq_tol(share[1] + share[2], 1, 1e-9);
    histogram(NEUTRAL(6, "top_p", "0.71"), logits, share);
    ck_assert_double_eq_tol(share[3], 15.0 / 85, 0.015);
    histogram(NEUTRAL(6, "min_p", "0.3"), logits, share); /* of 0.4 */
    ck_assert_double_eq_tol(share[1] + share[2] + share[3], 1, 1e-9);
    histogram(NEUTRAL(6, "min_p", "1"), logits, share);
    ck_assert_double_eq_tol(share[1], 1, 1e-9);
    histogram(NEUTRAL(6, "temperature", "0.5"), logits, share); /* squares the probabilities */
    ck_assert_double_eq_tol(share[1], 0.16 / (0.0025 + 0.16 + 0.09 + 0.0225 + 0.01), 0.015);
    histogram(NEUTRAL(6, "temperature", "1e-30"), logits, share);
    ck_assert_double_eq_tol(share[1], 1, 1e-9);
}
END_TEST

static void accept(struct llama3_sampling *s, int32_t token)
{
    ck_assert_int_eq(llama3_sampling_accept(s, token, &err), 0);
}

START_TEST(penalties_and_ties)
{
    const float logits[6] = {1, 2, 2, -1, NAN, -INFINITY};
    struct llama3_sampling *s = NEUTRAL(6, "temperature", "0");
    ck_assert_int_eq(draw(s, logits, 0), 1); /* the lower id */

    sampling_with(s, "repeat_penalty", "2.5", NULL);
    ck_assert_int_eq(llama3_sampling_begin(s, (int32_t[]){1, 2}, 2, &err), 0);
    ck_assert_int_eq(draw(s, logits, 0), 0);

    sampling_with(s, "repeat_penalty", "1", "presence_penalty", "0.5", "frequency_penalty", "0.3",
                  NULL);
    ck_assert_int_eq(llama3_sampling_begin(s, (int32_t[]){1}, 1, &err), 0);
    ck_assert_int_eq(draw(s, logits, 0), 1); /* a prompt counts for repetition only */
    accept(s, 1);
    ck_assert_int_eq(draw(s, logits, 0), 2);
    accept(s, 2);
    accept(s, 2);
    ck_assert_int_eq(draw(s, logits, 0), 1);
    accept(s, 1);
    accept(s, 1);
    ck_assert_int_eq(draw(s, logits, 0), 0);
    ck_assert_int_eq(llama3_sampling_accept(s, 6, &err), -1);
    ck_assert_int_eq(llama3_sampling_begin(s, NULL, 0, &err), 0);
    ck_assert_int_eq(draw(s, logits, 0), 1);
    llama3_sampling_close(s);
}
END_TEST

/* Wherever it stands, and whatever stands beside it. */
START_TEST(the_best_is_found_everywhere)
{
    enum { VOCAB = 2 * 16 + 7 };
    struct llama3_sampling *s = NEUTRAL(VOCAB, "temperature", "0");
    for (size_t best = 0; best < VOCAB; best++) {
        float logits[VOCAB];
        for (size_t i = 0; i < VOCAB; i++)
            logits[i] = i == best ? -3 : i % 5 == 1 ? NAN : i % 7 == 2 ? -INFINITY : -4;
        ck_assert_int_eq(draw(s, logits, 0), (int)best);
        for (size_t i = best; i < VOCAB; i += 3)
            logits[i] = -3;
        ck_assert_int_eq(draw(s, logits, 0), (int)best);
    }
    llama3_sampling_close(s);
}
END_TEST

START_TEST(biases_come_before_penalties)
{
    const float logits[6] = {1, 2, 2, -1, 0, 0};
    struct llama3_sampling *s = NEUTRAL(6, "temperature", "0");
    ck_assert_int_eq(llama3_sampling_bias(s, 2, 50, &err), 0);
    ck_assert_int_eq(llama3_sampling_bias(s, 2, 0.5f, &err), 0); /* in the place of that */
    ck_assert_int_eq(draw(s, logits, 0), 2);
    ck_assert_int_eq(llama3_sampling_bias(s, 3, 4, &err), 0);
    ck_assert_int_eq(llama3_sampling_bias(s, 0, -100, &err), 0);
    sampling_with(s, "repeat_penalty", "2", NULL); /* halves the 3 that the bias made of -1 */
    ck_assert_int_eq(draw(s, logits, 0), 3);
    accept(s, 3);
    ck_assert_int_eq(draw(s, logits, 0), 2);

    static const struct {
        int32_t token;
        float bias;
        const char *message;
    } wrong[] = {
        {6, 1, "bias: expected a token below 6, found 6"},
        {-1, 1, "bias: expected a token below 6, found -1"},
        {0, 101, "bias: expected a number in [-100, 100], found 101"},
        {0, NAN, "bias: expected a number in [-100, 100], found nan"},
    };
    for (size_t i = 0; i < 4; i++) {
        ck_assert_int_eq(llama3_sampling_bias(s, wrong[i].token, wrong[i].bias, &err), -1);
        ck_assert_int_eq(err.code, LLAMA3_EINPUT);
        ck_assert_str_eq(err.message, wrong[i].message);
    }
    llama3_sampling_close(s);
}
END_TEST

START_TEST(a_mask_allows_its_tokens_alone)
{
    enum { VOCAB = 70 };
    float logits[VOCAB];
    uint32_t allowed[(VOCAB + 31) / 32] = {0};
    for (size_t i = 0; i < VOCAB; i++)
        logits[i] = -(float)i / 10;
    static const char *const temperatures[] = {"0", "1", "100"};
    for (size_t t = 0; t < 3; t++) {
        struct llama3_sampling *s = NEUTRAL(VOCAB, "temperature", temperatures[t]);
        ck_assert_int_eq(llama3_sampling_bias(s, 5, 100, &err), 0);
        llama3_sampling_mask(s, allowed);
        memset(allowed, 0, sizeof allowed);
        int32_t token = 7;
        ck_assert_int_eq(llama3_sampling_draw(s, logits, 0, &token, &err), -1);
        ck_assert_str_eq(err.message,
                         "mask: expected an allowed token with a logit to draw by, found none");
        ck_assert_int_eq(token, 7);
        allowed[1] = 1U << 3;
        allowed[2] = 1U << 5;
        size_t n[2] = {0, 0};
        for (size_t i = 0; i < 200; i++) {
            token = draw(s, logits, i);
            ck_assert(token == 35 || token == 69);
            n[token == 69]++;
        }
        ck_assert(t == 0 ? n[1] == 0 : n[0] > 0 && n[1] > 0);
        llama3_sampling_mask(s, NULL);
        if (t < 2)
            ck_assert_int_eq(draw(s, logits, 0), 5);
        logits[0] = NAN; /* is nobody's best, allowed or not */
        ck_assert_int_ne(draw(s, logits, 0), 0);
        logits[0] = 0;
        llama3_sampling_close(s);
    }
}
END_TEST

START_TEST(logits_that_draw_nothing)
{
    const float none[3] = {NAN, -INFINITY, NAN}, one[3] = {NAN, -INFINITY, 1};
    const uint32_t allowed = 1 << 0 | 1 << 1;
    static const char *const temperatures[] = {"0", "1"};
    for (size_t t = 0; t < 2; t++) {
        struct llama3_sampling *s = NEUTRAL(3, "temperature", temperatures[t]);
        int32_t token = 9;
        ck_assert_int_eq(llama3_sampling_draw(s, none, 0, &token, &err), -1);
        ck_assert_str_eq(err.message, "logits: expected one to draw by, found none");
        ck_assert_int_eq(draw(s, one, 0), 2);
        llama3_sampling_mask(s, &allowed);
        ck_assert_int_eq(llama3_sampling_draw(s, one, 0, &token, &err), -1);
        ck_assert_str_eq(err.message,
                         "mask: expected an allowed token with a logit to draw by, found none");
        ck_assert_int_eq(token, 9);
        llama3_sampling_close(s);
    }
}
END_TEST

START_TEST(tokens_are_checked)
{
    static const struct generation_defaults defaults = GENERATION_NONE;
    const int32_t prompt[] = {1, 2, 3}, wrong[] = {1, 3, 6};
    const float logits[6] = {5, 5, 5, 4, 3, 2};
    struct llama3_sampling *s = NEUTRAL(6, "temperature", "0", "repeat_penalty", "2");
    ck_assert_int_eq(llama3_sampling_begin(s, prompt, 3, &err), 0);
    ck_assert_int_eq(llama3_sampling_accept(s, 0, &err), 0);
    ck_assert_int_eq(draw(s, logits, 0), 4);
    ck_assert_int_eq(llama3_sampling_begin(s, wrong, 3, &err), -1);
    ck_assert_str_eq(err.message, "token 2: expected an id from 0 to 5, found 6");
    ck_assert_int_eq(draw(s, logits, 0), 4); /* as it was */
    ck_assert_int_eq(llama3_sampling_accept(s, -1, &err), -1);
    ck_assert_int_eq(llama3_sampling_bias(s, 6, 1, &err), -1);
    ck_assert_str_eq(err.message, "bias: expected a token below 6, found 6");
    llama3_sampling_close(s);
    s = sampling_open(&defaults, 0, &err);
    ck_assert_int_eq(llama3_sampling_bias(s, 0, 1, &err), -1);
    ck_assert_str_eq(err.message, "sampling: expected one of a model, found one of none");
    llama3_sampling_close(s);
}
END_TEST

START_TEST(settings_are_read_and_written)
{
    static const char *const values[][3] = {
        {"temperature", "0.30", "0.3"},
        {"temperature", "1e2", "100"},
        {"top_p", "1", "1"},
        {"top_p", "0.1000000001", "0.1"},
        {"min_p", "0", "0"},
        {"top_k", "1048576", "1048576"},
        {"top_k", "7.0", "7"},
        {"repeat_penalty", "1.1", "1.1"},
        {"frequency_penalty", "-100", "-100"},
        {"presence_penalty", "-.5", "-0.5"},
        {"frequency_penalty", "-0", "0"},
        {"seed", "18446744073709551615", "18446744073709551615"},
    };
    char text[32];
    struct llama3_sampling *s = llama3_sampling_open(NULL, &err);
    for (size_t i = 0; i < sizeof values / sizeof *values; i++) {
        ck_assert_msg(llama3_sampling_set(s, values[i][0], values[i][1], &err) == 0, "%s",
                      err.message);
        ck_assert_int_eq(llama3_sampling_get(s, values[i][0], text, sizeof text, &err), 0);
        ck_assert_str_eq(text, values[i][2]);
    }
    struct llama3_sampling *copy = llama3_sampling_copy(s, &err);
    for (size_t i = 0; llama3_sampling_names()[i] != NULL; i++) {
        const char *name = llama3_sampling_names()[i];
        char other[32];
        ck_assert_int_eq(llama3_sampling_get(s, name, text, sizeof text, &err), 0);
        ck_assert_int_eq(llama3_sampling_get(copy, name, other, sizeof other, &err), 0);
        ck_assert_str_eq(text, other);
    }
    ck_assert_int_eq(llama3_sampling_get(s, "seed", text, 20, &err), -1);
    float logits[1] = {0};
    int32_t token;
    ck_assert_int_eq(llama3_sampling_draw(s, logits, 0, &token, &err), -1); /* of no model */
    llama3_sampling_close(copy);
    llama3_sampling_close(s);
}
END_TEST

START_TEST(settings_are_checked)
{
    static const char *const wrong[][3] = {
        {"temperature", "-1", "temperature: expected a number in [0, 100], found \"-1\""},
        {"temperature", "100.1", NULL},
        {"temperature", "100.0000001", NULL}, /* 100 as a float */
        {"temperature", "+1", NULL},
        {"temperature", "nan", NULL},
        {"temperature", "inf", NULL},
        {"temperature", "0x1", NULL},
        {"temperature", "", "temperature: expected a number in [0, 100], found \"\""},
        {"temperature", "1 ", NULL},
        {"temperature", "0,5", NULL},
        {"top_p", "0", "top_p: expected a number in (0, 1], found \"0\""},
        {"top_p", "1e-60", NULL}, /* 0 as a float */
        {"min_p", "1.1", NULL},
        {"top_k", "-1", "top_k: expected an integer in [0, 1048576], found \"-1\""},
        {"top_k", "1.5", NULL},
        {"top_k", "1048577", NULL},
        {"repeat_penalty", "0", NULL},
        {"frequency_penalty", "-101", NULL},
        {"presence_penalty", "101", NULL},
        {"seed", "-1", "seed: expected an integer in [0, 18446744073709551615], found \"-1\""},
        {"seed", "18446744073709551616", NULL},
        {"seed", "1.0", NULL},
        {"heat", "1",
         "sampling: expected one of temperature, top_p, min_p, top_k, repeat_penalty, "
         "frequency_penalty, presence_penalty, seed, found \"heat\""},
        {"", "1", NULL},
    };
    struct llama3_sampling *s = llama3_sampling_open(NULL, &err);
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        char before[32] = "", after[32] = "";
        llama3_sampling_get(s, wrong[i][0], before, sizeof before, NULL);
        err.code = LLAMA3_OK;
        ck_assert_msg(llama3_sampling_set(s, wrong[i][0], wrong[i][1], &err) == -1, "%s=%s",
                      wrong[i][0], wrong[i][1]);
        ck_assert_int_eq(err.code, LLAMA3_EINPUT);
        if (wrong[i][2] != NULL)
            ck_assert_str_eq(err.message, wrong[i][2]);
        llama3_sampling_get(s, wrong[i][0], after, sizeof after, NULL);
        ck_assert_str_eq(before, after);
    }
    llama3_sampling_close(s);
}
END_TEST

/* Programs may have a locale whose decimal point is a comma. */
START_TEST(settings_know_no_locale)
{
    static const char *const locales[] = {"de_DE.UTF-8", "fr_FR.UTF-8", "de_DE.utf8"};
    char text[32];
    size_t i = 0;
    while (i < 3 && setlocale(LC_NUMERIC, locales[i]) == NULL)
        i++;
    struct llama3_sampling *s = llama3_sampling_open(NULL, &err);
    ck_assert_int_eq(llama3_sampling_set(s, "top_p", "0.25", &err), 0);
    ck_assert_int_eq(llama3_sampling_get(s, "top_p", text, sizeof text, &err), 0);
    ck_assert_str_eq(text, "0.25");
    llama3_sampling_close(s);
    setlocale(LC_NUMERIC, "C");
}
END_TEST

int main(void)
{
    TCase *tcase = tcase_create("sampling");
    tcase_add_test(tcase, draws_follow_the_distribution);
    tcase_add_test(tcase, penalties_and_ties);
    tcase_add_test(tcase, the_best_is_found_everywhere);
    tcase_add_test(tcase, biases_come_before_penalties);
    tcase_add_test(tcase, a_mask_allows_its_tokens_alone);
    tcase_add_test(tcase, logits_that_draw_nothing);
    tcase_add_test(tcase, tokens_are_checked);
    tcase_add_test(tcase, settings_are_read_and_written);
    tcase_add_test(tcase, settings_are_checked);
    tcase_add_test(tcase, settings_know_no_locale);
    return run_tests("sampling", tcase);
}
