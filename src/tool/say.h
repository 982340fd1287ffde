/* SPDX-License-Identifier: MIT */
/* say.h: lines on stderr, "llama3: ..." (the name the program was built with), and figures as
 * people read them. */
#ifndef TOOL_SAY_H
#define TOOL_SAY_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#include "llama3.h"

/* Exit statuses of every program. */
enum { STATUS_OK = 0, STATUS_FAILED = 1, STATUS_USAGE = 2, STATUS_INTERRUPTED = 130 };

extern const char say_program[]; /* defined beside main() */

/* Text from a file or a path. Control characters, which a terminal would obey, and bytes that are
 * not UTF-8 are shown as "\x1b". */
void say_text(FILE *out, const char *text, size_t n);
void say_name(FILE *out, const char *name); /* the same of a string */
/* How many of a line's bytes fit that many columns, as say_text() shows them. */
size_t say_fitting(const char *line, size_t columns);

/* Prints a line, shown as by say_text(). Lines drawn on the terminal (terminal.h) are erased first.
 * Returns STATUS_FAILED, so that a failing function can end with `return say_error(...)`. */
int say_error(const char *format, ...) __attribute__((format(printf, 1, 2)));
/* The same about the command line; returns STATUS_USAGE. */
int say_usage(const char *format, ...) __attribute__((format(printf, 1, 2)));
/* The line that names --help, after one about what is missing or wrong; returns STATUS_USAGE. */
int say_try_help(void);
/* The same with an error of the library's; returns STATUS_FAILED. One about an option names it as
 * on the command line. */
int say_failure(const struct llama3_error *err);

/* --quiet: no notes and no progress. */
extern bool say_quiet;
/* "note: ...": what is no error. */
void say_note(const char *format, ...) __attribute__((format(printf, 1, 2)));
/* The same as a callback of llama3.h's options. */
void say_on_note(void *arg, const char *note);

/* Turns two deadly signals into errors: a write beyond ulimit -f, and a model's file that is cut
 * short while it is open. */
void say_instead_of_dying(void);

/* Before long work: checks that standard output can be written to. Returns a status. */
int check_stdout(void);

/* At the end: checks that all output arrived. Returns a status. */
int finish_stdout(void);

/* These return out. */
enum { UNIT_SIZE = 32 };
/* "1.50 GiB", in the unit that leaves one to four digits before the point. */
const char *unit_bytes(char out[UNIT_SIZE], uint64_t bytes);
const char *unit_count(char out[UNIT_SIZE], uint64_t count); /* "8.03 billion" */
const char *unit_left(char out[UNIT_SIZE], double seconds);  /* "80 s left" */

#endif
