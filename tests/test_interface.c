/* SPDX-License-Identifier: MIT */
/* llama3.h as a program uses it: loops of one's own, saved sessions, structs of other versions. */
#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "llama3.h"
#include "run.h"
#include "sampling.h"
#include "session.h"

enum { N = 200 };

static struct llama3_error err = {.size = sizeof err};
static char path[64]; /* of a saved session */

static struct llama3_model *open_model(const char *name, enum llama3_kv_type kv, size_t context)
{
    char file[4096];
    const struct llama3_model_options options = {.size = sizeof options,
                                                 .kv_type = kv,
                                                 .threads = 2,
                                                 .chunk = 48,
                                                 .context = context,
                                                 .no_blas = true};
    snprintf(file, sizeof file, "%s/%s", TEST_DATA, name);
    struct llama3_model *model = llama3_model_open(file, &options, &err);
    ck_assert_msg(model != NULL, "%s", err.message);
    return model;
}

static size_t vocab_size(const struct llama3_model *model)
{
    return llama3_model_info(model)->vocab_size;
}

static void eval(struct llama3_session *session, const int32_t *tokens, size_t n, size_t n_logits,
                 float *logits)
{
    ck_assert_msg(llama3_session_eval(session, tokens, n, n_logits, logits, &err) == 0, "%s",
                  err.message);
}

/* ---- logits of several rows -------------------------------------------------------------- */

START_TEST(the_last_rows_have_logits)
{
    static const size_t wanted[] = {1, 2, 31, 32, 33, 47, 48, 49, 97, N};
    struct llama3_model *model = open_model("tiny-bf16", LLAMA3_KV_F16, 0);
    struct llama3_session *session = open_session(model);
    int32_t tokens[N];
    size_t vocab = vocab_size(model), bytes = vocab * sizeof(float);
    float *all = malloc(N * bytes), *some = malloc(N * bytes);
    some_tokens(model, tokens, N, 12345);
    eval(session, tokens, N, N, all);
    for (size_t i = 0; i < sizeof wanted / sizeof *wanted; i++) {
        llama3_session_truncate(session, 0);
        memset(some, 0, N * bytes);
        eval(session, tokens, N, wanted[i], some);
        ck_assert_mem_eq(some, all + (N - wanted[i]) * vocab, wanted[i] * bytes);
        ck_assert_mem_eq(llama3_session_logits(session), all + (N - 1) * vocab, bytes);
    }
    ck_assert_int_eq(llama3_session_eval(session, tokens, 2, 3, some, &err), -1);
    ck_assert_int_eq(llama3_session_eval(session, tokens, 2, 1, NULL, &err), -1);
    ck_assert_int_eq(llama3_session_eval(session, tokens, 2, 0, some, &err), -1);
    free(all);
    free(some);
    llama3_session_close(session);
    llama3_model_close(model);
}
END_TEST

/* ---- a loop of one's own ------------------------------------------------------------------ */

struct answer {
    char text[4096];
    size_t length, n;
    int32_t tokens[64];
};

static int on_text(void *arg, const char *text, size_t length)
{
    struct answer *a = arg;
    ck_assert_uint_lt(a->length + length, sizeof a->text);
    memcpy(a->text + a->length, text, length);
    a->length += length;
    return 0;
}

static int on_token(void *arg, int32_t token, const float *logits)
{
    struct answer *a = arg;
    (void)logits;
    ck_assert_uint_lt(a->n, 64);
    a->tokens[a->n++] = token;
    return 0;
}

START_TEST(a_loop_is_what_generate_does)
{
    struct llama3_model *model = open_model("tiny-f32", LLAMA3_KV_F16, 0);
    struct llama3_session *session = open_session(model);
    int32_t prompt[30], token = -1;
    struct answer whole = {0}, own = {0};
    struct llama3_result result = {.size = sizeof result};
    struct llama3_generation g = {.size = sizeof g,
                                  .max_tokens = 40,
                                  .sampling =
                                      SAMPLING(model, "temperature", "1.5", "seed", "7",
                                               "repeat_penalty", "1.3", "frequency_penalty", "0.4"),
                                  .on_text = on_text,
                                  .on_token = on_token,
                                  .arg = &whole};
    some_tokens(model, prompt, 30, 12345);
    ck_assert_int_eq(llama3_session_generate(session, prompt, 30, &g, &result, &err), 0);
    ck_assert_uint_gt(whole.n, 5);

    size_t cached = 99, length;
    struct llama3_detokenizer *detokenizer = llama3_detokenizer_open(model, false, &err);
    llama3_session_truncate(session, 10);
    ck_assert_int_eq(llama3_session_set(session, prompt, 30, NULL, NULL, &cached, &err), 0);
    ck_assert_uint_eq(cached, 10);
    ck_assert_int_eq(llama3_sampling_begin(g.sampling, prompt, 30, &err), 0);
    while (own.n < whole.n) {
        ck_assert_int_eq(llama3_next(g.sampling, session, &token, &err), 0);
        on_token(&own, token, NULL);
        if (llama3_token_is_stop(model, token))
            break;
        const char *text = llama3_detokenizer_next(detokenizer, token, &length, &err);
        ck_assert_ptr_nonnull(text);
        ck_assert_uint_eq(strlen(text), length);
        on_text(&own, text, length);
    }
    const char *rest = llama3_detokenizer_finish(detokenizer, &length, &err);
    on_text(&own, rest, length);
    ck_assert_uint_eq(own.n, whole.n);
    ck_assert_mem_eq(own.tokens, whole.tokens, own.n * sizeof *own.tokens);
    ck_assert_uint_eq(own.length, whole.length);
    ck_assert_mem_eq(own.text, whole.text, own.length);

    /* Another token in the place of the one drawn. */
    size_t n;
    const int32_t forced = 5;
    token = forced;
    llama3_session_truncate(session, 30);
    ck_assert_int_eq(llama3_next(g.sampling, session, &token, &err), 0);
    ck_assert_int_eq(llama3_session_tokens(session, &n)[30], forced);
    ck_assert_uint_eq(n, 31);

    /* What fails leaves the token, or -1 if that was appended. */
    token = (int32_t)vocab_size(model);
    ck_assert_int_eq(llama3_next(g.sampling, session, &token, &err), -1);
    ck_assert_int_eq(token, (int32_t)vocab_size(model));
    uint32_t *nothing = calloc(vocab_size(model) / 32 + 1, sizeof *nothing);
    llama3_sampling_mask(g.sampling, nothing);
    token = 6;
    ck_assert_int_eq(llama3_next(g.sampling, session, &token, &err), -1);
    ck_assert_int_eq(token, -1);
    nothing[0] = 1U << 9;
    ck_assert_int_eq(llama3_next(g.sampling, session, &token, &err), 0);
    ck_assert_int_eq(token, 9);
    llama3_session_truncate(session, 0);
    token = -1;
    ck_assert_int_eq(llama3_next(g.sampling, session, &token, &err), -1);
    ck_assert_str_eq(err.message, "next: expected logits of a token before, found none");
    struct llama3_sampling *none = llama3_sampling_open(NULL, &err);
    ck_assert_int_eq(llama3_next(none, session, &token, &err), -1);

    free(nothing);
    llama3_sampling_close(none);
    llama3_sampling_close(g.sampling);
    llama3_detokenizer_close(detokenizer);
    llama3_session_close(session);
    llama3_model_close(model);
}
END_TEST

static int refuse_text(void *arg, const char *text, size_t length)
{
    (void)arg;
    (void)text;
    (void)length;
    return 1;
}

static int refuse_token(void *arg, int32_t token, const float *logits)
{
    (void)token;
    (void)logits;
    return ++*(int *)arg == 3;
}

START_TEST(why_an_answer_ended)
{
    struct llama3_model *model = open_model("tiny-f32", LLAMA3_KV_F16, 0);
    struct llama3_session *session = open_session(model);
    int32_t prompt[] = {5, 6, 7};
    struct answer whole = {0};
    struct llama3_result result = {.size = sizeof result};
    struct llama3_generation g = {.size = sizeof g,
                                  .max_tokens = 30,
                                  .sampling = SAMPLING(model, "temperature", "2", "top_p", "1"),
                                  .on_text = on_text,
                                  .arg = &whole};
    ck_assert_int_eq(llama3_session_generate(session, prompt, 3, &g, &result, &err), 0);
    ck_assert_int_eq(result.stop_string, -1);
    ck_assert_int_eq(result.finish,
                     result.stop_id >= 0 ? LLAMA3_FINISH_STOP : LLAMA3_FINISH_LENGTH);

    char stop[4] = "";
    const char *const stops[] = {"never there", stop};
    memcpy(stop, whole.text + 2, 1);
    g.stop = stops;
    g.n_stop = 2;
    whole.length = 0;
    ck_assert_int_eq(llama3_session_generate(session, prompt, 3, &g, &result, &err), 0);
    ck_assert_int_eq(result.finish, LLAMA3_FINISH_STOP);
    ck_assert_int_eq(result.stop_string, 1);
    ck_assert_int_eq(result.stop_id, -1);

    g.n_stop = 0;
    g.on_text = refuse_text;
    ck_assert_int_eq(llama3_session_generate(session, prompt, 3, &g, &result, &err), 0);
    ck_assert_int_eq(result.finish, LLAMA3_FINISH_CALLBACK);
    ck_assert(result.stop_string == -1 && result.stop_id == -1);
    int n = 0;
    g.on_text = NULL;
    g.on_token = refuse_token;
    g.arg = &n;
    ck_assert_int_eq(llama3_session_generate(session, prompt, 3, &g, &result, &err), 0);
    ck_assert_int_eq(result.finish, LLAMA3_FINISH_CALLBACK);
    ck_assert_uint_eq(result.answer_tokens, 2);
    llama3_sampling_close(g.sampling);
    llama3_session_close(session);
    llama3_model_close(model);
}
END_TEST

/* ---- saved sessions ----------------------------------------------------------------------- */

static const struct {
    const char *name;
    enum llama3_kv_type kv;
} kinds[] = {
    {"tiny-bf16", LLAMA3_KV_F16},     {"tiny-f32", LLAMA3_KV_F32},
    {"tiny-gqa-6-2", LLAMA3_KV_F16},  {"tiny-gguf-q8_0/model.gguf", LLAMA3_KV_F16},
    {"tiny-gqa-6-2", LLAMA3_KV_INT8}, {"tiny-gqa-6-2", LLAMA3_KV_INT4},
};

START_TEST(a_saved_session_goes_on_alike)
{
    static const size_t lengths[] = {1, 63, 64, 65, 130};
    struct llama3_model *model = open_model(kinds[_i].name, kinds[_i].kv, 0);
    int32_t tokens[N];
    size_t vocab = vocab_size(model), bytes = vocab * sizeof(float), n;
    float *expected = malloc(N * bytes), *found = malloc(N * bytes);
    some_tokens(model, tokens, N, 12345);
    for (size_t i = 0; i < sizeof lengths / sizeof *lengths; i++) {
        size_t length = lengths[i], more = N - length;
        struct llama3_session *session = open_session(model);
        eval(session, tokens, length, 0, NULL);
        ck_assert_msg(llama3_session_save(session, path, &err) == 0, "%s", err.message);
        struct llama3_session *loaded = llama3_session_load(model, path, &err);
        ck_assert_msg(loaded != NULL, "%s", err.message);
        const int32_t *ids = llama3_session_tokens(loaded, &n);
        ck_assert_uint_eq(n, length);
        ck_assert_mem_eq(ids, tokens, n * sizeof *ids);
        ck_assert_mem_eq(llama3_session_logits(loaded), llama3_session_logits(session), bytes);
        eval(session, tokens + length, more, more, expected);
        eval(loaded, tokens + length, more, more, found);
        ck_assert_mem_eq(found, expected, more * bytes);

        /* Once more, by another model of the same file. */
        struct llama3_model *other = open_model(kinds[_i].name, kinds[_i].kv, 0);
        struct llama3_session *elsewhere = llama3_session_load(other, path, &err);
        ck_assert_msg(elsewhere != NULL, "%s", err.message);
        eval(elsewhere, tokens + length, more, more, found);
        ck_assert_mem_eq(found, expected, more * bytes);
        llama3_session_close(elsewhere);
        llama3_model_close(other);
        llama3_session_close(session);
        llama3_session_close(loaded);
    }
    free(expected);
    free(found);
    llama3_model_close(model);
}
END_TEST

START_TEST(what_a_session_lacks_is_not_saved)
{
    struct llama3_model *model = open_model("tiny-f32", LLAMA3_KV_F16, 0);
    struct llama3_session *session = open_session(model), *loaded;
    int32_t tokens[20];
    size_t n;
    some_tokens(model, tokens, 20, 12345);
    ck_assert_int_eq(llama3_session_save(session, path, &err), 0); /* an empty one */
    loaded = llama3_session_load(model, path, &err);
    ck_assert_msg(loaded != NULL, "%s", err.message);
    llama3_session_tokens(loaded, &n);
    ck_assert_uint_eq(n, 0);
    ck_assert_ptr_null(llama3_session_logits(loaded));
    llama3_session_close(loaded);
    eval(session, tokens, 20, 0, NULL);
    llama3_session_truncate(session, 12);
    ck_assert_int_eq(llama3_session_save(session, path, &err), 0); /* one without logits */
    loaded = llama3_session_load(model, path, &err);
    ck_assert_msg(loaded != NULL, "%s", err.message);
    llama3_session_tokens(loaded, &n);
    ck_assert_uint_eq(n, 12);
    ck_assert_ptr_null(llama3_session_logits(loaded));
    ck_assert_int_eq(llama3_session_save(session, "/dev/null/session", &err), -1);
    ck_assert_int_eq(err.code, LLAMA3_EIO);
    ck_assert_ptr_null(llama3_session_load(model, "/dev/null/session", &err));
    ck_assert_int_eq(err.code, LLAMA3_EIO);
    llama3_session_close(loaded);
    llama3_session_close(session);
    llama3_model_close(model);
}
END_TEST

static void refuses(struct llama3_model *model, enum llama3_code code, const char *message)
{
    uint64_t held = llama3_model_kv_bytes(model);
    ck_assert_ptr_null(llama3_session_load(model, path, &err));
    ck_assert_int_eq(err.code, code);
    ck_assert_msg(strncmp(err.message, path, strlen(path)) == 0, "%s", err.message);
    ck_assert_msg(strstr(err.message, message) != NULL, "%s", err.message);
    ck_assert_uint_eq(llama3_model_kv_bytes(model), held);
}

START_TEST(a_session_of_another_model_is_refused)
{
    static const char another[] = "expected a session of this model, found one of another";
    struct llama3_model *model = open_model("tiny-f32", LLAMA3_KV_F16, 0);
    struct llama3_session *session = open_session(model);
    int32_t tokens[20];
    some_tokens(model, tokens, 20, 12345);
    eval(session, tokens, 20, 0, NULL);
    ck_assert_int_eq(llama3_session_save(session, path, &err), 0);
    bool only_scalar = strstr(llama3_model_info(model)->backend, "scalar") != NULL;
    llama3_session_close(session);
    llama3_model_close(model);

    for (int kv = LLAMA3_KV_F32; kv <= LLAMA3_KV_INT4; kv++) {
        model = open_model("tiny-f32", (enum llama3_kv_type)kv, 0);
        refuses(model, LLAMA3_EINPUT, "expected a session of this KV type, found one of another");
        llama3_model_close(model);
    }
    model = open_model("tiny-rope", LLAMA3_KV_F16, 0);
    refuses(model, LLAMA3_EINPUT, another);
    llama3_model_close(model);
    model = open_model("tiny-bf16", LLAMA3_KV_F16, 0);
    refuses(model, LLAMA3_EINPUT, another);
    llama3_model_close(model);
    setenv("LLAMA3_CPU", "scalar", 1);
    model = open_model("tiny-f32", LLAMA3_KV_F16, 0);
    if (!only_scalar)
        refuses(model, LLAMA3_EINPUT, "of this instruction set and placement on devices");
    llama3_model_close(model);
    unsetenv("LLAMA3_CPU");
    model = open_model("tiny-f32", LLAMA3_KV_F16, 19);
    refuses(model, LLAMA3_ECONTEXT, "expected at most the context's 19 tokens, found 20");
    llama3_model_close(model);
    model = open_model("tiny-f32", LLAMA3_KV_F16, 20);
    session = llama3_session_load(model, path, &err);
    ck_assert_msg(session != NULL, "%s", err.message);
    llama3_session_close(session);
    llama3_model_close(model);
}
END_TEST

static char *read_file(size_t *size)
{
    FILE *file = fopen(path, "rb");
    ck_assert_ptr_nonnull(file);
    fseek(file, 0, SEEK_END);
    *size = (size_t)ftell(file);
    rewind(file);
    char *bytes = malloc(*size);
    ck_assert_uint_eq(fread(bytes, 1, *size, file), *size);
    fclose(file);
    return bytes;
}

static void write_file(const char *bytes, size_t size)
{
    FILE *file = fopen(path, "wb");
    ck_assert_ptr_nonnull(file);
    ck_assert_uint_eq(fwrite(bytes, 1, size, file), size);
    ck_assert_int_eq(fclose(file), 0);
}

/* Cut anywhere, longer, or with any byte changed. */
START_TEST(a_damaged_session_is_refused)
{
    struct llama3_model *model = open_model("tiny-f32", LLAMA3_KV_F16, 0);
    struct llama3_session *session = open_session(model);
    int32_t tokens[3];
    size_t size;
    some_tokens(model, tokens, 3, 12345);
    eval(session, tokens, 3, 0, NULL);
    ck_assert_int_eq(llama3_session_save(session, path, &err), 0);
    char *bytes = read_file(&size);
    for (size_t n = 0; n < size; n += n < 80 ? 1 : 97) {
        write_file(bytes, n);
        refuses(model, LLAMA3_EINPUT, n < 188 ? "found the end" : "the file is damaged");
    }
    for (size_t at = 0; at < size; at += at < 80 ? 1 : 61) {
        bytes[at] ^= 0x41;
        write_file(bytes, size);
        refuses(model, LLAMA3_EINPUT,
                at < sizeof "llama3-kv 1" ? "expected a saved session" : "the file is damaged");
        bytes[at] ^= 0x41;
    }
    bytes = realloc(bytes, size + 1);
    bytes[size] = 0;
    write_file(bytes, size + 1);
    refuses(model, LLAMA3_EINPUT, "the file is damaged");
    free(bytes);
    llama3_session_close(session);
    llama3_model_close(model);
}
END_TEST

/* ---- cancellation ------------------------------------------------------------------------- */

static void is_canceled(int status)
{
    ck_assert_int_eq(status, -1);
    ck_assert_int_eq(err.code, LLAMA3_ECANCELED);
}

/* A cancellation stays until a call has reported it, and no longer. */
START_TEST(a_cancellation_is_reported_once)
{
    struct llama3_model *model = open_model("tiny-f32", LLAMA3_KV_F16, 0);
    struct llama3_session *session = open_session(model);
    struct llama3_sampling *sampling = SAMPLING(model, "temperature", "0");
    int32_t prompt[20], token = -1;
    size_t n;
    some_tokens(model, prompt, 20, 12345);

    llama3_session_cancel(session);
    is_canceled(llama3_session_set(session, prompt, 20, NULL, NULL, NULL, &err));
    ck_assert_int_eq(llama3_session_set(session, prompt, 20, NULL, NULL, NULL, &err), 0);
    llama3_session_cancel(session); /* before calls that have nothing to evaluate */
    is_canceled(llama3_session_set(session, prompt, 20, NULL, NULL, NULL, &err));
    llama3_session_cancel(session);
    is_canceled(llama3_next(sampling, session, &token, &err));
    ck_assert_int_eq(token, -1);
    ck_assert_int_eq(llama3_next(sampling, session, &token, &err), 0);

    /* Between the calls of a loop. */
    for (int i = 0; i < 5; i++) {
        int32_t drawn = token;
        llama3_session_cancel(session);
        is_canceled(llama3_next(sampling, session, &token, &err));
        ck_assert_int_eq(token, drawn);
        ck_assert_int_eq(llama3_next(sampling, session, &token, &err), 0);
    }
    llama3_session_cancel(session);
    is_canceled(llama3_session_eval(session, prompt, 1, 0, NULL, &err));
    llama3_session_tokens(session, &n);
    ck_assert_uint_eq(n, 25);
    eval(session, prompt, 1, 0, NULL);

    /* A call that fails for another reason doesn't take it. */
    struct llama3_result result = {.size = sizeof result};
    const struct llama3_generation g = {.size = sizeof g, .max_tokens = 3, .sampling = sampling};
    llama3_session_cancel(session);
    ck_assert_int_eq(llama3_session_eval(session, prompt, 0, 0, NULL, &err), -1);
    ck_assert_int_eq(err.code, LLAMA3_EINPUT);
    ck_assert_int_eq(llama3_session_generate(session, prompt, 20, &g, &result, &err), 0);
    ck_assert_int_eq(result.finish, LLAMA3_FINISH_CANCELED);
    ck_assert_int_eq(llama3_session_generate(session, prompt, 20, &g, &result, &err), 0);
    ck_assert_int_ne(result.finish, LLAMA3_FINISH_CANCELED);
    llama3_sampling_close(sampling);
    llama3_session_close(session);
    llama3_model_close(model);
}
END_TEST

/* ---- misuse ------------------------------------------------------------------------------- */

static void is_refused(int status, enum llama3_code code, const char *message)
{
    ck_assert_int_eq(status, -1);
    ck_assert_int_eq(err.code, code);
    ck_assert_msg(strstr(err.message, message) != NULL, "%s", err.message);
}

START_TEST(a_refused_prompt_leaves_the_session)
{
    struct llama3_model *model = open_model("tiny-f32", LLAMA3_KV_F16, 60);
    struct llama3_session *session = open_session(model);
    int32_t tokens[N];
    size_t n, bytes = vocab_size(model) * sizeof(float);
    float *logits = malloc(bytes);
    some_tokens(model, tokens, N, 12345);
    eval(session, tokens, 40, 0, NULL);
    memcpy(logits, llama3_session_logits(session), bytes);

    tokens[30] = (int32_t)vocab_size(model);
    is_refused(llama3_session_set(session, tokens, 35, NULL, NULL, NULL, &err), LLAMA3_EINPUT,
               "token 30: expected an id from 0 to ");
    is_refused(llama3_session_eval(session, tokens + 29, 2, 0, NULL, &err), LLAMA3_EINPUT,
               "token 1: expected an id from 0 to ");
    is_refused(llama3_session_set(session, tokens, 61, NULL, NULL, NULL, &err), LLAMA3_ECONTEXT,
               "60 tokens, found 61");
    is_refused(llama3_session_set(session, tokens, 0, NULL, NULL, NULL, &err), LLAMA3_EINPUT,
               "expected at least one token, found none");
    is_refused(llama3_session_eval(session, tokens, 21, 0, NULL, &err), LLAMA3_ECONTEXT,
               "60 tokens, found 61");
    is_refused(llama3_session_eval(session, tokens, SIZE_MAX, 0, NULL, &err), LLAMA3_ECONTEXT,
               "60 tokens");
    is_refused(llama3_session_eval(session, tokens, 2, 0, logits, &err), LLAMA3_EINPUT, "logits");
    ck_assert_uint_eq((llama3_session_tokens(session, &n), n), 40);
    ck_assert_mem_eq(llama3_session_logits(session), logits, bytes);
    free(logits);
    llama3_session_close(session);
    llama3_model_close(model);
}
END_TEST

/* What a callback tries with the session that calls it. */
struct misuse {
    struct llama3_session *session;
    bool in_prompt;
    int tried;
};

static void misuse(struct misuse *m)
{
    static const char busy[] = "expected a session that no call is using";
    struct llama3_session *s = m->session;
    int32_t token = 5;
    size_t before, after;
    struct llama3_generation g = {.size = sizeof g, .max_tokens = 1};
    struct llama3_history *history = llama3_history_new();
    m->tried++;
    llama3_session_tokens(s, &before);
    is_refused(llama3_session_eval(s, &token, 1, 0, NULL, &err), LLAMA3_EINPUT, busy);
    is_refused(llama3_session_set(s, &token, 1, NULL, NULL, NULL, &err), LLAMA3_EINPUT, busy);
    is_refused(llama3_next(NULL, s, &token, &err), LLAMA3_EINPUT, busy);
    is_refused(llama3_session_generate(s, &token, 1, &g, NULL, &err), LLAMA3_EINPUT, busy);
    is_refused(llama3_session_save(s, path, &err), LLAMA3_EINPUT, busy);
    err.code = LLAMA3_OK;
    ck_assert_ptr_null(llama3_session_respond(s, history, "Hello", NULL, &err));
    ck_assert_uint_eq(llama3_history_length(history), 0);
    is_refused(-1, LLAMA3_EINPUT, busy);
    llama3_session_truncate(s, 1); /* does nothing */
    llama3_session_tokens(s, &after);
    ck_assert_uint_eq(before, after);
    struct llama3_session *fork = llama3_session_fork(s, before, &err);
    if (m->in_prompt)
        is_refused(fork == NULL ? -1 : 0, LLAMA3_EINPUT, busy);
    else
        eval(fork, &token, 1, 0, NULL);
    llama3_session_close(fork);
    llama3_history_free(history);
}

static int misuse_text(void *arg, const char *text, size_t length)
{
    (void)text;
    (void)length;
    misuse(arg);
    return 0;
}

static int misuse_token(void *arg, int32_t token, const float *logits)
{
    (void)token;
    (void)logits;
    misuse(arg);
    return 0;
}

static void misuse_prompt(void *arg, size_t done, size_t total)
{
    struct misuse *m = arg;
    ck_assert_uint_le(done, total);
    m->in_prompt = true;
    misuse(m);
    m->in_prompt = false;
}

START_TEST(a_session_in_use_is_refused)
{
    struct llama3_model *model = open_model("tiny-f32", LLAMA3_KV_F16, 0);
    struct llama3_session *session = open_session(model);
    struct misuse m = {.session = session};
    int32_t prompt[120];
    struct answer whole = {0}, again = {0};
    struct llama3_generation g = {.size = sizeof g,
                                  .max_tokens = 12,
                                  .sampling = SAMPLING(model, "temperature", "2", "top_p", "1"),
                                  .on_text = on_text,
                                  .arg = &whole};
    some_tokens(model, prompt, 120, 12345);
    ck_assert_int_eq(llama3_session_generate(session, prompt, 120, &g, NULL, &err), 0);
    llama3_session_truncate(session, 0);
    g.on_text = misuse_text;
    g.on_token = misuse_token;
    g.on_prompt = misuse_prompt;
    g.arg = &m;
    ck_assert_int_eq(llama3_session_generate(session, prompt, 120, &g, NULL, &err), 0);
    ck_assert_int_gt(m.tried, 10);
    m.tried = 0;
    llama3_session_truncate(session, 0);
    ck_assert_int_eq(llama3_session_set(session, prompt, 120, misuse_prompt, &m, NULL, &err), 0);
    ck_assert_int_gt(m.tried, 0);

    /* It harmed nothing. */
    g.on_text = on_text;
    g.on_token = NULL;
    g.on_prompt = NULL;
    g.arg = &again;
    ck_assert_int_eq(llama3_session_generate(session, prompt, 120, &g, NULL, &err), 0);
    ck_assert_uint_eq(again.length, whole.length);
    ck_assert_mem_eq(again.text, whole.text, whole.length);
    llama3_sampling_close(g.sampling);
    llama3_session_close(session);
    llama3_model_close(model);
}
END_TEST

/* The threads that compute are not in the child. */
START_TEST(a_forked_child_is_refused)
{
    struct llama3_model *model = open_model("tiny-f32", LLAMA3_KV_F16, 0);
    struct llama3_session *session = open_session(model);
    const int32_t token = 5;
    int status = 0;
    pid_t child = fork();
    if (child == 0) {
        alarm(20);
        is_refused(llama3_session_eval(session, &token, 1, 0, NULL, &err), LLAMA3_EINPUT,
                   "expected the process that opened the model, found a child of it");
        /* It may close what it has, which leaves the parent's alone. */
        llama3_session_close(session);
        llama3_model_close(model);
        _exit(0);
    }
    ck_assert_int_eq(waitpid(child, &status, 0), child);
    ck_assert_int_eq(status, 0);
    eval(session, &token, 1, 0, NULL);
    llama3_session_close(session);
    llama3_model_close(model);
}
END_TEST

/* The session's own tokens are as good as others. */
START_TEST(tokens_of_the_session_itself)
{
    struct llama3_model *model = open_model("tiny-f32", LLAMA3_KV_F16, 0);
    struct llama3_session *session = open_session(model), *other = open_session(model);
    const struct llama3_generation g = {.size = sizeof g, .max_tokens = 3};
    int32_t tokens[N];
    size_t n, bytes = vocab_size(model) * sizeof(float);
    some_tokens(model, tokens, 8, 1);
    for (size_t i = 8; i < 128; i++)
        tokens[i] = tokens[i % 8];
    eval(other, tokens, 128, 0, NULL);
    eval(session, tokens, 8, 0, NULL);
    for (size_t length = 8; length < 128; length *= 2) {
        const int32_t *own = llama3_session_tokens(session, &n);
        eval(session, own, n, 0, NULL);
    }
    ck_assert_mem_eq(llama3_session_tokens(session, &n), tokens, 128 * sizeof *tokens);
    ck_assert_mem_eq(llama3_session_logits(session), llama3_session_logits(other), bytes);
    const int32_t *own = llama3_session_tokens(session, &n);
    ck_assert_int_eq(llama3_session_set(session, own + 1, 100, NULL, NULL, NULL, &err), 0);
    own = llama3_session_tokens(session, &n);
    ck_assert_mem_eq(own, tokens + 1, 100 * sizeof *own);
    ck_assert_int_eq(llama3_session_generate(session, own + 1, 90, &g, NULL, &err), 0);
    ck_assert_mem_eq(llama3_session_tokens(session, &n), tokens + 2, 90 * sizeof *own);
    llama3_session_close(other);
    llama3_session_close(session);
    llama3_model_close(model);
}
END_TEST

static int change_history(void *arg, const char *text, size_t length)
{
    struct llama3_history *history = arg;
    (void)text;
    (void)length;
    llama3_history_truncate(history, 0); /* does nothing */
    is_refused(llama3_history_add(history, "user", "Wait", &err), LLAMA3_EINPUT,
               "expected a history that no call is using");
    return 0;
}

START_TEST(a_history_in_use_is_refused)
{
    struct llama3_model *model = open_model("tiny-f32", LLAMA3_KV_F16, 0);
    struct llama3_session *session = open_session(model);
    struct llama3_history *history = llama3_history_new();
    const struct llama3_generation g = {
        .size = sizeof g, .max_tokens = 20, .on_text = change_history, .arg = history};
    ck_assert_ptr_nonnull(llama3_session_respond(session, history, "Hello", &g, &err));
    ck_assert_uint_eq(llama3_history_length(history), 2);
    ck_assert_str_eq(llama3_history_message(history, 0)->content, "Hello");
    llama3_history_truncate(history, 0);
    ck_assert_uint_eq(llama3_history_length(history), 0);
    llama3_history_free(history);
    llama3_session_close(session);
    llama3_model_close(model);
}
END_TEST

static void nowhere(const char *nothing)
{
    double kl, plain;
    const char *somewhere = TEST_DATA "/tiny-f32";
    is_refused(llama3_quantize(nothing, path, NULL, NULL, &err), LLAMA3_EINPUT, "expected a path");
    is_refused(llama3_quantize(somewhere, nothing, NULL, NULL, &err), LLAMA3_EINPUT,
               "expected a path");
    is_refused(llama3_quantize_gain(nothing, somewhere, 1, &kl, &plain, &err), LLAMA3_EINPUT,
               "expected a path");
    is_refused(llama3_quantize_gain(somewhere, nothing, 1, &kl, &plain, &err), LLAMA3_EINPUT,
               "expected a path");
    is_refused(llama3_check_config(nothing, &err), LLAMA3_EINPUT, "expected a path");
    ck_assert_ptr_null(llama3_model_open(nothing, NULL, &err));
    is_refused(-1, LLAMA3_EINPUT, "expected a path");
    struct llama3_model *model = open_model("tiny-f32", LLAMA3_KV_F16, 0);
    struct llama3_session *session = open_session(model);
    is_refused(llama3_session_save(session, nothing, &err), LLAMA3_EINPUT, "expected a path");
    ck_assert_ptr_null(llama3_session_load(model, nothing, &err));
    is_refused(-1, LLAMA3_EINPUT, "expected a path");
    llama3_session_close(session);
    llama3_model_close(model);
}

START_TEST(paths_are_needed)
{
    nowhere(NULL);
    nowhere("");
}
END_TEST

START_TEST(a_model_is_not_overwritten_by_its_session)
{
    char file[4096], copy[128];
    snprintf(copy, sizeof copy, "%s.gguf", path);
    snprintf(file, sizeof file, "cp %s/tiny-gguf-q8_0/model.gguf %s", TEST_DATA, copy);
    ck_assert_int_eq(system(file), 0);
    struct llama3_model *model = llama3_model_open(copy, NULL, &err);
    struct llama3_session *session = open_session(model);
    is_refused(llama3_session_save(session, copy, &err), LLAMA3_EINPUT,
               "expected a path that is none of the model's files");
    llama3_session_close(session);
    llama3_model_close(model);
    model = llama3_model_open(copy, NULL, &err);
    ck_assert_msg(model != NULL, "%s", err.message);
    llama3_model_close(model);
    unlink(copy);
}
END_TEST

START_TEST(a_failure_is_told_in_the_result)
{
    struct llama3_model *model = open_model("tiny-f32", LLAMA3_KV_F16, 0);
    struct llama3_session *session = open_session(model);
    const int32_t prompt[] = {5, 6, (int32_t)vocab_size(model)};
    const char *const stop = "";
    struct llama3_generation g = {.size = sizeof g, .stop = &stop, .n_stop = 1};
    struct llama3_result result = {.size = sizeof result, .stop_id = 7, .answer_tokens = 9};
    ck_assert_int_eq(llama3_session_generate(session, prompt, 2, &g, &result, &err), -1);
    ck_assert_str_eq(err.message, "stop string 1: expected some text, found none");
    ck_assert_int_eq(result.finish, LLAMA3_FINISH_FAILED);
    ck_assert(result.stop_id == -1 && result.stop_string == -1 && result.answer_tokens == 0);
    ck_assert_uint_eq(result.prompt_tokens, 2);
    g.n_stop = 0;
    result.finish = LLAMA3_FINISH_STOP;
    ck_assert_int_eq(llama3_session_generate(session, prompt, 3, &g, &result, &err), -1);
    ck_assert_int_eq(result.finish, LLAMA3_FINISH_FAILED);
    llama3_session_close(session);
    llama3_model_close(model);
}
END_TEST

START_TEST(what_can_be_no_message_is_refused)
{
    struct llama3_model *model = open_model("tiny-f32", LLAMA3_KV_F16, 0);
    struct llama3_session *session = open_session(model);
    struct llama3_history *history = llama3_history_new();
    is_refused(llama3_history_add(history, "us\ner", "Hello", &err), LLAMA3_EINPUT,
               "expected a role of printable ASCII");
    is_refused(llama3_history_add(history, NULL, "Hello", &err), LLAMA3_EINPUT, "role");
    is_refused(llama3_history_add(history, "user", NULL, &err), LLAMA3_EINPUT, "content");
    is_refused(llama3_history_add(history, "user", "caf\xe9", &err), LLAMA3_EINPUT, "UTF-8");
    ck_assert_ptr_null(llama3_session_respond(session, history, NULL, NULL, &err));
    ck_assert_uint_eq(llama3_history_length(history), 0);
    ck_assert_int_eq(llama3_history_add(history, "tool", "{}", &err), 0);

    const struct llama3_message messages[] = {
        {.size = sizeof *messages, .role = "user", .content = "Hello"},
        {.size = sizeof *messages, .role = NULL, .content = "Hello"},
        {.size = sizeof *messages, .role = "user", .content = NULL}};
    int32_t *tokens;
    size_t n;
    for (size_t i = 0; i < 3; i++)
        ck_assert_int_eq(
            llama3_apply_template(model, messages + i, 1, NULL, &tokens, &n, &err) == 0, i == 0);
    is_refused(llama3_apply_template(model, messages, SIZE_MAX / 4, NULL, &tokens, &n, &err),
               LLAMA3_EINPUT, "messages: expected at most ");
    is_refused(llama3_apply_template(model, NULL, 0, NULL, &tokens, &n, &err), LLAMA3_EINPUT,
               "expected a message, found none");
    llama3_free(tokens);
    llama3_history_free(history);
    llama3_session_close(session);
    llama3_model_close(model);
}
END_TEST

START_TEST(pretokens_of_any_bytes)
{
    static const char *const models[] = {"tiny-f32", "tiny-gguf-q8_0/model.gguf"};
    for (size_t m = 0; m < 2; m++) {
        struct llama3_model *model = open_model(models[m], LLAMA3_KV_F16, 0);
        uint32_t x = 1;
        for (int round = 0; round < 2000; round++) {
            char text[24];
            size_t at = 0;
            for (size_t i = 0; i < sizeof text; i++) {
                x = x * 1664525 + 1013904223;
                text[i] = (char)(x >> 24);
            }
            while (at < sizeof text) {
                size_t step = llama3_pretoken(model, text + at, sizeof text - at);
                ck_assert_uint_gt(step, 0);
                ck_assert_uint_le(step, sizeof text - at);
                at += step;
            }
        }
        llama3_model_close(model);
    }
}
END_TEST

START_TEST(only_a_regular_file_is_a_saved_session)
{
    struct llama3_model *model = open_model("tiny-f32", LLAMA3_KV_F16, 0);
    unlink(path);
    ck_assert_int_eq(mkfifo(path, 0600), 0);
    refuses(model, LLAMA3_EIO, "expected a regular file, found ");
    unlink(path);
    ck_assert_ptr_null(llama3_session_load(model, "/dev/zero", &err));
    ck_assert_str_eq(err.message, "/dev/zero: expected a regular file, found a special file");
    ck_assert_ptr_null(llama3_session_load(model, "/tmp", &err));
    ck_assert_str_eq(err.message, "/tmp: expected a regular file, found a directory");
    llama3_model_close(model);
}
END_TEST

/* However long the path, the reason is there. */
START_TEST(long_paths_leave_the_reason)
{
    char name[3000];
    for (size_t n = 440; n < sizeof name; n += 160) {
        memset(name, 'x', n);
        for (size_t i = 0; i < n; i += 100)
            name[i] = '/';
        memcpy(name + 1, "\xc3\xa9\xc3\xa9", 4);
        name[n] = '\0';
        ck_assert_ptr_null(llama3_model_open(name, NULL, &err));
        ck_assert_uint_lt(strlen(err.message), sizeof err.message);
        ck_assert_msg(strncmp(err.message, "/\xc3\xa9\xc3\xa9xxx", 8) == 0, "%s", err.message);
        ck_assert_msg(strstr(err.message, "xxx: No such file or directory") != NULL, "%s",
                      err.message);
    }
    ck_assert_ptr_null(llama3_model_open("", NULL, &err));
    is_refused(-1, LLAMA3_EINPUT, "expected a path, found none");
    ck_assert_ptr_null(llama3_model_open(NULL, NULL, &err));
    is_refused(-1, LLAMA3_EINPUT, "expected a path, found none");
}
END_TEST

/* ---- structs of other versions ------------------------------------------------------------ */

START_TEST(sizes_of_structs_are_checked)
{
    struct {
        struct llama3_model_options options;
        uint64_t newer[64];
    } o = {.options = {.size = sizeof o}};
    char file[4096];
    snprintf(file, sizeof file, "%s/tiny-f32", TEST_DATA);
    struct llama3_model *model = llama3_model_open(file, &o.options, &err);
    ck_assert_msg(model != NULL, "%s", err.message);
    o.newer[63] = 1;
    ck_assert_ptr_null(llama3_model_open(file, &o.options, &err));
    ck_assert_msg(
        strncmp(err.message, "struct llama3_model_options: expected fields that version ", 58) == 0,
        "%s", err.message);
    o.options.size = 0;
    ck_assert_ptr_null(llama3_model_open(file, &o.options, &err));
    ck_assert_str_eq(err.message, "struct llama3_model_options: expected its size in its first "
                                  "field, found 0");

    /* Older ones: an array of messages that are longer than ours, a result that is shorter. */
    struct {
        struct llama3_message message;
        uint64_t newer[64];
    } messages[2] = {{.message = {.size = sizeof *messages, .role = "user", .content = "Hello"}},
                     {.message = {.size = sizeof *messages, .role = "assistant", .content = "Hi"}}};
    int32_t *tokens;
    size_t n, last;
    ck_assert_int_eq(llama3_apply_template(model, &messages[0].message, 2, NULL, &tokens, &n, &err),
                     0);
    last = n;
    llama3_free(tokens);
    const struct llama3_message plain[2] = {
        {.size = sizeof *plain, .role = "user", .content = "Hello"},
        {.size = sizeof *plain, .role = "assistant", .content = "Hi"}};
    ck_assert_int_eq(llama3_apply_template(model, plain, 2, NULL, &tokens, &n, &err), 0);
    ck_assert_uint_eq(n, last);
    llama3_free(tokens);
    messages[1].newer[63] = 1;
    ck_assert_int_eq(llama3_apply_template(model, &messages[0].message, 2, NULL, &tokens, &n, &err),
                     -1);
    messages[1].message.size--;
    ck_assert_int_eq(llama3_apply_template(model, &messages[0].message, 2, NULL, &tokens, &n, &err),
                     -1);
    ck_assert_ptr_nonnull(strstr(err.message, "message 2: expected the first one's size"));

    struct llama3_session *session = open_session(model);
    struct llama3_result result;
    const struct llama3_generation g = {.size = sizeof g, .max_tokens = 1};
    memset(&result, 0x55, sizeof result);
    result.size = offsetof(struct llama3_result, answer_tokens);
    ck_assert_int_eq(llama3_session_generate(session, (int32_t[]){1, 2}, 2, &g, &result, &err), 0);
    ck_assert_uint_eq(result.prompt_tokens, 2);
    ck_assert_uint_eq(result.answer_tokens, (size_t)0x5555555555555555);
    result.size = 0;
    ck_assert_int_eq(llama3_session_generate(session, (int32_t[]){1, 2}, 2, &g, &result, &err), -1);
    llama3_session_close(session);
    llama3_model_close(model);
}
END_TEST

/* ---- templates ---------------------------------------------------------------------------- */

START_TEST(a_turn_can_stay_open)
{
    struct llama3_model *model = open_model("tiny-f32", LLAMA3_KV_F16, 0);
    const struct llama3_message messages[] = {
        {.size = sizeof *messages, .role = "user", .content = "Count."},
        {.size = sizeof *messages, .role = "assistant", .content = "One, two,"}};
    struct llama3_template_options options = {.size = sizeof options};
    int32_t *whole, *bare, *open;
    size_t n_whole, n_bare, n_open;
    ck_assert_int_eq(llama3_apply_template(model, messages, 2, &options, &whole, &n_whole, &err),
                     0);
    options.no_header = true;
    ck_assert_int_eq(llama3_apply_template(model, messages, 2, &options, &bare, &n_bare, &err), 0);
    options.no_header = false;
    options.continue_last = true;
    ck_assert_int_eq(llama3_apply_template(model, messages, 2, &options, &open, &n_open, &err), 0);
    ck_assert_uint_lt(n_bare, n_whole);
    ck_assert_mem_eq(bare, whole, n_bare * sizeof *bare);
    ck_assert_uint_lt(n_open, n_bare);
    ck_assert_mem_eq(open, whole, n_open * sizeof *open);
    ck_assert(llama3_token_is_stop(model, bare[n_open]) &&
              !llama3_token_is_stop(model, open[n_open - 1]));
    llama3_free(whole);
    llama3_free(bare);
    llama3_free(open);
    ck_assert_int_eq(llama3_apply_template(model, messages, 1, &options, &open, &n_open, &err), -1);
    ck_assert_ptr_nonnull(strstr(err.message, "expected one of the assistant"));
    llama3_model_close(model);
}
END_TEST

/* ---- thoughts ----------------------------------------------------------------------------- */

/* A model that says what it is told to: each token is the only one that it may draw. */
struct told {
    struct llama3_model *model;
    struct llama3_session *session;
    struct llama3_sampling *sampling;
    int32_t tokens[64]; /* [n], then a stop id */
    size_t n, at;
    uint32_t *allowed; /* the sampling's mask */
    bool special;      /* the tags are control tokens */
    char text[256], thoughts[256];
};

static void allow_next(struct told *told)
{
    size_t words = (vocab_size(told->model) + 31) / 32;
    int32_t token =
        told->at < told->n ? told->tokens[told->at] : llama3_model_info(told->model)->stop_ids[0];
    memset(told->allowed, 0, words * sizeof *told->allowed);
    told->allowed[token / 32] |= 1U << token % 32;
    told->at++;
}

static int told_token(void *arg, int32_t token, const float *logits)
{
    (void)token;
    (void)logits;
    allow_next(arg);
    return 0;
}

static int told_text(void *arg, const char *text, size_t length)
{
    struct told *told = arg;
    strncat(told->text, text, length);
    return 0;
}

static int told_thought(void *arg, const char *text, size_t length)
{
    struct told *told = arg;
    strncat(told->thoughts, text, length);
    return 0;
}

static void add_text(struct told *told, const char *text, size_t length)
{
    int32_t *tokens;
    size_t n;
    ck_assert_int_eq(llama3_tokenize(told->model, text, length, false, &tokens, &n, &err), 0);
    ck_assert_uint_le(told->n + n, sizeof told->tokens / sizeof *tokens);
    for (size_t i = 0; i < n; i++)
        told->tokens[told->n++] = tokens[i];
    llama3_free(tokens);
}

static int32_t control_named(const struct llama3_model *model, const char *name)
{
    for (int32_t id = 0; id < (int32_t)vocab_size(model); id++) {
        size_t n;
        const char *bytes = llama3_token_bytes(model, id, &n);
        if (llama3_token_is_control(model, id) && n == strlen(name) && memcmp(bytes, name, n) == 0)
            return id;
    }
    ck_abort_msg("no %s", name);
}

static void add_tokens(struct told *told, const char *text)
{
    const char *tag;
    while (told->special && (tag = strchr(text, '<')) != NULL) {
        const char *name = tag[1] == '/' ? "</think>" : "<think>";
        add_text(told, text, (size_t)(tag - text));
        told->tokens[told->n++] = control_named(told->model, name);
        text = tag + strlen(name);
    }
    add_text(told, text, strlen(text));
}

static struct llama3_generation tell(struct told *told, const char *text, bool apart)
{
    told->text[0] = told->thoughts[0] = '\0';
    told->n = told->at = 0;
    add_tokens(told, text);
    allow_next(told);
    return (struct llama3_generation){.size = sizeof(struct llama3_generation),
                                      .sampling = told->sampling,
                                      .on_text = told_text,
                                      .on_token = told_token,
                                      .on_thought = apart ? told_thought : NULL,
                                      .arg = told};
}

/* A checkpoint whose tags are control tokens, in place of two that are reserved. */
static struct llama3_model *open_special(const struct llama3_model_options *options)
{
    static const char *const names[] = {"config.json", "model.safetensors", "tokenizer.json"};
    static const char *const tags[] = {"<think>", "</think>"};
    char folder[] = "/tmp/llama3-interface-XXXXXX", file[4096], whole[1 << 14] = "", *at = whole;
    FILE *tokenizer = fopen(TEST_DATA "/tiny-f32/tokenizer.json", "rb");
    ck_assert(tokenizer != NULL && fread(whole, 1, sizeof whole - 1, tokenizer) > 0);
    fclose(tokenizer);
    ck_assert_ptr_nonnull(mkdtemp(folder));
    for (size_t i = 0; i < 2; i++) {
        snprintf(file, sizeof file, "%s/%s", folder, names[i]);
        char *from = realpath(i == 0 ? TEST_DATA "/tiny-f32/config.json"
                                     : TEST_DATA "/tiny-f32/model.safetensors",
                              NULL);
        ck_assert(from != NULL && symlink(from, file) == 0);
        free(from);
    }
    snprintf(file, sizeof file, "%s/%s", folder, names[2]);
    tokenizer = fopen(file, "wb");
    for (size_t i = 0; i < 2; i++) {
        char *name =
            strstr(at, i == 0 ? "<|reserved_special_token_3|>" : "<|reserved_special_token_4|>");
        ck_assert_ptr_nonnull(name);
        fprintf(tokenizer, "%.*s%s", (int)(name - at), at, tags[i]);
        at = strchr(name, '"');
    }
    ck_assert(fputs(at, tokenizer) >= 0 && fclose(tokenizer) == 0);
    struct llama3_model *model = llama3_model_open(folder, options, &err);
    for (size_t i = 0; i < 3; i++) {
        snprintf(file, sizeof file, "%s/%s", folder, names[i]);
        ck_assert_int_eq(unlink(file), 0);
    }
    ck_assert_int_eq(rmdir(folder), 0);
    return model;
}

static struct told open_told(const char *template, bool special)
{
    struct told told = {.special = special};
    const struct llama3_model_options options = {
        .size = sizeof options, .threads = 1, .no_blas = true, .template_text = template};
    told.model =
        special ? open_special(&options) : llama3_model_open(TEST_DATA "/tiny-f32", &options, &err);
    ck_assert_msg(told.model != NULL, "%s", err.message);
    told.session = open_session(told.model);
    told.sampling = llama3_sampling_open(told.model, &err);
    told.allowed = calloc((vocab_size(told.model) + 31) / 32, sizeof *told.allowed);
    ck_assert(told.sampling != NULL && told.allowed != NULL);
    llama3_sampling_mask(told.sampling, told.allowed);
    return told;
}

static void close_told(struct told *told)
{
    llama3_sampling_close(told->sampling);
    llama3_session_close(told->session);
    llama3_model_close(told->model);
    free(told->allowed);
}

/* Whether the template begins the thought or the model does, and the tags are text or not. */
static void hear(const char *template, const char *begin, bool special)
{
    static const char rest[] = "a b\n</think>\n\nc d";
    struct told told = open_told(template, special);
    struct llama3_history *history = llama3_history_new();
    const struct llama3_message hello = {.size = sizeof hello, .role = "user", .content = "Hello"};
    const char *const stop[] = {"c", "b"};
    struct llama3_generation g;
    char raw[64];
    int32_t *prompt;
    size_t n;
    ck_assert(llama3_model_info(told.model)->thinks);
    snprintf(raw, sizeof raw, "%s%s", begin, rest);
    ck_assert_int_eq(llama3_apply_template(told.model, &hello, 1, NULL, &prompt, &n, &err), 0);

    g = tell(&told, raw, false); /* nobody wants them apart */
    ck_assert_int_eq(llama3_session_generate(told.session, prompt, n, &g, NULL, &err), 0);
    ck_assert_str_eq(told.text, !special ? raw : begin[0] ? "\n\na b\n\n\nc d" : "a b\n\n\nc d");
    g = tell(&told, raw, true);
    ck_assert_int_eq(llama3_session_generate(told.session, prompt, n, &g, NULL, &err), 0);
    ck_assert_str_eq(told.text, "c d");
    ck_assert_str_eq(told.thoughts, "a b");
    for (size_t i = 0; i < 2; i++) { /* what was held when it ended comes out */
        g = tell(&told, raw, true);
        g.stop = stop + i;
        g.n_stop = 1;
        ck_assert_int_eq(llama3_session_generate(told.session, prompt, n, &g, NULL, &err), 0);
        ck_assert_str_eq(told.text, "");
        ck_assert_str_eq(told.thoughts, i == 0 ? "a b" : "a");
    }

    g = tell(&told, raw, true);
    const char *answer = llama3_session_respond(told.session, history, "Hello", &g, &err);
    ck_assert_msg(answer != NULL, "%s", err.message);
    ck_assert_str_eq(answer, "<think>\na b\n</think>\n\nc d");
    ck_assert_str_eq(told.text, "c d");
    ck_assert_str_eq(told.thoughts, "a b");
    llama3_history_free(history);
    llama3_free(prompt);
    close_told(&told);
}

START_TEST(thoughts_are_told_apart)
{
    for (int special = 0; special < 2; special++) {
        hear("{{ messages[0].content }}{% if add_generation_prompt %}\nA:<think>\n{% endif %}", "",
             special);
        hear("{{ messages[0].content }}{# a model of its own <think> #}", "\n<think>\n", special);
    }
}
END_TEST

/* A tag that is a control token is no part of an answer's text. */
START_TEST(tags_later_on_are_left_out)
{
    struct told told = open_told("{{ messages[0].content }}<think>", true);
    const int32_t prompt[] = {1, 2};
    struct llama3_generation g = tell(&told, "a</think>b<think>c</think>d", true);
    ck_assert_int_eq(llama3_session_generate(told.session, prompt, 2, &g, NULL, &err), 0);
    ck_assert_str_eq(told.text, "abcd");
    g = tell(&told, "<think>a</think></think>b<think>c</think>d", true);
    ck_assert_int_eq(llama3_session_generate(told.session, prompt, 2, &g, NULL, &err), 0);
    ck_assert_str_eq(told.text, "bcd");
    ck_assert_str_eq(told.thoughts, "a");
    close_told(&told);
}
END_TEST

/* ---- vocabulary alone --------------------------------------------------------------------- */

START_TEST(a_vocabulary_needs_no_weights)
{
    char file[4096];
    const struct llama3_model_options options = {.size = sizeof options, .vocab_only = true};
    snprintf(file, sizeof file, "%s/tiny-gguf-q8_0/model.gguf", TEST_DATA);
    struct llama3_model *whole = open_model("tiny-gguf-q8_0/model.gguf", LLAMA3_KV_F16, 0);
    struct llama3_model *model = llama3_model_open(file, &options, &err);
    ck_assert_msg(model != NULL, "%s", err.message);
    ck_assert_ptr_null(llama3_model_info(model)->backend);
    ck_assert_uint_eq(llama3_model_kv_bytes(model), 0);
    ck_assert_ptr_null(llama3_session_open(model, &err));
    ck_assert_ptr_null(llama3_session_load(model, path, &err));
    static const char text[] = "Hello, world 123";
    int32_t *a, *b;
    size_t n_a, n_b, at = 0;
    ck_assert_int_eq(llama3_tokenize(model, text, strlen(text), true, &a, &n_a, &err), 0);
    ck_assert_int_eq(llama3_tokenize(whole, text, strlen(text), true, &b, &n_b, &err), 0);
    ck_assert_uint_eq(n_a, n_b);
    ck_assert_mem_eq(a, b, n_a * sizeof *a);
    while (at < strlen(text)) {
        size_t step = llama3_pretoken(model, text + at, strlen(text) - at);
        ck_assert_uint_gt(step, 0);
        at += step;
    }
    ck_assert_uint_eq(at, strlen(text));
    ck_assert_uint_eq(llama3_pretoken(model, text, 0), 0);
    llama3_free(a);
    llama3_free(b);
    llama3_model_close(model);
    llama3_model_close(whole);
}
END_TEST

START_TEST(versions_agree)
{
    char version[32];
    snprintf(version, sizeof version, "%d.%d.%d", LLAMA3_VERSION_MAJOR, LLAMA3_VERSION_MINOR,
             LLAMA3_VERSION_PATCH);
    ck_assert_str_eq(version, llama3_version());
}
END_TEST

int main(void)
{
    TCase *tcase = tcase_create("interface");
    snprintf(path, sizeof path, "/tmp/llama3-saved-%ld", (long)getpid());
    tcase_set_timeout(tcase, 120);
    tcase_add_test(tcase, the_last_rows_have_logits);
    tcase_add_test(tcase, a_loop_is_what_generate_does);
    tcase_add_test(tcase, why_an_answer_ended);
    tcase_add_loop_test(tcase, a_saved_session_goes_on_alike, 0, sizeof kinds / sizeof *kinds);
    tcase_add_test(tcase, what_a_session_lacks_is_not_saved);
    tcase_add_test(tcase, a_session_of_another_model_is_refused);
    tcase_add_test(tcase, a_damaged_session_is_refused);
    tcase_add_test(tcase, a_cancellation_is_reported_once);
    tcase_add_test(tcase, a_refused_prompt_leaves_the_session);
    tcase_add_test(tcase, a_session_in_use_is_refused);
    tcase_add_test(tcase, a_forked_child_is_refused);
    tcase_add_test(tcase, tokens_of_the_session_itself);
    tcase_add_test(tcase, a_history_in_use_is_refused);
    tcase_add_test(tcase, paths_are_needed);
    tcase_add_test(tcase, a_model_is_not_overwritten_by_its_session);
    tcase_add_test(tcase, a_failure_is_told_in_the_result);
    tcase_add_test(tcase, what_can_be_no_message_is_refused);
    tcase_add_test(tcase, pretokens_of_any_bytes);
    tcase_add_test(tcase, only_a_regular_file_is_a_saved_session);
    tcase_add_test(tcase, long_paths_leave_the_reason);
    tcase_add_test(tcase, sizes_of_structs_are_checked);
    tcase_add_test(tcase, a_turn_can_stay_open);
    tcase_add_test(tcase, thoughts_are_told_apart);
    tcase_add_test(tcase, tags_later_on_are_left_out);
    tcase_add_test(tcase, a_vocabulary_needs_no_weights);
    tcase_add_test(tcase, versions_agree);
    int status = run_tests("interface", tcase);
    unlink(path);
    return status;
}
