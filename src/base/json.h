/* SPDX-License-Identifier: MIT */
/*
 * json.h: JSON that came from outside, as jansson's values: nesting of at most 64, duplicate keys
 * refused, numbers with ranges, errors that name the file, the key, what was expected and what was
 * found.
 *
 * Every getter takes `where`, the file or object that an error names, and returns 0, or -1 with
 * err filled. A key that is absent or null leaves *out as it was, unless `required`.
 */
#ifndef BASE_JSON_H
#define BASE_JSON_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/error.h"

enum { JSON_MAX_NESTING = 64 };

/* A new reference, or NULL. The top must be an object. jansson's json_load*() are not for what
 * comes from outside: without memory they read beyond their buffers. */
json_t *json_parse(const char *text, size_t size, const char *where, struct llama3_error *err);
/* The same for what any client may send: far fewer containers and values are expected. */
json_t *json_parse_small(const char *text, size_t size, const char *where,
                         struct llama3_error *err);

/* Bytes of memory that json_parse_small() takes at most, which for "[[],[],..." is a hundred times
 * the text's. */
uint64_t json_cost(const char *text, size_t size);

int json_get_int(const json_t *object, const char *key, bool required, int64_t min, int64_t max,
                 int64_t *out, const char *where, struct llama3_error *err);
int json_get_number(const json_t *object, const char *key, bool required, double min, double max,
                    double *out, const char *where, struct llama3_error *err);
int json_get_bool(const json_t *object, const char *key, bool required, bool *out,
                  const char *where, struct llama3_error *err);
/* *out stays the object's. */
int json_get_string(const json_t *object, const char *key, bool required, const char **out,
                    const char *where, struct llama3_error *err);
/* Appends a value's text, by jansson's flags; out->failed if that is NULL or there is no memory.
 * jansson's json_dumps() is not for that: without memory it leaves out parts of the text, and what
 * it returns belongs to the allocator that an application may have set for jansson. */
void json_print(const json_t *value, size_t flags, struct buf *out);
/* The word for a value's type as errors spell it: "an object", "a string". */
const char *json_kind(const json_t *value);

#endif
