/* SPDX-License-Identifier: MIT */
/* line_plain.h: messages as the terminal's line discipline gives them, for a terminal that can't
 * move its cursor and for a build without libedit. */
#ifndef TOOL_LINE_PLAIN_H
#define TOOL_LINE_PLAIN_H

#include "tool/line.h"

struct line_plain {
    char *text; /* getline()'s */
    size_t capacity;
};

void line_plain_free(struct line_plain *plain);
/* As line_read(). A line that is too long for the terminal, or no text, is refused with an error,
 * and asked for again. */
enum line_end line_plain_read(struct line_plain *plain, const char *prompt, struct buf *text);

#endif
