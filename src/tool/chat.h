/* SPDX-License-Identifier: MIT */
/* chat.h: a conversation in the terminal. */
#ifndef TOOL_CHAT_H
#define TOOL_CHAT_H

#include "tool/turn.h"

/* Asks and answers until the user leaves. A status; errors are on stderr. */
int chat_run(const struct conversation *conversation);

#endif
