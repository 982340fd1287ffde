/* SPDX-License-Identifier: MIT */
/* turn.h: a conversation, and one turn of it: a question, and its answer on stdout. */
#ifndef TOOL_TURN_H
#define TOOL_TURN_H

#include "tool/args.h"
#include "tool/session_file.h"

struct conversation {
    const struct args *args;
    struct llama3_model *model;
    struct llama3_session *session;
    struct llama3_history *history;
    struct llama3_constraint *constraint; /* of every answer; NULL: none */
    struct session_file *file;            /* --session; NULL: it is not kept */
    bool raw;                             /* no chat template: the answer continues the question */
    const char *label;                    /* on stderr, before an answer */
    double open_seconds;                  /* that opening the model took */
    struct llama3_result *last; /* filled in after an answer; NULL: nobody wants to know */
};

enum turn {
    TURN_ANSWERED,
    TURN_INTERRUPTED, /* by ^C; what was said until then is kept */
    TURN_NO_ROOM,     /* the context is full; an error is on stderr */
    TURN_UNFINISHED,  /* cut before it was what --json and the like ask for, which is said; kept */
    TURN_UNSAVED,     /* answered, but the session's file has none of it; an error is on stderr */
    TURN_FAILED       /* an error is on stderr, unless nobody reads stdout any more */
};

/* Begins the history: the system prompt, and what the session's file holds. A status; errors are on
 * stderr. */
int conversation_begin(struct conversation *c);
/* Whether the history ends with a question. */
bool conversation_asks(const struct conversation *c);

/* Answers a question, or the history's last message if it is NULL. The answer is printed as it
 * comes, then what --stats asks for. Question and answer go into the history and the session's
 * file; a question without any answer is forgotten. */
enum turn conversation_turn(const struct conversation *c, const char *question);

#endif
