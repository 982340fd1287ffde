/* SPDX-License-Identifier: MIT */
/* ask.h: a question on the terminal that is answered by yes or no. */
#ifndef TOOL_ASK_H
#define TOOL_ASK_H

#include <stdbool.h>

/* Whether there is a terminal to ask on. */
bool ask_possible(void);
/* An empty line means by_default; the end of input is a no. */
bool ask_yes(const char *question, bool by_default);

#endif
