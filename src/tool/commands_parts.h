/* SPDX-License-Identifier: MIT */
/* commands_parts.h: the inside of commands.h. A command gets its argument, "" without one, in
 * memory that it may change, and says itself what is wrong with it. */
#ifndef TOOL_COMMANDS_PARTS_H
#define TOOL_COMMANDS_PARTS_H

#include "tool/commands.h"

/* What a command is given, and what Tab therefore offers. */
enum command_argument { ARGUMENT_NONE, ARGUMENT_TEXT, ARGUMENT_SETTING, ARGUMENT_FILE };

struct command {
    const char *name, *shown; /* "set", "NAME VALUE" or "" */
    const char *help;
    enum turn (*run)(struct chat *chat, char *argument);
    enum command_argument argument;
    bool needed; /* it makes no sense without its argument */
};

/* What a command that has done what it can returns: TURN_UNSAVED where status says that the
 * conversation's file could not be written. */
enum turn command_done(int status);
/* A path with the home folder in the place of "~/", for free(); NULL without memory, said. */
char *command_path(const char *path);

/* commands_talk.c */
enum turn command_undo(struct chat *chat, char *argument);
enum turn command_retry(struct chat *chat, char *argument);
enum turn command_edit(struct chat *chat, char *argument);
enum turn command_clear(struct chat *chat, char *argument);
enum turn command_system(struct chat *chat, char *argument);
enum turn command_show(struct chat *chat, char *argument);
enum turn command_stats(struct chat *chat, char *argument);
enum turn command_copy(struct chat *chat, char *argument);
/* commands_set.c */
enum turn command_set(struct chat *chat, char *argument);
/* commands_files.c */
enum turn command_read(struct chat *chat, char *argument);
enum turn command_save(struct chat *chat, char *argument);
enum turn command_load(struct chat *chat, char *argument);
enum turn command_model(struct chat *chat, char *argument);

#endif
