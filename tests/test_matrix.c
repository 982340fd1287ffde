/* SPDX-License-Identifier: MIT */
/*
 * test_matrix: contract 1 in a context of several attention chunks, every way with every other. For
 * each instruction set, type of keys and values, and kind of weights: the logits of a text are the
 * same bits for any threads and any rows of a pass, alone and in passes with sequences of other
 * lengths, from a prefix that was computed, forked, truncated, loaded from a file, or found in
 * files of another way, read as a prompt and token by token.
 */
#include <check.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/file.h"
#include "run.h"
#include "session.h"
#include "tiny.h"

enum {
    N = 1060, /* tokens of the text: in the third chunk of 512 positions */
    PROMPT = 1040,
    LAST = 50,   /* tokens whose logits are compared, the last N - PROMPT read one by one */
    COMPANY = 3, /* sequences beside it */
    CONTEXT = 2048
};

static const char *const tables[] = {"scalar", "avx2",       "avxvnni", "avx512vl",
                                     "avx512", "avx512bf16", "neon",    "dotprod"};
static const enum llama3_kv_type kv_types[] = {LLAMA3_KV_F16, LLAMA3_KV_F32, LLAMA3_KV_INT8,
                                               LLAMA3_KV_INT4};
enum {
    N_TABLES = sizeof tables / sizeof tables[0],
    N_KV_TYPES = sizeof kv_types / sizeof kv_types[0]
};
static const struct way {
    int threads;
    size_t chunk;
    enum llama3_load load;
} ways[] = {{1, 512, LLAMA3_LOAD_MAP}, {3, 100, LLAMA3_LOAD_READ}, {1, 33, LLAMA3_LOAD_AUTO},
            {2, 16, LLAMA3_LOAD_READ}, {2, 256, LLAMA3_LOAD_MAP},  {4, 512, LLAMA3_LOAD_READ}};
#ifdef __SANITIZE_ADDRESS__ /* for which bits are nothing new */
enum { N_WAYS = 2 };
#else
enum { N_WAYS = sizeof ways / sizeof ways[0] };
#endif

static struct llama3_error err;
static char *folder, *stored, floats[4096], groups[4096], saved[4096];

static void copy(const char *name, const char *old, const char *new)
{
    char path[4096];
    struct map map;
    snprintf(path, sizeof path, "%s/tiny-bf16/%s", TEST_DATA, name);
    ck_assert_msg(map_open(&map, path, &err) == 0, "%s", err.message);
    if (old == NULL) {
        tiny_put(folder, name, map.data, map.size);
    } else {
        char *text = strndup((const char *)map.data, map.size), *changed;
        changed = tiny_replace(text, old, new);
        tiny_put_text(folder, name, changed);
        free(text);
        free(changed);
    }
    map_close(&map);
}

/* tiny-bf16 with a longer context, and the same as int4. */
static void make_models(void)
{
    folder = tiny_folder();
    copy("config.json", "\"max_position_embeddings\": 512", "\"max_position_embeddings\": 2048");
    copy("model.safetensors", NULL, NULL);
    copy("tokenizer.json", NULL, NULL);
    copy("tokenizer_config.json", NULL, NULL);
    snprintf(floats, sizeof floats, "%s", folder);
    snprintf(groups, sizeof groups, "%s/int4.llama3", folder);
    snprintf(saved, sizeof saved, "%s/saved.session", folder);
    stored = tiny_folder();
    struct llama3_quantize_options options = {.size = sizeof options, .no_calibrate = true};
    ck_assert_msg(llama3_quantize(floats, groups, &options, NULL, &err) == 0, "%s", err.message);
}

static void remove_models(void)
{
    tiny_remove(stored);
    tiny_remove(folder);
}

static struct llama3_model *open_model(const char *path, enum llama3_kv_type kv,
                                       const struct way *way)
{
    struct llama3_model_options options = {.size = sizeof options,
                                           .threads = way->threads,
                                           .chunk = way->chunk,
                                           .kv_type = kv,
                                           .context = CONTEXT,
                                           .no_blas = true,
                                           .load = way->load};
    const struct llama3_prefix_store store = {.size = sizeof store, .directory = stored};
    struct llama3_model *model = llama3_model_open(path, &options, &err);
    if (model != NULL)
        ck_assert_int_eq(llama3_model_keep_prefixes_in(model, &store, &err), 0);
    return model;
}

static void eval(struct llama3_session *session, const int32_t *tokens, size_t n, size_t n_logits,
                 float *logits)
{
    struct llama3_error e = {.size = sizeof e};
    ck_assert_msg(llama3_session_eval(session, tokens, n, n_logits, logits, &e) == 0, "%s",
                  e.message);
}

/* The logits of the last LAST tokens, the session holding the first `from`: the prompt's in one
 * call, then one by one. */
static void read_text(struct llama3_session *session, const int32_t *tokens, size_t from,
                      size_t vocab, float *logits)
{
    enum { WITH_PROMPT = LAST - (N - PROMPT) };
    eval(session, tokens + from, PROMPT - from, WITH_PROMPT, logits);
    for (size_t i = 0; i < N - PROMPT; i++)
        eval(session, tokens + PROMPT + i, 1, 1, logits + (WITH_PROMPT + i) * vocab);
}

/* ---- company ----------------------------------------------------------------------------- */

struct companion {
    struct llama3_model *model;
    size_t length;
    atomic_bool *stop;
    pthread_t thread;
};

/* Reads a text of its own and goes on token by token, again and again. */
static void *keep_company(void *arg)
{
    struct companion *c = arg;
    int32_t tokens[N];
    some_tokens(c->model, tokens, N, (uint32_t)c->length);
    while (!atomic_load(c->stop)) {
        struct llama3_session *session = open_session(c->model);
        eval(session, tokens, c->length, 0, NULL);
        for (size_t i = c->length; i < c->length + 100 && !atomic_load(c->stop); i++)
            eval(session, tokens + i % N, 1, 0, NULL);
        llama3_session_close(session);
    }
    return NULL;
}

static void start_company(struct llama3_model *model, struct companion *company, atomic_bool *stop)
{
    static const size_t lengths[COMPANY] = {3, 200, 900};
    for (size_t i = 0; i < COMPANY; i++) {
        company[i] = (struct companion){.model = model, .length = lengths[i], .stop = stop};
        ck_assert_int_eq(pthread_create(&company[i].thread, NULL, keep_company, &company[i]), 0);
    }
}

/* ---- the matrix -------------------------------------------------------------------------- */

enum prefix { FRESH, FORKED, TRUNCATED, LOADED, STORED, PREFIXES };

/* A session that holds a prefix of the text, *n tokens. */
static struct llama3_session *begin(struct llama3_model *model, enum prefix prefix,
                                    const int32_t *tokens, size_t *n)
{
    static const size_t lengths[PREFIXES] = {0, 521, 640, 77, 960};
    struct llama3_session *session = open_session(model), *other = session;
    *n = lengths[prefix];
    if (prefix == FORKED) {
        eval(session, tokens, *n + 30, 0, NULL);
        other = llama3_session_fork(session, *n, &err);
    } else if (prefix == TRUNCATED) {
        eval(session, tokens, *n, 0, NULL);
        eval(session, tokens, 100, 0, NULL);
        llama3_session_truncate(session, *n);
    } else if (prefix == LOADED) {
        eval(session, tokens, *n, 0, NULL);
        ck_assert_msg(llama3_session_save(session, saved, &err) == 0, "%s", err.message);
        other = llama3_session_load(model, saved, &err);
    }
    if (prefix == STORED) /* all but the last page, of a way before this one */
        ck_assert_int_eq(llama3_session_adopt(session, tokens, *n + 1, n, &err), 0);
    ck_assert_msg(other != NULL, "%s", err.message);
    if (other != session)
        llama3_session_close(session);
    return other;
}

static void check_model(const char *path, const char *table, enum llama3_kv_type kv)
{
    float *expected = NULL, *found = NULL;
    size_t bytes = 0;
    setenv("LLAMA3_CPU", table, 1);
    for (size_t i = 0; i < N_WAYS; i++) {
        struct llama3_model *model = open_model(path, kv, &ways[i]);
        if (model == NULL && i == 0 && strstr(err.message, "LLAMA3_CPU") != NULL)
            return; /* a table that this processor lacks */
        ck_assert_msg(model != NULL, "%s", err.message);
        int32_t tokens[N];
        size_t vocab = llama3_model_info(model)->vocab_size;
        some_tokens(model, tokens, N, 7);
        if (expected == NULL) {
            bytes = LAST * vocab * sizeof *expected;
            expected = malloc(bytes);
            found = malloc(bytes);
        }
        for (int many = 0; many < 2; many++) {
            struct companion company[COMPANY];
            atomic_bool stop = false;
            if (many)
                start_company(model, company, &stop);
            for (enum prefix prefix = 0; prefix < PREFIXES; prefix++) {
                bool first = i == 0 && !many && prefix == 0;
                size_t from;
                struct llama3_session *session = begin(model, prefix, tokens, &from);
                require(i == 0 || prefix != STORED || from == 960, "%zu tokens were found", from);
                read_text(session, tokens, from, vocab, first ? expected : found);
                require(first || memcmp(found, expected, bytes) == 0,
                        "%s, KV type %d: %d threads, %zu rows, %s, prefix %d differ", table, kv,
                        ways[i].threads, ways[i].chunk, many ? "with others" : "alone", prefix);
                llama3_session_close(session);
            }
            atomic_store(&stop, true);
            for (size_t c = 0; many && c < COMPANY; c++)
                pthread_join(company[c].thread, NULL);
        }
        llama3_model_close(model);
    }
    free(expected);
    free(found);
}

START_TEST(every_way_gives_the_same_bits)
{
    size_t table = (size_t)_i % N_TABLES, kv = (size_t)_i / N_TABLES;
#ifdef __SANITIZE_ADDRESS__ /* each table with all weights and all types, but not with each pair \
                             */
    check_model(kv == 0 ? floats : groups, tables[table], kv_types[kv]);
#else
    check_model(floats, tables[table], kv_types[kv]);
    check_model(groups, tables[table], kv_types[kv]);
#endif
}
END_TEST

int main(void)
{
    err.size = sizeof err;
    TCase *tcase = tcase_create("matrix");
    tcase_set_timeout(tcase, 600);
    tcase_add_unchecked_fixture(tcase, make_models, remove_models);
    tcase_add_loop_test(tcase, every_way_gives_the_same_bits, 0, N_TABLES * N_KV_TYPES);
    return run_tests("matrix", tcase);
}
