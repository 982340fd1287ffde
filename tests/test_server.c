/* SPDX-License-Identifier: MIT */
/* test_server: what needs no socket: parsing requests, printing answers, keys, the queue, and the
 * prefix cache. */
#include "config.h" /* memmem */

#include <check.h>
#include <malloc.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/json.h"
#include "engine/sampler.h"
#include "run.h"
#include "server/answer.h"
#include "server/budget.h"
#include "server/keys.h"
#include "server/metrics.h"
#include "server/openai.h"
#include "server/page.h"
#include "server/prefill.h"
#include "server/slots.h"
#include "tiny.h"

static struct llama3_sampling *defaults; /* of 100 tokens */
static struct llama3_error err;

static bool has_setting(const struct llama3_sampling *sampling, const char *name, const char *value)
{
    char text[32];
    return llama3_sampling_get(sampling, name, text, sizeof text, NULL) == 0 &&
           strcmp(text, value) == 0;
}

static struct llama3_model *open_model(void)
{
    struct llama3_model_options options = {.size = sizeof options, .threads = 1, .no_blas = true};
    struct llama3_model *model = llama3_model_open(TEST_DATA "/tiny-f32", &options, &err);
    ck_assert_msg(model != NULL, "%s", err.message);
    return model;
}

/* ---- requests ---------------------------------------------------------------------------- */

static int parse(struct api_request *r, bool chat, const char *body, struct api_error *error)
{
    return api_request_parse(r, chat ? API_CHAT : API_COMPLETION, body, strlen(body), defaults, 100,
                             error);
}

START_TEST(requests_are_read)
{
    struct api_request r;
    struct api_error error;
    ck_assert_int_eq(
        parse(&r, true, "{\"messages\":[{\"role\":\"user\",\"content\":\"x\"}]}", &error), 0);
    ck_assert_uint_eq(r.n_messages, 1);
    ck_assert_uint_eq(r.n, 1);
    ck_assert_uint_eq(r.max_tokens, 0);
    ck_assert(!r.stream && !r.logprobs && !r.has_seed && r.n_stop == 0);
    ck_assert(has_setting(r.sampling, "temperature", "0.6") &&
              has_setting(r.sampling, "top_p", "0.9") && has_setting(r.sampling, "top_k", "0"));
    api_request_free(&r);

    ck_assert_int_eq(
        parse(
            &r, true,
            "{\"messages\":[{\"role\":\"developer\",\"content\":[{\"type\":\"text\",\"text\":\"a\"},"
            "{\"type\":\"text\",\"text\":\"b\"}]},{\"role\":\"user\",\"content\":\"c\"},"
            "{\"role\":\"user\",\"content\":[{\"type\":\"text\",\"text\":\"d\"}]}],"
            "\"temperature\":1.5,\"top_p\":0.5,\"top_k\":7,\"min_p\":0.25,\"seed\":-1,\"n\":3,"
            "\"max_tokens\":4,\"max_completion_tokens\":9,\"stop\":[\"s\",\"t\"],\"stream\":true,"
            "\"stream_options\":{\"include_usage\":true},\"logprobs\":true,\"top_logprobs\":20,"
            "\"logit_bias\":{\"99\":-100,\"0\":2},\"frequency_penalty\":-2,"
            "\"presence_penalty\":2,\"repeat_penalty\":1.5,\"n\\u0061me\":null}",
            &error),
        0);
    ck_assert_str_eq(r.messages[0].role, "system");
    ck_assert_str_eq(r.messages[0].content, "ab");
    ck_assert_str_eq(r.messages[1].content, "c");
    ck_assert_str_eq(r.messages[2].content, "d");
    ck_assert(has_setting(r.sampling, "temperature", "1.5") &&
              has_setting(r.sampling, "top_p", "0.5") && has_setting(r.sampling, "top_k", "7") &&
              has_setting(r.sampling, "min_p", "0.25"));
    ck_assert(has_setting(r.sampling, "frequency_penalty", "-2") &&
              has_setting(r.sampling, "presence_penalty", "2") &&
              has_setting(r.sampling, "repeat_penalty", "1.5"));
    ck_assert(r.has_seed && r.seed == UINT64_MAX);
    ck_assert_uint_eq(r.n, 3);
    ck_assert_uint_eq(r.max_tokens, 9);
    ck_assert_uint_eq(r.n_stop, 2);
    ck_assert_str_eq(r.stop[1], "t");
    ck_assert(r.stream && r.include_usage && r.logprobs);
    ck_assert_uint_eq(r.top_logprobs, 20);
    float logits[100] = {[99] = 101, [1] = 1.5f}; /* what the biases leave of them: token 0 */
    int32_t token;
    ck_assert_int_eq(llama3_sampling_set(r.sampling, "temperature", "0", &err), 0);
    ck_assert_int_eq(llama3_sampling_draw(r.sampling, logits, 0, &token, &err), 0);
    ck_assert_int_eq(token, 0);
    api_request_free(&r);

    ck_assert_int_eq(parse(&r, false, "{\"prompt\":[1,2,99],\"logprobs\":0}", &error), 0);
    ck_assert_uint_eq(r.n_tokens, 3);
    ck_assert_int_eq(r.tokens[2], 99);
    ck_assert(r.logprobs && r.top_logprobs == 0);
    api_request_free(&r);
    ck_assert_int_eq(parse(&r, false, "{\"prompt\":[\"one\"],\"best_of\":2,\"n\":2}", &error), 0);
    ck_assert_str_eq(r.prompt, "one");
    api_request_free(&r);
}
END_TEST

/* An assistant's thoughts go to the template by one name, whichever a client sends. */
START_TEST(thoughts_are_read)
{
    struct api_request r;
    struct api_error error;
    ck_assert_int_eq(
        parse(
            &r, true,
            "{\"messages\":[{\"role\":\"user\",\"content\":[{\"type\":\"text\",\"text\":\"a\"}]},"
            "{\"role\":\"assistant\",\"reasoning\":\"t\\n\\\"\u00e9\",\"content\":[{\"type\":\"text\","
            "\"text\":\"b\"}]},"
            "{\"role\":\"assistant\",\"content\":\"c\",\"reasoning_content\":\"first\","
            "\"reasoning\":\"second\"},"
            "{\"role\":\"assistant\",\"content\":\"d\",\"reasoning_content\":null,"
            "\"reasoning\":\"\"},"
            "{\"role\":\"assistant\",\"content\":\"e\",\"reasoning\":null}],"
            "\"chat_template_kwargs\":{\"enable_thinking\":false,\"x\":[1,{}]}}",
            &error),
        0);
    ck_assert_uint_eq(r.n_messages, 5);
    ck_assert_str_eq(r.messages[0].content, "a");
    ck_assert_ptr_null(r.messages[0].json);
    ck_assert_str_eq(r.messages[1].content, "b");
    ck_assert_str_eq(r.messages[1].json, "{\"reasoning_content\":\"t\\n\\\"\u00e9\"}");
    ck_assert_str_eq(r.messages[2].json, "{\"reasoning_content\":\"first\"}");
    ck_assert_str_eq(r.messages[3].json, "{\"reasoning_content\":\"\"}");
    ck_assert_ptr_null(r.messages[4].json);
    ck_assert_str_eq(r.template_arguments.data, "{\"enable_thinking\":false,\"x\":[1,{}]}");
    api_request_free(&r);
    static const char *const refused[][2] = {
        {"{\"messages\":[{\"role\":\"user\",\"content\":\"c\",\"reasoning\":\"t\"}]}",
         "messages[0].reasoning"},
        {"{\"messages\":[{\"role\":\"assistant\",\"content\":\"c\",\"reasoning_content\":[1]}]}",
         "expected a string, found an array"},
        {"{\"messages\":[{\"role\":\"user\",\"content\":\"c\"}],\"chat_template_kwargs\":[]}",
         "expected an object, found an array"}};
    for (size_t i = 0; i < sizeof refused / sizeof *refused; i++) {
        ck_assert_int_eq(parse(&r, true, refused[i][0], &error), -1);
        ck_assert_msg(strstr(error.error.message, refused[i][1]) != NULL, "%s",
                      error.error.message);
    }
    ck_assert_int_eq(parse(&r, false, "{\"prompt\":\"x\",\"chat_template_kwargs\":{}}", &error),
                     -1);
}
END_TEST

/* Every prefix of a request, and the request with any byte changed, is parsed, or refused with one
 * clean line. */
START_TEST(damaged_requests_are_refused)
{
    static const char body[] =
        "{\"messages\":[{\"role\":\"user\",\"content\":[{\"type\":\"text\",\"text\":\"a\\u00e9\"}]}],"
        "\"n\":2,\"stop\":[\"x\"],\"logit_bias\":{\"1\":2},\"stream\":false}";
    size_t n = strlen(body), read = 0;
    struct api_request r;
    struct api_error error;
    for (size_t length = 0; length < n; length++)
        ck_assert_int_eq(api_request_parse(&r, API_CHAT, body, length, defaults, 100, &error), -1);
    for (size_t at = 0; at < n; at++) {
        for (int byte = 0; byte < 256; byte++) {
            char copy[sizeof body];
            memcpy(copy, body, sizeof body);
            copy[at] = (char)byte;
            if (api_request_parse(&r, API_CHAT, copy, n, defaults, 100, &error) == 0) {
                read++;
                api_request_free(&r);
                continue;
            }
            struct buf out = {0};
            ck_assert_int_eq(error.status, 400);
            api_error_print(&error, &out);
            json_t *root = json_loadb(out.data, out.size, 0, NULL);
            ck_assert_msg(root != NULL, "%s", out.data);
            ck_assert_ptr_null(strpbrk(error.error.message, "\n\r\t\033"));
            json_decref(root);
            buf_free(&out);
        }
    }
    ck_assert_uint_gt(read, n); /* the original for each byte, and others */
    ck_assert_uint_lt(read, n * 100);
}
END_TEST

/* ---- answers ----------------------------------------------------------------------------- */

/* A whole answer of one token with logprobs, as JSON. */
static json_t *answer_of(struct llama3_model *model, bool chat, int32_t token, const float *logits,
                         size_t top)
{
    struct answer_record record;
    struct buf text = {0}, thoughts = {0}, records = {0};
    struct reply reply = {.http = NULL};
    const struct answer_head head = {.model = model, .chat = chat, .model_id = "m", .id = "i"};
    const struct llama3_result result = {.prompt_tokens = 70, .cached_tokens = 64};
    const struct answer_logprobs logprobs = {top, &records};
    const struct answer_choice choice = {0, &thoughts, &text, &logprobs, &result, &(struct buf){0}};
    buf_add(&records, &record, answer_record(model, token, logits, top, &record));
    answer_whole(&head, &choice, 1, &reply);
    ck_assert(!reply.text.failed);
    json_t *root = json_loadb(reply.text.data, reply.text.size, JSON_REJECT_DUPLICATES, NULL);
    ck_assert_msg(root != NULL, "%s", reply.text.data);
    buf_free(&records);
    buf_free(&reply.text);
    return root;
}

/* First what all answers have, then the choice. */
static json_t *choice_of(const json_t *root)
{
    ck_assert_int_eq(json_integer_value(json_object_get(
                         json_object_get(json_object_get(root, "usage"), "prompt_tokens_details"),
                         "cached_tokens")),
                     64);
    ck_assert_int_eq(
        json_integer_value(json_object_get(json_object_get(root, "timings"), "prompt_n")), 6);
    return json_array_get(json_object_get(root, "choices"), 0);
}

START_TEST(probabilities_are_those_of_the_logits)
{
    struct llama3_model *model = open_model();
    size_t n = llama3_model_info(model)->vocab_size;
    float *logits = calloc(n, sizeof *logits);
    logits[7] = logits[9] = 20; /* the others have next to no probability */
    json_t *root = answer_of(model, true, 9, logits, 3);
    const json_t *list = json_object_get(json_object_get(choice_of(root), "logprobs"), "content");
    ck_assert_uint_eq(json_array_size(list), 1);
    const json_t *said = json_array_get(list, 0);
    ck_assert_double_eq_tol(json_real_value(json_object_get(said, "logprob")), -0.693147, 1e-4);
    const json_t *top = json_object_get(said, "top_logprobs");
    ck_assert_uint_eq(json_array_size(top), 3);
    size_t length;
    const char *seven = llama3_token_bytes(model, 7, &length);
    const json_t *bytes = json_object_get(json_array_get(top, 0), "bytes"); /* the lower id first */
    ck_assert_uint_eq(json_array_size(bytes), length);
    for (size_t i = 0; i < length; i++)
        ck_assert_int_eq(json_integer_value(json_array_get(bytes, i)), (unsigned char)seven[i]);
    double least = json_real_value(json_object_get(json_array_get(top, 2), "logprob"));
    ck_assert_double_eq_tol(least, -20.693147, 1e-4);
    json_decref(root);

    root = answer_of(model, false, 9, logits, 2);
    const json_t *lists = json_object_get(choice_of(root), "logprobs");
    static const char *const names[] = {"tokens", "token_logprobs", "top_logprobs", "text_offset"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        ck_assert_uint_eq(json_array_size(json_object_get(lists, names[i])), 1);
    const json_t *map = json_array_get(json_object_get(lists, "top_logprobs"), 0);
    ck_assert_uint_eq(json_object_size(map), 2);
    char name[64] = "";
    memcpy(name, seven, length);
    ck_assert_double_eq_tol(json_real_value(json_object_get(map, name)), -0.693147, 1e-4);
    json_decref(root);
    free(logits);
    llama3_model_close(model);
}
END_TEST

/* Thoughts stand beside the answer, by both names, where there are any. */
START_TEST(thoughts_are_told)
{
    static const struct llama3_result result = {.prompt_tokens = 70, .cached_tokens = 64};
    const struct answer_head head = {.chat = true, .model_id = "m", .id = "i"};
    struct buf text = {0}, thoughts = {0}, none = {0}, event = {0};
    const struct answer_choice choices[] = {{0, &thoughts, &text, NULL, &result, &none},
                                            {1, &none, &text, NULL, &result, &none}};
    struct reply reply = {.http = NULL};
    buf_add_str(&text, "c");
    buf_add_str(&thoughts, "a\nb");
    answer_whole(&head, choices, 2, &reply);
    ck_assert_ptr_nonnull(strstr(
        reply.text.data,
        "\"message\":{\"role\":\"assistant\",\"content\":\"c\",\"reasoning_content\":\"a\\nb\","
        "\"reasoning\":\"a\\nb\",\"refusal\":null}"));
    ck_assert_ptr_nonnull(
        strstr(reply.text.data,
               "\"message\":{\"role\":\"assistant\",\"content\":\"c\",\"refusal\":null}"));
    json_t *root = json_loadb(reply.text.data, reply.text.size, JSON_REJECT_DUPLICATES, NULL);
    ck_assert_msg(root != NULL, "%s", reply.text.data);
    json_decref(root);
    answer_thought(&head, 0, "a\n", 2, NULL, &event);
    ck_assert_ptr_nonnull(
        strstr(event.data, "\"delta\":{\"reasoning_content\":\"a\\n\",\"reasoning\":\"a\\n\"}"));
    buf_free(&event);
    buf_free(&reply.text);
    buf_free(&text);
    buf_free(&thoughts);
}
END_TEST

/* ---- errors ------------------------------------------------------------------------------ */

static void says(const struct api_error *error, const char *text)
{
    struct buf out = {0};
    api_error_print(error, &out);
    ck_assert_msg(strstr(out.data, text) != NULL, "expected %s in %s", text, out.data);
    buf_free(&out);
}

/* A long name is not cut within a character. */
START_TEST(long_names_are_cut_between_characters)
{
    static const char character[] = "\xe2\x82\xac"; /* a euro sign */
    struct api_request r;
    struct api_error error;
    for (size_t before = 50; before < 130; before++) {
        char name[140], body[200];
        memset(name, 'x', before);
        strcpy(name + before, character);
        snprintf(body, sizeof body, "{\"%s\":1,\"prompt\":\"x\"}", name);
        ck_assert_int_eq(parse(&r, false, body, &error), -1);
        ck_assert_int_eq(error.status, 400);
        says(&error, "not supported");
        name[50] = '\0';
        says(&error, name);
    }
}
END_TEST

START_TEST(paths_are_kept_from_clients)
{
    static const struct {
        const char *message, *told;
    } cases[] = {
        {"/srv/m/a.gguf: expected finite logits", "\"id: expected finite logits\""},
        {"/srv/m/a.gguf/part.safetensors: cut", "\"id/part.safetensors: cut\""},
        {"/home/x/cache/b.bin: cut: /", "\"b.bin: cut: /\""},
        {"/srv/m/a.ggufx: cut", "\"a.ggufx: cut\""},
        {"expected and/or found", "\"expected and/or found\""},
    };
    struct llama3_error from;
    struct api_error error;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        error_set(&from, LLAMA3_EIO, "%s", cases[i].message);
        ck_assert_int_eq(api_error_from(&error, &from, "/srv/m/a.gguf", "id"), -1);
        ck_assert_int_eq(error.status, 500);
        says(&error, cases[i].told);
    }
    error_set(&from, LLAMA3_EINPUT, "m: more makes no sense");
    api_error_from(&error, &from, "m", "id");
    says(&error, "\"id: more makes no sense\"");
}
END_TEST

/* ---- memory ------------------------------------------------------------------------------ */

START_TEST(requests_share_a_budget)
{
    struct budget budget = {.limit = 1000};
    struct share a = {.budget = &budget}, b = {.budget = &budget};
    ck_assert_int_eq(share_take(&a, 600, &err), 0);
    ck_assert_int_eq(share_take(&b, 401, &err), -1); /* the other share holds it now */
    ck_assert_int_eq(err.code, LLAMA3_ENOMEM);
    ck_assert_int_eq(share_take(&b, 1001, &err), -1); /* more than the limit */
    ck_assert_int_eq(err.code, LLAMA3_EINPUT);
    ck_assert_int_eq(share_take(&a, 401, &err), -1); /* together with its own */
    ck_assert_int_eq(err.code, LLAMA3_EINPUT);
    ck_assert_int_eq(share_take(&b, UINT64_MAX, &err), -1);
    ck_assert_int_eq(share_take(&b, 400, &err), 0);
    share_keep(&a, 100);
    share_keep(&a, 200); /* it holds less already */
    ck_assert_uint_eq(atomic_load(&budget.held), 500);

    struct buf text = {0};
    size_t before = 400;
    while (share_add(&b, &text, "0123456789", 10, &err) == 0)
        ck_assert_uint_eq(atomic_load(&b.held), before + text.capacity);
    ck_assert_int_eq(err.code, LLAMA3_ENOMEM);
    ck_assert_uint_le(atomic_load(&budget.held), 1000);
    buf_free(&text);
    share_keep(&a, 0);
    share_keep(&b, 0);
    ck_assert_uint_eq(atomic_load(&budget.held), 0);
    ck_assert_uint_eq(budget_default(0), 128 << 20);
    ck_assert_uint_eq(budget_default((uint64_t)4 << 30), 512 << 20);
    ck_assert_uint_eq(budget_default(UINT64_MAX), 1 << 30);
}
END_TEST

/* mallinfo2() doesn't know the heap of sanitizers. */
size_t __attribute__((weak)) __sanitizer_get_current_allocated_bytes(void);

static size_t heap_bytes(void)
{
    if (__sanitizer_get_current_allocated_bytes != NULL)
        return __sanitizer_get_current_allocated_bytes();
    struct mallinfo2 info = mallinfo2();
    return info.uordblks + info.hblkhd;
}

/* The estimate for parsing a request exceeds what it takes, but not absurdly. */
START_TEST(the_cost_of_a_request_is_bounded)
{
    static const struct {
        const char *begin, *repeat, *end;
        size_t n;
    } bodies[] = {
        {"{\"x\":[", "[],", "1]}", 60000},         {"{\"x\":[", "{},", "1]}", 60000},
        {"{\"x\":[", "{\"a\":[]},", "1]}", 30000}, {"{\"x\":[", "0,", "1]}", 250000},
        {"{\"x\":[", "\"\",", "1]}", 250000},      {"{\"x\":\"", "text", "\"}", 2 << 20},
        {"{\"x\":\"", "\\u00e9", "\"}", 1 << 20},  {"{", "\"\":1,", "\"x\":1}", 1},
    };
    for (size_t i = 0; i < sizeof bodies / sizeof *bodies; i++) {
        struct buf body = {0};
        buf_add_str(&body, bodies[i].begin);
        for (size_t j = 0; j < bodies[i].n; j++)
            buf_add_str(&body, bodies[i].repeat);
        buf_add_str(&body, bodies[i].end);
        size_t before = heap_bytes();
        json_t *root = json_parse_small(body.data, body.size, "request", &err);
        ck_assert_msg(root != NULL, "%s", err.message);
        size_t takes = heap_bytes() - before;
        uint64_t cost = json_cost(body.data, body.size);
        ck_assert_msg(takes <= cost, "%s: %zu bytes, said to be %llu", bodies[i].repeat, takes,
                      (unsigned long long)cost);
        /* An escape of six bytes becomes two, and each of the six is counted three times. */
        ck_assert_msg(takes * 10 + 4096 >= cost, "%s: %zu bytes, said to be %llu", bodies[i].repeat,
                      takes, (unsigned long long)cost);
        json_decref(root);
        buf_free(&body);
    }
    /* A body that is refused before it is parsed takes nothing. */
    char deep[100];
    memset(deep, '[', sizeof deep);
    ck_assert_uint_eq(json_cost(deep, sizeof deep), 0);
}
END_TEST

/* ---- counts ------------------------------------------------------------------------------ */

START_TEST(metrics_are_text)
{
    static struct metrics metrics;
    struct gauges gauges = {.kv_bytes = 12345, .sequences = 3};
    struct buf out = {0};
    metrics_request(&metrics, ROUTE_CHAT, 200);
    metrics_request(&metrics, ROUTE_CHAT, 204);
    metrics_request(&metrics, ROUTE_OTHER, 404);
    metrics_add(&metrics, COUNT_ANSWER_MICROSECONDS, 1500000);
    metrics_print(&metrics, &gauges, &out);
    static const char *const lines[] = {
        "\nllama3_requests_total{route=\"/v1/chat/completions\",status=\"2xx\"} 2\n",
        "\nllama3_requests_total{route=\"other\",status=\"4xx\"} 1\n",
        "\nllama3_answer_seconds_total 1.500000\n", "\nllama3_kv_bytes 12345\n",
        "\nllama3_sequences 3\n"};
    for (size_t i = 0; i < sizeof lines / sizeof *lines; i++)
        ck_assert_msg(strstr(out.data, lines[i]) != NULL, "%s", lines[i]);
    ck_assert_ptr_nonnull(strstr(out.data, "llama3_request_limit_bytes "));
    buf_free(&out);
    metrics_print(&metrics, NULL, &out); /* one user's metrics have no gauges */
    ck_assert_ptr_nonnull(strstr(out.data, lines[0]));
    ck_assert_ptr_null(strstr(out.data, "gauge"));
    buf_free(&out);
}
END_TEST

/* ---- keys -------------------------------------------------------------------------------- */

START_TEST(keys_are_compared_whole)
{
    char path[] = "/tmp/llama3-keys-XXXXXX";
    int fd = mkstemp(path);
    ck_assert_int_eq(write(fd, "# no key\nalpha\n\nbeta\r\n", 22), 22);
    close(fd);
    struct keys *keys = keys_open(path, "gamma", &err);
    unlink(path);
    ck_assert_msg(keys != NULL, "%s", err.message);
    ck_assert_uint_eq(keys_count(keys), 3);
    int alpha = keys_find(keys, "Bearer alpha"), beta = keys_find(keys, "bearer beta");
    int gamma = keys_find(keys, "Bearer gamma");
    ck_assert_int_eq(keys_find(keys, "Bearer alpha \t"), alpha); /* trailing blanks don't count */
    ck_assert(alpha >= 0 && beta >= 0 && gamma >= 0 && alpha < 3 && beta < 3 && gamma < 3);
    ck_assert(alpha != beta && beta != gamma && alpha != gamma);
    static const char *const wrong[] = {
        "alpha",        "Bearer ",         "Bearer alph", "Bearer alphaa", "Bearer alphaalpha",
        "Bearer Alpha", "Bearer # no key", "Basic alpha", "Bearer  alpha", "Bearer alpha a"};
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++)
        ck_assert_msg(keys_find(keys, wrong[i]) == -1, "%s", wrong[i]);
    ck_assert_int_eq(keys_find(keys, NULL), -1);
    keys_close(keys);
    keys = keys_open(NULL, NULL, &err);
    ck_assert_int_eq(keys_find(keys, NULL), 0); /* no keys: everybody may */
    keys_close(keys);
    ck_assert_ptr_null(keys_open(NULL, "a b", &err));
    ck_assert_ptr_null(keys_open("/nonexistent", NULL, &err));
}
END_TEST

/* A header that fills the head must cost next to nothing, even with the most keys: anybody may send
 * it. */
START_TEST(no_key_costs_much)
{
    enum { N_KEYS = 4096, HEADER = 30000, TRIES = 5 };
    char path[] = "/tmp/llama3-keys-XXXXXX", last[64] = "", *header = malloc(HEADER + 1);
    FILE *file = fdopen(mkstemp(path), "w");
    for (int i = 0; i < N_KEYS; i++)
        fprintf(file, "key-%d-%d\n", i * 7919 % N_KEYS, i);
    fclose(file);
    struct keys *keys = keys_open(path, NULL, &err);
    unlink(path);
    ck_assert_msg(keys != NULL, "%s", err.message);
    for (int i = 0; i < N_KEYS; i++) {
        snprintf(last, sizeof last, "Bearer key-%d-%d", i * 7919 % N_KEYS, i);
        ck_assert_int_ge(keys_find(keys, last), 0);
        last[strlen(last) - 1] = 'x';
        ck_assert_int_eq(keys_find(keys, last), -1);
    }
    memset(header, 'k', HEADER);
    header[HEADER] = '\0';
    memcpy(header, "Bearer ", 7);
    double best = 1;
    for (int i = 0; i < TRIES; i++) {
        double began = clock_seconds();
        ck_assert_int_eq(keys_find(keys, header), -1);
        double seconds = clock_seconds() - began;
        best = seconds < best ? seconds : best;
    }
    ck_assert_msg(best < 0.01, "a header of %d bytes took %.3f s", HEADER, best);
    free(header);
    keys_close(keys);
    ck_assert_ptr_null(keys_open("/dev/null", NULL, &err));
}
END_TEST

START_TEST(the_page_has_a_policy)
{
    char policy[512];
    page_policy(policy, sizeof policy);
    ck_assert_ptr_nonnull(strstr(policy, "default-src 'none'; script-src 'sha256-"));
    ck_assert_ptr_nonnull(strstr(policy, "frame-ancestors 'none'"));
    ck_assert_ptr_nonnull(memmem(page_text, page_size, "<script>", 8));
    ck_assert_ptr_null(strstr(policy, "unsafe"));
}
END_TEST

/* ---- the queue --------------------------------------------------------------------------- */

struct waiter {
    struct slots *slots;
    struct slot slot;
    atomic_bool cancel;
    int status;
    atomic_int *order;
    int turn;
    pthread_t thread;
};

static void *wait_for_slot(void *arg)
{
    struct waiter *w = arg;
    w->status = slots_take(w->slots, &w->slot, &w->cancel);
    w->turn = atomic_fetch_add(w->order, 1);
    return NULL;
}

static void start_waiter(struct waiter *w, struct slots *slots, const char *client, uint64_t pages,
                         atomic_int *order)
{
    size_t taken, waiting, before;
    slots_count(slots, &taken, &before);
    w->slots = slots;
    w->slot = (struct slot){.client = client, .pages = pages};
    w->order = order;
    ck_assert_int_eq(pthread_create(&w->thread, NULL, wait_for_slot, w), 0);
    do { /* until it is in the queue, since the order is tested */
        usleep(1000);
        slots_count(slots, &taken, &waiting);
    } while (waiting == before);
}

START_TEST(clients_take_turns)
{
    static struct waiter waiters[4];
    const atomic_bool never = false;
    atomic_int order = 0;
    struct slots *slots = slots_open(2, 100, &err);
    struct slot a = {.client = "a", .pages = 5}, b = {.client = "b", .pages = 10};
    ck_assert_int_eq(slots_take(slots, &a, &never), 0);
    ck_assert_int_eq(slots_take(slots, &b, &never), 0);
    start_waiter(&waiters[0], slots, "a", 10, &order);
    start_waiter(&waiters[1], slots, "a", 10, &order);
    start_waiter(&waiters[2], slots, "b", 95, &order);
    start_waiter(&waiters[3], slots, "c", 10, &order);

    /* b has no slot any more and came before c; a has one. */
    slots_give(slots, &b);
    pthread_join(waiters[2].thread, NULL);
    ck_assert_int_eq(waiters[2].status, 0);
    slots_give(slots, &a); /* a slot is free, but too few pages */
    usleep(50000);
    ck_assert_int_eq(atomic_load(&order), 1);
    atomic_store(&waiters[1].cancel, true);
    slots_wake(slots);
    pthread_join(waiters[1].thread, NULL);
    ck_assert_int_eq(waiters[1].status, -1);
    slots_give(slots, &waiters[2].slot);
    pthread_join(waiters[0].thread, NULL);
    pthread_join(waiters[3].thread, NULL);
    ck_assert_int_eq(waiters[0].status | waiters[3].status, 0);
    slots_give(slots, &waiters[0].slot);
    slots_give(slots, &waiters[3].slot);
    size_t taken, waiting;
    slots_count(slots, &taken, &waiting);
    ck_assert_uint_eq(taken + waiting, 0);

    /* A request for more pages than exist gets all of them, and doesn't wait for ever. */
    struct slot all = {.client = "a", .pages = 101};
    ck_assert_int_eq(slots_take(slots, &all, &never), 0);
    start_waiter(&waiters[0], slots, "b", 1, &order);
    slots_give(slots, &all);
    pthread_join(waiters[0].thread, NULL);
    slots_give(slots, &waiters[0].slot);
    slots_close(slots);
}
END_TEST

/* ---- prompts that are being read --------------------------------------------------------- */

static const atomic_bool never = false;

/* Begins a prompt, evaluates the rest, and returns how many tokens were cached. */
static size_t use_as(struct prefills *prefills, int owner, const int32_t *tokens, size_t n)
{
    struct prefill prefill;
    size_t had;
    struct llama3_session *session =
        prefill_begin(prefills, owner, NULL, tokens, n, &prefill, &never, &err);
    ck_assert_msg(session != NULL, "%s", err.message);
    llama3_session_tokens(session, &had);
    ck_assert_uint_lt(had, n);
    ck_assert_uint_eq(prefill.done, had);
    ck_assert_int_eq(llama3_session_eval(session, tokens + had, n - had, 0, NULL, &err), 0);
    prefill_end(prefills, &prefill);
    prefill_end(prefills, &prefill); /* once more does nothing */
    llama3_session_close(session);
    return had;
}

struct user {
    struct prefills *prefills;
    const int32_t *tokens;
    atomic_bool cancel;
    size_t had;
    bool failed;
};

static void *use_later(void *arg)
{
    struct user *u = arg;
    struct prefill prefill;
    struct llama3_error why;
    struct llama3_session *session =
        prefill_begin(u->prefills, 0, NULL, u->tokens, 150, &prefill, &u->cancel, &why);
    u->failed = session == NULL;
    if (session == NULL)
        return NULL;
    llama3_session_tokens(session, &u->had);
    prefill_end(u->prefills, &prefill);
    llama3_session_close(session);
    return NULL;
}

START_TEST(a_prompt_being_read_is_waited_for)
{
    struct llama3_model *model = open_model();
    struct prefills *prefills = prefills_open(model, NULL, &err);
    int32_t a[150], b[150];
    struct prefill prefill;
    pthread_t thread;
    llama3_model_keep_prefixes(model, UINT64_MAX);
    for (int32_t i = 0; i < 150; i++) {
        a[i] = i + 1;
        b[i] = i < 100 ? a[i] : 7;
    }
    struct llama3_session *session =
        prefill_begin(prefills, 0, NULL, a, 150, &prefill, &never, &err);
    struct user user = {.prefills = prefills, .tokens = b};
    pthread_create(&thread, NULL, use_later, &user);
    ck_assert_int_eq(llama3_session_eval(session, a, 150, 0, NULL, &err), 0);
    prefill_progress(prefills, &prefill, 150);
    llama3_session_close(session);
    prefill_end(prefills, &prefill);
    pthread_join(thread, NULL);
    ck_assert_uint_eq(user.had, 100);
    ck_assert_uint_eq(use_as(prefills, 0, a, 150), 149);

    /* Nobody waits for a prompt that saves nothing, and a cancellation ends a wait. */
    llama3_model_keep_prefixes(model, 0);
    llama3_model_keep_prefixes(model, UINT64_MAX);
    session = prefill_begin(prefills, 0, NULL, a, 150, &prefill, &never, &err);
    b[20] = 9;
    user = (struct user){.prefills = prefills, .tokens = b};
    use_later(&user);
    ck_assert(!user.failed && user.had == 0);
    user = (struct user){.prefills = prefills, .tokens = a};
    pthread_create(&thread, NULL, use_later, &user);
    usleep(20000);
    atomic_store(&user.cancel, true);
    prefills_wake(prefills);
    pthread_join(thread, NULL);
    ck_assert(user.failed);
    prefill_end(prefills, &prefill);
    llama3_session_close(session);
    prefills_close(prefills);
    llama3_model_close(model);
}
END_TEST

START_TEST(owners_share_nothing)
{
    struct llama3_model *model = open_model();
    struct prefills *prefills = prefills_open(model, NULL, &err);
    struct prefill prefill;
    int32_t a[100];
    llama3_model_keep_prefixes(model, UINT64_MAX);
    for (int32_t i = 0; i < 100; i++)
        a[i] = i + 1;

    /* Nobody waits for another owner's prefill either: this would not return. */
    struct llama3_session *session =
        prefill_begin(prefills, 1, NULL, a, 100, &prefill, &never, &err);
    prefill_progress(prefills, &prefill, 99);
    ck_assert_uint_eq(use_as(prefills, 2, a, 100), 0);
    ck_assert_int_eq(llama3_session_eval(session, a, 90, 0, NULL, &err), 0);
    prefill_end(prefills, &prefill);
    llama3_session_close(session);
    ck_assert_uint_eq(use_as(prefills, 1, a, 100), 90);
    ck_assert_uint_eq(use_as(prefills, 2, a, 100), 99);
    ck_assert_uint_eq(use_as(prefills, 0, a, 100), 0);
    prefills_close(prefills);
    llama3_model_close(model);
}
END_TEST

int main(void)
{
    static const struct generation_defaults none = GENERATION_NONE;
    TCase *tcase = tcase_create("server");
    defaults = sampling_open(&none, 100, NULL);
    tcase_set_timeout(tcase, 120);
    tcase_add_test(tcase, requests_are_read);
    tcase_add_test(tcase, thoughts_are_read);
    tcase_add_test(tcase, damaged_requests_are_refused);
    tcase_add_test(tcase, probabilities_are_those_of_the_logits);
    tcase_add_test(tcase, thoughts_are_told);
    tcase_add_test(tcase, long_names_are_cut_between_characters);
    tcase_add_test(tcase, paths_are_kept_from_clients);
    tcase_add_test(tcase, requests_share_a_budget);
    tcase_add_test(tcase, the_cost_of_a_request_is_bounded);
    tcase_add_test(tcase, metrics_are_text);
    tcase_add_test(tcase, keys_are_compared_whole);
    tcase_add_test(tcase, no_key_costs_much);
    tcase_add_test(tcase, the_page_has_a_policy);
    tcase_add_test(tcase, clients_take_turns);
    tcase_add_test(tcase, a_prompt_being_read_is_waited_for);
    tcase_add_test(tcase, owners_share_nothing);
    return run_tests("server", tcase);
}
