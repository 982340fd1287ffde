/* SPDX-License-Identifier: MIT */
/*
 * interrupt.h: what ^C does. While a session answers, it ends that answer. While a model is opened,
 * which may have to clean up, it is noted, and another one after a while ends the program. At any
 * other time it ends the program with status 130, unless a chat has begun.
 */
#ifndef TOOL_INTERRUPT_H
#define TOOL_INTERRUPT_H

#include <stdbool.h>

#include "llama3.h"

void interrupt_install(void);

/* From here to interrupt_end(), ^C cancels what the session does. */
void interrupt_begin(struct llama3_session *session);
/* From here to interrupt_end(), ^C is only noted, unless it comes again after a while. */
void interrupt_defer(void);
/* From now on ^C ends nothing but answers: a chat, which it must not end. */
void interrupt_only_answers(void);
bool interrupt_seen(void); /* ^C came since interrupt_begin() or interrupt_defer() */
void interrupt_end(void);

#endif
