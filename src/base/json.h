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

/* A new reference, or NULL. The top level must be an object. jansson's json_load*() must not read
 * what comes from outside: when memory runs out they read beyond their buffers. */
json_t *json_parse(const char *text, size_t size, const char *where, struct llama3_error *err);
/* The same, but an integer beyond 64 bits is an error, and not a real number. */
json_t *json_parse_exact(const char *text, size_t size, const char *where,
                         struct llama3_error *err);
/* The same for any value. */
json_t *json_parse_value(const char *text, size_t size, const char *where,
                         struct llama3_error *err);
/* For a client's request, with much lower limits on containers and values. Its fields may be such
 * integers, and are checked where they are used; what they contain may not. */
json_t *json_parse_small(const char *text, size_t size, const char *where,
                         struct llama3_error *err);

/* The most memory that json_parse_small() takes: for "[[],[],..." a hundred times the text. */
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
/* Appends a value's text, with jansson's flags. out->failed is set if value is NULL or memory runs
 * out. jansson's json_dumps() won't do: when memory runs out it drops parts of the text, and its
 * result belongs to whatever allocator the application has set. */
void json_print(const json_t *value, size_t flags, struct buf *out);
/* An error for a value that should be another, whose text it ends with. */
int json_error(const json_t *value, const char *key, const char *expected, const char *where,
               struct llama3_error *err);
/* A value's type as errors name it: "an object", "a string". */
const char *json_kind(const json_t *value);

/* A number as text: an integer, also where it is written as 7.0, or the shortest decimal that
 * stands for it. */
void json_number_text(const json_t *number, char text[32]);

#endif
