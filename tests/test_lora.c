/* SPDX-License-Identifier: MIT */
/*
 * test_lora: adapters against PEFT (tests/reference/make-lora-goldens.py), added to weights and
 * beside them, in both formats on both kinds of checkpoint; sessions with different adapters; and
 * what is refused.
 */
#include "config.h" /* asprintf */

#include <check.h>
#include <jansson.h>
#include <math.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "deferred.h"
#include "engine/forward.h"
#include "golden.h"
#include "llama3.h"
#include "random_lora.h"
#include "run.h"
#include "tiny.h"

static const double MAX_DIFFERENCE = 2e-4;

static const char *const cases[] = {"f32-plain",         "f32-all",      "f32-patterns",
                                    "f32-several",       "gguf-f32-all", "gguf-q4_0-all",
                                    "gguf-mixed-several"};
enum { N_CASES = sizeof cases / sizeof *cases, MAX_ADAPTERS = 4 };

static char *data_path(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* Below tests/data, for free(). */
static char *data_path(const char *format, ...)
{
    char name[512], *path = NULL;
    va_list args;
    va_start(args, format);
    vsnprintf(name, sizeof name, format, args);
    va_end(args);
    ck_assert_int_ge(asprintf(&path, "%s/%s", TEST_DATA, name), 0);
    return path;
}

/* A case of the goldens. */
struct subject {
    struct golden golden;
    char *base;
    struct llama3_adapter adapters[MAX_ADAPTERS];
    size_t n_adapters;
};

static struct subject subject_load(const char *name, bool gguf)
{
    struct subject s = {0};
    char *json = data_path("lora-%s/golden.json", name);
    char *f32 = data_path("lora-%s/golden.f32", name);
    json_t *root = json_load_file(json, 0, NULL), *list = json_object_get(root, "adapters");
    const char *base = json_string_value(json_object_get(root, "base"));
    golden_load(&s.golden, json, f32);
    s.base = data_path("%s%s", base, strstr(base, "gguf") != NULL ? "/model.gguf" : "");
    s.n_adapters = json_array_size(list);
    for (size_t i = 0; i < s.n_adapters; i++) {
        const json_t *item = json_array_get(list, i);
        const char *adapter = json_string_value(json_object_get(item, "name"));
        s.adapters[i] = (struct llama3_adapter){
            .size = sizeof s.adapters[i],
            .path = data_path("%s%s", adapter, gguf ? "/model.gguf" : ""),
            .name = strdup(adapter),
            .scale = json_number_value(json_object_get(item, "scale")),
        };
    }
    json_decref(root);
    free(json);
    free(f32);
    return s;
}

static void subject_free(struct subject *s)
{
    golden_free(&s->golden);
    free(s->base);
    for (size_t i = 0; i < s->n_adapters; i++) {
        free((char *)(uintptr_t)s->adapters[i].path);
        free((char *)(uintptr_t)s->adapters[i].name);
    }
}

static struct llama3_model *open_with(const struct subject *s, bool vary)
{
    struct llama3_error err;
    const struct llama3_model_options options = {
        .size = sizeof options,
        .kv_type = LLAMA3_KV_F32,
        .adapters = s->adapters,
        .n_adapters = s->n_adapters,
        .adapters_vary = vary,
    };
    struct llama3_model *model = llama3_model_open(s->base, &options, &err);
    ck_assert_msg(model != NULL, "%s", err.message);
    return model;
}

/* All logits of the golden's tokens, for free(). */
static float *evaluate(struct llama3_session *session, const struct golden *golden)
{
    struct llama3_error err;
    float *logits = calloc(golden->n_ids * golden->n_vocab, sizeof *logits);
    ck_assert_ptr_nonnull(logits);
    ck_assert_msg(
        llama3_session_eval(session, golden->ids, golden->n_ids, golden->n_ids, logits, &err) == 0,
        "%s", err.message);
    return logits;
}

static float *evaluate_new(struct llama3_model *model, const struct golden *golden)
{
    struct llama3_session *session = llama3_session_open(model, NULL);
    ck_assert_ptr_nonnull(session);
    float *logits = evaluate(session, golden);
    llama3_session_close(session);
    return logits;
}

static double worst_of(const struct golden *golden, const float *logits)
{
    double worst = 0;
    for (size_t i = 0; i < golden->n_rows; i++)
        for (size_t j = 0; j < golden->n_vocab; j++) {
            double difference = fabs((double)golden->logits[i * golden->n_vocab + j] -
                                     (double)logits[(size_t)golden->rows[i] * golden->n_vocab + j]);
            worst = difference <= worst ? worst : difference;
        }
    return worst;
}

static bool same(const struct golden *golden, const float *a, const float *b)
{
    return memcmp(a, b, golden->n_ids * golden->n_vocab * sizeof *a) == 0;
}

/* Rounded to their type, weights are those of PEFT after merging. */
START_TEST(merges_as_peft)
{
    static const char *const names[] = {"merged-bf16", "merged-f16"};
    setenv("LLAMA3_CPU", "scalar", 1);
    struct subject s = subject_load(names[_i / 2], _i % 2 == 1);
    struct llama3_model *model = open_with(&s, false);
    float *logits = evaluate_new(model, &s.golden);
    double worst = worst_of(&s.golden, logits);
    ck_assert_msg(worst <= MAX_DIFFERENCE, "%s: off by %g", names[_i / 2], worst);
    free(logits);
    llama3_model_close(model);
    subject_free(&s);
}
END_TEST

/* In the order of cases: added to weights or beside them, PEFT's format or GGUF's. */
START_TEST(agrees_with_peft)
{
    const char *name = cases[_i / 4];
    const bool vary = _i % 2 == 1, gguf = _i / 2 % 2 == 1;
    setenv("LLAMA3_CPU", "scalar", 1);
    struct subject s = subject_load(name, gguf);
    struct llama3_model *model = open_with(&s, vary);
    float *logits = evaluate_new(model, &s.golden);
    double worst = worst_of(&s.golden, logits);
    /* One kind of matrix of the mixed file is f16, to which its sums are rounded. */
    bool rounds = strstr(name, "mixed") != NULL && !vary;
    ck_assert_msg(worst <= (rounds ? 1e-2 : MAX_DIFFERENCE), "%s: off by %g", name, worst);
    const bool floats = strstr(name, "f32") != NULL;
    const struct llama3_info *info = llama3_model_info(model);
    ck_assert_int_eq(info->merged_bytes > 0, !vary && (floats || strstr(name, "mixed") != NULL));
    ck_assert_uint_eq(info->n_adapters, s.n_adapters);
    for (size_t i = 0; i < s.n_adapters; i++)
        ck_assert_str_eq(info->adapters[i]->name, s.adapters[i].name);
    free(logits);
    llama3_model_close(model);
    subject_free(&s);
}
END_TEST

/* The formats hold the same numbers, but for products with a pair's scale. */
START_TEST(formats_agree_to_the_bit)
{
    static const char *const names[] = {"f32-plain", "gguf-q4_0-all"};
    setenv("LLAMA3_CPU", "scalar", 1);
    struct subject hf = subject_load(names[_i], false), gguf = subject_load(names[_i], true);
    struct llama3_model *a = open_with(&hf, true), *b = open_with(&gguf, true);
    float *x = evaluate_new(a, &hf.golden), *y = evaluate_new(b, &hf.golden);
    ck_assert(_i > 0 || same(&hf.golden, x, y));
    for (size_t i = 0; i < hf.golden.n_ids * hf.golden.n_vocab; i++)
        ck_assert(fabsf(x[i] - y[i]) < 1e-4F);
    free(x);
    free(y);
    llama3_model_close(a);
    llama3_model_close(b);
    subject_free(&hf);
    subject_free(&gguf);
}
END_TEST

/* ---- beside quantized weights ---------------------------------------------------------------- */

enum { N_IDS = 70, RANK = 5 }; /* tokens: a page of KV and some; a rank that fills no vector */

/* Logits of some tokens with these scales of the adapter, one after the other: for free(). */
static float *scaled_logits(const struct model *model, const struct lora *lora,
                            const struct plan *plan, const float *scales, size_t n)
{
    struct llama3_error err;
    const struct forward_options options = {
        .backend = {.threads = 2, .no_blas = true},
        .max_rows = 50,
        .max_logit_rows = 50,
        .max_seqs = 1,
        .max_context = N_IDS,
        .kv_type = LLAMA3_KV_F32,
        .loras = lora,
        .n_loras = 1,
    };
    struct batch_row rows[N_IDS];
    size_t vocab = model->config.vocab_size;
    float *logits = calloc(n * N_IDS, vocab * sizeof *logits);
    for (size_t i = 0; i < N_IDS; i++)
        rows[i] = (struct batch_row){
            .token = (int32_t)(i * 37 % vocab), .position = (int32_t)i, .wants_logits = true};
    struct forward *f = forward_open(model, plan, &options, &err);
    ck_assert_msg(f != NULL, "%s", err.message);
    for (size_t k = 0; k < n; k++) {
        struct sequence *sequence = sequence_open(f, &err);
        sequence_scales(sequence)[0] = scales[k];
        for (size_t i = 0, next; i < N_IDS; i = next) {
            next = i == 0 ? 50 : i + 1;
            ck_assert_int_eq(sequence_reserve(f, sequence, i, next, &err), 0);
            ck_assert_int_eq(forward_run(f, rows + i, next - i, &sequence, 1,
                                         logits + (k * N_IDS + i) * vocab, NULL, NULL, &err),
                             0);
        }
        sequence_close(f, sequence);
    }
    forward_close(f);
    return logits;
}

/* The model with its layers in f32. Returns the matrices' memory, for free(). */
static float *open_as_floats(struct model *model, const char *path)
{
    struct llama3_error err;
    size_t n = 0;
    ck_assert_msg(model_open(model, path, &err) == 0, "%s", err.message);
    for (size_t i = 0; i < tensor_count(model); i++)
        n += tensor_at(model, i).matrix->rows * tensor_at(model, i).matrix->cols;
    float *memory = calloc(n, sizeof *memory), *to = memory;
    for (size_t i = 0; i < tensor_count(model); i++) {
        const struct tensor t = tensor_at(model, i);
        if (!tensor_is_layers(t.kind))
            continue;
        struct matrix *m = layer_matrix(&model->layers[t.layer], t.kind);
        for (size_t row = 0; row < m->rows; row++)
            matrix_row(m, row, to + row * m->cols);
        *m = (struct matrix){.type = DTYPE_F32, .rows = m->rows, .cols = m->cols, .data = to};
        to += m->rows * m->cols;
    }
    return memory;
}

static double furthest(const float *a, const float *b, size_t n)
{
    double most = 0;
    for (size_t i = 0; i < n; i++) {
        double difference = fabs((double)a[i] - (double)b[i]);
        most = difference <= most ? most : difference;
    }
    return most;
}

/* Beside quantized weights an adapter gives the logits of the same weights in f32 to which it was
 * added: on floats to rounding; with activations of 8 bits it is off by less than these are without
 * one, and a device that executes late has the CPU's bits. */
static void check_beside(const char *path)
{
    static const float scales[] = {0, 6};
    struct llama3_error err;
    struct model model, floats;
    uint64_t bytes;
    float *memory = open_as_floats(&floats, path);
    ck_assert_msg(model_open(&model, path, &err) == 0, "%s", err.message);
    const size_t n = N_IDS * model.config.vocab_size;
    struct lora lora = random_lora(&model, RANK), added = random_lora(&model, RANK);
    setenv("LLAMA3_CPU", "scalar", 1);
    float *none = scaled_logits(&floats, &added, NULL, scales, 1);
    float *exact = scaled_logits(&model, &lora, NULL, scales, 2);
    added.scale = scales[1];
    ck_assert_int_eq(lora_merge(&added, 1, &floats, 1, &bytes, &err), 0);
    ck_assert_uint_gt(bytes, 0);
    float *merged = scaled_logits(&floats, &added, NULL, scales, 1);
    ck_assert_double_le(furthest(exact, none, n), 2e-4);
    ck_assert_double_le(furthest(exact + n, merged, n), 2e-4);
    double effect = furthest(merged, none, n);

    unsetenv("LLAMA3_CPU");
    float *fast = scaled_logits(&model, &lora, NULL, scales, 2);
    double before = furthest(fast, none, n), after = furthest(fast + n, merged, n);
    ck_assert_double_le(after, 2 * before + 2e-4);
    ck_assert_double_ge(effect, 4 * after);

    size_t n_stages = stage_count(model.config.n_layers);
    struct span spans[64];
    const struct backend_ops *const backends[] = {backend_find("cpu", &err), &deferred_ops};
    struct plan plan = {.backends = backends, .n_backends = 2, .spans = spans};
    ck_assert_uint_le(n_stages, 64);
    for (size_t stage = 0; stage < n_stages; stage++)
        spans[plan.n_spans++] = (struct span){stage, stage % 2};
    float *late = scaled_logits(&model, &lora, &plan, scales, 2);
    ck_assert_mem_eq(late, fast, 2 * n * sizeof *late);
    lora_close(&lora);
    lora_close(&added);
    model_close(&model);
    model_close(&floats);
    free(memory);
    free(none);
    free(exact);
    free(merged);
    free(fast);
    free(late);
}

START_TEST(quantized_is_as_its_floats)
{
    static const char *const paths[] = {"tiny-gptq-4-act",        "tiny-ct-int4-act",
                                        "tiny-awq-gemm",          "tiny-bnb-nf4",
                                        "tiny-gguf-k/model.gguf", "tiny-gguf-q4_0/model.gguf"};
    char *path = data_path("%s", paths[_i]);
    check_beside(path);
    free(path);
}
END_TEST

START_TEST(int4_is_as_its_floats)
{
    struct llama3_error err;
    const struct llama3_quantize_options plain = {.size = sizeof plain, .no_calibrate = true};
    char file[] = "lora-int4-XXXXXX", *base = data_path("tiny-f32");
    close(mkstemp(file));
    ck_assert_msg(llama3_quantize(base, file, &plain, NULL, &err) == 0, "%s", err.message);
    check_beside(file);
    unlink(file);
    free(base);
}
END_TEST

static void adapt(struct llama3_session *session, const char *name, double scale)
{
    struct llama3_error err;
    ck_assert_msg(llama3_session_adapt(session, name, scale, &err) == 0, "%s", err.message);
}

/* What a session computes alone, with one scale for each adapter. */
static float *alone(const struct subject *s, const double *scales, int threads, size_t chunk)
{
    const struct llama3_model_options options = {
        .size = sizeof options,
        .no_blas = true,
        .threads = threads,
        .chunk = chunk,
        .adapters = s->adapters,
        .n_adapters = s->n_adapters,
        .adapters_vary = true,
    };
    struct llama3_model *model = llama3_model_open(s->base, &options, NULL);
    struct llama3_session *session = llama3_session_open(model, NULL);
    for (size_t i = 0; i < s->n_adapters; i++)
        adapt(session, s->adapters[i].name, scales[i]);
    float *logits = evaluate(session, &s->golden);
    llama3_session_close(session);
    llama3_model_close(model);
    return logits;
}

struct job {
    struct llama3_session *session;
    const struct golden *golden;
    float *logits;
};

/* Piece by piece, so that the jobs meet in passes. */
static void *run_job(void *arg)
{
    struct job *job = arg;
    const struct golden *g = job->golden;
    job->logits = calloc(g->n_ids * g->n_vocab, sizeof(float));
    for (size_t i = 0, n; i < g->n_ids; i += n) {
        n = i == 0 ? 3 : 1;
        if (llama3_session_eval(job->session, g->ids + i, n, n, job->logits + i * g->n_vocab,
                                NULL) < 0)
            return NULL;
    }
    return job;
}

/* Sessions with different adapters share passes, and each has the bits that it has alone. */
START_TEST(sessions_choose)
{
    enum { JOBS = 6 };
    static const char *const names[] = {"f32-several", "gguf-mixed-several"};
    static const double scales[JOBS][3] = {{0, 0, 0},    {1, 0, 0},    {0, 1, 0},
                                           {0, 0.5, -1}, {2, 0.25, 1}, {0, 0, 0}};
    unsetenv("LLAMA3_CPU");
    struct subject s = subject_load(names[_i], false);
    struct llama3_model_options options = {
        .size = sizeof options,
        .no_blas = true,
        .threads = 2,
        .adapters = s.adapters,
        .n_adapters = s.n_adapters,
        .adapters_vary = true,
    };
    struct llama3_model *model = llama3_model_open(s.base, &options, NULL);
    struct job jobs[JOBS];
    pthread_t threads[JOBS];
    for (size_t i = 0; i < JOBS; i++) {
        jobs[i] = (struct job){llama3_session_open(model, NULL), &s.golden, NULL};
        for (size_t k = 0; k < s.n_adapters; k++)
            adapt(jobs[i].session, s.adapters[k].name, scales[i][k]);
    }
    for (size_t i = 0; i < JOBS; i++)
        ck_assert_int_eq(pthread_create(&threads[i], NULL, run_job, &jobs[i]), 0);
    for (size_t i = 0; i < JOBS; i++) {
        void *result;
        pthread_join(threads[i], &result);
        ck_assert_ptr_nonnull(result);
    }
    for (size_t i = 0; i < JOBS; i++) {
        float *one = alone(&s, scales[i], 1, 0), *cut = alone(&s, scales[i], 2, 5);
        ck_assert_msg(same(&s.golden, jobs[i].logits, one), "session %zu", i);
        ck_assert(same(&s.golden, one, cut));
        for (size_t k = 0; k < i; k++)
            ck_assert_int_eq(same(&s.golden, jobs[i].logits, jobs[k].logits), i == 5 && k == 0);
        free(one);
        free(cut);
    }
    for (size_t i = 0; i < JOBS; i++) {
        llama3_session_close(jobs[i].session);
        free(jobs[i].logits);
    }
    llama3_model_close(model);

    /* Without an adapter it is the base model, to the bit. */
    struct llama3_model_options plain = {.size = sizeof plain, .no_blas = true};
    model = llama3_model_open(s.base, &plain, NULL);
    float *base = evaluate_new(model, &s.golden), *none = alone(&s, scales[0], 2, 0);
    ck_assert(same(&s.golden, base, none));
    free(base);
    free(none);
    llama3_model_close(model);
    subject_free(&s);
}
END_TEST

static void expect_error(int status, const struct llama3_error *err, const char *text)
{
    ck_assert_int_eq(status, -1);
    ck_assert_int_eq(err->code, LLAMA3_EINPUT);
    ck_assert_msg(strstr(err->message, text) != NULL, "\"%s\" has no \"%s\"", err->message, text);
}

START_TEST(adapt_is_checked)
{
    struct llama3_error err;
    struct subject s = subject_load("f32-several", false);
    struct llama3_model *model = open_with(&s, true);
    struct llama3_session *session = llama3_session_open(model, NULL);
    size_t n;
    const float *scales = llama3_session_scales(session, &n);
    ck_assert_uint_eq(n, 3);
    ck_assert(scales[0] == 0.5F && scales[1] == -1.5F && scales[2] == 2);
    expect_error(llama3_session_adapt(session, "other", 1, &err), &err, "found \"other\"");
    expect_error(llama3_session_adapt(session, NULL, NAN, &err), &err, "scale: expected");
    expect_error(llama3_session_adapt(session, NULL, 1001, &err), &err, "found 1001");
    adapt(session, NULL, 0);
    adapt(session, "lora-all", 0.25);
    free(evaluate(session, &s.golden));
    expect_error(llama3_session_adapt(session, NULL, 1, &err), &err, "without tokens");
    struct llama3_session *fork = llama3_session_fork(session, 0, &err);
    scales = llama3_session_scales(fork, &n);
    ck_assert(scales[0] == 0 && scales[1] == 0.25F && scales[2] == 0);
    adapt(fork, NULL, 1);
    ck_assert(llama3_session_scales(session, &n)[0] == 0);
    llama3_session_close(fork);
    llama3_session_truncate(session, 0);
    adapt(session, NULL, 1);
    llama3_session_close(session);
    llama3_model_close(model);

    model = open_with(&s, false);
    session = llama3_session_open(model, NULL);
    expect_error(llama3_session_adapt(session, NULL, 1, &err), &err, "adapters_vary");
    llama3_session_close(session);
    llama3_model_close(model);
    subject_free(&s);
}
END_TEST

/* A saved session belongs to its adapters, whose scales come back with it. */
START_TEST(saved_sessions_keep_adapters)
{
    struct llama3_error err;
    char path[] = "lora-session-XXXXXX";
    close(mkstemp(path));
    struct subject s = subject_load("f32-several", false);
    struct subject other = subject_load("f32-all", false);
    for (int vary = 0; vary < 2; vary++) {
        struct llama3_model *model = open_with(&s, vary == 1);
        struct llama3_session *session = llama3_session_open(model, NULL);
        size_t n;
        if (vary == 1)
            adapt(session, "lora-all", 7);
        float *logits = evaluate(session, &s.golden);
        ck_assert_int_eq(llama3_session_save(session, path, &err), 0);
        llama3_session_close(session);
        session = llama3_session_load(model, path, &err);
        ck_assert_msg(session != NULL, "%s", err.message);
        ck_assert(llama3_session_scales(session, &n)[1] == (vary == 1 ? 7 : -1.5F));
        llama3_session_close(session);
        llama3_model_close(model);
        free(logits);

        s.adapters[1].scale = vary == 1 ? -1.5 : -1.25;
        model = open_with(&s, vary == 0);
        ck_assert_ptr_null(llama3_session_load(model, path, &err));
        expect_error(-1, &err, "expected a session of this model");
        llama3_model_close(model);
        s.adapters[1].scale = -1.5;
        model = open_with(&other, vary == 1);
        ck_assert_ptr_null(llama3_session_load(model, path, &err));
        expect_error(-1, &err, vary == 1 ? "these adapters" : "expected a session of this model");
        llama3_model_close(model);
    }
    unlink(path);
    subject_free(&s);
    subject_free(&other);
}
END_TEST

/* ---- refusals -------------------------------------------------------------------------------- */

static struct llama3_error refuse(const char *base, const char *adapter)
{
    struct llama3_error err = {.size = sizeof err};
    const struct llama3_adapter a = {.size = sizeof a, .path = adapter};
    const struct llama3_model_options options = {
        .size = sizeof options, .adapters = &a, .n_adapters = 1};
    char *path = data_path("%s", base);
    struct llama3_model *model = llama3_model_open(path, &options, &err);
    ck_assert_msg(model == NULL, "%s was opened", adapter);
    free(path);
    return err;
}

/* A copy of lora-plain whose configuration has one value changed, or without it. */
static void make_folder(const char *folder, const char *key, const char *value)
{
    char *from = data_path("lora-plain/adapter_config.json"), *to;
    char *tensors = data_path("lora-plain/adapter_model.safetensors");
    json_t *root = json_load_file(from, 0, NULL);
    json_t *item = value != NULL ? json_loads(value, JSON_DECODE_ANY, NULL) : NULL;
    ck_assert(value == NULL || item != NULL);
    if (item != NULL)
        json_object_set_new(root, key, item);
    else if (key != NULL)
        json_object_del(root, key);
    ck_assert_int_ge(asprintf(&to, "%s/adapter_config.json", folder), 0);
    ck_assert_int_eq(json_dump_file(root, to, 0), 0);
    free(to);
    ck_assert_int_ge(asprintf(&to, "%s/adapter_model.safetensors", folder), 0);
    ck_assert(symlink(tensors, to) == 0 || access(to, R_OK) == 0);
    json_decref(root);
    free(from);
    free(to);
    free(tensors);
}

static void remove_folder(const char *folder)
{
    static const char *const names[] = {"adapter_config.json", "adapter_model.safetensors"};
    for (size_t i = 0; i < 2; i++) {
        char file[128];
        snprintf(file, sizeof file, "%s/%s", folder, names[i]);
        ck_assert_int_eq(unlink(file), 0);
    }
    ck_assert_int_eq(rmdir(folder), 0);
}

START_TEST(what_is_no_plain_lora_is_refused)
{
    static const struct {
        const char *key, *value, *error;
    } changes[] = {
        {"use_dora", "true", "\"use_dora\": expected nothing"},
        {"lora_bias", "true", "\"lora_bias\""},
        {"fan_in_fan_out", "true", "\"fan_in_fan_out\""},
        {"modules_to_save", "[\"lm_head\"]", "\"modules_to_save\""},
        {"bias", "\"all\"", "\"bias\": expected \"none\""},
        {"peft_type", "\"IA3\"", "\"peft_type\": expected \"LORA\", found \"IA3\""},
        {"peft_type", NULL, "\"peft_type\""},
        {"task_type", "\"SEQ_CLS\"", "\"task_type\": expected \"CAUSAL_LM\""},
        {"alora_invocation_tokens", "[1]", "\"alora_invocation_tokens\""},
        {"layer_replication", "[[0, 2]]", "\"layer_replication\""},
        {"init_lora_weights", "\"pissa\"", "found \"pissa\""},
        {"some_new_thing", "{\"a\": 1}", "\"some_new_thing\""},
        {"r", "5", "lora_A.weight: expected [5, 32], found [4, 32]"},
        {"r", "0", "\"r\": expected"},
        {"r", "2.5", "expected 1 to 4096, found 2.5"},
        {"r", "\"4\"", "\"r\": expected"},
        {"lora_alpha", "\"x\"", "\"lora_alpha\": expected"},
        {"rank_pattern", "{\"q_proj\": 3}", "expected [3, 32], found [4, 32]"},
        {"rank_pattern", "{\".*q_proj\": 3}", "expected names of modules, found \".*q_proj\""},
        {"rank_pattern", "{\"q_proj|v_proj\": 3}", "found \"q_proj|v_proj\""},
        {"rank_pattern", "{\"self.attn\\\\.q_proj$\": 3}", "expected [3, 32], found [4, 32]"},
        {"rank_pattern", "{\"^model.layers.0.self_attn.q_proj\": 3}", "expected [3, 32]"},
        {"rank_pattern", "[]", "\"rank_pattern\": expected an object"},
        {"alpha_pattern", "{\"v_proj\": \"a\"}", "\"v_proj\": expected"},
        {"target_modules", "[\"q_proj\"]",
         "\"target_modules\": expected model.layers.0.self_attn.v_proj, found [\"q_proj\"]"},
        {"r", "2147483648", "\"r\": expected 1..4096, found 2147483648"},
        {"use_rslora", "1", "\"use_rslora\": expected"},
    };
    char folder[] = "lora-folder-XXXXXX";
    ck_assert_ptr_nonnull(mkdtemp(folder));
    make_folder(folder, changes[_i].key, changes[_i].value);
    struct llama3_error err = refuse("tiny-f32", folder);
    expect_error(-1, &err, changes[_i].error);
    ck_assert_ptr_null(strchr(err.message, '\n'));
    remove_folder(folder);
}
END_TEST

/* Expressions as targets, old keys that are missing, and values that ask for nothing are fine. */
START_TEST(what_is_plain_lora_is_taken)
{
    static const char *const changes[][2] = {
        {"target_modules", "\".*(q|v)_proj\""},
        {"target_modules", NULL},
        {"layer_replication", NULL},
        {"some_new_thing", "false"},
        {"init_lora_weights", "\"gaussian\""},
        {"rank_pattern", "{\"up_proj\": 3, \"proj\": 3, \"\": 3, \"$\": 3}"},
        {"rank_pattern", "{\"^self_attn.q_proj\": 3, \"attn\\\\.\\\\._proj\": 3}"},
        {"rank_pattern", "{\"q.proj$\": 4, \"q_proj\": 3}"},
        {"revision", "\"main\""},
        {"task_type", "null"},
    };
    char folder[] = "lora-folder-XXXXXX";
    ck_assert_ptr_nonnull(mkdtemp(folder));
    make_folder(folder, changes[_i][0], changes[_i][1]);
    struct subject s = subject_load("f32-plain", false);
    free((char *)(uintptr_t)s.adapters[0].path);
    s.adapters[0].path = strdup(folder);
    setenv("LLAMA3_CPU", "scalar", 1);
    struct llama3_model *model = open_with(&s, false);
    float *logits = evaluate_new(model, &s.golden);
    ck_assert(worst_of(&s.golden, logits) <= MAX_DIFFERENCE);
    free(logits);
    llama3_model_close(model);
    subject_free(&s);
    remove_folder(folder);
}
END_TEST

/* Each change of a GGUF adapter, and its error; none: it is taken. */
START_TEST(gguf_adapters_are_checked)
{
    static const struct {
        struct tiny_kv kv;
        struct tiny_tensor tensor; /* instead of the second */
        const char *error;
    } changes[] = {
        {{"adapter.lora.task_name", GGUF_STRING, 0, 0, "sql"}, {0}, NULL},
        {{"adapter.lora.prompt_prefix", GGUF_STRING, 0, 0, "sql: "}, {0}, NULL},
        {{"general.name", GGUF_STRING, 0, 0, "sql"}, {0}, NULL},
        {{"adapter.lora.alpha", GGUF_F32, 0, 0, NULL}, {0}, NULL}, /* llama.cpp's "no alpha" */
        {{"adapter.alora.invocation_tokens", GGUF_ARRAY, GGUF_U32, 0, "1\n2"},
         {0},
         "whose effect is known, found adapter.alora.invocation_tokens"},
        {{"general.type", GGUF_STRING, 0, 0, "model"}, {0}, "general.type: expected"},
        {{"adapter.type", GGUF_STRING, 0, 0, "ia3"}, {0}, "adapter.type: expected"},
        {{"general.architecture", GGUF_STRING, 0, 0, "qwen2"},
         {0},
         "general.architecture: expected"},
        {{"adapter.lora.alpha", GGUF_F32, 0, (double)NAN, NULL}, {0}, "adapter.lora.alpha: exp"},
        {{"adapter.lora.alpha", GGUF_F32, 0, -8, NULL}, {0}, "adapter.lora.alpha: expected 0.."},
        {{"adapter.lora.alpha", GGUF_STRING, 0, 0, "8"}, {0}, "adapter.lora.alpha: expected"},
        {{0},
         {"blk.0.attn_k.weight.lora_b", 0, 2, {4, 32}},
         "expected tensor blk.0.attn_q.weight.lora_b beside blk.0.attn_q.weight.lora_a"},
        {{0}, {"blk.0.attn_q.weight.lora_b", 0, 2, {5, 32}}, "expected [32, 4], found [32, 5]"},
        {{0}, {"blk.0.attn_q.weight.lora_b", 0, 2, {32, 4}}, "expected [32, 4], found [4, 32]"},
        {{0}, {"token_embd.weight.lora_b", 0, 2, {4, 32}}, "blk.0.attn_q.weight.lora_b beside"},
    };
    char folder[] = "lora-gguf-XXXXXX", path[64];
    struct tiny_gguf gguf = {
        .version = 3,
        .kvs = {{"general.architecture", GGUF_STRING, 0, 0, "llama"},
                {"general.type", GGUF_STRING, 0, 0, "adapter"},
                {"adapter.type", GGUF_STRING, 0, 0, "lora"},
                {"adapter.lora.alpha", GGUF_F32, 0, 8, NULL}},
        .n_kvs = 4,
        .tensors = {{"blk.0.attn_q.weight.lora_a", 0, 2, {32, 4}},
                    {"blk.0.attn_q.weight.lora_b", 0, 2, {4, 32}}},
        .n_tensors = 2,
    };
    struct buf file = {0};
    if (changes[_i].kv.key != NULL)
        *tiny_gguf_kv(&gguf, changes[_i].kv.key) = changes[_i].kv;
    if (changes[_i].tensor.name != NULL)
        gguf.tensors[1] = changes[_i].tensor;
    tiny_gguf_write(&gguf, &file, NULL);
    ck_assert_ptr_nonnull(mkdtemp(folder));
    tiny_put(folder, "a.gguf", file.data, file.size);
    snprintf(path, sizeof path, "%s/a.gguf", folder);
    buf_free(&file);
    if (changes[_i].error != NULL) {
        struct llama3_error err = refuse("tiny-f32", path);
        expect_error(-1, &err, changes[_i].error);
    } else {
        struct subject s = {.base = data_path("tiny-f32"), .n_adapters = 1};
        s.adapters[0] = (struct llama3_adapter){.size = sizeof s.adapters[0], .path = path};
        llama3_model_close(open_with(&s, false));
        free(s.base);
    }
    unlink(path);
    rmdir(folder);
}
END_TEST

START_TEST(other_models_adapters_are_refused)
{
    static const struct {
        const char *base, *adapter, *error;
    } cases_of[] = {
        {"tiny-gqa-6-2", "lora-plain", "expected [4, 36], found [4, 32]"},
        {"tiny-rope-linear", "lora-all", "expected [6, 16], found [6, 32]"},
        {"tiny-head-dim", "lora-plain", "q_proj.lora_B.weight: expected [48, 4], found [32, 4]"},
        {"tiny-tied", "lora-patterns", "expected the base model's own weights"},
        {"tiny-f32", "tiny-gguf-f32/model.gguf", "general.type: expected"},
        {"tiny-f32", "tiny-f32", "adapter_config.json"},
        {"tiny-f32", "lora-plain/adapter_config.json", "expected \"GGUF\""},
        {"tiny-f32", "no-such", "no-such"},
    };
    char *adapter = data_path("%s", cases_of[_i].adapter);
    struct llama3_error err = refuse(cases_of[_i].base, adapter);
    ck_assert_msg(strstr(err.message, cases_of[_i].error) != NULL, "%s", err.message);
    free(adapter);
}
END_TEST

START_TEST(options_are_checked)
{
    struct llama3_error err;
    char *base = data_path("tiny-f32"), *path = data_path("lora-plain");
    struct llama3_adapter a[33];
    struct llama3_model_options options = {.size = sizeof options, .adapters = a, .n_adapters = 2};
    for (size_t i = 0; i < 33; i++)
        a[i] = (struct llama3_adapter){.size = sizeof a[i], .path = path};
    options.adapters_vary = true; /* sessions choose by name */
    ck_assert_ptr_null(llama3_model_open(base, &options, &err));
    expect_error(-1, &err, "as in NAME=PATH, found \"lora-plain\" twice");
    options.adapters_vary = false;
    options.n_adapters = 33;
    ck_assert_ptr_null(llama3_model_open(base, &options, &err));
    expect_error(-1, &err, "at most 32, found 33");
    options.n_adapters = 1;
    a[0].scale = NAN;
    ck_assert_ptr_null(llama3_model_open(base, &options, &err));
    expect_error(-1, &err, "scale: expected");
    a[0].scale = 0;
    a[0].path = NULL;
    ck_assert_ptr_null(llama3_model_open(base, &options, &err));
    expect_error(-1, &err, "adapter");
    a[0].path = path;
    a[0].size = 3;
    ck_assert_ptr_null(llama3_model_open(base, &options, &err));
    expect_error(-1, &err, "llama3_adapter");
    free(base);
    free(path);
}
END_TEST

/* Without sessions that choose, names mean nothing: an adapter given twice adds twice as much. */
START_TEST(names_may_be_the_same)
{
    struct subject s = subject_load("f32-plain", false);
    s.adapters[0].scale = 1;
    s.adapters[1] = s.adapters[0];
    s.n_adapters = 2;
    struct llama3_model *model = open_with(&s, false);
    float *twice = evaluate_new(model, &s.golden);
    llama3_model_close(model);
    s.adapters[0].scale = 2;
    s.n_adapters = 1;
    model = open_with(&s, false);
    float *once = evaluate_new(model, &s.golden);
    llama3_model_close(model);
    for (size_t i = 0; i < s.golden.n_ids * s.golden.n_vocab; i++)
        ck_assert_float_eq_tol(twice[i], once[i], 1e-4F);
    free(once);
    free(twice);
    subject_free(&s);
}
END_TEST

/* An adapter may be what makes logits that are none. */
START_TEST(damaged_adapters_are_blamed)
{
    char folder[] = "lora-folder-XXXXXX", *base = data_path("tiny-f32");
    const struct llama3_adapter a = {.size = sizeof a, .path = folder, .scale = 1000};
    const struct llama3_model_options options = {.size = sizeof options,
                                                 .kv_type = LLAMA3_KV_F16,
                                                 .adapters = &a,
                                                 .n_adapters = 1,
                                                 .adapters_vary = _i == 1};
    struct llama3_error err = {.size = sizeof err};
    ck_assert_ptr_nonnull(mkdtemp(folder));
    make_folder(folder, "lora_alpha", "1e9"); /* keys are beyond f16 */
    struct llama3_model *model = llama3_model_open(base, &options, &err);
    ck_assert_msg(model != NULL, "%s", err.message);
    struct llama3_session *session = llama3_session_open(model, NULL);
    int status = llama3_session_eval(session, (int32_t[]){5, 6, 7}, 3, 0, NULL, &err);
    expect_error(status, &err, "the weights or the adapters are damaged");
    if (_i == 1)
        adapt(session, NULL, 0);
    ck_assert_int_eq(llama3_session_eval(session, (int32_t[]){5, 6, 7}, 3, 0, NULL, &err), _i - 1);
    llama3_session_close(session);
    llama3_model_close(model);
    remove_folder(folder);
    free(base);
}
END_TEST

int main(void)
{
    TCase *tcase = tcase_create("lora");
    tcase_set_timeout(tcase, 120);
    tcase_add_loop_test(tcase, agrees_with_peft, 0, 4 * N_CASES);
    tcase_add_loop_test(tcase, merges_as_peft, 0, 4);
    tcase_add_loop_test(tcase, formats_agree_to_the_bit, 0, 2);
    tcase_add_test(tcase, int4_is_as_its_floats);
    tcase_add_loop_test(tcase, quantized_is_as_its_floats, 0, 6);
    tcase_add_loop_test(tcase, sessions_choose, 0, 2);
    tcase_add_test(tcase, adapt_is_checked);
    tcase_add_test(tcase, saved_sessions_keep_adapters);
    tcase_add_loop_test(tcase, what_is_no_plain_lora_is_refused, 0, 27);
    tcase_add_loop_test(tcase, what_is_plain_lora_is_taken, 0, 10);
    tcase_add_loop_test(tcase, gguf_adapters_are_checked, 0, 15);
    tcase_add_loop_test(tcase, other_models_adapters_are_refused, 0, 8);
    tcase_add_test(tcase, options_are_checked);
    tcase_add_test(tcase, names_may_be_the_same);
    tcase_add_loop_test(tcase, damaged_adapters_are_blamed, 0, 2);
    return run_tests("lora", tcase);
}
