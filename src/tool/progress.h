/* SPDX-License-Identifier: MIT */
/*
 * progress.h: a line on the terminal while something takes longer than half a second, erased when
 * it is over; notes may come meanwhile. Nothing is ever shown with --quiet, or where stderr is no
 * terminal.
 */
#ifndef TOOL_PROGRESS_H
#define TOOL_PROGRESS_H

#include <stddef.h>

/* Starts a wait for `what`, e.g. "loading x.gguf", which must outlive it. Of total tokens, done
 * need no reading. total 0 shows only the time. */
void progress_start(const char *what, size_t done, size_t total);
/* The same with a bar, of bytes. total is 0 until an update tells it. */
void progress_start_bytes(const char *what, size_t total);
void progress_update(size_t done, size_t total); /* from any thread; fine without a wait */
void progress_stop(void); /* the line is gone once this returns; fine without a wait */

#endif
