/* SPDX-License-Identifier: MIT */
/* calls_arguments.c: arguments of calls, byte by byte: JSON as it is, and Python made JSON. */
#include <stdio.h>
#include <string.h>

#include "engine/calls.h"

static void put(struct call_arguments *a, char c)
{
    buf_add(&a->out, &c, 1);
}

bool arguments_json(struct call_arguments *a, char c)
{
    put(a, c);
    if (a->quote != 0) {
        if (a->escaped)
            a->escaped = false;
        else if (c == '\\')
            a->escaped = true;
        else if (c == '"')
            a->quote = 0;
    } else if (c == '"') {
        a->quote = c;
    } else if (c == '{' || c == '[') {
        a->depth++;
    } else if (c == '}' || c == ']') {
        return --a->depth == 0;
    }
    return false;
}

/* A character of a string's text, as JSON has it. */
static void put_char(struct call_arguments *a, char c)
{
    char escape[8];
    if (c == '"' || c == '\\')
        put(a, '\\');
    if (c == '\n')
        buf_add_str(&a->out, "\\n");
    else if (c == '\t')
        buf_add_str(&a->out, "\\t");
    else if ((unsigned char)c < 0x20)
        buf_add(&a->out, escape,
                (size_t)snprintf(escape, sizeof escape, "\\u%04x", (unsigned char)c));
    else
        put(a, c);
}

void arguments_code(struct call_arguments *a, char c)
{
    if (!a->any)
        buf_add_str(&a->out, "{\"code\": \"");
    a->any = true;
    put_char(a, c);
}

/* What follows a backslash in a string of Python. */
static void put_escaped(struct call_arguments *a, char c)
{
    a->escaped = false;
    if (c == 'x') {
        a->hex = 2;
        buf_add_str(&a->out, "\\u00");
    } else if (strchr("nrtbfu/", c) != NULL && c != '\0') {
        put(a, '\\');
        put(a, c);
    } else if (c == '\'' || c == '"' || c == '\\') {
        put_char(a, c);
    } else {
        put_char(a, '\\');
        put_char(a, c);
    }
}

static void in_string(struct call_arguments *a, char c)
{
    if (a->hex > 0) {
        a->hex--;
        put(a, c);
    } else if (a->escaped) {
        put_escaped(a, c);
    } else if (c == '\\') {
        a->escaped = true;
    } else if (c == a->quote) {
        a->quote = 0;
        put(a, '"');
    } else {
        put_char(a, c);
    }
}

static bool word_is(const struct buf *word, const char *text)
{
    return word->size == strlen(text) && memcmp(word->data, text, word->size) == 0;
}

/* A word of Python that ended: True, a number. */
static void end_word(struct call_arguments *a)
{
    if (word_is(&a->word, "True"))
        buf_add_str(&a->out, "true");
    else if (word_is(&a->word, "False"))
        buf_add_str(&a->out, "false");
    else if (word_is(&a->word, "None"))
        buf_add_str(&a->out, "null");
    else
        buf_add(&a->out, a->word.data, a->word.size);
    buf_clear(&a->word);
}

static bool is_word(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_' ||
           c == '.' || c == '+' || c == '-' || (unsigned char)c >= 0x80;
}

static bool is_space(char c)
{
    return c == ' ' || c == '\n' || c == '\r' || c == '\t';
}

static bool end_arguments(struct call_arguments *a)
{
    buf_add_str(&a->out, a->any ? "}" : "{}");
    return true;
}

/* Between arguments, and their names. */
static bool in_key(struct call_arguments *a, char c)
{
    if (c == ')')
        return end_arguments(a);
    if (is_word(c)) {
        buf_add(&a->word, &c, 1);
    } else if (c == '=' && a->word.size > 0) {
        buf_add_str(&a->out, a->any ? ", \"" : "{\"");
        buf_add(&a->out, a->word.data, a->word.size);
        buf_add_str(&a->out, "\": ");
        buf_clear(&a->word);
        a->any = a->in_value = true;
    }
    return false;
}

bool arguments_python(struct call_arguments *a, char c)
{
    if (a->quote != 0) {
        in_string(a, c);
        return false;
    }
    if (!a->in_value)
        return in_key(a, c);
    if (is_word(c)) {
        buf_add(&a->word, &c, 1);
        return false;
    }
    end_word(a);
    if (c == '"' || c == '\'') {
        a->quote = c;
        put(a, '"');
    } else if (a->depth == 0 && c == ')') {
        return end_arguments(a);
    } else if (a->depth == 0 && c == ',') {
        a->in_value = false;
    } else if ((c == '(' || c == '[' || c == '{') && a->depth < sizeof a->closers) {
        a->closers[a->depth++] = c == '{' ? '}' : ']';
        put(a, c == '{' ? '{' : '[');
    } else if ((c == ')' || c == ']' || c == '}') && a->depth > 0) {
        put(a, a->closers[--a->depth]);
    } else if (!is_space(c)) {
        put(a, c);
        if (c == ',' || c == ':')
            put(a, ' ');
    }
    return false;
}
