/* chat.h: a conversation in the terminal. */
#ifndef TOOL_CHAT_H
#define TOOL_CHAT_H

#include "tool/answer.h"

/* Until the user leaves. Returns a status; errors are on stderr. */
int chat_run(const struct answerer *answerer);

#endif
