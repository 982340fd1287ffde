/* SPDX-License-Identifier: MIT */
/* test_tool_calls: answers with calls of tools by llama3.h: the model is made to say a text, token
 * by token, and what comes out of each callback is compared. */
#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "llama3.h"
#include "run.h"
#include "tool_templates.h"

static struct llama3_error err = {.size = sizeof err};

/* A model that says what it is made to, and what was heard of it. */
struct said {
    struct llama3_model *model;
    struct llama3_session *session;
    struct llama3_sampling *sampling;
    uint32_t *allowed;
    int32_t tokens[256];
    size_t n, at;
    char heard[1024];
    bool gives_up;
};

static void allow_next(struct said *said)
{
    memset(said->allowed, 0, (llama3_model_info(said->model)->vocab_size + 31) / 32 * 4);
    int32_t token =
        said->at < said->n ? said->tokens[said->at++] : llama3_model_info(said->model)->stop_ids[0];
    said->allowed[token / 32] |= 1U << token % 32;
}

static int on_token(void *arg, int32_t token, const float *logits)
{
    (void)token;
    (void)logits;
    allow_next(arg);
    return 0;
}

static void hear(struct said *said, const char *kind, const char *text, size_t n)
{
    size_t at = strlen(said->heard);
    ck_assert_uint_lt(at + n + 16, sizeof said->heard);
    snprintf(said->heard + at, sizeof said->heard - at, "%s%.*s", kind, (int)n, text);
}

static int on_text(void *arg, const char *text, size_t n)
{
    hear(arg, "", text, n);
    return 0;
}

static int on_thought(void *arg, const char *text, size_t n)
{
    hear(arg, "", text, n);
    return 0;
}

static int on_call(void *arg, size_t index, const char *name)
{
    struct said *said = arg;
    char kind[16];
    snprintf(kind, sizeof kind, "[%zu:", index);
    hear(said, kind, name, strlen(name));
    hear(said, "]", "", 0);
    return said->gives_up;
}

static int on_arguments(void *arg, size_t index, const char *text, size_t n)
{
    (void)index;
    hear(arg, "", text, n);
    return 0;
}

static struct said open_said(const char *template)
{
    struct said said = {0};
    const struct llama3_model_options options = {
        .size = sizeof options, .threads = 1, .no_blas = true, .template_text = template};
    said.model = llama3_model_open(TEST_DATA "/tiny-f32", &options, &err);
    ck_assert_msg(said.model != NULL, "%s", err.message);
    said.session = llama3_session_open(said.model, &err);
    said.sampling = llama3_sampling_open(said.model, &err);
    said.allowed = calloc((llama3_model_info(said.model)->vocab_size + 31) / 32, 4);
    ck_assert(said.session != NULL && said.sampling != NULL && said.allowed != NULL);
    llama3_sampling_mask(said.sampling, said.allowed);
    return said;
}

static void close_said(struct said *said)
{
    llama3_sampling_close(said->sampling);
    llama3_session_close(said->session);
    llama3_model_close(said->model);
    free(said->allowed);
}

static const char tools[] = "[{\"type\": \"function\", \"function\": {\"name\": \"add\"}}, "
                            "{\"name\": \"python\"}]";

/* Generates an answer that says a text, whose control tokens are meant. */
static struct llama3_result say(struct said *said, const char *text, struct llama3_generation g)
{
    static const int32_t prompt[] = {1, 2};
    struct llama3_result result = {.size = sizeof result};
    int32_t *tokens;
    ck_assert_int_eq(
        llama3_tokenize_trusted(said->model, text, strlen(text), &tokens, &said->n, &err), 0);
    ck_assert_uint_le(said->n, 256);
    memcpy(said->tokens, tokens, said->n * sizeof *tokens);
    llama3_free(tokens);
    said->at = 0;
    said->heard[0] = '\0';
    allow_next(said);
    g.size = sizeof g;
    g.sampling = said->sampling;
    g.on_token = on_token;
    g.on_text = on_text;
    g.on_call = on_call;
    g.on_arguments = on_arguments;
    g.arg = said;
    ck_assert_msg(llama3_session_generate(said->session, prompt, 2, &g, &result, &err) == 0, "%s",
                  err.message);
    return result;
}

static void hears(struct said *said, const char *text, struct llama3_generation g,
                  const char *expected, enum llama3_finish finish, size_t n_calls)
{
    struct llama3_result result = say(said, text, g);
    ck_assert_str_eq(said->heard, expected);
    ck_assert_int_eq(result.finish, finish);
    ck_assert_uint_eq(result.calls, n_calls);
}

#define CALL(name, arguments) "{\"name\": \"" name "\", \"parameters\": " arguments "}"

START_TEST(calls_of_an_answer)
{
    struct said said = open_said(JSON_TEMPLATE);
    const char *const stop[] = {"end"};
    const struct llama3_generation all = {.tools = tools}, none = {0},
                                   one = {.tools = tools, .max_calls = 1},
                                   stops = {.tools = tools, .stop = stop, .n_stop = 1},
                                   few = {.tools = tools, .max_tokens = 12},
                                   thinks = {.tools = tools, .on_thought = on_thought};
    hears(&said, "Hi" CALL("add", "{}"), all, "Hi" CALL("add", "{}"), LLAMA3_FINISH_STOP, 0);
    hears(&said, "Hi\n" CALL("add", "{\"a\": 1}"), all, "Hi[0:add]{\"a\": 1}", LLAMA3_FINISH_STOP,
          1);
    hears(&said, CALL("add", "{}") "\n" CALL("add", "{\"a\": 2}"), all,
          "[0:add]{}[1:add]{\"a\": 2}", LLAMA3_FINISH_STOP, 2);
    hears(&said, CALL("add", "{}") "\n" CALL("add", "{\"a\": 2}"), one, "[0:add]{}",
          LLAMA3_FINISH_STOP, 1);
    hears(&said, CALL("add", "{}"), none, CALL("add", "{}"), LLAMA3_FINISH_STOP, 0);
    hears(&said, CALL("other", "{}"), all, CALL("other", "{}"), LLAMA3_FINISH_STOP, 0);
    /* The control token is a mark of calls, and else no text. */
    hears(&said, "<|python_tag|>" CALL("add", "{}"), all, "[0:add]{}", LLAMA3_FINISH_STOP, 1);
    hears(&said, "<|python_tag|>add.call(a=\"x\")", all, "[0:add]{\"a\": \"x\"}",
          LLAMA3_FINISH_STOP, 1);
    hears(&said, "<|python_tag|>print(1)", all, "[0:python]{\"code\": \"print(1)\"}",
          LLAMA3_FINISH_STOP, 1);
    hears(&said, "a<|python_tag|>b", none, "ab", LLAMA3_FINISH_STOP, 0);
    /* What is held back at the end. */
    hears(&said, "x {\"na", all, "x {\"na", LLAMA3_FINISH_STOP, 0);
    hears(&said, "x\n{\"name\": \"ad", all, "x", LLAMA3_FINISH_STOP, 0);
    hears(&said, "a\nend b", stops, "a\n", LLAMA3_FINISH_STOP, 0);
    ck_assert_int_eq(say(&said, CALL("add", "{\"a\": 1111111111111111111111111111}"), few).finish,
                     LLAMA3_FINISH_LENGTH);
    ck_assert_ptr_null(strstr(said.heard, "name"));
    hears(&said, "<think>{\"name\": 1}</think>" CALL("add", "{}"), thinks, "{\"name\": 1}[0:add]{}",
          LLAMA3_FINISH_STOP, 1);
    said.gives_up = true;
    hears(&said, CALL("add", "{}"), all, "[0:add]", LLAMA3_FINISH_CALLBACK, 1);
    close_said(&said);

    said = open_said(PLAIN_TEMPLATE); /* knows no tools */
    hears(&said, "Yes. <tool_call>\n{\"name\": \"add\", \"arguments\": {}}\n</tool_call>", all,
          "Yes.[0:add]{}", LLAMA3_FINISH_STOP, 1);
    close_said(&said);
}
END_TEST

START_TEST(tools_that_are_none)
{
    static const char *const wrong[] = {
        "", "{}", "[1]", "[{}]", "[{\"function\": {\"name\": \"\"}}]", "[{\"name\": 1}]", "["};
    static const int32_t prompt[] = {1};
    struct said said = open_said(HERMES_TEMPLATE);
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        const struct llama3_generation g = {.size = sizeof g, .tools = wrong[i]};
        ck_assert_int_eq(llama3_session_generate(said.session, prompt, 1, &g, NULL, &err), -1);
        ck_assert_int_eq(err.code, LLAMA3_EINPUT);
        ck_assert_msg(strncmp(err.message, "tools: expected ", 16) == 0, "%s", err.message);
    }
    close_said(&said);
}
END_TEST

int main(void)
{
    TCase *tests = tcase_create("tool_calls");
    tcase_set_timeout(tests, 60);
    tcase_add_test(tests, calls_of_an_answer);
    tcase_add_test(tests, tools_that_are_none);
    return run_tests("tool_calls", tests);
}
