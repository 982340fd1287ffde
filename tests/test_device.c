/* SPDX-License-Identifier: MIT */
/*
 * test_device: models on a device with memory of its own (tests/deferred.c), through llama3.h: the
 * CPU's answer for every split, within the memory that there is, and what happens when that or the
 * device gives up.
 */
#include <check.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "deferred.h"
#include "llama3.h"
#include "run.h"
#include "sampling.h"
#include "session.h"
#include "tiny.h"

enum { N_TOKENS = 150, CONTEXT = 256 }; /* three KV pages of four */

static const char *const models[] = {"tiny-long", "tiny-bf16", "tiny-tied",
                                     "tiny-gguf-q4_0/model.gguf", "tiny-gguf-k/model.gguf"};
enum { N_MODELS = sizeof models / sizeof models[0] };

static struct llama3_error err;

static struct llama3_model *try_model(const char *name, int gpu_layers, bool kv_on_host)
{
    char path[4096];
    struct llama3_model_options options = {.size = sizeof options,
                                           .kv_type = LLAMA3_KV_F16,
                                           .context = CONTEXT,
                                           .threads = 2,
                                           .chunk = 40,
                                           .no_blas = true,
                                           .gpu_layers = gpu_layers,
                                           .kv_on_host = kv_on_host};
    snprintf(path, sizeof path, "%s/%s", TEST_DATA, name);
    return llama3_model_open(path, &options, &err);
}

static struct llama3_model *open_model(const char *name, int gpu_layers, bool kv_on_host)
{
    struct llama3_model *model = try_model(name, gpu_layers, kv_on_host);
    ck_assert_msg(model != NULL, "%s", err.message);
    return model;
}

static void eval(struct llama3_session *session, const int32_t *tokens, size_t n, float *logits)
{
    ck_assert_msg(llama3_session_eval(session, tokens, n, logits != NULL ? n : 0, logits, &err) ==
                      0,
                  "%s", err.message);
}

/* What the model says that the device is going to hold. */
static uint64_t said_bytes(const struct llama3_model *model)
{
    const struct llama3_info *info = llama3_model_info(model);
    for (size_t i = 0; i < info->n_memories; i++)
        if (info->memories[i]->device != NULL)
            return info->memories[i]->weight_bytes + info->memories[i]->kv_bytes +
                   info->memories[i]->work_bytes;
    return 0;
}

static void check_given_back(void)
{
    ck_assert_uint_eq(deferred_device.used_bytes, 0);
}

/* ---- one answer -------------------------------------------------------------------------- */

/* Logits of N_TOKENS, all and in steps, whole and after a fork and a truncation. */
static float *all_logits(struct llama3_model *model, size_t *bytes)
{
    size_t vocab = llama3_model_info(model)->vocab_size;
    int32_t tokens[N_TOKENS];
    float *logits = malloc(N_TOKENS * vocab * sizeof *logits);
    const float *last = logits + (N_TOKENS - 1) * vocab;
    *bytes = N_TOKENS * vocab * sizeof *logits;
    some_tokens(model, tokens, N_TOKENS, 7);
    struct llama3_session *session = open_session(model);
    eval(session, tokens, N_TOKENS, logits);
    struct llama3_session *fork = llama3_session_fork(session, 70, &err);
    ck_assert_ptr_nonnull(fork);
    eval(fork, tokens + 70, N_TOKENS - 71, NULL);
    eval(fork, tokens + N_TOKENS - 1, 1, NULL);
    ck_assert_mem_eq(llama3_session_logits(fork), last, vocab * sizeof *logits);
    llama3_session_close(fork);
    llama3_session_truncate(session, 65);
    eval(session, tokens + 65, N_TOKENS - 65, NULL);
    ck_assert_mem_eq(llama3_session_logits(session), last, vocab * sizeof *logits);
    llama3_session_close(session);
    return logits;
}

START_TEST(every_split_gives_the_cpus_answer)
{
    size_t bytes;
    struct llama3_model *model = open_model(models[_i], LLAMA3_GPU_NONE, false);
    size_t n_layers = llama3_model_info(model)->n_layers;
    float *expected = all_logits(model, &bytes);
    ck_assert_uint_eq(llama3_model_info(model)->n_memories, 1);
    llama3_model_close(model);
    ck_assert_uint_eq(deferred_device.most_bytes, 0);
    for (int n = 1; n <= (int)n_layers; n++)
        for (int kv_on_host = 0; kv_on_host <= 1; kv_on_host++) {
            model = open_model(models[_i], n, kv_on_host);
            ck_assert_uint_gt(deferred_device.used_bytes, 0);
            float *same = all_logits(model, &bytes);
            ck_assert_msg(memcmp(same, expected, bytes) == 0, "%d layers", n);
            free(same);
            llama3_model_close(model);
            check_given_back();
        }
    free(expected);
}
END_TEST

static int collect(void *arg, const char *text, size_t length)
{
    strncat(arg, text, length);
    return 0;
}

struct writer {
    struct llama3_model *model;
    uint32_t seed;
    char text[1024];
};

static void *write_text(void *arg)
{
    struct writer *w = arg;
    int32_t prompt[N_TOKENS];
    size_t n = 1 + w->seed * 23;
    struct llama3_generation g = {
        .size = sizeof g, .max_tokens = 12, .on_text = collect, .arg = w->text};
    some_tokens(w->model, prompt, n, w->seed);
    char seed[16];
    snprintf(seed, sizeof seed, "%u", (unsigned)w->seed);
    g.sampling = SAMPLING(w->model, "temperature", "1", "seed", seed);
    struct llama3_session *session = open_session(w->model);
    ck_assert_int_eq(llama3_session_generate(session, prompt, n, &g, NULL, NULL), 0);
    llama3_sampling_close(g.sampling);
    llama3_session_close(session);
    return NULL;
}

START_TEST(company_changes_nothing)
{
    enum { N = 5 };
    for (int kv_on_host = 0; kv_on_host <= 1; kv_on_host++) {
        struct llama3_model *model = open_model("tiny-bf16", 1, kv_on_host);
        struct writer alone[N], together[N];
        pthread_t threads[N];
        for (uint32_t i = 0; i < N; i++) {
            alone[i] = together[i] = (struct writer){.model = model, .seed = i};
            write_text(&alone[i]);
        }
        for (size_t i = 0; i < N; i++)
            ck_assert_int_eq(pthread_create(&threads[i], NULL, write_text, &together[i]), 0);
        for (size_t i = 0; i < N; i++) {
            pthread_join(threads[i], NULL);
            ck_assert_str_eq(alone[i].text, together[i].text);
        }
        llama3_model_close(model);
    }
}
END_TEST

START_TEST(cancellation_leaves_the_session_usable)
{
    int32_t tokens[N_TOKENS];
    for (int kv_on_host = 0; kv_on_host <= 1; kv_on_host++) {
        struct llama3_model *model = open_model("tiny-f32", 1, kv_on_host);
        struct llama3_session *session = open_session(model);
        some_tokens(model, tokens, N_TOKENS, 3);
        eval(session, tokens, 10, NULL);
        llama3_session_cancel(session);
        ck_assert_int_eq(llama3_session_eval(session, tokens + 10, 40, 0, NULL, &err), -1);
        ck_assert_int_eq(err.code, LLAMA3_ECANCELED);
        eval(session, tokens + 10, 40, NULL);
        llama3_session_close(session);
        llama3_model_close(model);
        check_given_back();
    }
}
END_TEST

/* ---- memory ------------------------------------------------------------------------------ */

/* Whatever memory the device has: a whole context is held in it. */
START_TEST(what_was_placed_fits)
{
    int32_t tokens[CONTEXT];
    size_t seen = 0;
    for (int kv_on_host = 0; kv_on_host <= 1; kv_on_host++)
        for (uint64_t bytes = 20000; bytes < 700000; bytes += 23456) {
            deferred_device = (struct deferred_device){.free_bytes = bytes, .total_bytes = bytes};
            struct llama3_model *model = open_model(models[_i], LLAMA3_GPU_AUTO, kv_on_host);
            const struct llama3_info *info = llama3_model_info(model);
            struct llama3_session *session = open_session(model);
            some_tokens(model, tokens, CONTEXT, 1);
            eval(session, tokens, CONTEXT, NULL);
            ck_assert_uint_eq(deferred_device.most_bytes, said_bytes(model));
            ck_assert_uint_le(said_bytes(model), bytes - bytes / 32);
            ck_assert_int_eq(info->gpu_note != NULL, said_bytes(model) == 0);
            seen |=
                1U << (said_bytes(model) == 0 ? 0 : info->memories[info->n_memories - 1]->n_layers);
            llama3_session_close(session);
            llama3_model_close(model);
            check_given_back();
        }
    ck_assert_uint_gt(seen, 1);     /* some of them, */
    ck_assert_uint_eq(seen & 1, 1); /* and none */
}
END_TEST

/* From wherever keys and values are, and back there; but to no other placement. */
START_TEST(sessions_are_saved)
{
    enum { KEPT = 70, MORE = CONTEXT - KEPT };
    static const int layers[] = {LLAMA3_GPU_NONE, 1, LLAMA3_GPU_ALL};
    char path[64];
    int32_t tokens[CONTEXT];
    snprintf(path, sizeof path, "/tmp/llama3-device-%ld", (long)getpid());
    for (int kind = 0; kind < 6; kind++) {
        struct llama3_model *model = open_model("tiny-bf16", layers[kind / 2], kind % 2);
        size_t bytes = MORE * llama3_model_info(model)->vocab_size * sizeof(float);
        float *expected = malloc(bytes), *found = malloc(bytes);
        struct llama3_session *session = open_session(model);
        some_tokens(model, tokens, CONTEXT, 1);
        if (kind > 0) { /* what the placement before has left */
            struct llama3_session *before = llama3_session_load(model, path, &err);
            ck_assert_int_eq(before != NULL, kind == 1); /* which is no other */
            ck_assert(kind == 1 || err.code == LLAMA3_EINPUT);
            llama3_session_close(before);
        }
        eval(session, tokens, KEPT, NULL);
        ck_assert_msg(llama3_session_save(session, path, &err) == 0, "%s", err.message);
        struct llama3_session *loaded = llama3_session_load(model, path, &err);
        ck_assert_msg(loaded != NULL, "%s", err.message);
        eval(session, tokens + KEPT, MORE, expected);
        eval(loaded, tokens + KEPT, MORE, found);
        ck_assert_mem_eq(found, expected, bytes);
        free(expected);
        free(found);
        llama3_session_close(loaded);
        llama3_session_close(session);
        llama3_model_close(model);
    }
    unlink(path);
}
END_TEST

START_TEST(what_does_not_fit_is_said_before_loading)
{
    deferred_device = (struct deferred_device){.free_bytes = 100000, .total_bytes = 100000};
    ck_assert_ptr_null(try_model("tiny-f32", LLAMA3_GPU_ALL, false));
    ck_assert_int_eq(err.code, LLAMA3_ENOMEM);
    ck_assert_msg(strncmp(err.message, "gpu_layers: 2 of 2 layers need ", 31) == 0, "%s",
                  err.message);
    ck_assert_uint_eq(deferred_device.most_bytes, 0);
}
END_TEST

/* There is room for one context. A second one is refused, then has it, once the first has gone. */
START_TEST(running_out_of_memory_ends_a_call)
{
    int32_t tokens[CONTEXT];
    struct llama3_model *model = open_model("tiny-f32", LLAMA3_GPU_ALL, false);
    deferred_device.free_bytes = said_bytes(model);
    struct llama3_session *first = open_session(model), *second = open_session(model);
    some_tokens(model, tokens, CONTEXT, 1);
    eval(first, tokens, CONTEXT - 20, NULL);
    ck_assert_int_eq(llama3_session_eval(second, tokens, 10, 0, NULL, &err), -1);
    ck_assert_int_eq(err.code, LLAMA3_ENOMEM);
    size_t n;
    llama3_session_tokens(second, &n);
    ck_assert_uint_eq(n, 0);
    eval(first, tokens + CONTEXT - 20, 20, NULL);
    llama3_session_close(first);
    eval(second, tokens, CONTEXT, NULL);
    llama3_session_close(second);
    llama3_model_close(model);
    check_given_back();
}
END_TEST

/* What a session has left in both memories is not read again, to the same bits; and it gives way to
 * a sequence that needs the memory. */
START_TEST(prefixes_are_kept)
{
    int32_t tokens[CONTEXT], others[CONTEXT];
    size_t cached;
    struct llama3_model *model = open_model("tiny-f32", _i == 0 ? 1 : LLAMA3_GPU_ALL, false);
    size_t bytes = llama3_model_info(model)->vocab_size * sizeof(float);
    float *expected = malloc(bytes);
    deferred_device.free_bytes = said_bytes(model);
    some_tokens(model, tokens, CONTEXT, 1);
    some_tokens(model, others, CONTEXT, 2);
    struct llama3_session *session = open_session(model);
    eval(session, tokens, CONTEXT, NULL);
    memcpy(expected, llama3_session_logits(session), bytes);
    llama3_session_close(session);

    llama3_model_keep_prefixes(model, UINT64_MAX);
    session = open_session(model);
    eval(session, tokens, CONTEXT - 50, NULL);
    llama3_session_close(session);
    session = open_session(model);
    ck_assert_int_eq(llama3_session_set(session, tokens, CONTEXT, NULL, NULL, &cached, &err), 0);
    ck_assert_uint_eq(cached, CONTEXT - 50);
    ck_assert_mem_eq(llama3_session_logits(session), expected, bytes);
    llama3_session_close(session);
    uint64_t held = llama3_model_prefix_bytes(model);
    ck_assert_uint_eq(held, llama3_model_kv_bytes(model));

    session = open_session(model);
    eval(session, others, CONTEXT, NULL);
    ck_assert_uint_eq(llama3_model_kv_bytes(model), held);
    ck_assert_uint_eq(llama3_model_prefix_bytes(model), 0);
    llama3_session_close(session);
    free(expected);
    llama3_model_close(model);
    check_given_back();
}
END_TEST

/* Pages go to files and back also where they aren't in the host's memory, or in several. */
START_TEST(prefixes_are_kept_in_files)
{
    enum { N = 200, WHOLE = 192 };
    static const int layers[] = {1, LLAMA3_GPU_ALL};
    char *folder = tiny_folder();
    const struct llama3_prefix_store store = {.size = sizeof store, .directory = folder};
    int32_t tokens[CONTEXT];
    for (int kind = 0; kind < 4; kind++) {
        struct llama3_model *model = open_model("tiny-bf16", layers[kind / 2], kind % 2);
        size_t cached, bytes = llama3_model_info(model)->vocab_size * sizeof(float);
        float *expected = malloc(bytes);
        some_tokens(model, tokens, CONTEXT, 1);
        for (int run = 0; run < 3; run++) { /* without, what it leaves, and what is there then */
            ck_assert(run == 0 || llama3_model_keep_prefixes_in(model, &store, &err) == 0);
            struct llama3_session *session = open_session(model);
            ck_assert_int_eq(llama3_session_set(session, tokens, N, NULL, NULL, &cached, &err), 0);
            ck_assert_uint_eq(cached, run == 2 ? WHOLE : 0);
            if (run == 0)
                memcpy(expected, llama3_session_logits(session), bytes);
            ck_assert_mem_eq(llama3_session_logits(session), expected, bytes);
            llama3_session_close(session);
            llama3_model_close(model);
            check_given_back();
            model = open_model("tiny-bf16", layers[kind / 2], kind % 2);
        }
        free(expected);
        llama3_model_close(model);
    }
    tiny_remove(folder);
}
END_TEST

/* ---- failures ---------------------------------------------------------------------------- */

/* Whichever operation fails: the session is over, the process isn't. */
START_TEST(a_failure_ends_the_session)
{
    int32_t tokens[N_TOKENS];
    char line[sizeof err.message];
    size_t failed = 0, n;
    for (size_t at = 1; at < 60; at += 3) {
        deferred_device = (struct deferred_device){.fail_after = at};
        struct llama3_model *model = open_model("tiny-f32", _i == 0 ? 1 : LLAMA3_GPU_ALL, _i == 2);
        struct llama3_session *session = open_session(model), *other = open_session(model);
        some_tokens(model, tokens, N_TOKENS, 3);
        if (llama3_session_eval(session, tokens, 100, 0, NULL, &err) == 0)
            ck_assert_uint_gt(at, 10); /* more than the pass had */
        else
            failed++;
        if (deferred_device.fail_after == 0) {
            ck_assert_int_eq(err.code, LLAMA3_EDEVICE);
            ck_assert_msg(strncmp(err.message, "deferred: ", 10) == 0 &&
                              strstr(err.message, ": the device fell off the bus") != NULL,
                          "%s", err.message);
            strcpy(line, err.message);
            llama3_session_tokens(session, &n);
            ck_assert_uint_eq(n, 0);
            ck_assert_int_eq(llama3_session_eval(session, tokens, 1, 0, NULL, &err), -1);
            ck_assert_str_eq(err.message, line);
            struct llama3_generation g = {.size = sizeof g, .max_tokens = 3};
            ck_assert_int_eq(llama3_session_generate(session, tokens, 5, &g, NULL, &err), -1);
            ck_assert_int_eq(err.code, LLAMA3_EDEVICE);
            ck_assert_str_eq(err.message, line);
            ck_assert_ptr_null(llama3_session_fork(session, 0, &err));
            ck_assert_str_eq(err.message, line);
            ck_assert_int_eq(llama3_session_eval(other, tokens, 5, 0, NULL, &err), -1);
            ck_assert_int_eq(err.code, LLAMA3_EDEVICE);
        }
        llama3_session_close(session);
        llama3_session_close(other);
        llama3_model_close(model);
        check_given_back();
        ck_assert_uint_eq(deferred_pending(), 0);
    }
    ck_assert_uint_gt(failed, 5);
    deferred_device = (struct deferred_device){0};
    struct llama3_model *model = open_model("tiny-f32", LLAMA3_GPU_ALL, false);
    struct llama3_session *session = open_session(model);
    eval(session, tokens, N_TOKENS, NULL);
    llama3_session_close(session);
    llama3_model_close(model);
}
END_TEST

int main(void)
{
    TCase *tcase = tcase_create("device");
    tcase_set_timeout(tcase, 240);
    tcase_add_loop_test(tcase, every_split_gives_the_cpus_answer, 0, N_MODELS);
    tcase_add_test(tcase, company_changes_nothing);
    tcase_add_test(tcase, cancellation_leaves_the_session_usable);
    tcase_add_loop_test(tcase, what_was_placed_fits, 0, N_MODELS);
    tcase_add_test(tcase, sessions_are_saved);
    tcase_add_test(tcase, what_does_not_fit_is_said_before_loading);
    tcase_add_test(tcase, running_out_of_memory_ends_a_call);
    tcase_add_loop_test(tcase, prefixes_are_kept, 0, 2);
    tcase_add_test(tcase, prefixes_are_kept_in_files);
    tcase_add_loop_test(tcase, a_failure_ends_the_session, 0, 3);
    return run_tests("device", tcase);
}
