/* SPDX-License-Identifier: MIT */
/*
 * line_history.h: messages of earlier runs, in $XDG_STATE_HOME/llama3/history. The file is its
 * owner's alone (0600) and holds a message a line, with `\n` for a newline and `\\` for a
 * backslash. Several programs may add to it at once. It is kept below 4 MiB: the oldest messages go
 * first.
 */
#ifndef TOOL_LINE_HISTORY_H
#define TOOL_LINE_HISTORY_H

#include "tool/line.h"

enum { LINE_HISTORY_MESSAGES = 1000, LINE_HISTORY_BYTES = 4 << 20 };

struct llama3_error;

/* The file's path for free(); its folder is made if it is missing. NULL on failure. */
char *line_history_path(struct llama3_error *err);

/* The newest messages, at most LINE_HISTORY_MESSAGES, oldest first. What is no UTF-8 text is left
 * out. A file that does not exist has none. */
int line_history_load(const char *path, struct line_words *messages, struct llama3_error *err);

/* Adds a message. One of more than a quarter of LINE_HISTORY_BYTES is not kept. */
int line_history_add(const char *path, const char *text, size_t length, struct llama3_error *err);

#endif
