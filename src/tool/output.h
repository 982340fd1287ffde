/* SPDX-License-Identifier: MIT */
/*
 * output.h: the answer on stdout, flushed as it comes. On a terminal, control bytes that a model
 * may be talked into (escape sequences) are shown as U+FFFD; in a pipe or file every byte passes.
 */
#ifndef TOOL_OUTPUT_H
#define TOOL_OUTPUT_H

#include <stddef.h>
#include <stdio.h>

/* Text as it is shown on a terminal, if out is one, and otherwise as it is. */
void output_shown(FILE *out, const char *text, size_t length);

void output_begin(void);
/* Whole UTF-8 characters. -1 once stdout took no more; the error is then on stderr, unless it is a
 * pipe that nobody reads any more. */
int output_text(const char *text, size_t length);
/* The newline at the end, where the answer has none. */
int output_end(void);

#endif
