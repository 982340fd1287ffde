/* SPDX-License-Identifier: MIT */
/*
 * session_file.h: a conversation as a file (--session), which the server's chat page exports and
 * imports as well. One JSON object; llama3(1) describes it under FILES. What is in it came from
 * anywhere: it is checked to the last key before anything is done.
 */
#ifndef TOOL_SESSION_FILE_H
#define TOOL_SESSION_FILE_H

#include "tool/args.h"

struct session_file;

/* A seed that every reader of JSON keeps exactly. */
#define SESSION_MAX_SEED ((UINT64_C(1) << 53) - 1)

/* Reads the file; one that does not exist is an empty conversation, if it can be made. path stays
 * the caller's. NULL on failure. */
struct session_file *session_file_open(const char *path, struct llama3_error *err);
void session_file_close(struct session_file *file);

/* Where args does not say something that the file does, args gets it; what args says is what the
 * file will say. args then points into the file. */
int session_file_settle(struct session_file *file, struct args *args, struct llama3_error *err);

/* Adds the file's messages to a history; the system prompt is not one of them. */
int session_file_load(const struct session_file *file, struct llama3_history *history,
                      struct llama3_error *err);

/* Replaces the file by this history, whole or not at all, and not at all if it isn't what was read
 * or written here last. model (a path, may be NULL) is what answered last. */
int session_file_write(struct session_file *file, const char *model,
                       const struct llama3_history *history, struct llama3_error *err);

#endif
