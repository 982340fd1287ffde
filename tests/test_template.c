/* SPDX-License-Identifier: MIT */
/*
 * Chat templates as a program of llama3.h meets them: tools, other fields of messages and other
 * variables, several templates of one checkpoint, templates of its own, and JSON that is none.
 */
#include <check.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "llama3.h"
#include "run.h"
#include "tiny.h"

static struct llama3_error err = {.size = sizeof err};
static char *folder;

/* ---- a checkpoint ---------------------------------------------------------------------------- */

/* A folder with the files of a fixture, but for the configuration of its tokenizer. */
static void begin(void)
{
    static const char *const names[] = {"config.json", "generation_config.json",
                                        "model.safetensors", "tokenizer.json"};
    folder = tiny_folder();
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        char from[4096], to[4096];
        snprintf(from, sizeof from, "%s/tiny-f32/%s", TEST_DATA, names[i]);
        snprintf(to, sizeof to, "%s/%s", folder, names[i]);
        char *whole = realpath(from, NULL);
        ck_assert_ptr_nonnull(whole);
        ck_assert_int_eq(symlink(whole, to), 0);
        free(whole);
    }
}

static const char *path_in(const char *name)
{
    static char path[4096];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    return path;
}

static void end(void)
{
    tiny_remove(folder);
}

static struct llama3_model *open_with(const char *name, const char *text)
{
    const struct llama3_model_options options = {
        .size = sizeof options, .vocab_only = true, .template_name = name, .template_text = text};
    return llama3_model_open(folder, &options, &err);
}

static struct llama3_model *open_ok(const char *name, const char *text)
{
    struct llama3_model *model = open_with(name, text);
    ck_assert_msg(model != NULL, "%s", err.message);
    return model;
}

static const struct llama3_message hello = {
    .size = sizeof hello, .role = "user", .content = "Hello"};

/* What the model reads, control tokens by name. */
static void renders(const struct llama3_model *model, const struct llama3_message *message,
                    const struct llama3_template_options *options, const char *expected)
{
    int32_t *tokens;
    char *text;
    size_t n, length;
    ck_assert_msg(llama3_apply_template(model, message, 1, options, &tokens, &n, &err) == 0, "%s",
                  err.message);
    ck_assert_int_eq(llama3_detokenize(model, tokens, n, true, &text, &length, &err), 0);
    ck_assert_str_eq(text, expected);
    llama3_free(text);
    llama3_free(tokens);
}

static void refuses(const struct llama3_model *model, const struct llama3_message *message,
                    const struct llama3_template_options *options, const char *expected)
{
    int32_t *tokens;
    size_t n;
    ck_assert_int_eq(llama3_apply_template(model, message, 1, options, &tokens, &n, &err), -1);
    ck_assert_int_eq(err.code, LLAMA3_EINPUT);
    ck_assert_msg(strstr(err.message, expected) != NULL, "expected %s, found %s", expected,
                  err.message);
}

/* ---- against the reference ------------------------------------------------------------------- */

enum { MAX_MESSAGES = 8 };

/* A message of the goldens: its content where it is a text, and all the rest as JSON. */
static struct llama3_message message_of(const json_t *golden)
{
    const json_t *content = json_object_get(golden, "content");
    json_t *rest = json_copy((json_t *)(uintptr_t)golden);
    json_object_del(rest, "role");
    if (json_is_string(content))
        json_object_del(rest, "content");
    struct llama3_message message = {.size = sizeof message,
                                     .role = json_string_value(json_object_get(golden, "role")),
                                     .content =
                                         json_is_string(content) ? json_string_value(content) : ""};
    message.json = json_object_size(rest) > 0 ? json_dumps(rest, 0) : NULL;
    json_decref(rest);
    return message;
}

static void check_golden(const struct llama3_model *model, const json_t *golden, size_t line)
{
    const json_t *array = json_array_get(golden, 1), *tools = json_array_get(golden, 2);
    struct llama3_message messages[MAX_MESSAGES];
    size_t n_messages = json_array_size(array), n = 0, i;
    const json_t *id;
    int32_t *tokens = NULL;
    ck_assert(n_messages >= 1 && n_messages <= MAX_MESSAGES);
    for (i = 0; i < n_messages; i++)
        messages[i] = message_of(json_array_get(array, i));
    char *tools_text = json_is_null(tools) ? NULL : json_dumps(tools, 0);
    char *arguments = json_dumps(json_array_get(golden, 3), 0);
    const struct llama3_template_options options = {
        .size = sizeof options, .tools = tools_text, .arguments = arguments};
    ck_assert_msg(llama3_apply_template(model, messages, n_messages, &options, &tokens, &n, &err) ==
                      0,
                  "line %zu: %s", line, err.message);
    json_array_foreach(json_array_get(golden, 4), i, id) ck_assert_msg(
        i < n && tokens[i] == json_integer_value(id), "line %zu, token %zu: expected %d, found %d",
        line, i, (int)json_integer_value(id), i < n ? tokens[i] : -1);
    ck_assert_uint_eq(n, i);
    llama3_free(tokens);
    free(arguments);
    free(tools_text);
    for (i = 0; i < n_messages; i++)
        free((char *)messages[i].json);
}

static char *read_text(const char *name)
{
    char path[4096];
    snprintf(path, sizeof path, "%s/text/templates/%s.jinja", TEST_DATA, name);
    FILE *file = fopen(path, "rb");
    char *text = calloc(1, 1 << 16);
    ck_assert(file != NULL && text != NULL && fread(text, 1, (1 << 16) - 1, file) > 0);
    fclose(file);
    return text;
}

START_TEST(tools_as_the_reference)
{
    json_t *all = json_load_file(TEST_DATA "/text/tools.json", 0, NULL), *golden;
    const char *open_name = "";
    struct llama3_model *model = NULL;
    size_t i;
    begin();
    ck_assert_uint_ge(json_array_size(all), 20);
    json_array_foreach(all, i, golden)
    {
        const char *name = json_string_value(json_array_get(golden, 0));
        if (strcmp(name, open_name) != 0) {
            char *text = read_text(name);
            llama3_model_close(model);
            model = open_ok(NULL, text);
            ck_assert_str_eq(llama3_model_info(model)->template_name, name);
            free(text);
            open_name = name;
        }
        check_golden(model, golden, i + 1);
    }
    llama3_model_close(model);
    json_decref(all);
    end();
}
END_TEST

/* ---- which template -------------------------------------------------------------------------- */

/* What a template that writes no tools gets in the system's message. */
#define TOLD(tool)                                                                                 \
    "You can call functions. They are, as JSON:\n\n<tools>\n" tool "\n</tools>\n\nTo call one, "   \
    "answer with its name and its arguments:\n\n<tool_call>\n{\"name\": \"NAME\", \"arguments\": " \
    "{\"ARGUMENT\": VALUE}}\n</tool_call>"

START_TEST(several_templates)
{
    const struct llama3_template_options tools = {.size = sizeof tools, .tools = "[{\"a\": 1}]"},
                                         none = {.size = sizeof none, .tools = "[]"},
                                         null = {.size = sizeof null, .tools = "null"},
                                         variables = {.size = sizeof variables,
                                                      .tools = "null",
                                                      .documents = "[\"d\"]",
                                                      .arguments = "{\"x\": [1, true]}"},
                                         argument = {.size = sizeof argument,
                                                     .arguments = "{\"tools\": [2], "
                                                                  "\"bos_token\": \"B\"}"};
    begin();
    tiny_put_text(folder, "tokenizer_config.json",
                  "{\"bos_token\": \"<|begin_of_text|>\", \"pad_token\": {\"content\": "
                  "\"<|eot_id|>\"},\n\"chat_template\": ["
                  "{\"name\": \"default\", \"template\": \"{{ bos_token }}plain {{ x }} {{ tools "
                  "}} {{ documents }}\"},\n"
                  "{\"name\": \"tool_use\", \"template\": \"{{ pad_token }}{{ tools | tojson }}\"},"
                  "\n{\"name\": \"rag\", \"template\": \"rag {{ messages[0].content }}\"},"
                  "\n{\"name\": \"chatml\", \"template\": \"own chatml\"}]}");
    struct llama3_model *model = open_ok(NULL, NULL);
    renders(model, &hello, NULL, "<|begin_of_text|>plain  None None");
    renders(model, &hello, &none, "<|eot_id|>[]"); /* as in transformers: [] is not None */
    renders(model, &hello, &null, "<|begin_of_text|>plain  None None");
    renders(model, &hello, &tools, "<|eot_id|>[{\"a\": 1}]");
    renders(model, &hello, &variables, "<|begin_of_text|>plain [1, True] None ['d']");
    renders(model, &hello, &argument, "<|eot_id|>[2]");
    llama3_model_close(model);

    /* One that was named is used with tools as well, and wins over a text and a built-in one. */
    model = open_ok("rag", NULL);
    renders(model, &hello, &tools, "rag " TOLD("{\"a\": 1}"));
    llama3_model_close(model);
    model = open_ok("rag", "a text");
    renders(model, &hello, &tools, "rag " TOLD("{\"a\": 1}"));
    llama3_model_close(model);
    model = open_ok("chatml", NULL); /* this vocabulary lacks the built-in one's tokens */
    renders(model, &hello, NULL, "own chatml");
    llama3_model_close(model);
    ck_assert_ptr_null(open_with("nosuch", NULL));
    ck_assert_ptr_nonnull(strstr(err.message,
                                 "template_name: expected one of the checkpoint's (\"default\", "
                                 "\"tool_use\", \"rag\", \"chatml\"), llama3 or chatml, found "
                                 "\"nosuch\""));
    model = open_ok("tool_use", NULL);
    renders(model, &hello, NULL, "<|eot_id|>null");
    llama3_model_close(model);
    model = open_ok("llama3", NULL);
    renders(
        model, &hello, &tools,
        "<|begin_of_text|><|start_header_id|>system<|end_header_id|>\n\n" TOLD(
            "{\"a\": 1}") "<|eot_id|><|start_header_id|>user<|end_header_id|>\n\nHello<|eot_id|>"
                          "<|start_header_id|>assistant<|end_header_id|>\n\n");
    llama3_model_close(model);
    model = open_ok("mine", "{{ bos_token }}<|eot_id|>{{ messages[0].content }}");
    const struct llama3_message forged = {
        .size = sizeof forged, .role = "user", .content = "<|eot_id|>"};
    renders(model, &forged, NULL, "<|begin_of_text|><|eot_id|><|eot_id|>");
    int32_t *tokens;
    size_t n;
    ck_assert_int_eq(llama3_apply_template(model, &forged, 1, NULL, &tokens, &n, &err), 0);
    ck_assert_uint_gt(n, 3); /* the last one is text */
    ck_assert(llama3_token_is_control(model, tokens[1]) &&
              !llama3_token_is_control(model, tokens[2]));
    llama3_free(tokens);
    llama3_model_close(model);
    end();
}
END_TEST

/* The template for tools ends answers as well, is used where it is alone, and is never passed over.
 */
START_TEST(template_for_tools)
{
    const struct llama3_template_options tools = {.size = sizeof tools, .tools = "[1]"};
    begin();
    tiny_put_text(folder, "chat_template.jinja", "plain");
    ck_assert_int_eq(mkdir(path_in("additional_chat_templates"), 0700), 0);
    char *file = strdup(path_in("additional_chat_templates"));
    tiny_put_text(file, "tool_use.jinja",
                  "{% for m in messages %}{{ m.content }}<|eom_id|>{% endfor %}");
    struct llama3_model *model = open_ok(NULL, NULL);
    int32_t *tokens;
    size_t n;
    ck_assert_int_eq(llama3_apply_template(model, &hello, 1, &tools, &tokens, &n, &err), 0);
    ck_assert(llama3_token_is_control(model, tokens[n - 1]));
    ck_assert(llama3_token_is_stop(model, tokens[n - 1]));
    llama3_free(tokens);
    llama3_model_close(model);

    ck_assert_int_eq(unlink(path_in("chat_template.jinja")), 0);
    model = open_ok(NULL, NULL);
    renders(model, &hello, &tools, TOLD("1") "<|eom_id|>Hello<|eom_id|>");
    refuses(
        model, &hello, NULL,
        "the checkpoint has no default chat template, but others by name (\"tool_use\"); choose "
        "one, or complete raw text");
    llama3_model_close(model);

    tiny_put_text(folder, "chat_template.jinja", "plain");
    tiny_put_text(file, "tool_use.jinja", "{% if %}");
    model = open_ok(NULL, NULL);
    renders(model, &hello, NULL, "plain");
    refuses(model, &hello, &tools,
            "/additional_chat_templates/tool_use.jinja: tool_use: line 1: expected an expression");
    llama3_model_close(model);
    free(file);
    ck_assert_int_eq(unlink(path_in("additional_chat_templates/tool_use.jinja")), 0);
    end();
}
END_TEST

START_TEST(texts_of_special_tokens)
{
    begin();
    tiny_put_text(folder, "tokenizer_config.json",
                  "{\"bos_token\": null, \"my_token\": \"ZZ\", \"extra_special_tokens\": {\"e\": "
                  "\"<|eot_id|>\"},\n\"chat_template\": \"{{ bos_token is defined }}{{ bos_token }}"
                  "{{ my_token }}{{ e }}\"}");
    struct llama3_model *model = open_ok(NULL, NULL);
    renders(model, &hello, NULL, "FalseZZ<|eot_id|>");
    llama3_model_close(model);
    end();
}
END_TEST

START_TEST(templates_that_are_none)
{
    begin();
    ck_assert_ptr_null(open_with("nosuch", NULL));
    ck_assert_ptr_nonnull(
        strstr(err.message, "template_name: expected llama3 or chatml, found \"nosuch\""));
    ck_assert_ptr_null(open_with("mine", "{% if %}"));
    ck_assert_ptr_nonnull(strstr(err.message, "mine: line 1: expected an expression, found %}"));
    ck_assert_ptr_null(open_with("", "{% if %}"));
    ck_assert_int_eq(strncmp(err.message, "template: line 1: ", 18), 0);
    ck_assert_ptr_null(open_with("chatml", NULL));
    ck_assert_ptr_nonnull(strstr(err.message, "<|im_start|>"));

    /* Without one, and with one that is no Jinja, raw text can be continued. */
    struct llama3_model *model = open_ok(NULL, NULL);
    ck_assert_ptr_null(llama3_model_info(model)->template_name);
    refuses(model, &hello, NULL, "the checkpoint has no chat template");
    llama3_model_close(model);
    tiny_put_text(folder, "chat_template.jinja", "\n{% for %}");
    model = open_ok(NULL, NULL);
    ck_assert_str_eq(llama3_model_info(model)->template_name, "broken");
    refuses(model, &hello, NULL, "/chat_template.jinja: line 2: expected ");
    llama3_model_close(model);
    model = open_ok("llama3", NULL);
    llama3_model_close(model);
    end();
}
END_TEST

/* ---- JSON that is none ----------------------------------------------------------------------- */

START_TEST(broken_json_is_refused)
{
    static const struct {
        const char *tools, *documents, *arguments, *message, *expected;
    } broken[] = {
        {"[", NULL, NULL, NULL, "tools"},
        {"", NULL, NULL, NULL, "tools"},
        {"[1], \"value\": [2]", NULL, NULL, NULL, "tools"},
        {"[1], \"b\": [2]", NULL, NULL, NULL, "tools"},
        {"[1]}", NULL, NULL, NULL, "tools"},
        {"[", NULL, NULL, NULL, "tools: expected JSON: line 1: expected a value near end of file"},
        {"{}", NULL, NULL, NULL, "tools: expected an array, found an object"},
        {"5", NULL, NULL, NULL, "tools: expected an array, found an integer"},
        {NULL, "5", NULL, NULL, "documents: expected an array, found an integer"},
        {NULL, NULL, "{\"tools\": 5}", NULL, "tools: expected an array, found an integer"},
        {NULL, NULL, "{\"documents\": {}}", NULL, "documents: expected an array, found an object"},
        {"[]", NULL, "{\"tools\": [5]}", NULL, "that is set already, found \"tools\""},
        {"null", NULL, "{\"tools\": [5]}", NULL, "that is set already, found \"tools\""},
        {NULL, "[]", "{\"documents\": []}", NULL, "that is set already, found \"documents\""},
        {NULL, NULL, "{\"messages\": []}", NULL, "that is set already, found \"messages\""},
        {NULL, NULL, "{\"add_generation_prompt\": false}", NULL,
         "that is set already, found \"add_generation_prompt\""},
        {NULL, "{\"a\":}", NULL, NULL, "documents"},
        {NULL, "[\"\xff\"]", NULL, NULL, "documents"},
        {NULL, NULL, "[1]", NULL, "arguments"},
        {NULL, NULL, "", NULL, "arguments"},
        {NULL, NULL, "{\"a\": 1, \"a\": 2}", NULL, "arguments"},
        {NULL, NULL, "{\"a\": [9223372036854775808]}", NULL, "an integer of 64 bits"},
        {"[-9223372036854775809]", NULL, NULL, NULL, "an integer of 64 bits"},
        {NULL, NULL, NULL, "{\"a\": 100000000000000000000}", "an integer of 64 bits"},
        {NULL, NULL, NULL, "{\"tool_calls\": ", "message 1"},
        {NULL, NULL, NULL, "[]", "message 1"},
        {NULL, NULL, NULL, "", "message 1"},
        {NULL, NULL, NULL, "{\"role\": \"assistant\"}",
         "message 1: expected one role, found another in its JSON"},
        {NULL, NULL, NULL, "{\"a\": \"\xc3\"}", "message 1"},
    };
    begin();
    struct llama3_model *model = open_ok(NULL, "{{ messages[0] }}{{ tools }}{{ documents }}");
    for (size_t i = 0; i < sizeof broken / sizeof *broken; i++) {
        const struct llama3_template_options options = {.size = sizeof options,
                                                        .tools = broken[i].tools,
                                                        .documents = broken[i].documents,
                                                        .arguments = broken[i].arguments};
        struct llama3_message message = hello;
        message.json = broken[i].message;
        refuses(model, &message, &options, broken[i].expected);
    }
    struct llama3_template_options date = {.size = sizeof date,
                                           .arguments = "{\"date_string\": \"x\"}"};
    renders(model, &hello, &date, "{'role': 'user', 'content': 'Hello'}NoneNone");
    date.date = "26 Jul 2024";
    refuses(model, &hello, &date,
            "arguments: expected no variable that is set already, found "
            "\"date_string\"");
    llama3_model_close(model);

    /* What the template refuses is said in its words. */
    model = open_ok("mine", "\n{{ raise_exception('Only two, not ' ~ messages[0].n) }}");
    struct llama3_message message = hello;
    message.json = "{\"n\": 3}";
    refuses(model, &message, NULL, "mine: line 2: ");
    refuses(model, &message, NULL, "Only two, not 3");
    llama3_model_close(model);
    end();
}
END_TEST

/* ---- what Jinja has, and templates have no use for --------------------------------------------
 */

START_TEST(edges_of_the_language)
{
    static const struct {
        const char *template, *text, *error;
    } cases[] = {
        {"a{% block x %}b{% endblock x %}c", "abc", NULL},
        {"{% set y = 2 %}{% for i in [1] %}{% block x %}[{{ y }}{{ i }}]{% endblock %}{% endfor %}",
         "[2]", NULL},
        {"{% for i in [1, 2] %}{% block x scoped %}{{ i }}{% endblock %}{% endfor %}", "12", NULL},
        {"{% block x %}{% endblock y %}", NULL, "expected the name of the block before, found %}"},
        {"{% block x %}{{ self.x() }}{% endblock %}", NULL, "\"self\" is undefined"},
        {"\n{% extends 'a' %}", NULL,
         "line 2: expected a template without others, which can't be loaded, found \"extends\""},
        {"{% include 'a' %}", NULL, "found \"include\""},
        {"{% import 'a' as b %}", NULL, "found \"import\""},
        {"{% from 'a' import b %}", NULL, "found \"from\""},
        {"{{ 9223372036854775807 }}", "9223372036854775807", NULL},
        {"{{ 9223372036854775808 }}", NULL, "expected an integer of 64 bits, found a larger one"},
        {"\n{{ 9223372036854775807 + 1 }}", NULL, "line 2: expected an integer of 64 bits"},
        {"{{ 2 ** 63 }}", NULL, "expected an integer of 64 bits"},
        {"{{ '9223372036854775808' | int }}", NULL, "expected an integer of 64 bits"},
        {"{{ cycler(1, 2) }}", NULL, "expected a function, found none: \"cycler\" is undefined"},
        {"{{ lipsum() }}", NULL, "\"lipsum\" is undefined"},
        {"{% set j = joiner(', ') %}{{ j() }}a{{ j() }}b", "a, b", NULL},
        {"{{ dict.fromkeys([1]) }}", NULL, "found none: \"fromkeys\" of a value of type function"},
        {"{{ (5).bit_length() }}", NULL, "found none: \"bit_length\" of a value of type int"},
        {"{{ [1] | map('string') }}", "<generator object>", NULL},
        {"{% for i in 'ab' | map('upper') %}{{ loop.length }}{{ i }}{% endfor %}", "2A2B", NULL},
        {"{% set g = [1, 2] | map('string') %}{{ g | list }}{{ g | list }}", "['1', '2'][]", NULL},
        {"{{ ([1] | map('string')) | length }}", NULL, "expected a value that has a length"},
        {"{% for i in [1] %}{% for j in loop %}{% endfor %}{% endfor %}", NULL,
         "expected a value to iterate over, found one of type LoopContext"},
        {"{{ 'a' | urlize }}", NULL, "line 1: expected a filter, found \"urlize\""},
        {"{% if true %}\n{{ {} | xmlattr }}{% endif %}", NULL,
         "line 2: expected a filter, found \"xmlattr\""},
        {"{{ 'a' | striptags }}", NULL, "expected a filter, found \"striptags\""},
        {"{{ ['a'] | map('urlize') | list }}", NULL, "name of a filter, found \"urlize\""},
        {"{{ 1 is nothing }}", NULL, "expected a test, found \"nothing\""},
    };
    begin();
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct llama3_model *model = open_with("mine", cases[i].template);
        if (model == NULL)
            ck_assert_msg(cases[i].error != NULL && strstr(err.message, cases[i].error) != NULL,
                          "%s: %s", cases[i].template, err.message);
        else if (cases[i].error != NULL)
            refuses(model, &hello, NULL, cases[i].error);
        else
            renders(model, &hello, NULL, cases[i].text);
        llama3_model_close(model);
    }
    end();
}
END_TEST

int main(void)
{
    TCase *tcase = tcase_create("template");
    tcase_set_timeout(tcase, 60);
    tcase_add_test(tcase, tools_as_the_reference);
    tcase_add_test(tcase, several_templates);
    tcase_add_test(tcase, template_for_tools);
    tcase_add_test(tcase, texts_of_special_tokens);
    tcase_add_test(tcase, templates_that_are_none);
    tcase_add_test(tcase, broken_json_is_refused);
    tcase_add_test(tcase, edges_of_the_language);
    return run_tests("template", tcase);
}
