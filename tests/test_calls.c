/* SPDX-License-Identifier: MIT */
/* test_calls: calls of tools are told from answers, in each form, however the text comes in pieces.
 */
#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "engine/calls.h"
#include "run.h"
#include "text/chat.h"
#include "tool_templates.h"

/* Events as text: T for text, C for a call and its index, A for its arguments; what goes on in the
 * same way is one event. */
struct heard {
    struct buf events;
    char kind;
};

static void hear(struct heard *heard, char kind, const char *text, size_t n)
{
    if (kind != heard->kind || kind == 'C') {
        char mark[] = {'[', kind, ']'};
        buf_add(&heard->events, mark, sizeof mark);
    }
    heard->kind = kind;
    buf_add(&heard->events, text, n);
}

static int on_text(void *arg, const char *text, size_t n)
{
    ck_assert_uint_gt(n, 0);
    hear(arg, 'T', text, n);
    return 0;
}

static int on_call(void *arg, size_t index, const char *name)
{
    char text[64];
    int n = snprintf(text, sizeof text, "%zu %s", index, name);
    hear(arg, 'C', text, (size_t)n);
    return 0;
}

static int on_arguments(void *arg, size_t index, const char *text, size_t n)
{
    (void)index;
    ck_assert_uint_gt(n, 0);
    hear(arg, 'A', text, n);
    return 0;
}

static const char *const names[] = {"weather", "weather_at", "add", "brave_search", "python"};

/* The events of a text that comes in pieces of `piece` bytes, but for a first one. */
static char *events_of(const struct tool_form *form, const char *text, size_t first, size_t piece,
                       size_t most)
{
    struct heard heard = {0};
    struct calls calls = {.form = form,
                          .names = names,
                          .n_names = sizeof names / sizeof *names,
                          .most = most,
                          .sink = {on_text, on_call, on_arguments, &heard}};
    size_t n = strlen(text), at = first;
    int over = first > 0 ? calls_push(&calls, text, first) : 0;
    for (; at < n && over == 0; at += piece)
        over = calls_push(&calls, text + at, piece < n - at ? piece : n - at);
    if (over == 0)
        calls_finish(&calls);
    ck_assert(!calls.failed && (over != 0) == calls.full);
    buf_add(&heard.events, "", 0);
    calls_free(&calls);
    return heard.events.data;
}

#define ARGS "{\"place\": \"Oslo \\\"}{\\\\\", \"n\": [1, {}]}"
#define PY   "<|python_tag|>"

static const struct {
    const char *template, *text, *events;
    size_t most;
} cases[] = {
    /* Llama 3.1 */
    {JSON_TEMPLATE, "Hello {world}\n", "[T]Hello {world}\n", 0},
    {JSON_TEMPLATE, "{\"name\": \"weather\", \"parameters\": " ARGS "}", "[C]0 weather[A]" ARGS, 0},
    {JSON_TEMPLATE, " \n{\"name\":\"weather\",\"parameters\":{}}", "[C]0 weather[A]{}", 0},
    {JSON_TEMPLATE, "{\"type\": \"function\", \"name\": \"add\", \"arguments\": {\"a\": 1}}",
     "[C]0 add[A]{\"a\": 1}", 0},
    {JSON_TEMPLATE, "{\"name\": \"add\"}", "[C]0 add[A]{}", 0},
    {JSON_TEMPLATE, "{\"name\": \"add\", \"parameters\": {}, \"id\": \"}\", \"x\": {}} ok",
     "[C]0 add[A]{}[T] ok", 0},
    {JSON_TEMPLATE, "Let me look.\n\n{\"name\": \"weather_at\", \"parameters\": {}}",
     "[T]Let me look.[C]0 weather_at[A]{}", 0},
    {JSON_TEMPLATE, "{\"name\": \"add\", \"parameters\": {}}; {\"name\": \"weather\"}\nDone",
     "[C]0 add[A]{}[C]1 weather[A]{}[T]\nDone", 0},
    {JSON_TEMPLATE, "{\"name\": \"add\", \"parameters\": {}}{\"name\": \"weather\"}",
     "[C]0 add[A]{}", 1},
    {JSON_TEMPLATE, "Use {\"name\": \"add\", \"parameters\": {}}",
     "[T]Use {\"name\": \"add\", \"parameters\": {}}", 0},
    {JSON_TEMPLATE, "{\"name\": \"John\", \"age\": 3}", "[T]{\"name\": \"John\", \"age\": 3}", 0},
    {JSON_TEMPLATE, "{\"a\": 1}", "[T]{\"a\": 1}", 0},
    {JSON_TEMPLATE, "{\"name\": \"weather\", \"par", "", 0},
    {JSON_TEMPLATE, "{\"name\": \"weather\", \"parameters\": {\"a\"", "[C]0 weather[A]{\"a\"", 0},
    {JSON_TEMPLATE, PY "brave_search.call(query=\"Oslo 'now'\")",
     "[C]0 brave_search[A]{\"query\": "
     "\"Oslo 'now'\"}",
     0},
    {JSON_TEMPLATE, PY "{\"name\": \"add\", \"parameters\": {}}", "[C]0 add[A]{}", 0},
    {JSON_TEMPLATE, "Wait." PY "print(\"1\\n\")\nx = 1\t",
     "[T]Wait.[C]0 python[A]{\"code\": "
     "\"print(\\\"1\\\\n\\\")\\nx = 1\\t\"}",
     0},
    /* Llama 3.2 by Python */
    {PYTHONIC_TEMPLATE, "[weather(place='Oslo', n=1)]",
     "[C]0 weather[A]{\"place\": \"Oslo\", \"n\": 1}", 0},
    {PYTHONIC_TEMPLATE,
     "[weather(), add(a=[1, (2, -3.5e1)], b={'k': True, \"l\": None}, c=False)] x",
     "[C]0 weather[A]{}[C]1 add[A]{\"a\": [1, [2, -3.5e1]], \"b\": {\"k\": true, \"l\": null}, "
     "\"c\": false}[T] x",
     0},
    {PYTHONIC_TEMPLATE, "[weather(place='it\\'s \"x\" \\x41\\n\\q \\\\ ]), \xc3\xa9')]",
     "[C]0 weather[A]{\"place\": \"it's \\\"x\\\" \\u0041\\n\\\\q \\\\ ]), \xc3\xa9\"}", 0},
    {PYTHONIC_TEMPLATE, "See [1] and [other(x=1)].", "[T]See [1] and [other(x=1)].", 0},
    {PYTHONIC_TEMPLATE, "[weather(), add()]", "[C]0 weather[A]{}", 1},
    /* Hermes */
    {HERMES_TEMPLATE, "<tool_call>\n{\"name\": \"weather\", \"arguments\": " ARGS "}\n</tool_call>",
     "[C]0 weather[A]" ARGS, 0},
    {HERMES_TEMPLATE,
     "I look.\n<tool_call>{\"name\":\"add\",\"arguments\":{}}</tool_call>\nAnd\n<tool_call>\n"
     "{\"name\": \"weather\", \"arguments\": {}}\n</tool_call>\n",
     "[T]I look.[C]0 add[A]{}[T]\nAnd[C]1 weather[A]{}", 0},
    {HERMES_TEMPLATE, "<tool_call>\n{\"name\": \"add\", \"arguments\": {}}", "[C]0 add[A]{}", 0},
    {HERMES_TEMPLATE, "<tool_call>{\"name\":\"add\"}</tool_call> x \n", "[C]0 add[A]{}[T] x \n", 0},
    {HERMES_TEMPLATE, " \n ", "[T] \n ", 0},
    {HERMES_TEMPLATE, "a <tool_box> b <tool_call", "[T]a <tool_box> b <tool_call", 0},
    {HERMES_TEMPLATE, "<tool_call>\n{\"nam", "", 0},
    {HERMES_TEMPLATE, "{\"name\": \"weather\", \"arguments\": {}}",
     "[T]{\"name\": \"weather\", \"arguments\": {}}", 0},
    {HERMES_TEMPLATE, "<tool_call>{\"name\": \"rm\", \"arguments\": {}}</tool_call>",
     "[T]<tool_call>{\"name\": \"rm\", \"arguments\": {}}</tool_call>", 0},
    /* functionary 3.1 */
    {TAGS_TEMPLATE, "Yes.<function=weather>" ARGS "</function><function=add>{}</function>",
     "[T]Yes.[C]0 weather[A]" ARGS "[C]1 add[A]{}", 0},
    {TAGS_TEMPLATE, "<function=weather_at>{}</function>", "[C]0 weather_at[A]{}", 0},
    {TAGS_TEMPLATE, "1 <function 2", "[T]1 <function 2", 0},
    /* functionary 3.2: the prompt ends with >>> */
    {RECIPIENT_TEMPLATE, "all\nHello, all\n", "[T]Hello, all\n", 0},
    {RECIPIENT_TEMPLATE, "weather\n" ARGS, "[C]0 weather[A]" ARGS, 0},
    {RECIPIENT_TEMPLATE, "all\nHi>>>weather\n{\"a\": 1}>>>add\n{}",
     "[T]Hi[C]0 weather[A]{\"a\": 1}[C]1 add[A]{}", 0},
    {RECIPIENT_TEMPLATE, "add\n{}>>>all\nDone", "[C]0 add[A]{}[T]Done", 0},
    {RECIPIENT_TEMPLATE, "python\nprint(1)\n", "[C]0 python[A]{\"code\": \"print(1)\\n\"}", 0},
    /* firefunction */
    {FUNCTOOLS_TEMPLATE,
     "Ok. functools[{\"name\": \"weather\", \"arguments\": " ARGS "}, {\"name\": \"add\", "
     "\"arguments\": {\"a\": 1}}]",
     "[T]Ok.[C]0 weather[A]" ARGS "[C]1 add[A]{\"a\": 1}", 0},
    {FUNCTOOLS_TEMPLATE, "functools[1]", "[T]functools[1]", 0},
    /* R1's distillates */
    {R1_TEMPLATE,
     "Yes" BEGIN_CALLS BEGIN_CALL "function" SEPARATOR "weather\n```json\n" ARGS "\n```" END_CALL
     "\n" BEGIN_CALL "function" SEPARATOR "add\n```json\n{}\n```" END_CALL END_CALLS,
     "[T]Yes[C]0 weather[A]" ARGS "[C]1 add[A]{}", 0},
    {R1_TEMPLATE, BEGIN_CALLS BEGIN_CALL "function" SEPARATOR "weather\n```json\n{}\n```" END_CALL,
     "[C]0 weather[A]{}", 0},
    {R1_TEMPLATE, "```json\n{}\n```", "[T]```json\n{}\n```", 0},
    /* any other model */
    {PLAIN_TEMPLATE, "<tool_call>{\"name\": \"add\", \"arguments\": {}}</tool_call>",
     "[C]0 add[A]{}", 0},
};

static void check(const struct tool_form *form, size_t i, size_t first, size_t piece)
{
    char *events = events_of(form, cases[i].text, first, piece, cases[i].most);
    ck_assert_msg(strcmp(events, cases[i].events) == 0,
                  "case %zu (%s), pieces of %zu and %zu: expected %s, found %s", i, cases[i].text,
                  first, piece, cases[i].events, events);
    free(events);
}

START_TEST(calls_by_form)
{
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct llama3_error err;
        struct chat_template *chat = chat_open(cases[i].template, "t", NULL, &err);
        const struct tool_form *form = chat_tool_form(chat);
        size_t n = strlen(cases[i].text);
        check(form, i, 0, n);
        check(form, i, 0, 1);
        check(form, i, 0, 3);
        for (size_t first = 1; first < n; first++)
            check(form, i, first, n);
        chat_close(chat);
    }
}
END_TEST

/* A head that never ends is text, and takes no time worth mentioning. */
START_TEST(heads_without_end)
{
    enum { N = 1 << 17 };
    char *text = malloc(N + 1);
    ck_assert_ptr_nonnull(text);
    struct heard heard = {0};
    struct calls calls = {.form = &tool_form_generic,
                          .names = names,
                          .n_names = 5,
                          .sink = {on_text, on_call, on_arguments, &heard}};
    memset(text, ' ', N);
    memcpy(text, "<tool_call>{\"type\": \"", 21);
    text[N] = '\0';
    ck_assert_int_eq(calls_push(&calls, text, N), 0);
    ck_assert_int_eq(calls_finish(&calls), 0);
    buf_add(&heard.events, "", 0);
    ck_assert_uint_eq(heard.events.size, N + 3);
    ck_assert_str_eq(heard.events.data + 3, text);
    buf_free(&heard.events);
    calls_free(&calls);
    free(text);
}
END_TEST

/* Control tokens that are marks of calls, and others. */
START_TEST(tokens_of_calls)
{
    static const struct {
        const char *template, *token;
        bool is_mark;
    } marks[] = {{JSON_TEMPLATE, "<|python_tag|>", true},
                 {JSON_TEMPLATE, "<|eot_id|>", false},
                 {HERMES_TEMPLATE, "<tool_call>", true},
                 {HERMES_TEMPLATE, "</tool_call>", true},
                 {HERMES_TEMPLATE, "<|python_tag|>", false},
                 {R1_TEMPLATE, BEGIN_CALLS, true},
                 {R1_TEMPLATE, SEPARATOR, true},
                 {R1_TEMPLATE, END_CALLS, true},
                 {RECIPIENT_TEMPLATE, "<|python_tag|>", false}};
    for (size_t i = 0; i < sizeof marks / sizeof *marks; i++) {
        struct llama3_error err;
        struct chat_template *chat = chat_open(marks[i].template, "t", NULL, &err);
        const struct calls calls = {.form = chat_tool_form(chat)};
        ck_assert_msg(calls_mark(&calls, marks[i].token, strlen(marks[i].token)) ==
                          marks[i].is_mark,
                      "%zu", i);
        ck_assert(!calls_mark(&calls, "", 0));
        chat_close(chat);
    }
}
END_TEST

int main(void)
{
    TCase *tests = tcase_create("calls");
    tcase_set_timeout(tests, 60);
    tcase_add_test(tests, calls_by_form);
    tcase_add_test(tests, heads_without_end);
    tcase_add_test(tests, tokens_of_calls);
    return run_tests("calls", tests);
}
