/* SPDX-License-Identifier: MIT */
/*
 * ending.h: signals to end (INT, TERM, HUP) for programs that have to clean up. The first one is
 * noted, and the work ends in order; one that comes after a while ends the program. What was
 * ignored (nohup, a script's `&`) stays ignored.
 */
#ifndef TOOL_ENDING_H
#define TOOL_ENDING_H

void ending_install(void);
/* There is nothing to clean up any more: they end the program. */
void ending_restore(void);

/* The signal that came; 0: none. */
int ending_signal(void);
/* The status of what was ended by it, or else has failed. */
int ending_status(void);

#endif
