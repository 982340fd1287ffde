/* SPDX-License-Identifier: MIT */
/*
 * test_logits: the whole library against transformers, on every small checkpoint of tests/data
 * (tests/reference/make-fixtures.py says what is in them), through llama3.h alone.
 *
 * The scalar table with f32 KV is held to 2e-4 on every logit; the fast tables, which may use
 * narrower activations, to a divergence of 1e-3.
 */
#include <check.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "golden.h"
#include "llama3.h"
#include "run.h"
#include "sampling.h"

static const double MAX_DIFFERENCE = 2e-4;
static const double MAX_DIVERGENCE = 1e-3;
/* Of checkpoints whose weights meet activations in int8, so by integer kernels. */
static const double MEAN_DIVERGENCE_INT8 = 1e-2;
/* Activations in bf16, where weights are. */
static const double MEAN_DIVERGENCE_BF16 = 5e-4;

static const struct {
    const char *name, *file; /* file: "" opens the directory */
    bool blocks;             /* GGUF blocks, for which there are integer kernels */
} fixtures[] = {
    {"tiny-f32", "", false},
    {"tiny-tied", "", false},
    {"tiny-f16", "", false},
    {"tiny-bf16", "", false},
    {"tiny-sharded", "", false},
    {"tiny-rope", "", false},
    {"tiny-head-dim", "", false},
    {"tiny-gqa-6-2", "", false},
    {"tiny-gqa-3-1", "", false},
    {"tiny-transformers5", "", false},
    {"tiny-long", "", false},
    {"tiny-gguf-f32", "/model.gguf", false},
    {"tiny-gguf-f16", "/model.gguf", false},
    {"tiny-gguf-q8_0", "/model.gguf", true},
    {"tiny-gguf-q4_0", "/model.gguf", true},
    {"tiny-gguf-mixed", "/model.gguf", true},
    {"tiny-gguf-k", "/model.gguf", true},
    {"tiny-gguf-low", "/model.gguf", true},
    {"tiny-gguf-iq", "/model.gguf", true},
    {"tiny-gguf-v2", "/model.gguf", true},
    {"tiny-gguf-rope", "/model.gguf", false},
    {"tiny-rope-linear", "", false},
    {"tiny-rope-dynamic", "", false},
    {"tiny-rope-yarn", "", false},
    {"tiny-rope-yarn-mscale", "", false},
    {"tiny-gguf-rope-linear", "/model.gguf", false},
    {"tiny-gguf-rope-yarn", "/model.gguf", false},
    {"tiny-gguf-split", "/model-00001-of-00002.gguf", false},
    {"tiny-gptq-4-g32", "", true},
    {"tiny-gptq-4-g32-v2", "", true},
    {"tiny-gptq-4-lies-v1", "", true},
    {"tiny-gptq-4-lies-v2", "", true},
    {"tiny-gptq-4-asym", "", true},
    {"tiny-gptq-4-act", "", true},
    {"tiny-gptq-4-act-sym", "", true},
    {"tiny-gptq-4-act-each", "", true},
    {"tiny-gptq-4-channel", "", true},
    {"tiny-gptq-4-g128", "", true},
    {"tiny-gptq-8-g32", "", true},
    {"tiny-awq-gemm", "", true},
    {"tiny-awq-gemv", "", true},
    {"tiny-ct-int4-g32", "", true},
    {"tiny-ct-int4-asym", "", true},
    {"tiny-ct-int4-channel", "", true},
    {"tiny-ct-int4-act", "", true},
    {"tiny-ct-int8-channel", "", true},
    {"tiny-ct-w8a8", "", true},
    {"tiny-bnb-nf4", "", true},
    {"tiny-bnb-nf4-double", "", true},
    {"tiny-bnb-fp4", "", true},
    {"tiny-bnb-int8", "", true},
    {"tiny-ct-fp8-tensor", "", true},
    {"tiny-ct-fp8-channel", "", true},
    {"tiny-ct-fp8-block", "", true},
    {"tiny-fp8-tensor", "", true},
    {"tiny-fp8-block", "", true},
    {"tiny-fp8-fbgemm", "", true},
    {"tiny-ct-mxfp4", "", true},
    {"tiny-ct-nvfp4", "", true},
    {"tiny-modelopt-fp8", "", true},
    {"tiny-modelopt-nvfp4", "", true},
};
enum { N_FIXTURES = sizeof fixtures / sizeof fixtures[0] };

/* A golden, and a session of its checkpoint on the table of kernels asked for. */
struct subject {
    struct golden golden;
    struct llama3_model *model;
    struct llama3_session *session;
    float *logits; /* [n_ids][n_vocab] ours */
};

/* table: NULL for the best there is. False if this CPU or build lacks it. */
static bool subject_open(struct subject *subject, int fixture, const char *table)
{
    const char *name = fixtures[fixture].name;
    char path[4096], json[4096], f32[4096];
    snprintf(path, sizeof path, "%s/%s%s", TEST_DATA, name, fixtures[fixture].file);
    snprintf(json, sizeof json, "%s/%s/golden.json", TEST_DATA, name);
    snprintf(f32, sizeof f32, "%s/%s/golden.f32", TEST_DATA, name);

    if (table == NULL) {
        unsetenv("LLAMA3_CPU");
    } else {
        setenv("LLAMA3_CPU", table, 1);
    }
    struct llama3_model_options options = {.size = sizeof options, .kv_type = LLAMA3_KV_F32};
    struct llama3_error err;
    memset(subject, 0, sizeof *subject);
    subject->model = llama3_model_open(path, &options, &err);
    if (subject->model == NULL && table != NULL && strcmp(table, "scalar") != 0 &&
        strstr(err.message, "LLAMA3_CPU") != NULL) {
        return false;
    }
    ck_assert_msg(subject->model != NULL, "%s: %s", name, err.message);

    golden_load(&subject->golden, json, f32);
    const struct golden *golden = &subject->golden;
    ck_assert_uint_eq(llama3_model_info(subject->model)->vocab_size, golden->n_vocab);
    subject->session = llama3_session_open(subject->model, &err);
    ck_assert_msg(subject->session != NULL, "%s: %s", name, err.message);
    subject->logits = calloc(golden->n_ids * golden->n_vocab, sizeof(float));
    ck_assert_ptr_nonnull(subject->logits);
    ck_assert_msg(llama3_session_eval(subject->session, golden->ids, golden->n_ids, golden->n_ids,
                                      subject->logits, &err) == 0,
                  "%s: %s", name, err.message);
    return true;
}

static void subject_close(struct subject *subject)
{
    free(subject->logits);
    llama3_session_close(subject->session);
    llama3_model_close(subject->model);
    golden_free(&subject->golden);
}

/* The pair of logits that a row of the golden is about. */
static const float *golden_row(const struct subject *subject, size_t i, const float **ours)
{
    const struct golden *golden = &subject->golden;
    *ours = subject->logits + (size_t)golden->rows[i] * golden->n_vocab;
    return golden->logits + i * golden->n_vocab;
}

START_TEST(scalar_agrees_on_every_logit)
{
    struct subject subject;
    ck_assert(subject_open(&subject, _i, "scalar"));
    size_t n = subject.golden.n_vocab;
    for (size_t i = 0; i < subject.golden.n_rows; i++) {
        const float *ours, *reference = golden_row(&subject, i, &ours);
        double worst = 0;
        for (size_t j = 0; j < n; j++) {
            double difference = fabs((double)reference[j] - (double)ours[j]);
            worst = difference <= worst ? worst : difference; /* a NaN is the worst */
        }
        ck_assert_msg(worst <= MAX_DIFFERENCE, "%s: position %d: off by %g", fixtures[_i].name,
                      subject.golden.rows[i], worst);
        ck_assert_uint_eq(argmax(reference, n), argmax(ours, n));
    }
    subject_close(&subject);
}
END_TEST

START_TEST(scalar_continues_alike)
{
    struct subject subject;
    ck_assert(subject_open(&subject, _i, "scalar"));
    const struct golden *golden = &subject.golden;
    ck_assert_uint_gt(golden->n_greedy, 0);
    for (size_t i = 0; i < golden->n_greedy; i++) {
        int32_t next = (int32_t)argmax(llama3_session_logits(subject.session), golden->n_vocab);
        ck_assert_msg(next == golden->greedy[i], "%s: token %zu is %d, not %d", fixtures[_i].name,
                      i, next, golden->greedy[i]);
        struct llama3_error err;
        ck_assert_msg(llama3_session_eval(subject.session, &next, 1, 0, NULL, &err) == 0, "%s",
                      err.message);
    }
    subject_close(&subject);
}
END_TEST

START_TEST(generation_continues_alike)
{
    struct subject subject;
    ck_assert(subject_open(&subject, _i, "scalar"));
    const struct golden *golden = &subject.golden;
    struct llama3_generation generation = {.size = sizeof generation,
                                           .max_tokens = golden->n_greedy};
    generation.sampling = SAMPLING(subject.model, "temperature", "0");
    char top_p[32];
    ck_assert_int_eq(llama3_sampling_get(generation.sampling, "top_p", top_p, sizeof top_p, NULL),
                     0);
    ck_assert_str_eq(top_p, "0.9");
    struct llama3_result result = {.size = sizeof result};
    struct llama3_error err;
    ck_assert_msg(llama3_session_generate(subject.session, golden->ids, golden->n_ids, &generation,
                                          &result, &err) == 0,
                  "%s", err.message);
    ck_assert_uint_eq(result.answer_tokens, golden->n_greedy);
    ck_assert_int_eq(result.finish, LLAMA3_FINISH_LENGTH);
    size_t n;
    const int32_t *tokens = llama3_session_tokens(subject.session, &n);
    ck_assert_uint_ge(n, golden->n_ids + golden->n_greedy - 1);
    ck_assert_mem_eq(tokens + golden->n_ids, golden->greedy,
                     (golden->n_greedy - 1) * sizeof *tokens);
    llama3_sampling_close(generation.sampling);
    subject_close(&subject);
}
END_TEST

static void table_is_close(const struct subject *subject, int fixture)
{
    const char *name = fixtures[fixture].name;
    double largest = 0, sum = 0;
    for (size_t i = 0; i < subject->golden.n_rows; i++) {
        const float *ours, *reference = golden_row(subject, i, &ours);
        double d = divergence(reference, ours, subject->golden.n_vocab);
        largest = d > largest ? d : largest;
        sum += d;
    }
    double mean = sum / (double)subject->golden.n_rows;
    const struct llama3_info *info = llama3_model_info(subject->model);
    const char *backend = info->backend;
    if (fixtures[fixture].blocks)
        ck_assert_msg(mean <= MEAN_DIVERGENCE_INT8, "%s on %s: mean divergence %g", name, backend,
                      mean);
    else if (strcmp(info->dtype, "bf16") == 0 && strstr(backend, "bf16") != NULL)
        ck_assert_msg(mean <= MEAN_DIVERGENCE_BF16, "%s on %s: mean divergence %g", name, backend,
                      mean);
    else
        ck_assert_msg(largest <= MAX_DIVERGENCE, "%s on %s: divergence %g", name, backend, largest);
}

START_TEST(fast_tables_are_close)
{
    static const char *const tables[] = {"avx2",       "avxvnni", "avx512",
                                         "avx512bf16", "neon",    "dotprod"};
    struct subject subject;
    ck_assert(subject_open(&subject, _i, NULL));
    table_is_close(&subject, _i);
    char best[64];
    snprintf(best, sizeof best, "%s", llama3_model_info(subject.model)->backend);
    subject_close(&subject);

    bool met_best = strstr(best, "scalar") != NULL;
    for (size_t t = 0; t < sizeof tables / sizeof tables[0]; t++) {
        if (!subject_open(&subject, _i, tables[t]))
            continue;
        const char *backend = llama3_model_info(subject.model)->backend;
        char expected[64];
        snprintf(expected, sizeof expected, "cpu (%s)", tables[t]);
        ck_assert_str_eq(backend, expected);
        met_best |= strcmp(backend, best) == 0;
        table_is_close(&subject, _i);
        subject_close(&subject);
    }
    ck_assert_msg(met_best, "%s is none of the tables tested", best);
}
END_TEST

int main(void)
{
    TCase *tests = tcase_create("fixtures");
    tcase_set_timeout(tests, 120);
    tcase_add_loop_test(tests, scalar_agrees_on_every_logit, 0, N_FIXTURES);
    tcase_add_loop_test(tests, scalar_continues_alike, 0, N_FIXTURES);
    tcase_add_loop_test(tests, generation_continues_alike, 0, N_FIXTURES);
    tcase_add_loop_test(tests, fast_tables_are_close, 0, N_FIXTURES);
    return run_tests("logits", tests);
}
