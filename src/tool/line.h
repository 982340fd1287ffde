/* SPDX-License-Identifier: MIT */
/*
 * line.h: a message typed on a terminal. libedit edits it (line_edit.c) where the build has it and
 * the terminal can move its cursor; anywhere else the terminal's own line discipline does
 * (line_plain.c). A message may have several lines:
 *
 *   - a `\` at the end of a line continues it on the next one, without the `\`;
 *   - `"""` at its very beginning lets it go on to the next `"""` at the end of a line; both are
 *     left out;
 *   - what is pasted belongs to the message, newlines included (with libedit).
 */
#ifndef TOOL_LINE_H
#define TOOL_LINE_H

#include <stdbool.h>
#include <stddef.h>

#include "base/buf.h"

struct line;

enum line_end {
    LINE_READ,    /* a message */
    LINE_CLEARED, /* ^C */
    LINE_LEFT,    /* ^D, or no terminal any more */
    LINE_FAILED   /* an error is on stderr */
};

/* Words that can stand where the cursor is. */
struct line_words {
    char **items; /* [n], UTF-8, each for free() */
    size_t n;
};
/* Adds a copy; false without memory. */
bool line_words_add(struct line_words *words, const char *word, size_t length);
void line_words_free(struct line_words *words);

struct line_options {
    bool keeps_history; /* in a file, for the next run */
    /* Adds the words for the text before the cursor, and returns at which byte of it they begin.
     * NULL: nothing is completed. */
    size_t (*complete)(void *arg, const char *before, struct line_words *words);
    void *arg;
};

/* stdin has to be a terminal. The options are copied. NULL without memory; the error is on
 * stderr. */
struct line *line_open(const struct line_options *options);
void line_close(struct line *line); /* NULL does nothing */

/* Reads a message into text: valid UTF-8 without NUL bytes. The prompt, ASCII, is on stderr. */
enum line_end line_read(struct line *line, const char *prompt, struct buf *text);

/* How a message goes on that ends as this text does. */
enum line_rest {
    LINE_WHOLE,  /* it does not */
    LINE_BROKEN, /* on the next line, in the place of the last byte, `\` */
    LINE_QUOTED  /* up to `"""` */
};
enum line_rest line_rest(const char *text, size_t length);
/* Takes the `"""` away that a whole message stands between. */
void line_unquote(struct buf *text);

#endif
