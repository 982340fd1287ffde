/* SPDX-License-Identifier: MIT */
/* text.h: a text from a file or from stdin. */
#ifndef TOOL_TEXT_H
#define TOOL_TEXT_H

#include "base/buf.h"

/* Appends the whole file (-: stdin): valid UTF-8 without NUL bytes, at most 64 MiB. Returns a
 * status; errors are on stderr. */
int text_read(const char *path, struct buf *out);

/* Drops one newline (LF or CRLF) at the end, which editors and `echo` put there. */
void text_drop_newline(struct buf *text);

#endif
