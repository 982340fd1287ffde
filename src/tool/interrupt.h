/*
 * interrupt.h: what ^C does. While a session answers it ends that answer; at any other time it
 * ends the program with status 130.
 */
#ifndef TOOL_INTERRUPT_H
#define TOOL_INTERRUPT_H

#include <stdbool.h>

#include "llama3.h"

void interrupt_install(void);

/* From here to interrupt_end(), ^C cancels what the session does. */
void interrupt_begin(struct llama3_session *session);
bool interrupt_seen(void); /* ^C came since interrupt_begin() */
void interrupt_end(void);

#endif
