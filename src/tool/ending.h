/* SPDX-License-Identifier: MIT */
/*
 * ending.h: signals that end a program (INT, TERM, HUP) which has to clean up first. The first one
 * is noted, and the work ends in order. Another one after a while ends the program at once. Signals
 * that were ignored (nohup, a script's `&`) stay ignored.
 */
#ifndef TOOL_ENDING_H
#define TOOL_ENDING_H

void ending_install(void);
/* Nothing is left to clean up: signals end the program again. */
void ending_restore(void);

/* The signal that came, or 0. */
int ending_signal(void);
/* The exit status after that signal, or STATUS_FAILED without one. */
int ending_status(void);

#endif
