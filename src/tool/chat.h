/* SPDX-License-Identifier: MIT */
/* chat.h: a conversation in the terminal. */
#ifndef TOOL_CHAT_H
#define TOOL_CHAT_H

#include "tool/answer.h"

/* The conversation that goes on: the system prompt, and what --session brings. NULL after an error,
 * which is on stderr. */
struct llama3_history *chat_begin(const struct answerer *answerer);
/* Keeps it in the session's file, if there is one. Returns a status; errors are on stderr. */
int chat_keep(const struct answerer *answerer, const struct llama3_history *history);

/* Until the user leaves. Returns a status; errors are on stderr. */
int chat_run(const struct answerer *answerer);

#endif
