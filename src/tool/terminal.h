/* SPDX-License-Identifier: MIT */
/*
 * terminal.h: who writes on the terminal when. Lines that show how far something is are drawn at
 * the end of stderr; whatever else is written erases them first. Errors and notes (say.h) do so,
 * and so does the answer, which goes to stdout.
 */
#ifndef TOOL_TERMINAL_H
#define TOOL_TERMINAL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>

/* Whether stderr is a terminal on which lines can be drawn and erased. */
bool terminal_can_draw(void);
/* Columns of a line that does not wrap, and how many lines can be drawn. */
void terminal_size(size_t *columns, size_t *lines);
/* Draws these n lines instead of those drawn before, each cut to the terminal's width. From any
 * thread; after terminal_can_draw(). */
void terminal_draw(const char *const *lines, size_t n);
void terminal_erase(void);

/* Text for a person: where out is a terminal, control characters that a model may be talked into
 * (escape sequences) are shown as U+FFFD. In a pipe or file every byte passes. */
void terminal_text(FILE *out, const char *text, size_t length);

/* --color: the choices of that option. */
enum terminal_color { TERMINAL_COLOR_AUTO, TERMINAL_COLOR_ALWAYS, TERMINAL_COLOR_NEVER };
extern const char *const terminal_colors[]; /* NULL-terminated */
void terminal_set_color(enum terminal_color color);
/* Whether text in this stream is styled: auto styles on a terminal that can, unless NO_COLOR is
 * set. */
bool terminal_has_color(FILE *out);

/* An answer on stdout, flushed as it comes. The label goes to stderr before the first word. With
 * markdown, a terminal shows it as such and wraps words at its width; with --color=always, what is
 * no terminal gets styles as well. Everything else gets the text as it is. */
void terminal_answer_begin(const char *label, bool markdown);
/* Whole UTF-8 characters. -1 once stdout took no more; the error is then on stderr, unless it is a
 * pipe that nobody reads any more. */
int terminal_answer(const char *text, size_t length);
/* The same, dimmed; if terminal_has_color(stdout). */
int terminal_thought(const char *text, size_t length);
/* Whether the answer so far ends within a line. */
bool terminal_answer_in_line(void);
/* The newline at the end, where the answer has none. */
int terminal_answer_end(void);

/* The end of a text on stderr, for a person who looks back: of many lines the last few. */
void terminal_show(const char *label, const char *text, bool markdown);

/* Before (true) and after (false) a question is asked, or another program has the terminal, which
 * then has its usual mode: whoever has changed the mode is told. */
void terminal_lend(bool lent);
void terminal_on_lend(void (*told)(bool lent)); /* NULL: nobody */

/* Whether there is a terminal to ask on. */
bool terminal_can_ask(void);
/* A question that is answered by yes or no. An empty line means by_default; the end of input is a
 * no. */
bool terminal_ask(const char *question, bool by_default);

#endif
