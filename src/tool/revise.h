/* SPDX-License-Identifier: MIT */
/* revise.h: changes of a conversation that is going on. Its file (--session) follows at once. */
#ifndef TOOL_REVISE_H
#define TOOL_REVISE_H

#include "tool/turn.h"

/* The last message of a role; NULL: there is none. Valid until the history is used again. */
const char *revise_last(const struct conversation *c, const char *role);

/* These return a status; errors are on stderr, and the conversation is then as it was, unless its
 * file could not be written. */

/* Writes the file, if there is one. */
int revise_write(const struct conversation *c);
/* Takes the last question and its answer away. There has to be one. */
int revise_undo(struct conversation *c);
/* Takes all questions and answers away; the system prompt stays. */
int revise_clear(struct conversation *c);
/* Another system prompt, or none ("") . */
int revise_system(struct conversation *c, const char *text);
/* Goes on with another history, which is then the conversation's. */
int revise_replace(struct conversation *c, struct llama3_history *history);

/* Asks the last question again, or another one in its place (NULL: the same). There has to be one.
 * If there is no answer, the old one stays. */
enum turn revise_ask(struct conversation *c, const char *question);

#endif
