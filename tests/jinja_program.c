/* SPDX-License-Identifier: MIT */
/* jinja_program.c: a template and its variables from each line of the input, which is JSON; a line
 * of JSON with what it rendered. tests/reference/jinja_corpus.py holds that to Jinja2's.
 *
 *     {"template": text, "variables": {}, "constants": {name: text}, "now": "2026-11-30 08:00:00"}
 *     {"text": text, "given": [[from, to], ...], "peak": bytes}, in characters; or {"error":
 * message}
 */
#include "config.h" /* strptime */

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "base/utf8.h"
#include "text/jinja.h"

enum { MAX_CONSTANTS = 16 };

/* Ends the program where this test itself is wrong. */
_Noreturn static void fail(const char *what)
{
    fprintf(stderr, "jinja_program: expected %s\n", what);
    exit(1);
}

static struct tm read_time(const json_t *json)
{
    struct tm tm = {.tm_year = 126, .tm_mon = 10, .tm_mday = 30};
    if (json != NULL && (json_string_value(json) == NULL ||
                         strptime(json_string_value(json), "%Y-%m-%d %H:%M:%S", &tm) == NULL))
        fail("a time as YYYY-MM-DD HH:MM:SS");
    timegm(&tm); /* the day of the week */
    return tm;
}

static json_t *given_spans(const struct jinja_output *out)
{
    json_t *spans = json_array();
    for (size_t i = 0, from; i < out->n; i++) {
        if (!(out->chars[i] & (uint32_t)JINJA_GIVEN))
            continue;
        for (from = i; i < out->n && (out->chars[i] & (uint32_t)JINJA_GIVEN); i++)
            continue;
        json_array_append_new(spans, json_pack("[I, I]", (json_int_t)from, (json_int_t)i));
    }
    return spans;
}

static json_t *text_of(const struct jinja_output *out)
{
    struct buf text = {0};
    for (size_t i = 0; i < out->n; i++) {
        uint8_t bytes[4];
        int n = utf8_encode(out->chars[i] & ~(uint32_t)JINJA_GIVEN, bytes);
        buf_add(&text, bytes, (size_t)n);
    }
    json_t *json = json_stringn(text.data != NULL ? text.data : "", text.size);
    if (json == NULL)
        fail("characters of Unicode");
    buf_free(&text);
    return json;
}

static json_t *answer(const json_t *line)
{
    static const char what[] = "template";
    struct llama3_error err = {0};
    struct jinja_output out = {0};
    struct jinja_constant constants[MAX_CONSTANTS];
    size_t n = 0;
    const json_t *template = json_object_get(line, "template"), *value;
    const char *name;
    struct tm now = read_time(json_object_get(line, "now"));
    if (template == NULL || !json_is_string(template))
        fail("a template");
    json_object_foreach(json_object_get(line, "constants"), name, value)
    {
        if (n == MAX_CONSTANTS)
            fail("fewer constants");
        constants[n++] = (struct jinja_constant){name, json_string_value(value)};
    }
    struct jinja *jinja =
        jinja_open(json_string_value(template), json_string_length(template), what, &err);
    if (jinja == NULL)
        return json_pack("{s: s, s: b}", "error", err.message, "reading", 1);
    const struct jinja_input input = {.variables = json_object_get(line, "variables"),
                                      .constants = constants,
                                      .n_constants = n,
                                      .now = &now};
    int status = jinja_render(jinja, &input, &out, &err);
    jinja_close(jinja);
    if (status != 0)
        return json_pack("{s: s}", "error", err.message);
    json_t *result = json_pack("{s: o, s: o, s: I}", "text", text_of(&out), "given",
                               given_spans(&out), "peak", (json_int_t)out.peak);
    free(out.chars);
    return result;
}

int main(void)
{
    char *line = NULL;
    size_t capacity = 0;
    ssize_t n;
    while ((n = getline(&line, &capacity, stdin)) > 0) {
        json_error_t error;
        json_t *json = json_loadb(line, (size_t)n, JSON_ALLOW_NUL, &error);
        if (json == NULL)
            fail(error.text);
        json_t *result = answer(json);
        json_dumpf(result, stdout, JSON_COMPACT);
        putchar('\n');
        fflush(stdout);
        json_decref(result);
        json_decref(json);
    }
    free(line);
    return 0;
}
