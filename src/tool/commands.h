/* SPDX-License-Identifier: MIT */
/* commands.h: what a chat does for a message that begins with a slash. */
#ifndef TOOL_COMMANDS_H
#define TOOL_COMMANDS_H

#include "tool/chat.h"

/* Runs the command of a message, "/name argument", which is cut into pieces. TURN_FAILED ends the
 * chat; what is wrong with a command is said and ends nothing. */
enum turn commands_run(struct chat *chat, char *message);

/* As line_options.complete: names of commands, of settings and of files. arg: struct chat. */
size_t commands_complete(void *arg, const char *before, struct line_words *words);

/* Frees what commands left in the chat; args then point to nothing that is gone. */
void commands_free(struct chat *chat);

#endif
