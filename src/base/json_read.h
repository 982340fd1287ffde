/* SPDX-License-Identifier: MIT */
/* json_read.h: a JSON text into jansson's values; for json.c, which checks its nesting first. */
#ifndef BASE_JSON_READ_H
#define BASE_JSON_READ_H

#include <jansson.h>
#include <stddef.h>

#include "base/error.h"

/* A new reference to an object, or NULL: LLAMA3_EINPUT with the line, or LLAMA3_ENOMEM. Recurses as
 * deep as the text is nested. */
json_t *json_read(const char *text, size_t size, const char *where, struct llama3_error *err);

#endif
