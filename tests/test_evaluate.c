/* SPDX-License-Identifier: MIT */
/*
 * test_evaluate: perplexity and divergence, against plain sums over the logits that a session
 * gives for the same windows, and a model against itself; raw logits, against a session's.
 */
#include <check.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "engine/evaluate.h"
#include "golden.h"
#include "run.h"

enum { N = 150, WINDOW = 20 };

static struct llama3_error err;
static int32_t tokens[N];

static void fixture(char path[4096], const char *name)
{
    snprintf(path, 4096, "%s/%s", TEST_DATA, name);
}

static void open_model(struct model *model, const char *name)
{
    char path[4096];
    fixture(path, name);
    ck_assert_msg(model_open(model, path, &err) == 0, "%s", err.message);
}

static void some_tokens(size_t vocab_size)
{
    uint32_t seed = 1;
    for (size_t i = 0; i < N; i++) {
        seed = seed * 1664525 + 1013904223;
        tokens[i] = (int32_t)((seed >> 8) % vocab_size);
    }
}

/* Logits that predict tokens[1..N), by windows that share a token. */
static float *predictions(const char *name, size_t *vocab_size)
{
    char path[4096];
    fixture(path, name);
    struct llama3_model_options options = {.size = sizeof options, .kv_type = LLAMA3_KV_F32};
    struct llama3_model *model = llama3_model_open(path, &options, &err);
    ck_assert_msg(model != NULL, "%s", err.message);
    struct llama3_session *session = llama3_session_open(model, &err);
    *vocab_size = llama3_model_info(model)->vocab_size;
    float *logits = malloc(N * *vocab_size * sizeof *logits);
    for (size_t from = 0; from + 1 < N; from += WINDOW - 1) {
        size_t n = N - 1 - from < WINDOW - 1 ? N - 1 - from : WINDOW - 1;
        llama3_session_truncate(session, 0);
        ck_assert_int_eq(
            llama3_session_eval(session, tokens + from, n, n, logits + from * *vocab_size, &err),
            0);
    }
    llama3_session_close(session);
    llama3_model_close(model);
    return logits;
}

static double nll(const float *logits, size_t n, int32_t next)
{
    double sum = 0;
    for (size_t i = 0; i < n; i++)
        sum += exp((double)logits[i] - (double)logits[next]);
    return log(sum);
}

static int compare(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return x < y ? -1 : x > y;
}

static struct evaluate_result run(const struct model *reference, const struct model *model,
                                  int threads)
{
    struct evaluate_options options = {
        .threads = threads, .window = WINDOW, .kv_type = LLAMA3_KV_F32};
    struct evaluate_result result;
    ck_assert_msg(evaluate(reference, model, tokens, N, &options, &result, &err) == 0, "%s",
                  err.message);
    return result;
}

START_TEST(against_plain_sums)
{
    struct model reference, model;
    size_t vocab_size;
    open_model(&reference, "tiny-gguf-f32/model.gguf");
    open_model(&model, "tiny-gguf-q4_0/model.gguf");
    model.vocab.add_bos = false; /* of random tokens, so that a session reads the same */
    some_tokens(model.config.vocab_size);
    float *p = predictions("tiny-gguf-f32/model.gguf", &vocab_size);
    float *q = predictions("tiny-gguf-q4_0/model.gguf", &vocab_size);

    double nlls[2] = {0}, kls[N - 1], kl = 0, same = 0;
    for (size_t i = 0; i < N - 1; i++) {
        const float *theirs = p + i * vocab_size, *ours = q + i * vocab_size;
        nlls[0] += nll(theirs, vocab_size, tokens[i + 1]);
        nlls[1] += nll(ours, vocab_size, tokens[i + 1]);
        kls[i] = divergence(theirs, ours, vocab_size);
        kl += kls[i];
        same += argmax(theirs, vocab_size) == argmax(ours, vocab_size);
    }
    qsort(kls, N - 1, sizeof *kls, compare);

    for (int threads = 1; threads <= 3; threads++) {
        struct evaluate_result r = run(&reference, &model, threads);
        ck_assert_uint_eq(r.predictions, N - 1);
        ck_assert_double_gt(r.mean_kl, 1e-6);
        ck_assert_double_eq_tol(r.reference_perplexity, exp(nlls[0] / (N - 1)), 1e-6);
        ck_assert_double_eq_tol(r.perplexity, exp(nlls[1] / (N - 1)), 1e-6);
        ck_assert_double_eq_tol(r.mean_kl, kl / (N - 1), 1e-9);
        ck_assert_double_eq_tol(r.p99_kl, kls[147], 1e-8); /* 99 % of 149 are 147.5 */
        ck_assert_double_eq_tol(r.max_kl, kls[148], 1e-8);
        ck_assert_double_eq_tol(r.top1, same / (N - 1), 1e-12);
        ck_assert_double_eq(run(NULL, &model, threads).perplexity, r.perplexity);
    }
    free(p);
    free(q);
    model_close(&reference);
    model_close(&model);
}
END_TEST

START_TEST(a_model_is_at_no_distance_from_itself)
{
    struct model model;
    open_model(&model, "tiny-bf16");
    some_tokens(model.config.vocab_size);
    struct evaluate_result r = run(&model, &model, 2);
    ck_assert_uint_eq(r.predictions, model.vocab.add_bos ? N : N - 1);
    ck_assert_double_eq(r.mean_kl, 0);
    ck_assert_double_eq(r.p99_kl, 0);
    ck_assert_double_eq(r.max_kl, 0);
    ck_assert_double_eq(r.top1, 1);
    ck_assert_double_eq(r.perplexity, r.reference_perplexity);
    model_close(&model);
}
END_TEST

/* With BOS in front of every window, the first token of the text is predicted too. */
START_TEST(windows_begin_with_bos)
{
    struct model model;
    open_model(&model, "tiny-bf16");
    some_tokens(model.config.vocab_size);
    ck_assert_int_ge(model.vocab.bos, 0);
    int32_t text[2] = {tokens[0], tokens[1]};
    model.vocab.add_bos = true;
    struct evaluate_options options = {.threads = 1, .window = 2};
    struct evaluate_result both, first, second;
    ck_assert_int_eq(evaluate(NULL, &model, text, 2, &options, &both, &err), 0);
    ck_assert_int_eq(evaluate(NULL, &model, text, 1, &options, &first, &err), 0);
    ck_assert_int_eq(evaluate(NULL, &model, text + 1, 1, &options, &second, &err), 0);
    ck_assert_uint_eq(both.predictions, 2);
    ck_assert_uint_eq(first.predictions, 1);
    ck_assert_double_eq_tol(both.perplexity, sqrt(first.perplexity * second.perplexity), 1e-9);
    model_close(&model);
}
END_TEST

static void refuse(const struct model *reference, const struct model *model, size_t n,
                   size_t window, const char *expected)
{
    struct evaluate_options options = {.threads = 1, .window = window};
    struct evaluate_result result;
    ck_assert_int_eq(evaluate(reference, model, tokens, n, &options, &result, &err), -1);
    ck_assert_msg(strstr(err.message, expected) != NULL, "expected '%s', found '%s'", expected,
                  err.message);
}

START_TEST(refusals)
{
    struct model model, other;
    open_model(&model, "tiny-f32");
    open_model(&other, "tiny-bf16");
    some_tokens(model.config.vocab_size);
    model.vocab.add_bos = false;
    refuse(NULL, &model, 1, 0, "expected a text of 2 tokens or more, found 1");
    refuse(NULL, &model, N, 1, "expected windows of 2 to ");
    refuse(NULL, &model, N, model.config.context + 1, "expected windows of 2 to ");
    tokens[3] = -1;
    refuse(NULL, &model, N, 0, "token 3: expected 0 to ");
    tokens[3] = (int32_t)model.config.vocab_size;
    refuse(NULL, &model, N, 0, "token 3: expected 0 to ");
    tokens[3] = 0;
    other.vocab.bytes[other.vocab.offsets[7]] ^= 1;
    refuse(&other, &model, N, 0, "token 7 is '");
    other.vocab.n--;
    refuse(&other, &model, N, 0, "expected the same vocabulary");
    model_close(&model);
    model_close(&other);
}
END_TEST

/* ---- raw logits -------------------------------------------------------------------------- */

struct taken {
    float *logits; /* [N][vocab_size] */
    size_t vocab_size, n, most;
    size_t stop_at; /* a row: it fails there, or is canceled */
    bool cancels;
};

static int take_rows(void *arg, const float *logits, size_t n_rows, struct llama3_error *error)
{
    struct taken *rows = arg;
    ck_assert_uint_le(rows->n + n_rows, N);
    memcpy(rows->logits + rows->n * rows->vocab_size, logits,
           n_rows * rows->vocab_size * sizeof *logits);
    rows->n += n_rows;
    rows->most = n_rows > rows->most ? n_rows : rows->most;
    if (rows->n >= rows->stop_at && !rows->cancels)
        return error_set(error, LLAMA3_EIO, "no more");
    return 0;
}

static bool is_canceled(void *arg)
{
    const struct taken *rows = arg;
    return rows->cancels && rows->n >= rows->stop_at;
}

static void rows_open(struct taken *rows, size_t vocab_size, size_t stop_at, bool cancels)
{
    *rows =
        (struct taken){calloc(N * vocab_size, sizeof(float)), vocab_size, 0, 0, stop_at, cancels};
    ck_assert_ptr_nonnull(rows->logits);
}

static int logits_of(const struct model *model, struct taken *rows, size_t n, size_t window,
                     int threads)
{
    struct evaluate_options options = {.threads = threads,
                                       .window = window,
                                       .kv_type = LLAMA3_KV_F32,
                                       .canceled = is_canceled,
                                       .arg = rows};
    struct evaluate_result result;
    return evaluate_logits(model, tokens, n, &options, take_rows, rows, &result, &err);
}

/* As a session computes them in one call, bit for bit, and no more than a piece at a time. */
START_TEST(logits_in_pieces)
{
    static const char *const names[] = {"tiny-bf16", "tiny-gguf-q4_0/model.gguf", "tiny-f32"};
    char path[4096];
    struct llama3_model_options options = {
        .size = sizeof options, .kv_type = LLAMA3_KV_F32, .no_blas = true};
    struct model model;
    struct taken rows;
    fixture(path, names[_i]);
    open_model(&model, names[_i]);
    some_tokens(model.config.vocab_size);
    struct llama3_model *whole = llama3_model_open(path, &options, &err);
    ck_assert_msg(whole != NULL, "%s", err.message);
    struct llama3_session *session = llama3_session_open(whole, &err);
    size_t size = N * model.config.vocab_size * sizeof(float);
    float *expected = malloc(size);
    ck_assert_int_eq(llama3_session_eval(session, tokens, N, N, expected, &err), 0);
    for (int threads = 1; threads <= 3; threads++) {
        rows_open(&rows, model.config.vocab_size, SIZE_MAX, false);
        ck_assert_msg(logits_of(&model, &rows, N, 0, threads) == 0, "%s", err.message);
        ck_assert_uint_eq(rows.n, N);
        ck_assert_uint_lt(rows.most, N);
        ck_assert_mem_eq(rows.logits, expected, size);
        free(rows.logits);
    }
    free(expected);
    llama3_session_close(session);
    llama3_model_close(whole);
    model_close(&model);
}
END_TEST

static void refuse_logits(const struct model *model, struct taken *rows, size_t n, size_t window,
                          enum llama3_code code, const char *expected)
{
    rows->n = 0;
    ck_assert_int_eq(logits_of(model, rows, n, window, 1), -1);
    ck_assert_int_eq(err.code, code);
    ck_assert_msg(strstr(err.message, expected) != NULL, "expected '%s', found '%s'", expected,
                  err.message);
}

START_TEST(logits_end_early)
{
    struct model model;
    struct taken rows;
    open_model(&model, "tiny-f32");
    some_tokens(model.config.vocab_size);
    rows_open(&rows, model.config.vocab_size, SIZE_MAX, false);
    refuse_logits(&model, &rows, 0, 0, LLAMA3_EINPUT, "expected one token or more, found none");
    refuse_logits(&model, &rows, N, N - 1, LLAMA3_ECONTEXT,
                  "expected a text of at most 149 tokens, which the context holds, found 150");
    refuse_logits(&model, &rows, 1, model.config.context + 1, LLAMA3_EINPUT,
                  "expected a context of at most the model's ");
    tokens[3] = -1;
    refuse_logits(&model, &rows, N, 0, LLAMA3_EINPUT, "token 3: expected 0 to ");
    tokens[3] = 0;
    rows.stop_at = 100; /* in the second piece */
    refuse_logits(&model, &rows, N, 0, LLAMA3_EIO, "no more");
    ck_assert_uint_lt(rows.n, N);
    rows.cancels = true;
    refuse_logits(&model, &rows, N, 0, LLAMA3_ECANCELED, "canceled");
    ck_assert_uint_lt(rows.n, N);
    rows.stop_at = 0; /* before the first */
    refuse_logits(&model, &rows, N, 0, LLAMA3_ECANCELED, "canceled");
    ck_assert_uint_eq(rows.n, 0);
    free(rows.logits);
    model_close(&model);
}
END_TEST

int main(void)
{
    TCase *tests = tcase_create("evaluate");
    tcase_set_timeout(tests, 120);
    tcase_add_test(tests, against_plain_sums);
    tcase_add_test(tests, a_model_is_at_no_distance_from_itself);
    tcase_add_test(tests, windows_begin_with_bos);
    tcase_add_test(tests, refusals);
    tcase_add_loop_test(tests, logits_in_pieces, 0, 3);
    tcase_add_test(tests, logits_end_early);
    return run_tests("evaluate", tests);
}
