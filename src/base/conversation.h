/* SPDX-License-Identifier: MIT */
/*
 * conversation.h: a conversation as a file, which llama3 --session, llama3_history_load() and the
 * server's chat page share. One JSON object; llama3(1) describes it under "Sessions". It may come
 * from anywhere, so every key is checked before anything is used.
 */
#ifndef BASE_CONVERSATION_H
#define BASE_CONVERSATION_H

#include <jansson.h>
#include <stdbool.h>

#include "base/error.h"

/* Reads a file. The result, a new reference, has only known keys of the right types: "title",
 * "model" and "system" are strings where they are there, "sampling" is an object whose keys are the
 * caller's to check, and "messages" an array of user and assistant by turns. NULL on failure, and
 * without err where there is no file, which *missing says; missing NULL: that is a failure too. */
json_t *conversation_read(const char *path, bool *missing, struct llama3_error *err);

/* Replaces the file, whole or not at all, by these n messages: user and assistant by turns, after
 * one of system or none. rest: an object whose title, model and sampling are kept; NULL: none. */
int conversation_write(const char *path, const json_t *rest, const struct llama3_message *messages,
                       size_t n, struct llama3_error *err);

#endif
