/* SPDX-License-Identifier: MIT */
/* clipboard.h: text for the clipboard of whoever sits at the terminal, also by ssh (OSC 52). */
#ifndef TOOL_CLIPBOARD_H
#define TOOL_CLIPBOARD_H

#include <stddef.h>

/* What xterm takes in one sequence; others take more. */
enum { CLIPBOARD_BYTES = 74994 };

/* Asks the terminal on stderr to take at most CLIPBOARD_BYTES. Whether it does is not known: some
 * have this turned off. A status; errors are on stderr. */
int clipboard_set(const char *text, size_t length);

#endif
