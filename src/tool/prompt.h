/* SPDX-License-Identifier: MIT */
/* prompt.h: the text to answer: --prompt, --file, or stdin. */
#ifndef TOOL_PROMPT_H
#define TOOL_PROMPT_H

#include "base/buf.h"
#include "tool/args.h"

/* Fills text with valid UTF-8: at least one byte, no NUL bytes. One newline at the end of a file or
 * of stdin is dropped, since editors and `echo` put it there. Returns a status; errors are on
 * stderr. */
int prompt_read(const struct args *args, struct buf *text);

#endif
