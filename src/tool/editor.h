/* SPDX-License-Identifier: MIT */
/* editor.h: the user's editor ($VISUAL, $EDITOR, or vi) on a text. */
#ifndef TOOL_EDITOR_H
#define TOOL_EDITOR_H

#include "base/buf.h"

/* Replaces the text by what the editor leaves: valid UTF-8 without NUL bytes and without the
 * newline at its end. The terminal has to be in its usual mode. Returns a status; after an error,
 * which is on stderr, the text is as it was. */
int editor_run(struct buf *text);

#endif
