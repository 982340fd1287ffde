/* SPDX-License-Identifier: MIT */
#include "config.h" /* memmem */

#include "text/tool_form.h"

#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "base/utf8.h"
#include "text/jinja_value.h"

const struct tool_form tool_form_generic = {
    .syntax = TOOL_JSON,
    .begin = "<tool_call>",
    .next = "</tool_call>\n<tool_call>",
    .end = "</tool_call>",
    .middle = "",
    .arguments_key = "arguments",
    .plain = "",
};

/* Texts that no template has. */
#define NAME  "zq_name"
#define KEY   "zq_key"
#define VALUE "zq_value"
#define TEXT  "zq_text"

/* ---- conversations -------------------------------------------------------------------------- */

struct probe {
    tool_form_render *render;
    const void *arg;
    bool arguments_text, content_null, functions, builtin;
    bool no_memory;
};

static json_t *call_json(const struct probe *p)
{
    json_t *arguments = p->arguments_text ? json_string("{\"" KEY "\": \"" VALUE "\"}")
                                          : json_pack("{s:s}", KEY, VALUE);
    return json_pack("{s:s, s:s, s:{s:s, s:o}}", "id", "call00001", "type", "function", "function",
                     "name", NAME, "arguments", arguments);
}

/* What an assistant says: so many calls, or a text. */
static json_t *answer_json(const struct probe *p, size_t n_calls)
{
    if (n_calls == 0)
        return json_pack("{s:s, s:s}", "role", "assistant", "content", TEXT);
    json_t *calls = json_array();
    for (size_t i = 0; i < n_calls; i++)
        json_array_append_new(calls, call_json(p));
    json_t *content = p->content_null ? json_null() : json_string("");
    return json_pack("{s:s, s:o, s:o}", "role", "assistant", "content", content, "tool_calls",
                     calls);
}

static const char tools_text[] =
    "[{\"type\": \"function\", \"function\": {\"name\": \"" NAME "\", \"description\": \"d\", "
    "\"parameters\": {\"type\": \"object\", \"properties\": {\"" KEY "\": {\"type\": \"string\", "
    "\"description\": \"d\"}}, \"required\": [\"" KEY "\"]}}}]";

/* A user's message and perhaps an answer; answer: the reference is dropped. */
static json_t *variables_of(const struct probe *p, json_t *answer, bool header)
{
    json_t *messages = json_pack("[{s:s, s:s}]", "role", "user", "content", "q");
    if (answer != NULL)
        json_array_append_new(messages, answer);
    json_t *all = json_pack(
        "{s:o, s:b, s:o, s:n, s:s}", "messages", messages, "add_generation_prompt", header, "tools",
        json_loads(tools_text, 0, NULL), "documents", "date_string", "26 Jul 2024");
    if (p->functions)
        json_object_set_new(all, "functions", json_string(tools_text));
    if (p->functions)
        json_object_set_new(all, "datetime", json_string("2024-07-26 00:00:00 GMT"));
    if (p->builtin)
        json_object_set_new(all, "builtin_tools", json_pack("[s]", NAME));
    return all;
}

static char *utf8_of(const struct jinja_output *out)
{
    struct buf text = {0};
    buf_add(&text, "", 0);
    for (size_t i = 0; i < out->n; i++) {
        uint8_t bytes[4];
        buf_add(&text, bytes, (size_t)utf8_encode(jinja_scalar(out->chars[i]), bytes));
    }
    if (!text.failed)
        return text.data;
    buf_free(&text);
    return NULL;
}

/* The text of a conversation, for free(); NULL: the template refuses it. */
static char *text_of(struct probe *p, json_t *answer, bool header)
{
    struct jinja_output out = {0};
    json_t *variables = variables_of(p, answer, header);
    char *text = NULL;
    if (variables == NULL) {
        p->no_memory = true;
    } else if (p->render(p->arg, variables, &out) == 0) {
        text = utf8_of(&out);
        p->no_memory = text == NULL;
        free(out.chars);
    }
    json_decref(variables);
    return text;
}

/* ---- marks ---------------------------------------------------------------------------------- */

static bool is_space(char c)
{
    return c == ' ' || c == '\n' || c == '\r' || c == '\t';
}

/* A copy without white space at its ends; NULL: no memory. */
static char *trimmed(const char *text, size_t n)
{
    while (n > 0 && is_space(text[n - 1]))
        n--;
    for (; n > 0 && is_space(*text); n--)
        text++;
    return strndup(text, n);
}

/* A call in a text that a template wrote. */
struct written {
    const char *name;          /* where it begins */
    const char *arguments;     /* of JSON their brace, else their key */
    const char *arguments_end; /* behind them */
    bool json;
};

/* Finds the end of {"key": "value"}, or of key=value. */
static bool arguments_end(struct written *w, const char *key)
{
    const char *value = strstr(key, VALUE);
    if (value == NULL)
        return false;
    const char *end = value + strlen(VALUE);
    if (w->json) {
        end = strchr(end, '}');
        w->arguments_end = end != NULL ? end + 1 : NULL;
    } else {
        w->arguments_end = strchr(end, ')');
    }
    return w->arguments_end != NULL;
}

/* The next call from a place on. */
static bool find_call(const char *text, struct written *w)
{
    const char *name = strstr(text, NAME), *key = name != NULL ? strstr(name, KEY) : NULL;
    if (key == NULL)
        return false;
    *w = (struct written){.name = name};
    const char *before = key;
    if (before[-1] == '"') {
        before--;
        while (before > name && is_space(before[-1]))
            before--;
        w->json = before > name && before[-1] == '{';
        w->arguments = before - 1;
    } else {
        const char *after = name + strlen(NAME);
        w->arguments = key;
        if (before[-1] != '(' || key[strlen(KEY)] != '=' ||
            (after[0] != '(' && strncmp(after, ".call(", 6) != 0))
            return false;
    }
    return (w->json || w->arguments == key) && arguments_end(w, key);
}

static size_t common_prefix(const char *a, const char *b, size_t n)
{
    size_t i = 0;
    while (i < n && a[i] == b[i])
        i++;
    return i;
}

/* ---- forms ---------------------------------------------------------------------------------- */

static bool set(char **field, const char *text, size_t n)
{
    free(*field);
    *field = trimmed(text, n);
    return *field != NULL;
}

/* The key that a text of JSON ends with, as in `", "arguments": `. */
static bool set_key(char **field, const char *text, size_t n)
{
    while (n > 0 && text[n - 1] != '"')
        n--;
    size_t end = n > 0 ? n - 1 : 0, begin = end;
    while (begin > 0 && text[begin - 1] != '"')
        begin--;
    return set(field, text + begin, end - begin);
}

/* Of JSON, what lies outside of the call's own braces. */
static const char *last_brace(const char *from, const char *to)
{
    const char *at = to;
    while (at > from && at[-1] != '{')
        at--;
    return at > from ? at - 1 : to;
}

static const char *after_brace(const char *from)
{
    const char *brace = strchr(from, '}');
    return brace != NULL ? brace + 1 : from;
}

/* The text behind the last call, without the end of the turn. */
static size_t end_length(const char *end, const char *turn_end)
{
    size_t n = strlen(end), turn = strlen(turn_end);
    if (turn > 0 && n >= turn && strcmp(end + n - turn, turn_end) == 0)
        return n - turn;
    static const char eom[] = "<|eom_id|>";
    size_t length = sizeof eom - 1;
    return n >= length && strcmp(end + n - length, eom) == 0 ? n - length : n;
}

/* body: the assistant's turn with one call; two: with two, or NULL. */
static bool describe(struct tool_form *form, const char *body, const char *two,
                     const char *turn_end)
{
    struct written first, second = {0};
    if (!find_call(body, &first))
        return true;
    const char *middle = first.name + strlen(NAME), *begin_end = first.name;
    const bool object = first.json && middle[0] == '"';
    form->syntax = object ? TOOL_JSON : first.json ? TOOL_NAMED : TOOL_PYTHONIC;
    if (object)
        begin_end = last_brace(body, first.name);
    bool ok = set(&form->begin, body, (size_t)(begin_end - body));
    if (form->syntax == TOOL_NAMED)
        ok = set(&form->middle, middle, (size_t)(first.arguments - middle)) && ok;
    if (object)
        ok = set_key(&form->arguments_key, middle, (size_t)(first.arguments - middle)) && ok;

    struct written last = first;
    if (two != NULL && find_call(two, &last) && find_call(last.arguments_end, &second)) {
        const char *from = last.arguments_end, *to = second.name;
        if (object) {
            from = after_brace(from);
            to = last_brace(from, to);
        } else if (form->syntax == TOOL_PYTHONIC) {
            from++;
        }
        ok = set(&form->next, from, (size_t)(to - from)) && ok;
        last = second;
    } else {
        form->single = true;
        last = first;
    }
    const char *end = last.arguments_end;
    if (object)
        end = after_brace(end);
    else if (form->syntax == TOOL_PYTHONIC)
        end++;
    return set(&form->end, end, end_length(end, turn_end)) && ok;
}

/* An answer of text tells where a turn begins and how it ends, and whether text has something in
 * front. */
static bool describe_turn(struct tool_form *form, struct probe *p, const char *one, const char *two)
{
    char *plain = text_of(p, answer_json(p, 0), false);
    const char *text = plain != NULL ? strstr(plain, TEXT) : NULL;
    if (text == NULL) {
        free(plain);
        return true;
    }
    size_t before = (size_t)(text - plain), shared = common_prefix(plain, one, before);
    size_t shared_two = two != NULL ? common_prefix(plain, two, before) : 0;
    bool ok =
        describe(form, one + shared, two != NULL ? two + shared_two : NULL, text + strlen(TEXT));
    if (shared < before && form->syntax == TOOL_NAMED && form->begin != NULL &&
        form->begin[0] == '\0' && form->next != NULL) {
        ok = set(&form->plain, plain + shared, before - shared) && ok;
        ok = set(&form->begin, form->next, strlen(form->next)) && ok;
    }
    free(plain);
    return ok;
}

/* Whether a text has a call. The tools may have the same words: the call comes last. */
static bool has_call(const char *text)
{
    const char *last = text;
    struct written w;
    for (const char *at = text; at != NULL; at = strstr(last + 1, NAME))
        last = at;
    return last != NULL && find_call(last, &w);
}

/* The text of one call, in the first way of giving it that the template can do. */
static char *text_of_call(struct probe *p)
{
    for (int way = 0; way < 4; way++) {
        p->arguments_text = way >= 2;
        p->content_null = way % 2 == 1;
        char *text = text_of(p, answer_json(p, 1), false);
        if (has_call(text))
            return text;
        free(text);
    }
    return NULL;
}

/* Whether null is no content to the template, as an empty text is: some write "None". */
static bool takes_null(struct probe *p, const char *text)
{
    const bool was = p->content_null;
    p->content_null = true;
    char *other = text_of(p, answer_json(p, 1), false);
    p->content_null = was;
    bool takes = other != NULL && strcmp(other, text) == 0;
    free(other);
    return takes;
}

/* Whether a built-in tool is called by a name of Python behind <|python_tag|>. */
static bool has_builtin(struct probe *p)
{
    p->builtin = true;
    char *text = text_of(p, answer_json(p, 1), false);
    p->builtin = false;
    bool has = text != NULL && strstr(text, "<|python_tag|>" NAME ".call(" KEY) != NULL;
    free(text);
    return has;
}

static bool fill_empty(struct tool_form *form)
{
    char **const fields[] = {&form->begin,  &form->next,          &form->end,
                             &form->middle, &form->arguments_key, &form->plain};
    bool ok = true;
    for (size_t i = 0; i < sizeof fields / sizeof *fields; i++)
        if (*fields[i] == NULL)
            ok = set(fields[i], "", 0) && ok;
    return ok;
}

static bool find(struct tool_form *form, bool calls, struct probe *p)
{
    char *asked = text_of(p, NULL, true);
    form->knows_tools = asked != NULL && strstr(asked, NAME) != NULL;
    if (!form->knows_tools) {
        free(asked);
        p->functions = true;
        asked = text_of(p, NULL, true);
        form->knows_tools = form->functions = asked != NULL && strstr(asked, NAME) != NULL;
        p->functions = form->functions;
    }
    free(asked);
    char *one = calls ? text_of_call(p) : NULL;
    bool ok = true;
    if (one != NULL) {
        char *two = text_of(p, answer_json(p, 2), false);
        form->arguments_text = p->arguments_text;
        form->content_null = p->content_null;
        form->content_text = !takes_null(p, one);
        form->builtin = has_builtin(p);
        ok = describe_turn(form, p, one, two);
        free(two);
    }
    free(one);
    return fill_empty(form) && ok && !p->no_memory;
}

int tool_form_find(struct tool_form *form, bool calls, tool_form_render *render, const void *arg,
                   struct llama3_error *err)
{
    struct probe probe = {.render = render, .arg = arg};
    *form = (struct tool_form){0};
    if (find(form, calls, &probe))
        return 0;
    tool_form_free(form);
    return error_memory(err, "a chat template", sizeof *form);
}

void tool_form_free(struct tool_form *form)
{
    free(form->begin);
    free(form->next);
    free(form->end);
    free(form->middle);
    free(form->arguments_key);
    free(form->plain);
    *form = (struct tool_form){0};
}
