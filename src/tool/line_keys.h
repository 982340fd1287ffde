/* SPDX-License-Identifier: MIT */
/*
 * line_keys.h: the keyboard of a chat whose lines are edited: the mode of its terminal, what is
 * typed while no line is read, and the signals that stop or end the program, which find the
 * terminal in its usual mode. There is one in a program; its functions are for one thread.
 */
#ifndef TOOL_LINE_KEYS_H
#define TOOL_LINE_KEYS_H

#include <stdbool.h>
#include <wchar.h>

#define PASTE_ON  "\033[?2004h"
#define PASTE_OFF "\033[?2004l"

/* stdin and stderr have to be terminals; the mode now is the usual one. False, with errno: there
 * are no pipes, and nothing has changed. */
bool keys_open(void);
/* The usual mode and the signals as they were. Without keys_open() nothing. */
void keys_close(void);

/* From here on keys are not shown, and kept for the next line; ^C drops those before it. */
void keys_ahead(void);
/* From here on libedit sets the terminal's mode, and reads with keys_next(). */
void keys_line(void);

/* The next character: 1; what is no UTF-8 is U+FFFD, and NUL is left out. 0 at the end, -1 with
 * errno. The terminal may have another size meanwhile, or the program was stopped and goes on:
 * then wake(arg) is called. */
int keys_next(wchar_t *character, void (*wake)(void *arg, bool stopped), void *arg);

#endif
