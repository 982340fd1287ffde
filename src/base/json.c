/* SPDX-License-Identifier: MIT */
/*
 * json.c: a check before the parser, and getters with ranges.
 *
 * A scan before parsing bounds what is allocated. jansson takes some 150 bytes for the two bytes
 * "[]", so containers are counted; nesting is capped because the parser recurses.
 */
#include "base/json.h"

#include <math.h>

#include "base/json_read.h"

struct json_limits {
    size_t containers, values;
};

/* Llama 3's tokenizer.json has 280 thousand containers and 700 thousand values. */
static const struct json_limits files = {1 << 20, 1 << 21};
/* A conversation of 16 thousand messages in parts, a prompt of 130 thousand tokens. */
static const struct json_limits requests = {1 << 16, 1 << 18};

struct counts {
    size_t containers, values;
    bool deep; /* nested deeper than JSON_MAX_NESTING */
};

static struct counts scan(const char *text, size_t size)
{
    struct counts counts = {0};
    size_t depth = 0;
    for (size_t i = 0; i < size; i++) {
        switch (text[i]) {
        case '"':
            for (i++; i < size && text[i] != '"'; i++)
                i += text[i] == '\\';
            break;
        case '[':
        case '{':
            counts.containers++;
            counts.deep |= ++depth > JSON_MAX_NESTING;
            break;
        case ']':
        case '}':
            depth -= depth > 0;
            break;
        case ',':
            counts.values++;
            break;
        }
    }
    return counts;
}

static int check(const char *text, size_t size, const struct json_limits *most, const char *where,
                 struct llama3_error *err)
{
    struct counts found = scan(text, size);
    if (found.deep)
        return error_input(err, "%s: expected JSON nested at most %d deep, found deeper", where,
                           JSON_MAX_NESTING);
    if (found.containers > most->containers || found.values > most->values)
        return error_input(
            err, "%s: expected at most %zu JSON containers and %zu values, found %zu and %zu",
            where, most->containers, most->values, found.containers, found.values);
    return 0;
}

uint64_t json_cost(const char *text, size_t size)
{
    /* Of jansson 2.14 with glibc: an object with its table; a value with its key and slots; a
     * string as it is read, as a value, and copied once more where it is used. */
    enum { CONTAINER = 256, VALUE = 224, BYTE = 3 };
    struct counts found = scan(text, size);
    if (found.deep || found.containers > requests.containers || found.values > requests.values)
        return 0; /* it is refused before anything is allocated */
    return (uint64_t)found.containers * CONTAINER + (uint64_t)found.values * VALUE +
           (uint64_t)size * BYTE;
}

static json_t *parse(const char *text, size_t size, const struct json_limits *most, size_t depth,
                     size_t exact, const char *where, struct llama3_error *err)
{
    if (check(text, size, most, where, err) != 0)
        return NULL;
    return json_read(text, size, depth, exact, where, err);
}

json_t *json_parse(const char *text, size_t size, const char *where, struct llama3_error *err)
{
    return parse(text, size, &files, 0, 0, where, err);
}

json_t *json_parse_exact(const char *text, size_t size, const char *where, struct llama3_error *err)
{
    return parse(text, size, &files, 0, 1, where, err);
}

json_t *json_parse_value(const char *text, size_t size, const char *where, struct llama3_error *err)
{
    return parse(text, size, &files, 1, 1, where, err);
}

json_t *json_parse_small(const char *text, size_t size, const char *where, struct llama3_error *err)
{
    return parse(text, size, &requests, 0, 2, where, err);
}

static int print_piece(const char *bytes, size_t n, void *arg)
{
    struct buf *out = arg;
    buf_add(out, bytes, n);
    return out->failed ? -1 : 0;
}

void json_print(const json_t *value, size_t flags, struct buf *out)
{
    if (json_dump_callback(value, print_piece, out, flags) != 0)
        out->failed = true;
}

const char *json_kind(const json_t *value)
{
    if (value == NULL)
        return "nothing";
    switch (json_typeof(value)) {
    case JSON_OBJECT:
        return "an object";
    case JSON_ARRAY:
        return "an array";
    case JSON_STRING:
        return "a string";
    case JSON_INTEGER:
        return "an integer";
    case JSON_REAL:
        return "a number";
    case JSON_TRUE:
        return "true";
    case JSON_FALSE:
        return "false";
    case JSON_NULL:
        return "null";
    }
    return "something unknown";
}

int json_error(const json_t *value, const char *key, const char *expected, const char *where,
               struct llama3_error *err)
{
    struct buf text = {0};
    json_print(value, JSON_ENCODE_ANY, &text);
    int result = error_input(err, "%s: \"%s\": expected %s, found %.80s", where, key, expected,
                             text.failed ? json_kind(value) : text.data);
    buf_free(&text);
    return result;
}

/* Sets of jansson's types. */
enum {
    INTEGER = 1 << JSON_INTEGER,
    NUMBER = INTEGER | 1 << JSON_REAL,
    BOOLEAN = 1 << JSON_TRUE | 1 << JSON_FALSE,
    STRING = 1 << JSON_STRING
};

/* The value of key, of one of these types. NULL if it is absent or null: *result is then 0, or -1
 * with an error if the key is required; and -1 if it is of another type. */
static json_t *get(const json_t *object, const char *key, bool required, int types,
                   const char *expected, int *result, const char *where, struct llama3_error *err)
{
    json_t *value = json_object_get(object, key);
    bool absent = value == NULL || json_is_null(value);
    *result = 0;
    if (!absent && (types & 1 << json_typeof(value)) != 0)
        return value;
    if (!absent || required)
        *result = error_input(err, "%s: \"%s\": expected %s, found %s", where, key, expected,
                              json_kind(value));
    return NULL;
}

int json_get_int(const json_t *object, const char *key, bool required, int64_t min, int64_t max,
                 int64_t *out, const char *where, struct llama3_error *err)
{
    int result;
    const json_t *value = get(object, key, required, INTEGER, "an integer", &result, where, err);
    if (value == NULL)
        return result;
    json_int_t found = json_integer_value(value);
    if (found < min || found > max)
        return error_input(err, "%s: \"%s\": expected %lld..%lld, found %lld", where, key,
                           (long long)min, (long long)max, (long long)found);
    *out = found;
    return 0;
}

int json_get_number(const json_t *object, const char *key, bool required, double min, double max,
                    double *out, const char *where, struct llama3_error *err)
{
    int result;
    const json_t *value = get(object, key, required, NUMBER, "a number", &result, where, err);
    if (value == NULL)
        return result;
    double found = json_number_value(value);
    if (!(found >= min && found <= max)) {
        char text[32];
        json_number_text(value, text);
        return error_input(err, "%s: \"%s\": expected %g..%g, found %s", where, key, min, max,
                           text);
    }
    *out = found;
    return 0;
}

int json_get_bool(const json_t *object, const char *key, bool required, bool *out,
                  const char *where, struct llama3_error *err)
{
    int result;
    const json_t *value = get(object, key, required, BOOLEAN, "true or false", &result, where, err);
    if (value == NULL)
        return result;
    *out = json_is_true(value);
    return 0;
}

int json_get_string(const json_t *object, const char *key, bool required, const char **out,
                    const char *where, struct llama3_error *err)
{
    int result;
    const json_t *value = get(object, key, required, STRING, "a string", &result, where, err);
    if (value == NULL)
        return result;
    *out = json_string_value(value);
    return 0;
}

void json_number_text(const json_t *number, char text[32])
{
    double value = json_number_value(number);
    if (json_is_integer(number)) {
        snprintf(text, 32, "%" JSON_INTEGER_FORMAT, json_integer_value(number));
        return;
    }
    if (floor(value) == value && fabs(value) < 0x1p53) { /* 7.0 is an integer in JSON */
        snprintf(text, 32, "%.0f", value);
        return;
    }
    for (int digits = 15; digits <= 17; digits++) {
        snprintf(text, 32, "%.*g", digits, value);
        if (strtod(text, NULL) == value)
            break;
    }
}
