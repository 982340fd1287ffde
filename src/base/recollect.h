/* SPDX-License-Identifier: MIT */
/*
 * recollect.h: an answer as it goes into the history of a conversation. Chat templates expect the
 * thoughts of earlier answers between <think> and </think>, and leave out what they don't want.
 */
#ifndef BASE_RECOLLECT_H
#define BASE_RECOLLECT_H

#include "base/buf.h"

#define RECOLLECT_BEGIN "<think>\n"
#define RECOLLECT_END   "\n</think>\n\n"

struct recollection {
    struct buf text;
    bool thinking; /* the thoughts are open: text ends them */
};

void recollect_thought(struct recollection *answer, const char *text, size_t n);
/* The end of an answer is a text of no bytes. */
void recollect_text(struct recollection *answer, const char *text, size_t n);

#endif
