/* SPDX-License-Identifier: MIT */
/* prompt.h: the text to answer: files, then --prompt; or stdin. */
#ifndef TOOL_PROMPT_H
#define TOOL_PROMPT_H

#include "base/buf.h"
#include "tool/args.h"

/* Fills text with valid UTF-8: at least one byte, no NUL bytes. Its parts stand in the order in
 * which they were given, an empty line between them, but --prompt is the last, so that what another
 * prompt reads of the same files is there already. One newline at the end of a file or of stdin is
 * dropped. Returns a status; errors are on stderr. */
int prompt_read(const struct args *args, struct buf *text);

#endif
