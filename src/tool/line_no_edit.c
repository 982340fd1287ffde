/* SPDX-License-Identifier: MIT */
/* line_no_edit.c: in the place of line_edit.c, for a build without libedit. */
#include "tool/line_edit.h"

struct line_editor *line_editor_open(const struct line_options *options)
{
    (void)options;
    return NULL;
}

void line_editor_close(struct line_editor *editor)
{
    (void)editor;
}

enum line_end line_editor_read(struct line_editor *editor, const char *prompt, struct buf *text)
{
    (void)editor;
    (void)prompt;
    (void)text;
    return LINE_LEFT;
}
