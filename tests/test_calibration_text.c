/* SPDX-License-Identifier: MIT */
/* The text that models are calibrated by: its form, and what becomes of it. */
#include <check.h>
#include <jansson.h>
#include <stdlib.h>
#include <string.h>

#include "engine/calibration_text.h"
#include "run.h"
#include "text/chat.h"

enum { SIZE = sizeof(struct llama3_message) };
static struct model model;
static struct tokens tokens;
static struct llama3_error err;

static void open_with(const char *template)
{
    ck_assert_msg(model_open(&model, TEST_DATA "/tiny-f32", &err) == 0, "%s", err.message);
    json_decref(model.templates);
    model.templates = template != NULL ? json_pack("{s:s}", "default", template) : NULL;
}

static void close_all(void)
{
    model_close(&model);
    tokens_free(&tokens);
}

static void read_ok(const char *text, size_t limit)
{
    ck_assert_msg(calibration_text_of(&model, text, strlen(text), limit, &tokens, &err) == 0, "%s",
                  err.message);
}

/* tokens are those of this text, and no more. */
static void same_as_raw(const char *text)
{
    struct tokens raw = {0};
    struct tokenizer *tokenizer = tokenizer_open(&model.vocab, &err);
    ck_assert_int_eq(tokenizer_encode(tokenizer, text, strlen(text), &raw, &err), 0);
    ck_assert_uint_eq(tokens.n, raw.n);
    ck_assert_int_eq(memcmp(tokens.ids, raw.ids, raw.n * sizeof *raw.ids), 0);
    tokens_free(&raw);
    tokenizer_close(tokenizer);
}

START_TEST(documents_are_raw_text)
{
    open_with(NULL);
    read_ok("for readers\n%% text\none\n\n%%two\n", 1000);
    same_as_raw("one\n\n%%two\n\n");
    close_all();
}
END_TEST

START_TEST(conversations_have_names_without_a_template)
{
    static const char *const templates[] = {NULL, "{% no template"};
    open_with(templates[_i]);
    read_ok("%% chat\n%% system\nbe\n%% user\na\n\nb\n%% assistant\nc\n", 1000);
    same_as_raw("System: be\n\nUser: a\n\nb\n\nAssistant: c\n\n");
    close_all();
}
END_TEST

/* As the template renders them, but for the BOS in front. */
START_TEST(conversations_follow_the_template)
{
    const struct llama3_message messages[] = {{.size = SIZE, .role = "user", .content = "a\n\nb"},
                                              {.size = SIZE, .role = "assistant", .content = "c"}};
    struct tokens want = {0};
    ck_assert_msg(model_open(&model, TEST_DATA "/tiny-f32", &err) == 0, "%s", err.message);
    struct chat_template *chat =
        chat_open(json_string_value(json_object_get(model.templates, "default")), "template",
                  model.special_tokens, &err);
    ck_assert_msg(chat != NULL, "%s", err.message);
    struct tokenizer *tokenizer = tokenizer_open(&model.vocab, &err);
    const struct chat_request request = {.messages = messages, .n = 2, .end = CHAT_HEADER};
    ck_assert_int_eq(chat_render(chat, tokenizer, &request, &want, &err), 0);
    size_t bos = model.vocab.add_bos && want.ids[0] == model.vocab.bos;
    tokens_add(&tokens, 7); /* what is there stays */
    read_ok("%% chat\n%% user\na\n\nb\n%% assistant\nc\n", 1000);
    ck_assert_uint_eq(tokens.n, 1 + want.n - bos);
    ck_assert_int_eq(tokens.ids[0], 7);
    ck_assert_int_eq(memcmp(tokens.ids + 1, want.ids + bos, (want.n - bos) * sizeof *want.ids), 0);
    tokens_free(&want);
    chat_close(chat);
    tokenizer_close(tokenizer);
    close_all();
}
END_TEST

START_TEST(a_template_that_fails_is_done_without)
{
    open_with("{{ raise_exception('no system, no user') }}");
    read_ok("%% chat\n%% user\na\n%% assistant\nc\n", 1000);
    same_as_raw("User: a\n\nAssistant: c\n\n");
    close_all();
}
END_TEST

START_TEST(the_built_in_text)
{
    struct tokens all = {0};
    open_with(NULL);
    for (int i = 0; i < 2; i++) {
        ck_assert_msg(calibration_text(&model, SIZE_MAX / 2, &all, &err) == 0, "%s", err.message);
        ck_assert_uint_gt(all.n, CALIBRATION_TOKENS);
        ck_assert_int_eq(calibration_text(&model, CALIBRATION_TOKENS, &tokens, &err), 0);
        ck_assert_uint_eq(tokens.n, CALIBRATION_TOKENS);
        ck_assert_int_eq(memcmp(tokens.ids, all.ids, tokens.n * sizeof *tokens.ids), 0);
        for (size_t t = 0; t < all.n; t++)
            ck_assert(all.ids[t] >= 0 && (size_t)all.ids[t] < model.config.vocab_size);
        close_all();
        tokens_free(&all);
        ck_assert_int_eq(model_open(&model, TEST_DATA "/tiny-f32", &err), 0);
    }
    close_all();
}
END_TEST

START_TEST(damaged_text_is_refused)
{
    static const struct {
        const char *text, *message;
    } cases[] = {
        {"", "line 1: expected a document or a conversation before it, found none"},
        {"no section\n", "line 2: expected a document or a conversation before it, found none"},
        {"%% tex\n", "line 1: expected text, chat, system, user or assistant behind %%"},
        {"%% text \na\n", "line 1: expected text, chat, system, user or assistant behind %%"},
        {"%% text\n", "line 2: expected a document before it, found none"},
        {"%% text\n%% chat\n", "line 2: expected a document before it, found none"},
        {"%% chat\n", "line 2: expected a conversation before it, found none"},
        {"%% chat\nx\n", "line 2: expected a message, found text of nobody"},
        {"%% user\nx\n", "line 1: expected a message in a conversation, found one outside"},
        {"%% text\na\n%% user\nx\n", "line 3: expected a message in a conversation, found one "},
        {"%% text\na\xff\n", "UTF-8"},
    };
    open_with(NULL);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        err.message[0] = '\0';
        tokens_add(&tokens, 3);
        size_t before = tokens.n;
        ck_assert_int_eq(
            calibration_text_of(&model, cases[i].text, strlen(cases[i].text), 1000, &tokens, &err),
            -1);
        ck_assert_msg(strstr(err.message, cases[i].message) != NULL, "%s: %s", cases[i].text,
                      err.message);
        ck_assert_uint_eq(tokens.n, before);
    }
    ck_assert_int_eq(calibration_text_of(&model, "%% text\na\0b\n", 12, 1000, &tokens, &err), -1);
    ck_assert_str_eq(err.message, "calibration text: expected text, found a NUL byte");

    char many[1024] = "%% chat\n";
    for (int i = 0; i < 33; i++)
        strcat(many, "%% user\nx\n");
    ck_assert_int_eq(calibration_text_of(&model, many, strlen(many), 1000, &tokens, &err), -1);
    ck_assert_str_eq(err.message, "calibration text, line 66: expected no more messages in the "
                                  "conversation");
    close_all();
}
END_TEST

int main(void)
{
    TCase *tests = tcase_create("calibration_text");
    tcase_add_test(tests, documents_are_raw_text);
    tcase_add_loop_test(tests, conversations_have_names_without_a_template, 0, 2);
    tcase_add_test(tests, conversations_follow_the_template);
    tcase_add_test(tests, a_template_that_fails_is_done_without);
    tcase_add_test(tests, the_built_in_text);
    tcase_add_test(tests, damaged_text_is_refused);
    return run_tests("calibration_text", tests);
}
