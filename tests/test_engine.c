/* SPDX-License-Identifier: MIT */
/*
 * test_engine: contract 1 on whole models (the same bits for any threads, chunks, company in the
 * batch, and for a prefix that was computed or forked), plans that alternate between backends,
 * sessions, cancellation and the sampler.
 */
#include "config.h" /* memmem */

#include <check.h>
#include <math.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "deferred.h"
#include "engine/convert.h"
#include "engine/forward.h"
#include "engine/sampler.h"
#include "run.h"
#include "sampling.h"
#include "session.h"

enum { N_TOKENS = 150 }; /* three KV pages */

static const char *const models[] = {"tiny-long", "tiny-bf16", "tiny-gguf-q4_0/model.gguf",
                                     "tiny-gguf-k/model.gguf", "tiny-gqa-3-1"};
enum { N_MODELS = sizeof models / sizeof models[0] };

static struct llama3_error err;

static enum llama3_load load_way; /* of the models that are opened */

static struct llama3_model *open_model(const char *name, int threads, size_t chunk,
                                       enum llama3_kv_type kv)
{
    char path[4096];
    struct llama3_model_options options = {.size = sizeof options,
                                           .threads = threads,
                                           .chunk = chunk,
                                           .kv_type = kv,
                                           .no_blas = true,
                                           .load = load_way};
    snprintf(path, sizeof path, "%s/%s", TEST_DATA, name);
    struct llama3_model *model = llama3_model_open(path, &options, &err);
    ck_assert_msg(model != NULL, "%s", err.message);
    return model;
}

static void eval(struct llama3_session *session, const int32_t *tokens, size_t n, float *logits)
{
    ck_assert_msg(llama3_session_eval(session, tokens, n, logits != NULL ? n : 0, logits, &err) ==
                      0,
                  "%s", err.message);
}

/* ---- one answer -------------------------------------------------------------------------- */

/* Logits after each of N_TOKENS tokens. */
static float *all_logits(const char *name, int threads, size_t chunk, enum llama3_kv_type kv,
                         size_t *bytes)
{
    struct llama3_model *model = open_model(name, threads, chunk, kv);
    size_t vocab = llama3_model_info(model)->vocab_size;
    int32_t tokens[N_TOKENS];
    float *logits = malloc(N_TOKENS * vocab * sizeof *logits);
    *bytes = N_TOKENS * vocab * sizeof *logits;
    some_tokens(model, tokens, N_TOKENS, 7);
    struct llama3_session *session = open_session(model);
    eval(session, tokens, N_TOKENS, logits);

    /* A prefix that was forked, and one that was truncated, give the same. */
    struct llama3_session *fork = llama3_session_fork(session, 70, &err);
    ck_assert_ptr_nonnull(fork);
    ck_assert_ptr_null(llama3_session_logits(fork));
    eval(fork, tokens + 70, N_TOKENS - 70, NULL);
    ck_assert_mem_eq(llama3_session_logits(fork), logits + (N_TOKENS - 1) * vocab,
                     vocab * sizeof *logits);
    llama3_session_truncate(session, 65);
    ck_assert_ptr_null(llama3_session_logits(session));
    eval(session, tokens + 65, N_TOKENS - 65, NULL);
    ck_assert_mem_eq(llama3_session_logits(session), logits + (N_TOKENS - 1) * vocab,
                     vocab * sizeof *logits);
    llama3_session_close(fork);
    llama3_session_close(session);
    llama3_model_close(model);
    return logits;
}

static void check_one_answer(const char *name, enum llama3_kv_type kv)
{
    static const struct {
        int threads;
        size_t chunk;
        enum llama3_load load;
    } ways[] = {{1, 1, LLAMA3_LOAD_READ},
                {2, 17, LLAMA3_LOAD_MAP},
                {3, 512, LLAMA3_LOAD_READ},
                {4, 64, LLAMA3_LOAD_AUTO},
                {2, 33, LLAMA3_LOAD_READ}};
    size_t bytes;
    float *expected = all_logits(name, 1, 512, kv, &bytes);
    for (size_t i = 0; i < sizeof ways / sizeof ways[0]; i++) {
        load_way = ways[i].load;
        float *same = all_logits(name, ways[i].threads, ways[i].chunk, kv, &bytes);
        load_way = LLAMA3_LOAD_AUTO;
        ck_assert_msg(memcmp(same, expected, bytes) == 0, "%s differs with %d threads, chunk %zu",
                      name, ways[i].threads, ways[i].chunk);
        free(same);
    }
    free(expected);
}

static bool has_table(const char *name)
{
    char path[4096];
    snprintf(path, sizeof path, "%s/%s", TEST_DATA, models[0]);
    setenv("LLAMA3_CPU", name, 1);
    struct llama3_model *model = llama3_model_open(path, NULL, &err);
    ck_assert_msg(model != NULL || strstr(err.message, "LLAMA3_CPU") != NULL, "%s", err.message);
    llama3_model_close(model);
    return model != NULL;
}

START_TEST(one_answer_on_every_table)
{
    static const char *const tables[] = {"avx2",       "avxvnni", "avx512vl", "avx512",
                                         "avx512bf16", "neon",    "dotprod",  "scalar"};
    for (size_t i = 0; i < sizeof tables / sizeof tables[0]; i++)
        if (has_table(tables[i])) {
            check_one_answer(models[_i], LLAMA3_KV_F16);
            check_one_answer(models[_i], LLAMA3_KV_INT8);
            check_one_answer(models[_i], LLAMA3_KV_INT4);
        }
    ck_assert(has_table("scalar"));
    check_one_answer(models[_i], LLAMA3_KV_F32);
}
END_TEST

/* ---- company ----------------------------------------------------------------------------- */

struct writer {
    struct llama3_model *model;
    uint32_t seed;
    size_t n_prompt;
    char text[4096];
    size_t length;
};

static int collect(void *arg, const char *text, size_t length)
{
    struct writer *w = arg;
    ck_assert_uint_le(w->length + length, sizeof w->text);
    memcpy(w->text + w->length, text, length);
    w->length += length;
    return 0;
}

static void *write_text(void *arg)
{
    struct writer *w = arg;
    int32_t prompt[N_TOKENS];
    some_tokens(w->model, prompt, w->n_prompt, w->seed);
    struct llama3_generation g = {.size = sizeof g, .max_tokens = 24, .on_text = collect, .arg = w};
    char seed[16];
    snprintf(seed, sizeof seed, "%u", (unsigned)w->seed);
    g.sampling = SAMPLING(w->model, "temperature", "1", "seed", seed);
    struct llama3_session *session = open_session(w->model);
    ck_assert_int_eq(llama3_session_generate(session, prompt, w->n_prompt, &g, NULL, NULL), 0);
    llama3_sampling_close(g.sampling);
    llama3_session_close(session);
    return NULL;
}

START_TEST(company_changes_nothing)
{
    enum { N = 8 };
    unsetenv("LLAMA3_CPU");
    struct llama3_model *model = open_model("tiny-bf16", 2, 40, LLAMA3_KV_F16);
    struct writer alone[N], together[N];
    pthread_t threads[N];
    for (uint32_t i = 0; i < N; i++) {
        alone[i] = together[i] = (struct writer){.model = model, .seed = i, .n_prompt = 1 + i * 19};
        write_text(&alone[i]);
    }
    for (size_t i = 0; i < N; i++)
        ck_assert_int_eq(pthread_create(&threads[i], NULL, write_text, &together[i]), 0);
    for (size_t i = 0; i < N; i++)
        pthread_join(threads[i], NULL);
    for (size_t i = 0; i < N; i++) {
        ck_assert_uint_gt(alone[i].length, 0);
        ck_assert_uint_eq(alone[i].length, together[i].length);
        ck_assert_mem_eq(alone[i].text, together[i].text, alone[i].length);
    }
    llama3_model_close(model);
}
END_TEST

/* ---- plans ------------------------------------------------------------------------------- */

/* Logits of 40 tokens in batches of 16 rows, by a plan. */
static float *planned_logits(const struct model *model, const struct plan *plan, bool in_steps)
{
    enum { N = 40, BATCH = 16 };
    struct forward_options options = {.backend = {.threads = 2, .no_blas = true},
                                      .max_rows = BATCH,
                                      .max_logit_rows = BATCH,
                                      .max_seqs = 1,
                                      .max_context = 64,
                                      .kv_type = LLAMA3_KV_F32};
    struct forward *forward = forward_open(model, plan, &options, &err);
    ck_assert_msg(forward != NULL, "%s", err.message);
    struct sequence *sequence = sequence_open(forward, &err);
    ck_assert_ptr_nonnull(sequence);
    size_t vocab = model->config.vocab_size, batch = in_steps ? 3 : BATCH;
    float *logits = malloc(N * vocab * sizeof *logits);
    for (size_t from = 0; from < N; from += batch) {
        struct batch_row rows[BATCH];
        size_t n = N - from < batch ? N - from : batch;
        for (size_t r = 0; r < n; r++)
            rows[r] = (struct batch_row){.token = (int32_t)((from + r) * 37 % vocab),
                                         .position = (int32_t)(from + r),
                                         .wants_logits = true};
        ck_assert_int_eq(sequence_reserve(forward, sequence, from, from + n, &err), 0);
        ck_assert_msg(forward_run(forward, rows, n, &sequence, 1, logits + from * vocab, NULL, NULL,
                                  &err) == 0,
                      "%s", err.message);
    }
    sequence_close(forward, sequence);
    forward_close(forward);
    return logits;
}

START_TEST(alternating_plans_give_the_cpus_answer)
{
    char path[4096];
    struct model model;
    struct span spans[64];
    setenv("LLAMA3_CPU", "scalar", 1);
    snprintf(path, sizeof path, "%s/%s", TEST_DATA, models[_i]);
    ck_assert_msg(model_open(&model, path, &err) == 0, "%s", err.message);
    size_t n_stages = stage_count(model.config.n_layers);
    ck_assert_uint_le(n_stages, 64);
    const struct backend_ops *cpu = backend_find("cpu", &err);
    const struct backend_ops *const backends[] = {cpu, &deferred_ops};

    float *expected = planned_logits(&model, NULL, false);
    size_t bytes = 40 * model.config.vocab_size * sizeof *expected;
    for (size_t every = 1; every <= 4; every++) {
        for (size_t first = 0; first < 2; first++) {
            struct plan plan = {.backends = backends, .n_backends = 2, .spans = spans};
            for (size_t stage = 0; stage < n_stages; stage += every)
                spans[plan.n_spans++] = (struct span){stage, (stage / every + first) % 2};
            float *same = planned_logits(&model, &plan, every == 2);
            ck_assert_msg(memcmp(same, expected, bytes) == 0, "spans of %zu stages", every);
            free(same);
        }
    }
    struct span wrong[] = {{0, 0}, {n_stages, 1}};
    struct plan plan = {backends, 2, wrong, 2};
    struct forward_options options = {
        .backend = {.threads = 1}, .max_rows = 1, .kv_type = LLAMA3_KV_F16};
    ck_assert_ptr_null(forward_open(&model, &plan, &options, &err));
    free(expected);
    model_close(&model);
}
END_TEST

/* ---- sessions ---------------------------------------------------------------------------- */

START_TEST(what_does_not_fit_is_refused)
{
    char path[4096];
    struct llama3_model_options options = {.size = sizeof options, .context = 20};
    snprintf(path, sizeof path, "%s/tiny-f32", TEST_DATA);
    struct llama3_model *model = llama3_model_open(path, &options, &err);
    ck_assert_ptr_nonnull(model);
    int32_t tokens[N_TOKENS];
    some_tokens(model, tokens, N_TOKENS, 3);
    struct llama3_session *session = open_session(model);
    struct llama3_generation g = {.size = sizeof g, .max_tokens = 100};
    struct llama3_result result = {.size = sizeof result};

    ck_assert_int_eq(llama3_session_generate(session, tokens, 21, &g, &result, &err), -1);
    ck_assert_int_eq(err.code, LLAMA3_ECONTEXT);
    ck_assert_str_eq(err.message, "the context: expected at most 20 tokens, found 21");
    ck_assert_int_eq(llama3_session_generate(session, tokens, 0, &g, &result, &err), -1);
    ck_assert_int_eq(llama3_session_eval(session, tokens, 0, 0, NULL, &err), -1);
    tokens[5] = (int32_t)llama3_model_info(model)->vocab_size;
    ck_assert_int_eq(llama3_session_eval(session, tokens, 6, 0, NULL, &err), -1);
    ck_assert_int_eq(err.code, LLAMA3_EINPUT);
    size_t n;
    llama3_session_tokens(session, &n);
    ck_assert_uint_eq(n, 0);

    /* An answer that fills the context ends there. */
    tokens[5] = 1;
    g.sampling = SAMPLING(model, "temperature", "0");
    ck_assert_int_eq(llama3_session_generate(session, tokens, 15, &g, &result, &err), 0);
    ck_assert_uint_le(result.answer_tokens, 6);
    ck_assert_uint_eq(result.cached_tokens, 0);
    ck_assert_int_eq(llama3_session_generate(session, tokens, 15, &g, &result, &err), 0);
    ck_assert_uint_eq(result.cached_tokens, 14);

    llama3_sampling_close(g.sampling);
    options.context = llama3_model_info(model)->context_limit + 1;
    ck_assert_ptr_null(llama3_model_open(path, &options, &err));
    llama3_session_close(session);
    llama3_model_close(model);
}
END_TEST

/* A copy of a GGUF file whose embedding of a token holds a NaN; copy: its path. */
static void damage(const char *name, size_t token, char copy[64])
{
    static const float nan = NAN;
    char path[4096];
    struct model model;
    snprintf(path, sizeof path, "%s/%s", TEST_DATA, name);
    ck_assert_msg(model_open(&model, path, &err) == 0, "%s", err.message);
    const struct matrix *embed = &model.embed;
    ck_assert(embed->type == DTYPE_F32 && !model.config.tied);
    const struct map *map = &model.maps[0];
    size_t at = (size_t)((const uint8_t *)embed->data - map->data) + token * embed->cols * 4;
    strcpy(copy, "/tmp/llama3-damaged-XXXXXX");
    int fd = mkstemp(copy);
    ck_assert_int_ge(fd, 0);
    ck_assert_int_eq(write(fd, map->data, map->size), (ssize_t)map->size);
    ck_assert_int_eq(pwrite(fd, &nan, sizeof nan, (off_t)at), sizeof nan);
    close(fd);
    model_close(&model);
}

static void copy_file(const char *name, char copy[64])
{
    char path[4096];
    struct map map;
    snprintf(path, sizeof path, "%s/%s", TEST_DATA, name);
    ck_assert_msg(map_open(&map, path, &err) == 0, "%s", err.message);
    strcpy(copy, "/tmp/llama3-copy-XXXXXX");
    int fd = mkstemp(copy);
    ck_assert_int_ge(fd, 0);
    ck_assert_int_eq(write(fd, map.data, map.size), (ssize_t)map.size);
    close(fd);
    map_close(&map);
}

/* A file that is cut short ends the sessions of its model, and those of no other. */
START_TEST(files_that_are_cut_short)
{
    const int32_t tokens[] = {5, 6, 7, 9, 8};
    char copy[64];
    ck_assert_msg(llama3_handle_sigbus(&err) == 0, "%s", err.message);
    ck_assert_msg(llama3_handle_sigbus(&err) == 0, "%s", err.message);
    struct llama3_model *other = open_model("tiny-f32", 2, 16, LLAMA3_KV_F16);
    copy_file("tiny-gguf-f32/model.gguf", copy);
    struct llama3_model *model = llama3_model_open(copy, NULL, &err);
    ck_assert_msg(model != NULL, "%s", err.message);
    struct llama3_session *sessions[] = {open_session(model), open_session(model)};
    eval(sessions[0], tokens, 3, NULL);

    ck_assert_int_eq(truncate(copy, 100), 0);
    for (int i = 0; i < 4; i++) {
        size_t n;
        ck_assert_int_eq(llama3_session_eval(sessions[i / 2], tokens + 3, 2, 0, NULL, &err), -1);
        ck_assert_int_eq(err.code, LLAMA3_EIO);
        ck_assert_msg(strncmp(err.message, copy, strlen(copy)) == 0 &&
                          strstr(err.message, " bytes, found 100: it was cut short while it was "
                                              "open") != NULL,
                      "%s", err.message);
        llama3_session_tokens(sessions[i / 2], &n);
        ck_assert_uint_eq(n, i < 2 ? 3 : 0);
    }
    struct llama3_session *session = open_session(other);
    eval(session, tokens, 5, NULL);
    llama3_session_close(session);
    llama3_session_close(sessions[0]);
    llama3_session_close(sessions[1]);
    llama3_model_close(model);
    llama3_model_close(other);
    unlink(copy);
}
END_TEST

/* Nor is anything made of one. */
START_TEST(files_that_are_cut_short_while_converted)
{
    const struct convert_options options = {
        .layers = DTYPE_INT4, .embed = DTYPE_INT4, .head = DTYPE_INT4, .threads = 2};
    char copy[64];
    struct model model;
    struct new_file file;
    struct convert_report report;
    ck_assert_msg(llama3_handle_sigbus(&err) == 0, "%s", err.message);
    copy_file("tiny-gguf-f32/model.gguf", copy);
    ck_assert_msg(model_open(&model, copy, &err) == 0, "%s", err.message);
    ck_assert_int_eq(truncate(copy, 0), 0);
    ck_assert_msg(new_file_open_unnamed(&file, &err) == 0, "%s", err.message);
    ck_assert_int_eq(convert(&model, &options, &file, &report, &err), -1);
    ck_assert_int_eq(err.code, LLAMA3_EIO);
    ck_assert_ptr_nonnull(strstr(err.message, " bytes, found 0: it was cut short"));
    new_file_abandon(&file);
    model_close(&model);
    unlink(copy);
}
END_TEST

/* A number that stands for nothing is not taken for something. */
START_TEST(kinds_of_int4_are_checked)
{
    for (int kind = -1; kind <= LLAMA3_INT4_CALIBRATED + 1; kind++) {
        const struct llama3_model_options options = {.size = sizeof options,
                                                     .int4 = (enum llama3_int4)kind};
        struct llama3_model *model = llama3_model_open(TEST_DATA "/tiny-f32", &options, &err);
        bool known = kind >= LLAMA3_INT4_NO && kind <= LLAMA3_INT4_CALIBRATED;
        ck_assert_int_eq(model != NULL, known);
        if (known)
            ck_assert_str_eq(llama3_model_info(model)->format,
                             kind == LLAMA3_INT4_NO ? "safetensors" : "llama3");
        else
            ck_assert_ptr_nonnull(strstr(err.message, "int4: expected no, plain or calibrated, "));
        llama3_model_close(model);
    }
}
END_TEST

/* Logits that are none end a call, not the session, and nobody else's. */
START_TEST(damaged_weights_are_found)
{
    enum { BAD = 9 };
    int32_t tokens[] = {5, 6, 7, BAD, 8};
    char copy[64], expected[256];
    damage("tiny-gguf-f32/model.gguf", BAD, copy);
    struct llama3_model *model = llama3_model_open(copy, NULL, &err);
    unlink(copy);
    ck_assert_msg(model != NULL, "%s", err.message);
    size_t vocab = llama3_model_info(model)->vocab_size, n;
    float *logits = malloc(5 * vocab * sizeof *logits), *before = malloc(vocab * sizeof *before);
    struct llama3_session *session = open_session(model);
    eval(session, tokens, 3, NULL);
    memcpy(before, llama3_session_logits(session), vocab * sizeof *before);

    snprintf(expected, sizeof expected, "%s: expected finite logits, found nan", copy);
    for (int all = 0; all <= 1; all++) {
        ck_assert_int_eq(
            llama3_session_eval(session, tokens + 3, 2, all ? 2 : 0, all ? logits : NULL, &err),
            -1);
        ck_assert_int_eq(err.code, LLAMA3_EINPUT);
        ck_assert_msg(strncmp(err.message, expected, strlen(expected)) == 0, "%s", err.message);
        llama3_session_tokens(session, &n);
        ck_assert_uint_eq(n, 3);
        ck_assert_mem_eq(llama3_session_logits(session), before, vocab * sizeof *before);
    }
    struct llama3_generation g = {.size = sizeof g, .max_tokens = 5};
    struct llama3_result result = {.size = sizeof result};
    ck_assert_int_eq(llama3_session_generate(session, tokens, 5, &g, &result, &err), -1);
    ck_assert_int_eq(err.code, LLAMA3_EINPUT);
    ck_assert_ptr_nonnull(strstr(err.message, "the weights are damaged"));
    eval(session, tokens + 1, 2, NULL); /* without that token all is well */
    llama3_session_close(session);
    llama3_model_close(model);
    free(logits);
    free(before);
}
END_TEST

START_TEST(cancellation_leaves_the_session_usable)
{
    struct llama3_model *model = open_model("tiny-f32", 1, 16, LLAMA3_KV_F16);
    int32_t tokens[N_TOKENS];
    some_tokens(model, tokens, N_TOKENS, 3);
    struct llama3_session *session = open_session(model);
    eval(session, tokens, 10, NULL);
    llama3_session_cancel(session);
    ck_assert_int_eq(llama3_session_eval(session, tokens + 10, 20, 0, NULL, &err), -1);
    ck_assert_int_eq(err.code, LLAMA3_ECANCELED);
    size_t n;
    llama3_session_tokens(session, &n);
    ck_assert_uint_eq(n, 10);
    ck_assert_ptr_nonnull(llama3_session_logits(session));

    struct llama3_generation g = {.size = sizeof g, .max_tokens = 5};
    struct llama3_result result = {.size = sizeof result};
    llama3_session_cancel(session);
    ck_assert_int_eq(llama3_session_generate(session, tokens, 30, &g, &result, &err), 0);
    ck_assert_int_eq(result.finish, LLAMA3_FINISH_CANCELED);
    ck_assert_int_eq(llama3_session_generate(session, tokens, 30, &g, &result, &err), 0);
    ck_assert_int_ne(result.finish, LLAMA3_FINISH_CANCELED);
    llama3_session_close(session);
    llama3_model_close(model);
}
END_TEST

static int take_all(void *arg, const char *text, size_t length)
{
    (void)text;
    *(size_t *)arg += length;
    return 0;
}

START_TEST(stop_strings_end_the_answer_before_them)
{
    struct llama3_model *model = open_model("tiny-f32", 1, 0, LLAMA3_KV_F16);
    int32_t prompt[] = {5, 6, 7};
    struct writer whole = {.model = model}, cut = {.model = model};
    struct llama3_generation g = {
        .size = sizeof g, .max_tokens = 30, .on_text = collect, .arg = &whole};
    g.sampling = SAMPLING(model, "temperature", "2", "top_p", "1");
    struct llama3_session *session = open_session(model);
    struct llama3_result result = {.size = sizeof result};
    ck_assert_int_eq(llama3_session_generate(session, prompt, 3, &g, &result, &err), 0);
    ck_assert_uint_gt(whole.length, 12);

    char stop[8] = "";
    memcpy(stop, whole.text + 8, 3);
    const char *stops[] = {"never there", stop};
    g.stop = stops;
    g.n_stop = 2;
    g.arg = &cut;
    ck_assert_int_eq(llama3_session_generate(session, prompt, 3, &g, &result, &err), 0);
    ck_assert_int_eq(result.finish, LLAMA3_FINISH_STOP);
    ck_assert_uint_le(cut.length, 8);
    ck_assert_mem_eq(cut.text, whole.text, cut.length);
    ck_assert_ptr_null(memmem(cut.text, cut.length, stop, strlen(stop)));
    stops[0] = "";
    ck_assert_int_eq(llama3_session_generate(session, prompt, 3, &g, &result, &err), -1);

    /* Where nothing stops it, all of the text comes out, held back or not. */
    size_t length = 0;
    stops[0] = "never there";
    g.n_stop = 1;
    g.on_text = take_all;
    g.arg = &length;
    ck_assert_int_eq(llama3_session_generate(session, prompt, 3, &g, &result, &err), 0);
    ck_assert_uint_eq(length, whole.length);
    llama3_sampling_close(g.sampling);
    llama3_session_close(session);
    llama3_model_close(model);
}
END_TEST

/* What on_token sees: every token drawn, and the logits it was drawn from. A session forked there
 * writes the same answer, without reading the prompt again. */
struct watcher {
    struct llama3_model *model;
    struct llama3_session *session, *fork;
    int32_t tokens[64];
    size_t n, stop_after;
};

static int watch(void *arg, int32_t token, const float *logits)
{
    struct watcher *w = arg;
    size_t vocab = llama3_model_info(w->model)->vocab_size;
    ck_assert_uint_lt(w->n, 64);
    for (size_t i = 0; i < vocab; i++) /* greedy */
        ck_assert(logits[i] <= logits[token]);
    if (w->n == 0 && w->session != NULL) {
        size_t length;
        llama3_session_tokens(w->session, &length);
        w->fork = llama3_session_fork(w->session, length, &err);
        ck_assert_msg(w->fork != NULL, "%s", err.message);
    }
    w->tokens[w->n++] = token;
    return w->n == w->stop_after;
}

START_TEST(tokens_are_told_and_sessions_forked)
{
    struct llama3_model *model = open_model("tiny-f32", 2, 16, LLAMA3_KV_F16);
    int32_t prompt[100];
    some_tokens(model, prompt, 100, 5);
    struct writer first = {.model = model}, second = {.model = model};
    struct watcher w = {.model = model, .session = open_session(model)}, v = {.model = model};
    struct llama3_generation g = {.size = sizeof g, .max_tokens = 20, .on_token = watch, .arg = &w};
    struct llama3_result result = {.size = sizeof result};
    g.sampling = SAMPLING(model, "temperature", "0");
    ck_assert_int_eq(llama3_session_generate(w.session, prompt, 100, &g, &result, &err), 0);
    ck_assert_uint_eq(w.n, result.answer_tokens + (result.stop_id >= 0));
    ck_assert_uint_gt(w.n, 5);

    g.arg = &v;
    ck_assert_int_eq(llama3_session_generate(w.fork, prompt, 100, &g, &result, &err), 0);
    ck_assert_uint_eq(result.cached_tokens, 100);
    ck_assert_uint_eq(v.n, w.n);
    ck_assert_mem_eq(v.tokens, w.tokens, w.n * sizeof *w.tokens);

    /* It ends where on_token says so, without that token. */
    v = (struct watcher){.model = model, .stop_after = 3};
    ck_assert_int_eq(llama3_session_generate(w.fork, prompt, 100, &g, &result, &err), 0);
    ck_assert_int_eq(result.finish, LLAMA3_FINISH_CALLBACK);
    ck_assert_uint_eq(v.n, 3);
    ck_assert_uint_eq(result.answer_tokens, 2);

    /* A token's bytes are its text. */
    size_t length = 0, n;
    g.on_token = NULL;
    g.on_text = collect;
    g.arg = &first;
    ck_assert_int_eq(llama3_session_generate(w.fork, prompt, 100, &g, &result, &err), 0);
    for (size_t i = 0; i < result.answer_tokens; i++) {
        const char *bytes = llama3_token_bytes(model, w.tokens[i], &n);
        memcpy(second.text + length, bytes, n);
        length += n;
    }
    if (memchr(first.text, '\xef', first.length) == NULL) { /* no U+FFFD */
        ck_assert_uint_eq(first.length, length);
        ck_assert_mem_eq(first.text, second.text, length);
    }
    llama3_token_bytes(model, -1, &n);
    ck_assert_uint_eq(n, 0);
    llama3_sampling_close(g.sampling);
    llama3_session_close(w.fork);
    llama3_session_close(w.session);
    llama3_model_close(model);
}
END_TEST

START_TEST(kv_bytes_count_shared_pages_once)
{
    struct llama3_model *model = open_model("tiny-f32", 1, 0, LLAMA3_KV_F16);
    int32_t tokens[N_TOKENS];
    some_tokens(model, tokens, N_TOKENS, 3);
    ck_assert_uint_eq(llama3_model_kv_bytes(model), 0);
    struct llama3_session *session = open_session(model);
    eval(session, tokens, 128, NULL); /* two pages */
    uint64_t held = llama3_model_kv_bytes(model);
    ck_assert_uint_ge(held, 128 * llama3_model_info(model)->kv_bytes_per_token);
    struct llama3_session *fork = llama3_session_fork(session, 128, &err);
    ck_assert_uint_eq(llama3_model_kv_bytes(model), held);
    eval(fork, tokens, 1, NULL);
    ck_assert_uint_eq(llama3_model_kv_bytes(model), held / 2 * 3);
    llama3_session_close(session);
    ck_assert_uint_eq(llama3_model_kv_bytes(model), held / 2 * 3);
    llama3_session_close(fork);
    ck_assert_uint_eq(llama3_model_kv_bytes(model), 0);
    llama3_model_close(model);
}
END_TEST

/* The time of day as the library reads it: ahead of the kernel's, as a deadline is that was made
 * before somebody set the clock back. */
static _Atomic time_t clock_step;
int __real_clock_gettime(clockid_t clock, struct timespec *time);
int __wrap_clock_gettime(clockid_t clock, struct timespec *time);
int __wrap_clock_gettime(clockid_t clock, struct timespec *time)
{
    int status = __real_clock_gettime(clock, time);
    if (clock == CLOCK_REALTIME)
        time->tv_sec += clock_step;
    return status;
}

struct beside {
    struct llama3_session *other;
    double seconds;
};

/* While this stream is away, the next pass waits for it, but not for long. */
static int eval_beside(void *arg, int32_t token, const float *logits)
{
    struct beside *b = arg;
    (void)logits;
    double began = clock_seconds();
    eval(b->other, &token, 1, NULL);
    b->seconds = clock_seconds() - began;
    return 1;
}

START_TEST(setting_the_clock_stalls_no_pass)
{
    struct llama3_model *model = open_model("tiny-f32", 1, 0, LLAMA3_KV_F16);
    struct llama3_session *session = open_session(model);
    struct beside b = {.other = open_session(model)};
    struct llama3_generation g = {
        .size = sizeof g, .max_tokens = 5, .on_token = eval_beside, .arg = &b};
    struct llama3_result result = {.size = sizeof result};
    int32_t tokens[N_TOKENS];
    some_tokens(model, tokens, N_TOKENS, 3);
    clock_step = 20;
    ck_assert_int_eq(llama3_session_generate(session, tokens, 30, &g, &result, &err), 0);
    clock_step = 0;
    ck_assert_msg(b.seconds > 0 && b.seconds < 10, "the pass began after %.1f s", b.seconds);
    llama3_session_close(b.other);
    llama3_session_close(session);
    llama3_model_close(model);
}
END_TEST

START_TEST(responses_extend_the_history)
{
    struct llama3_model *model = open_model("tiny-f32", 2, 0, LLAMA3_KV_F16);
    struct llama3_session *session = open_session(model);
    struct llama3_history *history = llama3_history_new();
    struct writer heard = {.model = model};
    struct llama3_generation g = {
        .size = sizeof g, .max_tokens = 8, .on_text = collect, .arg = &heard};
    ck_assert_int_eq(llama3_history_add(history, "system", "Be brief.", &err), 0);
    const char *answer = llama3_session_respond(session, history, "Hello?", &g, &err);
    ck_assert_msg(answer != NULL, "%s", err.message);
    ck_assert_uint_eq(llama3_history_length(history), 3);
    ck_assert_str_eq(llama3_history_message(history, 1)->role, "user");
    ck_assert_str_eq(llama3_history_message(history, 1)->content, "Hello?");
    ck_assert_ptr_eq(llama3_history_message(history, 2)->content, answer);
    ck_assert_ptr_null(llama3_history_message(history, 3));
    ck_assert_uint_eq(strlen(answer), strnlen(heard.text, heard.length)); /* it has zero bytes */
    ck_assert_mem_eq(answer, heard.text, strlen(answer));
    const char *const stop = "";
    g.stop = &stop;
    g.n_stop = 1;
    ck_assert_ptr_null(llama3_session_respond(session, history, "x", &g, &err));
    ck_assert_int_eq(err.code, LLAMA3_EINPUT);
    llama3_session_cancel(session);
    ck_assert_ptr_null(llama3_session_respond(session, history, "x", NULL, &err));
    ck_assert_int_eq(err.code, LLAMA3_ECANCELED);
    ck_assert_uint_eq(llama3_history_length(history), 3);
    llama3_history_free(history);
    llama3_session_close(session);
    llama3_model_close(model);
}
END_TEST

/* ---- opening ----------------------------------------------------------------------------- */

struct loading {
    uint64_t last, total, give_up;
    size_t reports;
};

static int on_load(void *arg, uint64_t done, uint64_t total)
{
    struct loading *l = arg;
    ck_assert_uint_gt(done, l->last);
    ck_assert_uint_le(done, total);
    ck_assert(l->reports == 0 || total == l->total);
    l->last = done;
    l->total = total;
    return ++l->reports == l->give_up;
}

START_TEST(loading_is_reported)
{
    char path[4096];
    struct loading loading = {0};
    struct llama3_model_options options = {
        .size = sizeof options, .on_load = on_load, .arg = &loading};
    unsetenv("LLAMA3_CPU");
    snprintf(path, sizeof path, "%s/%s", TEST_DATA, models[_i]);
    struct llama3_model *model = llama3_model_open(path, &options, &err);
    ck_assert_msg(model != NULL, "%s", err.message);
    ck_assert_uint_gt(loading.reports, 9);
    ck_assert_uint_eq(loading.last, loading.total);
    ck_assert_uint_le(loading.total, llama3_model_info(model)->file_bytes);
    llama3_model_close(model);
    loading = (struct loading){.give_up = 5};
    ck_assert_ptr_null(llama3_model_open(path, &options, &err));
    ck_assert_int_eq(err.code, LLAMA3_ECANCELED);
    ck_assert_uint_eq(loading.reports, 5);
}
END_TEST

int main(void)
{
    TCase *tcase = tcase_create("engine"), *tables = tcase_create("tables");
    tcase_set_timeout(tcase, 240);
    tcase_set_timeout(tables, 240);
    tcase_add_loop_test(tables, one_answer_on_every_table, 0, N_MODELS);
    tcase_add_test(tcase, company_changes_nothing);
    tcase_add_loop_test(tcase, alternating_plans_give_the_cpus_answer, 0, N_MODELS);
    tcase_add_test(tcase, what_does_not_fit_is_refused);
    tcase_add_test(tcase, damaged_weights_are_found);
    tcase_add_test(tcase, files_that_are_cut_short);
    tcase_add_test(tcase, files_that_are_cut_short_while_converted);
    tcase_add_test(tcase, kinds_of_int4_are_checked);
    tcase_add_test(tcase, cancellation_leaves_the_session_usable);
    tcase_add_test(tcase, stop_strings_end_the_answer_before_them);
    tcase_add_test(tcase, tokens_are_told_and_sessions_forked);
    tcase_add_test(tcase, kv_bytes_count_shared_pages_once);
    tcase_add_test(tcase, setting_the_clock_stalls_no_pass);
    tcase_add_test(tcase, responses_extend_the_history);
    tcase_add_loop_test(tcase, loading_is_reported, 0, N_MODELS);
    return run_cases("engine", (TCase *const[]){tables, tcase, NULL});
}
