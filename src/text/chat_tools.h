/* SPDX-License-Identifier: MIT */
/*
 * chat_tools.h: a conversation with tools as a template takes it (tool_form.h): arguments as JSON
 * or as text, several calls of a message one by one, and all of it as plain text where the template
 * has no tools.
 */
#ifndef TEXT_CHAT_TOOLS_H
#define TEXT_CHAT_TOOLS_H

#include <time.h>

#include "text/tool_form.h"

/* The messages that a template gets; NULL: no memory. messages: as the caller gave them, whose
 * reference is dropped. variables: the template's, of which "tools" is read, and changed where the
 * template wants them otherwise. given: those that the caller set, which are left alone. */
json_t *chat_tools_apply(const struct tool_form *form, json_t *messages, json_t *variables,
                         const json_t *given, const struct tm *now);

/* Whether a value is an array of tools. [] is one as well, as in transformers. */
bool chat_tools_given(const json_t *tools);

#endif
