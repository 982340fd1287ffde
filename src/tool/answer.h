/* SPDX-License-Identifier: MIT */
/* answer.h: one answer, from tokens to stdout. */
#ifndef TOOL_ANSWER_H
#define TOOL_ANSWER_H

#include "base/buf.h"
#include "tool/args.h"
#include "tool/session_file.h"

enum answer {
    ANSWER_OK,
    ANSWER_FAILED,      /* err says why; nothing was printed about it */
    ANSWER_INTERRUPTED, /* by ^C */
    ANSWER_UNREAD       /* stdout takes no more; it is said if there is something to say */
};

/* What the answers of one run have in common. */
struct answerer {
    const struct args *args;
    const struct llama3_model *model;
    struct llama3_session *session;
    struct session_file *file; /* --session: where the conversation is kept; NULL: nowhere */
    double open_seconds;       /* that opening the model took */
};

/* Reads the prompt and prints the answer as it comes, with a newline at its end; then what --stats
 * asks for. label goes to stderr before the answer's first word: not earlier, because progress is
 * shown on that line. said (may be NULL) receives the answer. */
enum answer answer_print(const struct answerer *answerer, const int32_t *prompt, size_t n,
                         const char *label, struct buf *said, struct llama3_error *err);

#endif
