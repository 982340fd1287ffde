/* SPDX-License-Identifier: MIT */
/* json_read.h: a JSON text into jansson's values; for json.c, which checks its nesting first. */
#ifndef BASE_JSON_READ_H
#define BASE_JSON_READ_H

#include <jansson.h>
#include <stddef.h>

#include "base/error.h"

/* A new reference to an object, or to any value that is given a depth of 1, as if it stood in an
 * object; or NULL: LLAMA3_EINPUT with the line, or LLAMA3_ENOMEM. Recurses as
 * deep as the text is nested. Integers beyond 64 bits are real numbers, since transformers writes a
 * model_max_length of int(1e30) for none; but they are refused from the depth `exact` on (1: the
 * fields of the object; 0: nowhere). */
json_t *json_read(const char *text, size_t size, size_t depth, size_t exact, const char *where,
                  struct llama3_error *err);

#endif
