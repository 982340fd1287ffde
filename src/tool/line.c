/* SPDX-License-Identifier: MIT */
#include "tool/line.h"

#include <stdlib.h>
#include <string.h>

#include "tool/line_edit.h"
#include "tool/line_plain.h"
#include "tool/say.h"
#include "tool/terminal.h"

#define QUOTE "\"\"\""
enum { QUOTE_LENGTH = sizeof QUOTE - 1 };

struct line {
    struct line_editor *editor; /* NULL: the terminal edits */
    struct line_plain plain;
};

/* ---- words ---------------------------------------------------------------------------------- */

bool line_words_add(struct line_words *words, const char *word, size_t length)
{
    char *copy = strndup(word, length), **items;
    if (copy == NULL)
        return false;
    items = reallocarray(words->items, words->n + 1, sizeof *items);
    if (items == NULL) {
        free(copy);
        return false;
    }
    items[words->n] = copy;
    *words = (struct line_words){items, words->n + 1};
    return true;
}

void line_words_free(struct line_words *words)
{
    for (size_t i = 0; i < words->n; i++)
        free(words->items[i]);
    free(words->items);
    *words = (struct line_words){0};
}

/* ---- messages of several lines -------------------------------------------------------------- */

static bool is_quoted(const char *text, size_t length)
{
    return length >= QUOTE_LENGTH && memcmp(text, QUOTE, QUOTE_LENGTH) == 0;
}

static bool ends_quoted(const char *text, size_t length)
{
    return length >= (size_t)2 * QUOTE_LENGTH &&
           memcmp(text + length - QUOTE_LENGTH, QUOTE, QUOTE_LENGTH) == 0;
}

enum line_rest line_rest(const char *text, size_t length)
{
    size_t backslashes = 0;
    if (is_quoted(text, length))
        return ends_quoted(text, length) ? LINE_WHOLE : LINE_QUOTED;
    while (backslashes < length && text[length - 1 - backslashes] == '\\')
        backslashes++;
    return backslashes % 2 != 0 ? LINE_BROKEN : LINE_WHOLE;
}

void line_unquote(struct buf *text)
{
    if (text->size == 0 || !is_quoted(text->data, text->size))
        return;
    if (ends_quoted(text->data, text->size))
        text->size -= QUOTE_LENGTH;
    text->size -= QUOTE_LENGTH;
    memmove(text->data, text->data + QUOTE_LENGTH, text->size);
    text->data[text->size] = '\0';
}

/* ---- reading -------------------------------------------------------------------------------- */

struct line *line_open(const struct line_options *options)
{
    struct line *line = calloc(1, sizeof *line);
    if (line == NULL) {
        say_error("not enough memory");
        return NULL;
    }
    line->editor = terminal_can_draw() ? line_editor_open(options) : NULL;
    return line;
}

void line_close(struct line *line)
{
    if (line == NULL)
        return;
    line_editor_close(line->editor);
    line_plain_free(&line->plain);
    free(line);
}

enum line_end line_read(struct line *line, const char *prompt, struct buf *text)
{
    enum line_end end;
    buf_clear(text);
    terminal_erase();
    end = line->editor != NULL ? line_editor_read(line->editor, prompt, text)
                               : line_plain_read(&line->plain, prompt, text);
    if (end == LINE_READ)
        line_unquote(text);
    if (!text->failed)
        return end;
    say_error("not enough memory for the message");
    return LINE_FAILED;
}
