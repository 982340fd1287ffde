/* SPDX-License-Identifier: MIT */
/* chat.h: a conversation in the terminal. */
#ifndef TOOL_CHAT_H
#define TOOL_CHAT_H

#include "tool/line.h"
#include "tool/turn.h"

/* What the loop and the commands (commands.h) share. */
struct chat {
    struct conversation *conversation;
    struct args *args;         /* the conversation's, whose settings change */
    struct llama3_result last; /* of the last answer; prompt_tokens 0: there is none yet */
    struct buf before;         /* texts of /read, which go before the next question */
    struct buf refused;        /* the question that did not fit, for /retry */
    struct line_words kept;    /* texts that args point to */
    char *saved;               /* the file of the last /save; NULL: none */
    bool leaves;
};

/* Asks and answers until the user leaves. args are the conversation's. A status; errors are on
 * stderr. */
int chat_run(struct conversation *conversation, struct args *args);

/* Asks a question that was put together, and says what can be done where it does not fit. */
enum turn chat_ask(struct chat *chat, const char *question);
/* What is to be said and kept once a question was asked. */
enum turn chat_asked(struct chat *chat, const char *question, enum turn turn);

#endif
