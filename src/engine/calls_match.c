/* SPDX-License-Identifier: MIT */
/* calls_match.c: whether held text begins a call, and whose: each form's head, read from its begin
 * to where arguments begin. */
#include <string.h>

#include "engine/calls.h"

static const char python_tag[] = "<|python_tag|>";

/* A place in the held text. */
struct cursor {
    const char *at, *end;
    bool is_short; /* all matched, up to the end of what there is */
};

static bool is_space(char c)
{
    return c == ' ' || c == '\n' || c == '\r' || c == '\t';
}

static void skip_spaces(struct cursor *c)
{
    while (c->at < c->end && is_space(*c->at))
        c->at++;
}

/* A mark; where it has white space, the text may have any. */
static bool take(struct cursor *c, const char *mark)
{
    for (; *mark != '\0'; mark++) {
        if (is_space(*mark)) {
            skip_spaces(c);
            continue;
        }
        if (c->at == c->end || *c->at != *mark) {
            c->is_short = c->at == c->end;
            return false;
        }
        c->at++;
    }
    return true;
}

static bool take_spaced(struct cursor *c, const char *mark)
{
    skip_spaces(c);
    return take(c, mark);
}

static enum call_match unmatched(const struct cursor *c)
{
    return c->is_short ? MATCH_MAYBE : MATCH_NO;
}

/* ---- names ----------------------------------------------------------------------------------- */

/* The declared name that stands here, the longest one. NULL: none, or not yet all of it. */
static const char *take_name(const struct calls *calls, struct cursor *c)
{
    const char *found = NULL;
    size_t left = (size_t)(c->end - c->at), longest = 0;
    for (size_t i = 0; i < calls->n_names; i++) {
        size_t n = strlen(calls->names[i]), shared = n < left ? n : left;
        if (memcmp(c->at, calls->names[i], shared) != 0)
            continue;
        c->is_short = c->is_short || shared == left;
        if (shared == n && n >= longest) {
            longest = n;
            found = calls->names[i];
        }
    }
    c->at += longest;
    return found;
}

/* A string of JSON, without escapes: its length, and the place is behind it. */
static bool take_string(struct cursor *c, const char **text, size_t *n)
{
    if (!take_spaced(c, "\""))
        return false;
    *text = c->at;
    while (c->at < c->end && *c->at != '"' && *c->at != '\\')
        c->at++;
    *n = (size_t)(c->at - *text);
    return take(c, "\"");
}

static bool is(const char *text, size_t n, const char *word)
{
    return strlen(word) == n && memcmp(text, word, n) == 0;
}

static const char *declared(const struct calls *calls, const char *name, size_t n)
{
    for (size_t i = 0; i < calls->n_names; i++)
        if (is(name, n, calls->names[i]))
            return calls->names[i];
    return NULL;
}

/* The tool that takes code, if there is one. */
static const char *code_tool(const struct calls *calls)
{
    static const char *const names[] = {"code_interpreter", "python", "ipython"};
    const char *found = NULL;
    for (size_t i = 0; i < sizeof names / sizeof *names && found == NULL; i++)
        found = declared(calls, names[i], strlen(names[i]));
    return found;
}

/* ---- heads ----------------------------------------------------------------------------------- */

static bool is_arguments_key(const struct calls *calls, const char *key, size_t n)
{
    return is(key, n, calls->form->arguments_key) || is(key, n, "arguments") ||
           is(key, n, "parameters");
}

/* {"name": "f", "arguments": up to its brace; "type" and "id" may stand before. */
static enum call_match head_json(struct calls *calls, struct cursor *c, const char **name)
{
    const char *key, *value;
    size_t n, length;
    *name = NULL;
    if (!take_spaced(c, "{"))
        return unmatched(c);
    for (;;) {
        if (!take_string(c, &key, &n) || !take_spaced(c, ":"))
            return unmatched(c);
        if (is_arguments_key(calls, key, n)) {
            skip_spaces(c);
            return c->at == c->end                  ? MATCH_MAYBE
                   : *name != NULL && *c->at == '{' ? MATCH_CALL
                                                    : MATCH_NO;
        }
        const bool is_name = is(key, n, "name");
        calls->begun = calls->begun || is_name;
        if (!is_name && !is(key, n, "type") && !is(key, n, "id"))
            return MATCH_NO;
        if (!take_string(c, &value, &length))
            return unmatched(c);
        if (is_name && (*name = declared(calls, value, length)) == NULL)
            return MATCH_NO;
        skip_spaces(c);
        if (c->at < c->end && *c->at == '}' && *name != NULL)
            return MATCH_EMPTY;
        if (!take(c, ","))
            return unmatched(c);
    }
}

/* The name, what stands behind it, and a brace. */
static enum call_match head_named(const struct calls *calls, struct cursor *c, const char **name)
{
    const char *middle = calls->form->middle;
    skip_spaces(c);
    *name = take_name(calls, c);
    if (*name == NULL || c->is_short) /* or a longer one may come */
        return unmatched(c);
    if (middle[0] == '\0' && !is_space(*c->at))
        return MATCH_NO;
    if (!take_spaced(c, middle))
        return unmatched(c);
    const char *code = c->at;
    skip_spaces(c);
    if (c->at == c->end)
        return MATCH_MAYBE;
    if (*c->at == '{')
        return MATCH_CALL;
    c->at = code + (middle[0] == '\0' && *code == '\n' ? 1 : 0);
    return *name == code_tool(calls) ? MATCH_CODE : MATCH_NO;
}

/* f( with what else stands before the parenthesis. */
static enum call_match head_python(const struct calls *calls, struct cursor *c, const char *open,
                                   const char **name)
{
    skip_spaces(c);
    *name = take_name(calls, c);
    if (*name == NULL || c->is_short)
        return unmatched(c);
    return take(c, open) ? MATCH_PYTHON : unmatched(c);
}

/* Behind <|python_tag|>: a call as JSON, of a built-in tool, or code. */
static enum call_match head_tagged(struct calls *calls, struct cursor *c, const char **name)
{
    skip_spaces(c);
    if (c->at == c->end)
        return MATCH_MAYBE;
    struct cursor json = *c, python = *c;
    enum call_match as_json = head_json(calls, &json, name);
    if (as_json != MATCH_NO) {
        *c = json;
        return as_json;
    }
    enum call_match as_python = head_python(calls, &python, ".call(", name);
    if (as_python != MATCH_NO) {
        *c = python;
        return as_python;
    }
    *name = code_tool(calls);
    calls->begun = *name != NULL;
    return *name != NULL ? MATCH_CODE : MATCH_PLAIN;
}

static enum call_match head(struct calls *calls, struct cursor *c, const char **name)
{
    switch (calls->form->syntax) {
    case TOOL_NAMED:
        return head_named(calls, c, name);
    case TOOL_PYTHONIC:
        return head_python(calls, c, "(", name);
    default:
        return head_json(calls, c, name);
    }
}

/* The one to whom text goes, where the form names such. */
static enum call_match plain(const struct calls *calls, struct cursor *c)
{
    if (!take_spaced(c, calls->form->plain))
        return unmatched(c);
    if (c->at == c->end)
        return MATCH_MAYBE;
    return is_space(*c->at++) ? MATCH_PLAIN : MATCH_NO;
}

static enum call_match plain_or_head(struct calls *calls, struct cursor *c, const char **name)
{
    struct cursor other = *c;
    enum call_match as_plain = calls->form->plain[0] != '\0' ? plain(calls, &other) : MATCH_NO;
    if (as_plain == MATCH_PLAIN) {
        *c = other;
        return MATCH_PLAIN;
    }
    enum call_match found = head(calls, c, name);
    return found == MATCH_NO ? as_plain : found;
}

/* ---- all of it ------------------------------------------------------------------------------- */

static enum call_match match(struct calls *calls, struct cursor *c, const char **name)
{
    const struct tool_form *form = calls->form;
    const char *start = c->at;
    calls->begun = calls->in_python = false;
    skip_spaces(c);
    if (c->at == c->end)
        return MATCH_MAYBE;
    const bool mid_line = calls->mid_line && memchr(start, '\n', (size_t)(c->at - start)) == NULL;
    struct cursor tag = *c;
    if (take(&tag, python_tag)) {
        *c = tag;
        calls->in_python = calls->begun = true;
        return head_tagged(calls, c, name);
    }
    if (form->plain[0] != '\0' && !calls->started) {
        struct cursor open = *c; /* the prompt has the begin already */
        enum call_match found = plain_or_head(calls, &open, name);
        if (found != MATCH_NO) {
            *c = open;
            return found;
        }
    }
    enum call_match else_ = unmatched(&tag);
    if (form->begin[0] == '\0' && mid_line)
        return else_;
    if (form->begin[0] == '\0' && calls->n > 0 && (*c->at == ';' || *c->at == ','))
        c->at++;
    if (!take(c, form->begin))
        return c->is_short ? MATCH_MAYBE : else_;
    calls->begun = form->begin[0] != '\0' && form->syntax != TOOL_PYTHONIC;
    enum call_match found = plain_or_head(calls, c, name);
    return found == MATCH_NO ? else_ : found;
}

enum call_match calls_match(struct calls *calls, size_t *used, const char **name)
{
    struct cursor c = {calls->held.data, calls->held.data + calls->held.size, false};
    enum call_match found = match(calls, &c, name);
    *used = (size_t)(c.at - calls->held.data);
    return found;
}

enum call_match calls_match_after(struct calls *calls, size_t *used, const char **name)
{
    const struct tool_form *form = calls->form;
    struct cursor end = {calls->held.data, calls->held.data + calls->held.size, false}, next = end;
    *used = 0;
    if (calls->in_python || form->end[0] == '\0')
        return MATCH_END;
    if (take_spaced(&end, form->end)) {
        *used = (size_t)(end.at - calls->held.data);
        return MATCH_END;
    }
    enum call_match found = MATCH_NO;
    if (form->next[0] != '\0' && take_spaced(&next, form->next))
        found = head(calls, &next, name);
    else if (form->next[0] != '\0')
        found = unmatched(&next);
    if (found != MATCH_NO && found != MATCH_MAYBE)
        *used = (size_t)(next.at - calls->held.data);
    if (found != MATCH_NO)
        return found;
    return end.is_short ? MATCH_MAYBE : MATCH_END;
}

bool calls_mark(const struct calls *calls, const char *name, size_t n)
{
    const struct tool_form *form = calls->form;
    const char *const marks[] = {form->begin, form->next, form->end, form->middle};
    char text[64];
    if (is(name, n, python_tag))
        return form->builtin || (form->syntax == TOOL_JSON && form->begin[0] == '\0');
    if (n == 0 || n >= sizeof text)
        return false;
    memcpy(text, name, n);
    text[n] = '\0';
    for (size_t i = 0; i < sizeof marks / sizeof *marks; i++)
        if (strstr(marks[i], text) != NULL)
            return true;
    return false;
}
