/* SPDX-License-Identifier: MIT */
/* jinja_value.c: makes a template's values, and writes them as Python's str() and repr() do. */
#include <inttypes.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/utf8.h"
#include "text/jinja_value.h"

enum {
    MAX_RANGE = 100000, /* of jinja2's sandbox */
    SPARE = 4096,       /* characters of a string that is built and may stay unused */
    MANY = 50000        /* characters that are not copied if that can be helped */
};

static const char *const type_names[] = {
    [JINJA_ABSENT] = "nothing",    [JINJA_UNDEFINED] = "Undefined",
    [JINJA_NONE] = "NoneType",     [JINJA_BOOL] = "bool",
    [JINJA_INT] = "int",           [JINJA_FLOAT] = "float",
    [JINJA_STRING] = "str",        [JINJA_LIST] = "list",
    [JINJA_DICT] = "dict",         [JINJA_NAMESPACE] = "Namespace",
    [JINJA_FUNCTION] = "function", [JINJA_LOOP] = "LoopContext",
};

/* ---- making values ------------------------------------------------------------------------- */

struct jinja_value jinja_none(void)
{
    return (struct jinja_value){.type = JINJA_NONE};
}

struct jinja_value jinja_undefined(const struct jinja_string *missing)
{
    return (struct jinja_value){.type = JINJA_UNDEFINED, .missing = missing};
}

char *jinja_quoted(struct jinja_run *run, const struct jinja_string *string)
{
    size_t n = string->n < 60 ? string->n : 60;
    char *text = jinja_alloc(run, n + 3, 1);
    text[0] = text[n + 1] = '"';
    for (size_t i = 0; i < n; i++) {
        uint32_t scalar = jinja_scalar(string->chars[i]);
        text[i + 1] = (char)(scalar >= ' ' && scalar < 0x7f ? scalar : '?');
    }
    return text;
}

_Noreturn void jinja_fail_undefined(struct jinja_run *run, const char *what,
                                    struct jinja_value value)
{
    const char *name = value.missing != NULL ? jinja_quoted(run, value.missing) : "it";
    if (value.of != JINJA_ABSENT)
        jinja_fail(run, "expected %s, found none: %s of a value of type %s is undefined", what,
                   name, type_names[value.of]);
    jinja_fail(run, "expected %s, found none: %s is undefined", what, name);
}

struct jinja_value jinja_bool(bool value)
{
    return (struct jinja_value){.type = JINJA_BOOL, .boolean = value};
}

struct jinja_value jinja_int(int64_t value)
{
    return (struct jinja_value){.type = JINJA_INT, .integer = value};
}

struct jinja_value jinja_float(double value)
{
    return (struct jinja_value){.type = JINJA_FLOAT, .real = value};
}

static struct jinja_value make_string(struct jinja_run *run, const uint32_t *chars, size_t n,
                                      bool markup)
{
    static const uint32_t none[1]; /* so that a part of nothing is a place too */
    struct jinja_string *string = jinja_alloc(run, 1, sizeof *string);
    *string =
        (struct jinja_string){.chars = chars != NULL ? chars : none, .n = n, .markup = markup};
    return (struct jinja_value){.type = JINJA_STRING, .string = string};
}

struct jinja_value jinja_string(struct jinja_run *run, const uint32_t *chars, size_t n)
{
    return make_string(run, chars, n, false);
}

struct jinja_value jinja_markup(struct jinja_run *run, const struct jinja_string *string)
{
    return make_string(run, string->chars, string->n, true);
}

struct jinja_value jinja_ascii(struct jinja_run *run, const char *text)
{
    size_t n = strlen(text);
    uint32_t *chars = jinja_alloc(run, n, sizeof *chars);
    jinja_work(run, n);
    for (size_t i = 0; i < n; i++)
        chars[i] = (unsigned char)text[i] | (uint32_t)JINJA_GIVEN;
    return jinja_string(run, chars, n);
}

struct jinja_value jinja_format(struct jinja_run *run, const char *format, ...)
{
    char text[400];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    return jinja_ascii(run, text);
}

struct jinja_value jinja_list(struct jinja_run *run, enum jinja_list_kind kind, size_t capacity)
{
    struct jinja_list *list = jinja_alloc(run, 1, sizeof *list);
    *list = (struct jinja_list){.kind = kind, .capacity = capacity};
    if (capacity > 0)
        list->items = jinja_alloc(run, capacity, sizeof *list->items);
    return (struct jinja_value){.type = JINJA_LIST, .list = list};
}

void jinja_append(struct jinja_run *run, struct jinja_list *list, struct jinja_value item)
{
    if (list->n == list->capacity) {
        size_t capacity = list->capacity < 4 ? 4 : 2 * list->capacity;
        struct jinja_value *items = jinja_alloc(run, capacity, sizeof *items);
        if (list->n > 0)
            memcpy(items, list->items, list->n * sizeof *items);
        list->items = items;
        list->capacity = capacity;
    }
    list->items[list->n++] = item;
}

struct jinja_value jinja_tuple2(struct jinja_run *run, struct jinja_value a, struct jinja_value b)
{
    struct jinja_value tuple = jinja_list(run, JINJA_TUPLE, 2);
    jinja_append(run, tuple.list, a);
    jinja_append(run, tuple.list, b);
    return tuple;
}

/* How many numbers range() has. */
static uint64_t range_length(int64_t start, int64_t stop, int64_t step)
{
    if (step > 0)
        return start < stop ? ((uint64_t)stop - (uint64_t)start - 1) / (uint64_t)step + 1 : 0;
    return start > stop ? ((uint64_t)start - (uint64_t)stop - 1) / (0 - (uint64_t)step) + 1 : 0;
}

struct jinja_value jinja_range(struct jinja_run *run, int64_t start, int64_t stop, int64_t step)
{
    if (step == 0)
        jinja_fail(run, "expected a step of range() that is not 0, found 0");
    uint64_t n = range_length(start, stop, step);
    if (n > MAX_RANGE)
        jinja_fail(run, "expected a range of up to %d numbers, found %" PRIu64, MAX_RANGE, n);
    struct jinja_value range = jinja_list(run, JINJA_RANGE, (size_t)n + 3);
    struct jinja_value *items = range.list->items;
    jinja_work(run, (size_t)n);
    for (size_t i = 0; i < n; i++)
        items[i] = jinja_int(start + (int64_t)i * step);
    items[n] = jinja_int(start);
    items[n + 1] = jinja_int(stop);
    items[n + 2] = jinja_int(step);
    range.list->n = (size_t)n;
    return range;
}

struct jinja_value jinja_function(struct jinja_run *run, const char *name, jinja_builtin *builtin,
                                  struct jinja_value self)
{
    struct jinja_function *function = jinja_alloc(run, 1, sizeof *function);
    *function = (struct jinja_function){.name = name, .builtin = builtin, .self = self};
    return (struct jinja_value){.type = JINJA_FUNCTION, .function = function};
}

/* ---- from JSON ----------------------------------------------------------------------------- */

/* Of valid UTF-8, as jansson's strings are. */
static struct jinja_value from_utf8(struct jinja_run *run, const char *text, size_t size)
{
    const uint8_t *bytes = (const uint8_t *)text;
    uint32_t *chars = jinja_alloc(run, size, sizeof *chars);
    size_t n = 0;
    jinja_work(run, size);
    for (size_t i = 0; i < size; n++) {
        uint32_t scalar = bytes[i];
        int length = scalar < 0x80 ? 1 : utf8_decode(bytes + i, size - i, &scalar);
        if (length <= 0)
            jinja_fail(run, "expected UTF-8 in a variable, found the byte 0x%02x", bytes[i]);
        chars[n] = scalar | (uint32_t)JINJA_GIVEN;
        i += (size_t)length;
    }
    return jinja_string(run, chars, n);
}

static struct jinja_value from_array(struct jinja_run *run, const json_t *array)
{
    size_t n = json_array_size(array);
    struct jinja_value list = jinja_list(run, JINJA_PLAIN, n);
    jinja_work(run, n);
    for (size_t i = 0; i < n; i++)
        jinja_append(run, list.list, jinja_from_json(run, json_array_get(array, i)));
    return list;
}

static struct jinja_value from_object(struct jinja_run *run, const json_t *object)
{
    struct jinja_value dict = jinja_dict(run);
    json_t *all = (json_t *)object; /* jansson's iterators want it so; it is not changed */
    jinja_work(run, json_object_size(object));
    for (void *at = json_object_iter(all); at != NULL; at = json_object_iter_next(all, at)) {
        const char *key = json_object_iter_key(at);
        jinja_dict_set(run, dict.dict, from_utf8(run, key, strlen(key)),
                       jinja_from_json(run, json_object_iter_value(at)));
    }
    return dict;
}

struct jinja_value jinja_from_json(struct jinja_run *run, const json_t *json)
{
    struct jinja_value value = jinja_none();
    jinja_deeper(run);
    switch (json_typeof(json)) {
    case JSON_OBJECT:
        value = from_object(run, json);
        break;
    case JSON_ARRAY:
        value = from_array(run, json);
        break;
    case JSON_STRING:
        value = from_utf8(run, json_string_value(json), json_string_length(json));
        break;
    case JSON_INTEGER:
        value = jinja_int(json_integer_value(json));
        break;
    case JSON_REAL:
        value = jinja_float(json_real_value(json));
        break;
    case JSON_TRUE:
    case JSON_FALSE:
        value = jinja_bool(json_is_true(json));
        break;
    case JSON_NULL:
        break;
    }
    jinja_higher(run);
    return value;
}

/* ---- a string that grows ------------------------------------------------------------------- */

static void resize(struct jinja_builder *b, size_t capacity)
{
    b->chars =
        jinja_resize(b->run, b->chars, b->capacity * sizeof *b->chars, capacity * sizeof *b->chars);
    b->capacity = capacity;
}

static void reserve(struct jinja_builder *b, size_t n)
{
    if (n <= b->capacity - b->n)
        return;
    /* Large ones grow in place, as a rule, so that little of them need be spare. */
    size_t capacity = b->capacity < 16     ? 32
                      : b->capacity < MANY ? 2 * b->capacity
                                           : b->capacity + b->capacity / 8;
    if (capacity - b->n < n)
        capacity = b->n + n;
    resize(b, capacity);
}

struct jinja_builder jinja_reopen(struct jinja_run *run, const struct jinja_string *string)
{
    struct jinja_builder b = {.run = run};
    if (string->n < MANY)
        jinja_put_chars(&b, string->chars, string->n);
    else
        b = (struct jinja_builder){run, (uint32_t *)(uintptr_t)string->chars, string->n, string->n};
    return b;
}

void jinja_put(struct jinja_builder *b, uint32_t c)
{
    if (b->n == b->capacity)
        reserve(b, 1);
    b->chars[b->n++] = c;
}

void jinja_put_chars(struct jinja_builder *b, const uint32_t *chars, size_t n)
{
    if (n == 0)
        return;
    jinja_work(b->run, n / 16); /* many are copied at a time */
    reserve(b, n);
    memcpy(b->chars + b->n, chars, n * sizeof *chars);
    b->n += n;
}

void jinja_put_ascii(struct jinja_builder *b, const char *text)
{
    for (; *text != '\0'; text++)
        jinja_put(b, (unsigned char)*text | (uint32_t)JINJA_GIVEN);
}

struct jinja_value jinja_built(struct jinja_builder *b)
{
    if (b->capacity - b->n > SPARE)
        resize(b, b->n);
    return jinja_string(b->run, b->chars, b->n);
}

void jinja_put_escaped(struct jinja_builder *b, const struct jinja_string *string)
{
    jinja_work(b->run, string->n);
    for (size_t i = 0; i < string->n; i++) {
        uint32_t scalar = jinja_scalar(string->chars[i]);
        if (scalar == '&')
            jinja_put_ascii(b, "&amp;");
        else if (scalar == '<')
            jinja_put_ascii(b, "&lt;");
        else if (scalar == '>')
            jinja_put_ascii(b, "&gt;");
        else if (scalar == '"')
            jinja_put_ascii(b, "&#34;");
        else if (scalar == '\'')
            jinja_put_ascii(b, "&#39;");
        else
            jinja_put(b, string->chars[i]);
    }
}

/* ---- floats -------------------------------------------------------------------------------- */

struct decimal {
    uint64_t digits; /* times 10 to the exponent */
    int exponent;
};

static double decimal_value(struct decimal decimal)
{
    char text[40]; /* without a point, which a locale may write as a comma */
    snprintf(text, sizeof text, "%" PRIu64 "e%d", decimal.digits, decimal.exponent);
    return strtod(text, NULL);
}

/* The nearest decimal with so many digits. */
static struct decimal nearest_decimal(double value, int n_digits)
{
    struct decimal decimal = {0};
    char text[40];
    snprintf(text, sizeof text, "%.*e", n_digits - 1, value);
    const char *c = text;
    for (; *c != 'e'; c++)
        if (*c >= '0' && *c <= '9')
            decimal.digits = decimal.digits * 10 + (uint64_t)(*c - '0');
    decimal.exponent = atoi(c + 1) - (n_digits - 1);
    return decimal;
}

/* The decimal of the fewest digits that reads back as the positive value, and of these the nearest.
 * Each decimal of 15 digits reads back from the nearest double, so that a shorter one is the same
 * with zeros; not so for subnormal doubles. Above a power of two doubles are twice as far apart as
 * below it: there, the nearest decimal may lie below and not read back, and the next above does. */
static struct decimal shortest_decimal(double value)
{
    struct decimal decimal = {0};
    for (int n = value < 0x1p-1022 ? 1 : 15; n <= 17; n++) {
        decimal = nearest_decimal(value, n);
        if (decimal_value(decimal) == value)
            break;
        decimal.digits++;
        if (decimal_value(decimal) == value)
            break;
    }
    for (; decimal.digits % 10 == 0; decimal.exponent++)
        decimal.digits /= 10;
    return decimal;
}

/* As Python lays it out: with an exponent below 1e-4 and from 1e16 on. */
static void write_decimal(struct decimal decimal, char text[39])
{
    char digits[21];
    int n = snprintf(digits, sizeof digits, "%" PRIu64, decimal.digits);
    int point = n + decimal.exponent; /* the place of the point in the digits */
    if (point < -3 || point > 16)
        snprintf(text, 39, "%.1s%s%se%+03d", digits, n > 1 ? "." : "", digits + 1, point - 1);
    else if (point <= 0)
        snprintf(text, 39, "0.%.*s%s", -point, "000", digits);
    else if (point < n)
        snprintf(text, 39, "%.*s.%s", point, digits, digits + point);
    else
        snprintf(text, 39, "%s%.*s.0", digits, point - n, "0000000000000000");
}

void jinja_float_text(double value, char text[40])
{
    if (isnan(value)) {
        strcpy(text, "nan");
        return;
    }
    if (signbit(value))
        *text++ = '-';
    if (isinf(value))
        strcpy(text, "inf");
    else if (fpclassify(value) == FP_ZERO)
        strcpy(text, "0.0");
    else
        write_decimal(shortest_decimal(fabs(value)), text);
}

/* ---- str() and repr() ---------------------------------------------------------------------- */

static void put_int(struct jinja_builder *b, int64_t value)
{
    char text[24];
    snprintf(text, sizeof text, "%" PRId64, value);
    jinja_put_ascii(b, text);
}

static void put_hex(struct jinja_builder *b, char letter, int n_digits, uint32_t scalar)
{
    char text[16];
    snprintf(text, sizeof text, "\\%c%0*" PRIx32, letter, n_digits, scalar);
    jinja_put_ascii(b, text);
}

static void put_repr_char(struct jinja_builder *b, uint32_t c, uint32_t quote)
{
    uint32_t scalar = jinja_scalar(c);
    if (scalar == quote || scalar == '\\') {
        jinja_put_ascii(b, "\\");
        jinja_put(b, c);
    } else if (scalar == '\n')
        jinja_put_ascii(b, "\\n");
    else if (scalar == '\r')
        jinja_put_ascii(b, "\\r");
    else if (scalar == '\t')
        jinja_put_ascii(b, "\\t");
    else if (jinja_is_printable(scalar))
        jinja_put(b, c);
    else if (scalar < 0x100)
        put_hex(b, 'x', 2, scalar);
    else if (scalar < 0x10000)
        put_hex(b, 'u', 4, scalar);
    else
        put_hex(b, 'U', 8, scalar);
}

/* In single quotes, unless there are some inside and no double ones. */
static void put_repr_string(struct jinja_builder *b, const struct jinja_string *string)
{
    bool single = false, twofold = false;
    jinja_work(b->run, string->n);
    for (size_t i = 0; i < string->n; i++) {
        single |= jinja_scalar(string->chars[i]) == '\'';
        twofold |= jinja_scalar(string->chars[i]) == '"';
    }
    const char *quote = single && !twofold ? "\"" : "'";
    if (string->markup)
        jinja_put_ascii(b, "Markup(");
    jinja_put_ascii(b, quote);
    for (size_t i = 0; i < string->n; i++)
        put_repr_char(b, string->chars[i], (unsigned char)*quote);
    jinja_put_ascii(b, quote);
    if (string->markup)
        jinja_put_ascii(b, ")");
}

static void put_items(struct jinja_builder *b, const char *open, const struct jinja_value *items,
                      size_t n, const char *close)
{
    jinja_put_ascii(b, open);
    jinja_work(b->run, n);
    for (size_t i = 0; i < n; i++) {
        if (i > 0)
            jinja_put_ascii(b, ", ");
        jinja_put_repr(b, items[i]);
    }
    jinja_put_ascii(b, close);
}

static void put_range(struct jinja_builder *b, const struct jinja_list *list)
{
    const struct jinja_value *bounds = list->items + list->n;
    put_items(b, "range(", bounds, bounds[2].integer == 1 ? 2 : 3, ")");
}

static void put_list(struct jinja_builder *b, const struct jinja_list *list)
{
    switch (list->kind) {
    case JINJA_PLAIN:
        put_items(b, "[", list->items, list->n, "]");
        break;
    case JINJA_TUPLE:
        put_items(b, "(", list->items, list->n, list->n == 1 ? ",)" : ")");
        break;
    case JINJA_RANGE:
        put_range(b, list);
        break;
    case JINJA_KEYS:
        put_items(b, "dict_keys([", list->items, list->n, "])");
        break;
    case JINJA_VALUES:
        put_items(b, "dict_values([", list->items, list->n, "])");
        break;
    case JINJA_ITEMS:
        put_items(b, "dict_items([", list->items, list->n, "])");
        break;
    case JINJA_ITERATOR:
        jinja_put_ascii(b, "<generator object>");
        break;
    }
}

static void put_dict(struct jinja_builder *b, const struct jinja_dict *dict)
{
    jinja_put_ascii(b, "{");
    jinja_work(b->run, dict->n);
    for (size_t i = 0; i < dict->n; i++) {
        if (i > 0)
            jinja_put_ascii(b, ", ");
        jinja_put_repr(b, dict->items[i].key);
        jinja_put_ascii(b, ": ");
        jinja_put_repr(b, dict->items[i].value);
    }
    jinja_put_ascii(b, "}");
}

static void put_function(struct jinja_builder *b, const struct jinja_function *function)
{
    jinja_put_ascii(b, function->builtin == NULL ? "<Macro " : "<function ");
    if (function->builtin == NULL)
        jinja_put_repr(b, jinja_ascii(b->run, function->name));
    else
        jinja_put_ascii(b, function->name);
    jinja_put_ascii(b, ">");
}

static struct jinja_value loop_number(struct jinja_run *run, struct jinja_loop *loop,
                                      const char *name)
{
    return jinja_loop_attribute(run, loop, jinja_ascii(run, name).string);
}

static void put_float(struct jinja_builder *b, double value)
{
    char text[40];
    jinja_float_text(value, text);
    jinja_put_ascii(b, text);
}

void jinja_put_repr(struct jinja_builder *b, struct jinja_value value)
{
    jinja_deeper(b->run);
    switch (value.type) {
    case JINJA_ABSENT:
    case JINJA_UNDEFINED:
        jinja_put_ascii(b, "Undefined");
        break;
    case JINJA_NONE:
        jinja_put_ascii(b, "None");
        break;
    case JINJA_BOOL:
        jinja_put_ascii(b, value.boolean ? "True" : "False");
        break;
    case JINJA_INT:
        put_int(b, value.integer);
        break;
    case JINJA_FLOAT:
        put_float(b, value.real);
        break;
    case JINJA_STRING:
        put_repr_string(b, value.string);
        break;
    case JINJA_LIST:
        put_list(b, value.list);
        break;
    case JINJA_DICT:
        put_dict(b, value.dict);
        break;
    case JINJA_NAMESPACE:
        jinja_put_ascii(b, "<Namespace ");
        put_dict(b, value.dict);
        jinja_put_ascii(b, ">");
        break;
    case JINJA_FUNCTION:
        put_function(b, value.function);
        break;
    case JINJA_LOOP:
        jinja_put_ascii(b, "<LoopContext ");
        jinja_put_repr(b, loop_number(b->run, value.loop, "index"));
        jinja_put_ascii(b, "/");
        jinja_put_repr(b, loop_number(b->run, value.loop, "length"));
        jinja_put_ascii(b, ">");
        break;
    }
    jinja_higher(b->run);
}

void jinja_put_value(struct jinja_builder *b, struct jinja_value value)
{
    if (value.type == JINJA_STRING)
        jinja_put_chars(b, value.string->chars, value.string->n);
    else if (value.type != JINJA_UNDEFINED)
        jinja_put_repr(b, value);
}

struct jinja_value jinja_str(struct jinja_run *run, struct jinja_value value)
{
    struct jinja_builder b = {.run = run};
    if (value.type == JINJA_STRING)
        return value.string->markup ? jinja_string(run, value.string->chars, value.string->n)
                                    : value;
    jinja_put_value(&b, value);
    return jinja_built(&b);
}

struct jinja_value jinja_repr(struct jinja_run *run, struct jinja_value value)
{
    struct jinja_builder b = {.run = run};
    jinja_put_repr(&b, value);
    return jinja_built(&b);
}

const char *jinja_type_name(struct jinja_value value)
{
    static const char *const lists[] = {
        [JINJA_PLAIN] = "list",         [JINJA_TUPLE] = "tuple",
        [JINJA_RANGE] = "range",        [JINJA_KEYS] = "dict_keys",
        [JINJA_VALUES] = "dict_values", [JINJA_ITEMS] = "dict_items",
        [JINJA_ITERATOR] = "generator",
    };
    if (value.type == JINJA_LIST)
        return lists[value.list->kind];
    if (value.type == JINJA_STRING && value.string->markup)
        return "Markup";
    return type_names[value.type];
}
