/* SPDX-License-Identifier: MIT */
/*
 * sessions.h: where conversations are kept. A name is a file in the user's data folder (XDG), a
 * path is any file; --sessions lists those that have names.
 */
#ifndef TOOL_SESSIONS_H
#define TOOL_SESSIONS_H

#include "llama3.h"
#include "tool/session_file.h"

/* The file that --session NAME|FILE means, for free(): a FILE has a slash or ends in .json. The
 * folder of names is made if it is missing. NULL on failure. */
char *sessions_path(const char *given, struct llama3_error *err);

/* Says on stderr that a session begins, or how many turns it has. */
void sessions_say(const char *given, const struct session_file *file);

/* Shows the last turns of a history on stderr; thoughts are left out. */
void sessions_show(const struct llama3_history *history, const char *label, bool markdown);

/* Lists the sessions that have names on stdout, the last used first. A status; errors are on
 * stderr. */
int sessions_list(void);

#endif
