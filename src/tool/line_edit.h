/* SPDX-License-Identifier: MIT */
/* line_edit.h: messages edited by libedit: history, completion, pastes, an editor by ^X^E. A build
 * without it has line_no_edit.c instead, which opens none. */
#ifndef TOOL_LINE_EDIT_H
#define TOOL_LINE_EDIT_H

#include "tool/line.h"

struct line_editor;

/* stdin and stderr have to be terminals. NULL: there is none, and the reason, unless the build has
 * no libedit, is on stderr as a note. */
struct line_editor *line_editor_open(const struct line_options *options);
void line_editor_close(struct line_editor *editor); /* NULL does nothing */

/* As line_read(). */
enum line_end line_editor_read(struct line_editor *editor, const char *prompt, struct buf *text);

#endif
