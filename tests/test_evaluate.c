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
#include <sys/stat.h>

#include "base/error.h"
#include "base/file.h"
#include "golden.h"
#include "run.h"
#include "session.h"
#include "tiny.h"
#include "tool/evaluate.h"

enum { N = 150, WINDOW = 20 };

static struct llama3_error err = {.size = sizeof err};
static int32_t tokens[N];
static char *folder; /* of the copies */

static void setup(void)
{
    folder = tiny_folder();
}

static void teardown(void)
{
    char line[600];
    snprintf(line, sizeof line, "rm -rf '%s'/*", folder);
    ck_assert_int_eq(system(line), 0);
    tiny_remove(folder);
}

static void fixture(char path[4096], const char *name)
{
    snprintf(path, 4096, "%s/%s", TEST_DATA, name);
}

/* A copy of a fixture with the first `old` of its tokenizer.json replaced. */
static void copy_fixture(char path[4096], const char *name, const char *old, const char *new)
{
    char line[5000], file[4200];
    snprintf(path, 4096, "%s/%s", folder, name);
    snprintf(line, sizeof line, "cp -R '" TEST_DATA "/%s' '%s' && chmod -R u+w '%s'", name, folder,
             folder);
    ck_assert_int_eq(system(line), 0);
    snprintf(file, sizeof file, "%s/tokenizer.json", path);
    char *text = file_read(file, 1 << 24, &(size_t){0}, NULL, &err);
    ck_assert_msg(text != NULL, "%s", err.message);
    char *changed = tiny_replace(text, old, new);
    tiny_put_text(path, "tokenizer.json", changed);
    free(changed);
    free(text);
}

/* Windows of random tokens that a session reads the same: nothing comes before them. */
static void without_bos(char path[4096], const char *name)
{
    copy_fixture(path, name, "\"post_processor\"", "\"nothing\"");
}

/* To be evaluated, in windows of so many tokens. */
static struct llama3_model *open_windows(const char *path, size_t window, int threads)
{
    const struct llama3_model_options options = {
        .size = sizeof options, .context = window, .threads = threads, .kv_type = LLAMA3_KV_F32};
    struct llama3_model *model = evaluate_open(path, &options, &err);
    ck_assert_msg(model != NULL, "%s", err.message);
    return model;
}

static struct llama3_model *open_fixture(const char *name, size_t window)
{
    char path[4096];
    fixture(path, name);
    return open_windows(path, window, 2);
}

static size_t make_tokens(const struct llama3_model *model)
{
    some_tokens(model, tokens, N, 1);
    return llama3_model_info(model)->vocab_size;
}

/* Logits that predict tokens[1..N), by windows that share a token. */
static float *predictions(const char *path, size_t vocab_size)
{
    struct llama3_model_options options = {.size = sizeof options, .kv_type = LLAMA3_KV_F32};
    struct llama3_model *model = llama3_model_open(path, &options, &err);
    ck_assert_msg(model != NULL, "%s", err.message);
    struct llama3_session *session = llama3_session_open(model, &err);
    float *logits = malloc(N * vocab_size * sizeof *logits);
    for (size_t from = 0; from + 1 < N; from += WINDOW - 1) {
        size_t n = N - 1 - from < WINDOW - 1 ? N - 1 - from : WINDOW - 1;
        llama3_session_truncate(session, 0);
        ck_assert_int_eq(
            llama3_session_eval(session, tokens + from, n, n, logits + from * vocab_size, &err), 0);
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

static struct evaluate_result run(struct llama3_model *reference, struct llama3_model *model,
                                  const int32_t *ids, size_t n)
{
    struct evaluate_result result;
    ck_assert_msg(evaluate(reference, model, ids, n, NULL, &result, &err) == 0, "%s", err.message);
    return result;
}

START_TEST(against_plain_sums)
{
    char paths[2][4096];
    without_bos(paths[0], "tiny-f32");
    without_bos(paths[1], "tiny-bf16");
    struct llama3_model *model = open_windows(paths[1], WINDOW, 1);
    size_t vocab_size = make_tokens(model);
    llama3_model_close(model);
    float *p = predictions(paths[0], vocab_size);
    float *q = predictions(paths[1], vocab_size);

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
        struct llama3_model *reference = open_windows(paths[0], WINDOW, threads);
        model = open_windows(paths[1], WINDOW, threads);
        struct evaluate_result r = run(reference, model, tokens, N);
        ck_assert_uint_eq(r.predictions, N - 1);
        ck_assert_double_gt(r.mean_kl, 1e-6);
        ck_assert_double_eq_tol(r.reference_perplexity, exp(nlls[0] / (N - 1)), 1e-6);
        ck_assert_double_eq_tol(r.perplexity, exp(nlls[1] / (N - 1)), 1e-6);
        ck_assert_double_eq_tol(r.mean_kl, kl / (N - 1), 1e-9);
        ck_assert_double_eq_tol(r.p99_kl, kls[147], 1e-8); /* 99 % of 149 are 147.5 */
        ck_assert_double_eq_tol(r.max_kl, kls[148], 1e-8);
        ck_assert_double_eq_tol(r.top1, same / (N - 1), 1e-12);
        ck_assert_double_eq(run(NULL, model, tokens, N).perplexity, r.perplexity);
        llama3_model_close(reference);
        llama3_model_close(model);
    }
    free(p);
    free(q);
}
END_TEST

START_TEST(a_model_is_at_no_distance_from_itself)
{
    struct llama3_model *model = open_fixture("tiny-bf16", WINDOW);
    make_tokens(model);
    struct evaluate_result r = run(model, model, tokens, N);
    ck_assert_uint_eq(r.predictions, N);
    ck_assert_double_eq(r.mean_kl, 0);
    ck_assert_double_eq(r.p99_kl, 0);
    ck_assert_double_eq(r.max_kl, 0);
    ck_assert_double_eq(r.top1, 1);
    ck_assert_double_eq(r.perplexity, r.reference_perplexity);
    llama3_model_close(model);
}
END_TEST

/* With BOS in front of every window, the first token of the text is predicted too. */
START_TEST(windows_begin_with_bos)
{
    struct llama3_model *model = open_fixture("tiny-bf16", 2);
    make_tokens(model);
    ck_assert_uint_eq(evaluate_min_tokens(model), 1);
    struct evaluate_result both = run(NULL, model, tokens, 2);
    struct evaluate_result first = run(NULL, model, tokens, 1);
    struct evaluate_result second = run(NULL, model, tokens + 1, 1);
    ck_assert_uint_eq(both.predictions, 2);
    ck_assert_uint_eq(first.predictions, 1);
    ck_assert_double_eq_tol(both.perplexity, sqrt(first.perplexity * second.perplexity), 1e-9);
    llama3_model_close(model);
}
END_TEST

/* 512 tokens, or the model's context; the shorter of two. */
START_TEST(windows)
{
    struct llama3_model *model = open_fixture("tiny-bf16", 0), *small = open_fixture("tiny-f32", 2);
    make_tokens(model);
    ck_assert_uint_eq(llama3_model_info(model)->context, 512);
    struct llama3_model *both = open_fixture("tiny-bf16", 2);
    ck_assert_double_eq(run(small, model, tokens, N).perplexity,
                        run(NULL, both, tokens, N).perplexity);
    llama3_model_close(model);
    llama3_model_close(small);
    llama3_model_close(both);
}
END_TEST

static void refuse(struct llama3_model *reference, struct llama3_model *model, size_t n,
                   const char *expected)
{
    struct evaluate_result result;
    ck_assert_int_eq(evaluate(reference, model, tokens, n, NULL, &result, &err), -1);
    ck_assert_msg(strstr(err.message, expected) != NULL, "expected '%s', found '%s'", expected,
                  err.message);
}

START_TEST(refusals)
{
    char path[4096], other[4096], larger[4096];
    struct llama3_model_options options = {.size = sizeof options, .context = 1 << 20};
    without_bos(path, "tiny-f32");
    copy_fixture(other, "tiny-bf16", "\"Y\":56,\"Z\":57", "\"Y\":57,\"Z\":56");
    struct llama3_model *model = open_windows(path, WINDOW, 1);
    make_tokens(model);
    refuse(NULL, model, 1, "expected a text of 2 tokens or more, found 1");
    struct llama3_model *swapped = open_windows(other, WINDOW, 1);
    refuse(swapped, model, N, "token 56 is \"");
    llama3_model_close(swapped);
    snprintf(larger, sizeof larger, "%s/hf", folder);
    ck_assert_int_eq(mkdir(larger, 0700), 0);
    tiny_hf(larger);
    swapped = open_windows(larger, 0, 1);
    refuse(swapped, model, N, "expected the same vocabulary");
    llama3_model_close(swapped);
    llama3_model_close(model);
    model = open_windows(path, 1, 1);
    refuse(NULL, model, N, "expected windows of 2 tokens or more, found 1");
    llama3_model_close(model);
    ck_assert_ptr_null(evaluate_open(path, &options, &err));
    ck_assert_msg(strstr(err.message, "context: expected ") != NULL, "%s", err.message);
}
END_TEST

/* ---- raw logits -------------------------------------------------------------------------- */

struct taken {
    float *logits; /* [N][vocab_size] */
    size_t vocab_size, n, most;
    size_t stop_at;                /* a row: it fails there, */
    struct llama3_session *cancel; /* or is canceled, unless NULL */
};

static int take_rows(void *arg, const float *logits, size_t n_rows, struct llama3_error *error)
{
    struct taken *rows = arg;
    ck_assert_uint_le(rows->n + n_rows, N);
    memcpy(rows->logits + rows->n * rows->vocab_size, logits,
           n_rows * rows->vocab_size * sizeof *logits);
    rows->n += n_rows;
    rows->most = n_rows > rows->most ? n_rows : rows->most;
    if (rows->n < rows->stop_at)
        return 0;
    if (rows->cancel == NULL)
        return error_set(error, LLAMA3_EIO, "no more");
    llama3_session_cancel(rows->cancel);
    return 0;
}

static void rows_open(struct taken *rows, size_t vocab_size)
{
    *rows = (struct taken){.logits = calloc(N * vocab_size, sizeof(float)),
                           .vocab_size = vocab_size,
                           .stop_at = SIZE_MAX};
    ck_assert_ptr_nonnull(rows->logits);
}

/* As a session computes them in one call, bit for bit, and no more than a piece at a time. */
START_TEST(logits_in_pieces)
{
    static const char *const names[] = {"tiny-bf16", "tiny-gguf-q4_0/model.gguf", "tiny-f32"};
    char path[4096];
    struct llama3_model_options options = {
        .size = sizeof options, .kv_type = LLAMA3_KV_F32, .no_blas = true};
    struct taken rows;
    fixture(path, names[_i]);
    struct llama3_model *whole = llama3_model_open(path, &options, &err);
    ck_assert_msg(whole != NULL, "%s", err.message);
    struct llama3_session *session = llama3_session_open(whole, &err);
    size_t vocab_size = make_tokens(whole), size = N * vocab_size * sizeof(float);
    float *expected = malloc(size);
    ck_assert_int_eq(llama3_session_eval(session, tokens, N, N, expected, &err), 0);
    llama3_session_close(session);
    llama3_model_close(whole);
    for (options.threads = 1; options.threads <= 3; options.threads++) {
        struct llama3_model *model = evaluate_open(path, &options, &err);
        rows_open(&rows, vocab_size);
        session = llama3_session_open(model, &err);
        ck_assert_msg(evaluate_logits(model, session, tokens, N, take_rows, &rows, &err) == 0, "%s",
                      err.message);
        ck_assert_uint_eq(rows.n, N);
        ck_assert_uint_lt(rows.most, N);
        ck_assert_mem_eq(rows.logits, expected, size);
        free(rows.logits);
        llama3_session_close(session);
        llama3_model_close(model);
    }
    free(expected);
}
END_TEST

START_TEST(logits_end_early)
{
    struct llama3_model *model = open_fixture("tiny-f32", 0);
    struct llama3_session *session = llama3_session_open(model, &err);
    struct taken rows;
    rows_open(&rows, make_tokens(model));
    rows.stop_at = 100; /* in the second piece */
    ck_assert_int_eq(evaluate_logits(model, session, tokens, N, take_rows, &rows, &err), -1);
    ck_assert_int_eq(err.code, LLAMA3_EIO);
    ck_assert_str_eq(err.message, "no more");
    ck_assert_uint_lt(rows.n, N);
    llama3_session_truncate(session, 0);
    rows.n = 0;
    rows.cancel = session;
    ck_assert_int_eq(evaluate_logits(model, session, tokens, N, take_rows, &rows, &err), -1);
    ck_assert_int_eq(err.code, LLAMA3_ECANCELED);
    ck_assert_uint_lt(rows.n, N);
    free(rows.logits);
    llama3_session_close(session);
    llama3_model_close(model);
}
END_TEST

int main(void)
{
    TCase *tests = tcase_create("evaluate");
    tcase_set_timeout(tests, 120);
    tcase_add_checked_fixture(tests, setup, teardown);
    tcase_add_test(tests, against_plain_sums);
    tcase_add_test(tests, a_model_is_at_no_distance_from_itself);
    tcase_add_test(tests, windows_begin_with_bos);
    tcase_add_test(tests, windows);
    tcase_add_test(tests, refusals);
    tcase_add_loop_test(tests, logits_in_pieces, 0, 3);
    tcase_add_test(tests, logits_end_early);
    return run_tests("evaluate", tests);
}
