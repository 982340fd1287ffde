/* SPDX-License-Identifier: MIT */
#include "engine/calls.h"

#include <stdlib.h>
#include <string.h>

#include "base/json.h"
#include "base/size.h"

/* More than any head of a call has: what is longer is text. */
enum { MAX_HELD = 1024 };

static bool is_space(char c)
{
    return c == ' ' || c == '\n' || c == '\r' || c == '\t';
}

static void drop(struct buf *text, size_t n)
{
    memmove(text->data, text->data + n, text->size - n);
    text->size -= n;
}

/* ---- which tools there are ------------------------------------------------------------------- */

int calls_declare(struct calls *calls, const char *tools, struct llama3_error *err)
{
    json_t *tool;
    size_t i;
    calls->tools = json_parse_value(tools, strlen(tools), "tools", err);
    if (calls->tools == NULL)
        return -1;
    if (!json_is_array(calls->tools))
        return error_input(err, "tools: expected an array, found %s", json_kind(calls->tools));
    const char **names =
        size_alloc_for(json_array_size(calls->tools), sizeof *names, "names of tools", err);
    calls->names = names;
    if (names == NULL)
        return -1;
    json_array_foreach(calls->tools, i, tool)
    {
        const json_t *function = json_object_get(tool, "function");
        names[i] = json_string_value(json_object_get(function != NULL ? function : tool, "name"));
        if (names[i] == NULL || names[i][0] == '\0')
            return error_input(err,
                               "tools: expected a function with a name, found none in number "
                               "%zu",
                               i + 1);
        calls->n_names++;
    }
    return 0;
}

/* ---- what goes out --------------------------------------------------------------------------- */

static int flush_text(struct calls *calls)
{
    int result = calls->text.size > 0 && calls->sink.on_text != NULL
                     ? calls->sink.on_text(calls->sink.arg, calls->text.data, calls->text.size)
                     : 0;
    buf_clear(&calls->text);
    return result;
}

static int flush_arguments(struct calls *calls)
{
    struct buf *out = &calls->arguments.out;
    int result = out->size > 0 && calls->sink.on_arguments != NULL
                     ? calls->sink.on_arguments(calls->sink.arg, calls->n - 1, out->data, out->size)
                     : 0;
    buf_clear(out);
    return result;
}

/* The first byte that is held is text. */
static void give_byte(struct calls *calls)
{
    char c = calls->held.data[0];
    buf_add(&calls->text, &c, 1);
    calls->mid_line = c != '\n' && (calls->mid_line || !is_space(c));
    calls->started = calls->started || !is_space(c);
    calls->called = calls->called && is_space(c);
    drop(&calls->held, 1);
}

/* ---- calls ----------------------------------------------------------------------------------- */

static void reset_arguments(struct call_arguments *a)
{
    struct buf word = a->word, out = a->out;
    buf_clear(&word);
    *a = (struct call_arguments){.word = word, .out = out};
}

static int begin_call(struct calls *calls, enum call_match match, const char *name)
{
    int result = flush_text(calls);
    reset_arguments(&calls->arguments);
    calls->state = match == MATCH_CALL     ? CALL_ARGUMENTS
                   : match == MATCH_PYTHON ? CALL_PYTHON
                   : match == MATCH_CODE   ? CALL_CODE
                                           : CALL_CLOSING;
    calls->begun = true;
    calls->started = calls->called = true;
    calls->n++;
    if (result == 0 && calls->sink.on_call != NULL)
        result = calls->sink.on_call(calls->sink.arg, calls->n - 1, name);
    if (match == MATCH_EMPTY)
        buf_add_str(&calls->arguments.out, "{}");
    return result;
}

static int end_call(struct calls *calls)
{
    int result = flush_arguments(calls);
    calls->state = CALL_AFTER;
    calls->mid_line = false;
    calls->full = calls->most > 0 && calls->n == calls->most;
    return calls->full ? -1 : result;
}

/* A call of JSON has its own brace behind the arguments, and perhaps more keys. */
static int end_arguments(struct calls *calls, bool json)
{
    if (!json || calls->form->syntax != TOOL_JSON)
        return end_call(calls);
    int result = flush_arguments(calls);
    reset_arguments(&calls->arguments);
    calls->state = CALL_CLOSING;
    return result;
}

static int close_call(struct calls *calls, char c)
{
    struct call_arguments *a = &calls->arguments;
    if (c == '}' && a->depth == 0 && a->quote == 0) {
        return end_call(calls);
    }
    struct buf kept = a->out;
    a->out = (struct buf){0};
    if (a->depth > 0 || a->quote != 0 || (c != ']' && c != '}'))
        arguments_json(a, c);
    buf_free(&a->out);
    a->out = kept;
    return 0;
}

/* ---- bytes ----------------------------------------------------------------------------------- */

static int step(struct calls *calls, char c);

/* Goes on with what is left of the held text behind a head. */
static int again(struct calls *calls, size_t used)
{
    struct buf rest = calls->held;
    int result = 0;
    calls->held = (struct buf){0};
    for (size_t i = used; i < rest.size && result == 0; i++)
        result = step(calls, rest.data[i]);
    buf_free(&rest);
    return result;
}

/* What is held begins no call: its first byte is text, or it ends the calls before. */
static int step_text(struct calls *calls)
{
    while (calls->held.size > 0) {
        size_t used;
        const char *name;
        enum call_match match = calls_match(calls, &used, &name);
        if (match == MATCH_MAYBE && calls->held.size < MAX_HELD)
            return 0;
        if (match == MATCH_PLAIN) {
            drop(&calls->held, used);
            calls->started = true;
        } else if (match == MATCH_NO || match == MATCH_MAYBE) {
            give_byte(calls);
        } else {
            int result = begin_call(calls, match, name);
            return result != 0 ? result : again(calls, used);
        }
    }
    calls->begun = false;
    return 0;
}

static int step_after(struct calls *calls)
{
    size_t used;
    const char *name;
    enum call_match match = calls_match_after(calls, &used, &name);
    if (match == MATCH_MAYBE)
        return 0;
    if (match != MATCH_END) {
        int result = begin_call(calls, match, name);
        return result != 0 ? result : again(calls, used);
    }
    calls->state = CALL_TEXT;
    return again(calls, used);
}

static int step(struct calls *calls, char c)
{
    struct call_arguments *a = &calls->arguments;
    switch (calls->state) {
    case CALL_ARGUMENTS:
        return arguments_json(a, c) ? end_arguments(calls, true) : 0;
    case CALL_PYTHON:
        return arguments_python(a, c) ? end_arguments(calls, false) : 0;
    case CALL_CODE:
        arguments_code(a, c);
        return 0;
    case CALL_CLOSING:
        return close_call(calls, c);
    case CALL_AFTER:
        buf_add(&calls->held, &c, 1);
        return calls->held.failed ? 0 : step_after(calls);
    default:
        buf_add(&calls->held, &c, 1);
        return calls->held.failed ? 0 : step_text(calls);
    }
}

static void note_failure(struct calls *calls)
{
    calls->failed = calls->failed || calls->held.failed || calls->text.failed ||
                    calls->arguments.out.failed || calls->arguments.word.failed;
}

int calls_push(struct calls *calls, const char *text, size_t n)
{
    int result = 0;
    for (size_t i = 0; i < n && result == 0 && !calls->failed; i++) {
        result = step(calls, text[i]);
        note_failure(calls);
    }
    if (result == 0)
        result = flush_text(calls);
    if (result == 0)
        result = flush_arguments(calls);
    return result;
}

int calls_finish(struct calls *calls)
{
    int result = 0;
    if (calls->state == CALL_CODE && calls->arguments.any)
        buf_add_str(&calls->arguments.out, "\"}");
    for (size_t i = 0; i < calls->held.size && calls->called; i++)
        calls->called = is_space(calls->held.data[i]);
    if (calls->state == CALL_TEXT && !calls->begun && !calls->called)
        while (calls->held.size > 0)
            give_byte(calls);
    note_failure(calls);
    result = flush_text(calls);
    return result != 0 ? result : flush_arguments(calls);
}

void calls_free(struct calls *calls)
{
    buf_free(&calls->held);
    buf_free(&calls->text);
    buf_free(&calls->arguments.out);
    buf_free(&calls->arguments.word);
    if (calls->tools != NULL)
        free((void *)(uintptr_t)calls->names);
    json_decref(calls->tools);
}
