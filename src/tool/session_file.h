/* SPDX-License-Identifier: MIT */
/*
 * session_file.h: a conversation as a file (--session), which the server's chat page exports and
 * imports as well. One JSON object; llama3(1) describes it under FILES. It may come from anywhere,
 * so every key is checked before anything is used.
 */
#ifndef TOOL_SESSION_FILE_H
#define TOOL_SESSION_FILE_H

#include "tool/args.h"

struct session_file;

/* The largest seed that every JSON reader keeps exactly. */
#define SESSION_MAX_SEED ((UINT64_C(1) << 53) - 1)

/* Reads the file. If it does not exist but can be made, the conversation is empty. path stays the
 * caller's. NULL on failure. */
struct session_file *session_file_open(const char *path, struct llama3_error *err);
/* The same of one that is there, only to be looked at: whether it can be written doesn't matter. */
struct session_file *session_file_peek(const char *path, struct llama3_error *err);
void session_file_close(struct session_file *file);

/* Whether there was no file. */
bool session_file_is_new(const struct session_file *file);
/* Questions in it. */
size_t session_file_turns(const struct session_file *file);
/* What answered last; NULL: it doesn't say. */
const char *session_file_model(const struct session_file *file);
/* Its title, or else the first question; NULL: it has neither. */
const char *session_file_title(const struct session_file *file);

/* Settles the settings: what args leaves open comes from the file, and what args gives goes into
 * the file. args then points into the file's memory. */
int session_file_settle(struct session_file *file, struct args *args, struct llama3_error *err);

/* The same of one option that has changed since. */
int session_file_keep(struct session_file *file, const struct option_spec *spec,
                      const struct args *args, struct llama3_error *err);

/* The system prompt of the file as it was read; NULL: none. */
const char *session_file_system(const struct session_file *file);
/* Adds the file's messages to a history; the system prompt is not one of them. */
int session_file_load(const struct session_file *file, struct llama3_history *history,
                      struct llama3_error *err);

/* Replaces the file by this history, whole or not at all. Fails if the file is not the one read or
 * written here last. model (a path, may be NULL): what answered last. */
int session_file_write(struct session_file *file, const char *model,
                       const struct llama3_history *history, struct llama3_error *err);

#endif
