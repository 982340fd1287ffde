/* SPDX-License-Identifier: MIT */
/*
 * json_read.c: our own parser. jansson's (2.14) ignores that its token buffer could not grow, and
 * then reads past it or aborts. Replacing jansson's allocator is no way out: it belongs to the
 * whole process, and so to the application. This file calls only functions that make and fill
 * values, which fail cleanly.
 */
#include "config.h" /* strtod_l */

#include <errno.h>
#include <locale.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "base/json.h"
#include "base/json_read.h"
#include "base/utf8.h"

struct json_reader {
    const char *text; /* [size] */
    size_t size, at;
    struct buf token;    /* a string without its escapes, or a number */
    locale_t plain;      /* the C locale, in which numbers have a point */
    size_t depth, exact; /* exact: the depth from which integers are exact; 0: none are */
    const char *where;
    struct llama3_error *err;
};

static bool is_digit(char c)
{
    return c >= '0' && c <= '9';
}

static bool is_letter(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
}

/* The next byte; NUL at the end, which no JSON has outside of a string. */
static char peek(const struct json_reader *r)
{
    return r->at < r->size ? r->text[r->at] : '\0';
}

static void skip_space(struct json_reader *r)
{
    while (peek(r) == ' ' || peek(r) == '\t' || peek(r) == '\n' || peek(r) == '\r')
        r->at++;
}

static bool take(struct json_reader *r, char c)
{
    skip_space(r);
    if (peek(r) != c)
        return false;
    r->at++;
    return true;
}

/* Fills err with what is wrong here. Returns NULL. */
static void *refuse(const struct json_reader *r, const char *what)
{
    enum { MOST = 20 }; /* bytes that are quoted */
    size_t line = 1, n = 0;
    for (size_t i = 0; i < r->at; i++)
        line += r->text[i] == '\n';
    const char *near = r->text + r->at;
    size_t left = r->size - r->at;
    while (n < left && n < MOST && is_letter(near[n]))
        n++;
    if (left == 0)
        error_input(r->err, "%s: expected JSON: line %zu: %s near end of file", r->where, line,
                    what);
    else
        error_input(r->err, "%s: expected JSON: line %zu: %s near '%.*s'", r->where, line, what,
                    (int)(n > 0 ? n : 1), near);
    return NULL;
}

static void *no_memory(const struct json_reader *r)
{
    error_set(r->err, LLAMA3_ENOMEM, "%s: not enough memory for its JSON", r->where);
    return NULL;
}

/* Four hexadecimal digits, or -1. */
static int32_t read_hex(struct json_reader *r)
{
    int32_t value = 0;
    for (int i = 0; i < 4; i++, r->at++) {
        char c = peek(r);
        if (is_digit(c))
            value = value << 4 | (c - '0');
        else if ((c | 0x20) >= 'a' && (c | 0x20) <= 'f')
            value = value << 4 | ((c | 0x20) - 'a' + 10);
        else
            return -1;
    }
    return value;
}

/* What follows \u. 0, or -1 after an error. */
static int read_unicode(struct json_reader *r)
{
    uint8_t bytes[4];
    int32_t value = read_hex(r);
    if (value >= 0xd800 && value <= 0xdbff && r->size - r->at >= 2 && r->text[r->at] == '\\' &&
        r->text[r->at + 1] == 'u') {
        r->at += 2;
        int32_t low = read_hex(r);
        value =
            low >= 0xdc00 && low <= 0xdfff ? 0x10000 + ((value - 0xd800) << 10) + low - 0xdc00 : -1;
    }
    if (value == 0)
        return refuse(r, "\\u0000 is not allowed"), -1;
    if (value < 0 || (value >= 0xd800 && value <= 0xdfff))
        return refuse(r, "invalid Unicode escape"), -1;
    buf_add(&r->token, (const char *)bytes, (size_t)utf8_encode((uint32_t)value, bytes));
    return 0;
}

/* What follows a backslash. */
static int read_escape(struct json_reader *r)
{
    static const char names[] = "\"\\/bfnrt", meanings[] = "\"\\/\b\f\n\r\t";
    char c = peek(r);
    if (c == 'u') {
        r->at++;
        return read_unicode(r);
    }
    const char *name = c != '\0' ? strchr(names, c) : NULL;
    if (name == NULL)
        return refuse(r, "invalid escape"), -1;
    r->at++;
    buf_add(&r->token, &meanings[name - names], 1);
    return 0;
}

/* The bytes up to what is special in a string. */
static int read_plain(struct json_reader *r)
{
    const char *from = r->text + r->at;
    size_t n = 0, left = r->size - r->at;
    while (n < left && from[n] != '"' && from[n] != '\\' && (unsigned char)from[n] >= 0x20)
        n++;
    size_t valid = utf8_valid((const uint8_t *)from, n);
    buf_add(&r->token, from, valid);
    r->at += valid;
    if (valid == n)
        return 0;
    char what[64];
    snprintf(what, sizeof what, "unable to decode byte 0x%x", (unsigned char)from[valid]);
    return refuse(r, what), -1;
}

/* A string, of which the first quote is next, into r->token. */
static int read_string(struct json_reader *r)
{
    buf_clear(&r->token);
    buf_add(&r->token, "", 0);
    for (r->at++; read_plain(r) == 0;) {
        char c = peek(r);
        if (r->at == r->size || (c != '"' && c != '\\'))
            return refuse(r, r->at == r->size ? "expected '\"'" : "control character"), -1;
        r->at++;
        if (c == '"')
            return r->token.failed ? (no_memory(r), -1) : 0;
        if (read_escape(r) < 0)
            break;
    }
    return -1;
}

static void skip_digits(struct json_reader *r)
{
    while (is_digit(peek(r)))
        r->at++;
}

/* Skips a number; false if there is none. */
static bool skip_number(struct json_reader *r, bool *is_integer)
{
    *is_integer = true;
    r->at += peek(r) == '-';
    if (!is_digit(peek(r)))
        return false;
    if (peek(r) == '0')
        r->at++;
    else
        skip_digits(r);
    if (is_digit(peek(r)))
        return false;
    if (peek(r) == '.') {
        *is_integer = false;
        r->at++;
        if (!is_digit(peek(r)))
            return false;
        skip_digits(r);
    }
    if (peek(r) == 'e' || peek(r) == 'E') {
        *is_integer = false;
        r->at++;
        r->at += peek(r) == '+' || peek(r) == '-';
        if (!is_digit(peek(r)))
            return false;
        skip_digits(r);
    }
    return true;
}

static json_t *read_number(struct json_reader *r)
{
    size_t from = r->at;
    bool is_integer;
    if (!skip_number(r, &is_integer))
        return refuse(r, "invalid token");
    buf_clear(&r->token);
    buf_add(&r->token, r->text + from, r->at - from);
    if (r->token.failed)
        return no_memory(r);
    json_t *value = NULL;
    errno = 0;
    long long integer = is_integer ? strtoll(r->token.data, NULL, 10) : 0;
    if (is_integer && errno == 0) {
        value = json_integer(integer);
    } else if (is_integer && r->exact > 0 && r->depth >= r->exact) {
        return refuse(r, "expected an integer of 64 bits, found a larger one");
    } else {
        double real = strtod_l(r->token.data, NULL, r->plain);
        if (isinf(real))
            return refuse(r, "real number overflow");
        value = json_real(real);
    }
    return value != NULL ? value : no_memory(r);
}

static json_t *read_word(struct json_reader *r)
{
    static const char *const words[] = {"true", "false", "null"};
    size_t n = 0, left = r->size - r->at;
    const char *from = r->text + r->at;
    while (n < left && is_letter(from[n]))
        n++;
    for (size_t i = 0; i < 3; i++) {
        if (strlen(words[i]) == n && memcmp(words[i], from, n) == 0) {
            r->at += n;
            return i == 0 ? json_true() : i == 1 ? json_false() : json_null();
        }
    }
    return refuse(r, n > 0 ? "invalid token" : "expected a value");
}

static json_t *read_value(struct json_reader *r);

static int read_member(struct json_reader *r, json_t *object)
{
    skip_space(r);
    if (peek(r) != '"')
        return refuse(r, "expected string or '}'"), -1;
    if (read_string(r) < 0)
        return -1;
    if (json_object_get(object, r->token.data) != NULL)
        return refuse(r, "duplicate object key"), -1;
    char *key = strdup(r->token.data);
    if (key == NULL)
        return no_memory(r), -1;
    json_t *value = take(r, ':') ? read_value(r) : refuse(r, "expected ':'");
    int status = value != NULL ? json_object_set_new_nocheck(object, key, value) : -1;
    if (value != NULL && status != 0)
        no_memory(r);
    free(key);
    return status;
}

static int read_element(struct json_reader *r, json_t *array)
{
    json_t *value = read_value(r);
    if (value != NULL && json_array_append_new(array, value) != 0)
        value = no_memory(r);
    return value != NULL ? 0 : -1;
}

/* An object or an array, of which the first bracket is next. */
static json_t *read_container(struct json_reader *r)
{
    bool is_object = r->text[r->at++] == '{';
    char end = is_object ? '}' : ']';
    json_t *container = is_object ? json_object() : json_array();
    if (container == NULL)
        return no_memory(r);
    if (take(r, end))
        return container;
    r->depth++;
    do {
        if ((is_object ? read_member(r, container) : read_element(r, container)) != 0) {
            json_decref(container);
            return NULL;
        }
    } while (take(r, ','));
    r->depth--;
    if (take(r, end))
        return container;
    json_decref(container);
    return refuse(r, is_object ? "expected '}'" : "expected ']'");
}

static json_t *read_value(struct json_reader *r)
{
    skip_space(r);
    char c = peek(r);
    if (c == '{' || c == '[')
        return read_container(r);
    if (is_digit(c) || c == '-')
        return read_number(r);
    if (c != '"')
        return read_word(r);
    if (read_string(r) < 0)
        return NULL;
    json_t *value = json_stringn_nocheck(r->token.data, r->token.size);
    return value != NULL ? value : no_memory(r);
}

/* ---- the whole --------------------------------------------------------------------------- */

static json_t *read_root(struct json_reader *r)
{
    bool any = r->depth > 0;
    json_t *root = read_value(r);
    skip_space(r);
    if (root != NULL && r->at < r->size)
        refuse(r, "expected end of file");
    else if (root == NULL || any || json_is_object(root))
        return root;
    else
        error_input(r->err, "%s: expected a JSON object, found %s", r->where, json_kind(root));
    json_decref(root);
    return NULL;
}

json_t *json_read(const char *text, size_t size, size_t depth, size_t exact, const char *where,
                  struct llama3_error *err)
{
    struct json_reader r = {
        .text = text, .size = size, .depth = depth, .exact = exact, .where = where, .err = err};
    r.plain = newlocale(LC_ALL_MASK, "C", (locale_t)0);
    if (r.plain == (locale_t)0)
        return no_memory(&r);
    json_t *root = read_root(&r);
    freelocale(r.plain);
    buf_free(&r.token);
    return root;
}
