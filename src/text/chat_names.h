/* SPDX-License-Identifier: MIT */
/* chat_names.h: what widely used chat templates are called, by the SHA-256 of their exact text with
 * every line end as LF and without one at the end, as Jinja reads it; and texts for checkpoints
 * that have none. */
#ifndef TEXT_CHAT_NAMES_H
#define TEXT_CHAT_NAMES_H

/* "llama3.1"; "custom" for a text that is not listed. Static. */
const char *chat_known_name(const char *text);

/* Names of the templates that are built in, NULL-terminated, and the text of one; NULL: no such
 * name. */
const char *const *chat_builtin_names(void);
const char *chat_builtin(const char *name);

#endif
