/* SPDX-License-Identifier: MIT */
/*
 * jinja_percent.c: `format % args` of Python's strings. Markup escapes what it puts in; numbers may
 * then be strings, which Python's own strings refuse.
 */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "text/jinja_builtins.h"

struct percent {
    struct jinja_builder b;
    const struct jinja_string *format;
    size_t at; /* in the format */
    struct jinja_value args;
    bool single;  /* args is the one argument that is left, unless it was used */
    bool mapping; /* names are looked up in it, and it need not be used */
    size_t used;
    struct jinja_value names;
};

/* One conversion. */
struct percent_conversion {
    bool left, plus, blank, alternate, zero;
    int64_t width, precision; /* -1: none */
    uint32_t type;
};

static struct jinja_value next_argument(struct percent *p)
{
    size_t n = p->single ? 1 : p->args.list->n;

    if (p->used == n)
        jinja_fail(p->b.run, "%%: expected as many arguments as the format has, found %zu", n);
    struct jinja_value value = p->single ? p->args : p->args.list->items[p->used];
    p->used++;
    return value;
}

/* ---- reading a conversion ---------------------------------------------------------------------
 */

static uint32_t peek(const struct percent *p)
{
    return p->at < p->format->n ? jinja_scalar(p->format->chars[p->at]) : 0;
}

/* The value of "(name)" becomes the argument. */
static void read_name(struct percent *p)
{
    struct jinja_run *run = p->b.run;
    size_t from = ++p->at, depth = 1;

    if (!p->mapping)
        jinja_fail(run, "%%(name): expected a dict to look names up in, found %s",
                   jinja_type_name(p->names));
    for (; p->at < p->format->n; p->at++) {
        if (peek(p) == '(')
            depth++;
        if (peek(p) == ')' && --depth == 0)
            break;
    }
    if (p->at == p->format->n)
        jinja_fail(run, "%%(name): expected \")\", found the end");
    struct jinja_value name = jinja_part(run, p->format, from, p->at++);
    const struct jinja_value *found = NULL;
    if (p->names.type == JINJA_DICT)
        found = jinja_dict_get(run, p->names.dict, name);
    if (!found)
        jinja_fail(run, "%%(name): expected a name that the arguments have, found another");
    p->args = *found;
    p->single = true;
    p->used = 0;
}

static void read_flags(struct percent *p, struct percent_conversion *c)
{
    for (;; p->at++)
        switch (peek(p)) {
        case '-':
            c->left = true;
            break;
        case '+':
            c->plus = true;
            break;
        case ' ':
            c->blank = true;
            break;
        case '#':
            c->alternate = true;
            break;
        case '0':
            c->zero = true;
            break;
        default:
            return;
        }
}

/* Digits, or an argument for '*'; absent if there is neither. */
static int64_t read_size(struct percent *p, int64_t absent)
{
    int64_t value = 0;

    if (peek(p) == '*') {
        p->at++;
        struct jinja_value size = next_argument(p);
        if (p->format->markup || (size.type != JINJA_INT && size.type != JINJA_BOOL))
            jinja_fail(p->b.run, "%%*: expected an integer, found %s", jinja_type_name(size));
        value = jinja_want_int(p->b.run, "%*", size);
        if (value > INT32_MAX || value < -INT32_MAX)
            jinja_fail(p->b.run, "%%*: expected a size of 32 bits, found a larger one");
        return value;
    }
    if (peek(p) < '0' || peek(p) > '9')
        return absent;
    for (; peek(p) >= '0' && peek(p) <= '9'; p->at++) {
        value = value * 10 + (peek(p) - '0');
        if (value > INT32_MAX)
            jinja_fail(p->b.run, "%%: expected a size of 32 bits, found a larger one");
    }
    return value;
}

static struct percent_conversion read_conversion(struct percent *p)
{
    struct percent_conversion c = {.precision = -1};

    if (peek(p) == '(')
        read_name(p);
    read_flags(p, &c);
    bool star = peek(p) == '*';
    c.width = read_size(p, -1);
    if (star && c.width < 0) {
        c.left = true;
        c.width = -c.width;
    }
    if (peek(p) == '.') {
        p->at++;
        c.precision = read_size(p, 0);
        if (c.precision < 0)
            c.precision = 0;
    }
    if (peek(p) == 'h' || peek(p) == 'l' || peek(p) == 'L')
        p->at++;
    if (p->at == p->format->n)
        jinja_fail(p->b.run, "%%: expected a conversion, found the end");
    c.type = peek(p);
    p->at++;
    return c;
}

/* ---- writing ----------------------------------------------------------------------------------
 */

static int64_t limit_size(struct jinja_run *run, int64_t size)
{
    enum { MOST = 100 * 1000 * 1000 };

    if (size > MOST)
        jinja_fail(run, "%%: expected a size of at most %d, found a larger one", MOST);
    return size;
}

static void put_text(struct percent *p, const struct percent_conversion *c,
                     const struct jinja_string *s)
{
    size_t n = c->precision >= 0 && (size_t)c->precision < s->n ? (size_t)c->precision : s->n;
    size_t pad = 0;

    if (c->width > 0 && (size_t)limit_size(p->b.run, c->width) > n)
        pad = (size_t)c->width - n;
    if (!c->left)
        jinja_put_many(&p->b, ' ' | (uint32_t)JINJA_GIVEN, pad);
    jinja_put_chars(&p->b, s->chars, n);
    if (c->left)
        jinja_put_many(&p->b, ' ' | (uint32_t)JINJA_GIVEN, pad);
}

/* text: the number without its sign. */
static void put_number(struct percent *p, const struct percent_conversion *c, bool negative,
                       const char *prefix, const char *text)
{
    const char *sign = negative ? "-" : c->plus ? "+" : c->blank ? " " : "";
    size_t n = strlen(sign) + strlen(prefix) + strlen(text), pad = 0;

    if (c->width > 0 && (size_t)limit_size(p->b.run, c->width) > n)
        pad = (size_t)c->width - n;
    if (!c->left && !c->zero)
        jinja_put_many(&p->b, ' ' | (uint32_t)JINJA_GIVEN, pad);
    jinja_put_ascii(&p->b, sign);
    jinja_put_ascii(&p->b, prefix);
    if (!c->left && c->zero)
        jinja_put_many(&p->b, '0' | (uint32_t)JINJA_GIVEN, pad);
    jinja_put_ascii(&p->b, text);
    if (c->left)
        jinja_put_many(&p->b, ' ' | (uint32_t)JINJA_GIVEN, pad);
}

static struct jinja_value escaped(struct percent *p, struct jinja_value string)
{
    return p->format->markup ? jinja_of_string(jinja_escape(p->b.run, string)) : string;
}

static void convert_text(struct percent *p, const struct percent_conversion *c)
{
    struct jinja_run *run = p->b.run;
    struct jinja_value value = next_argument(p), text;

    if (c->type == 's')
        text = escaped(p, p->format->markup ? value : jinja_str(run, value));
    else
        text = escaped(p, jinja_repr(run, value));
    if (c->type == 'a')
        text = jinja_ascii_only(run, text);
    put_text(p, c, text.string);
}

/* The magnitude's digits of an integer; of a float, those of its whole part. */
static const char *whole_digits(struct percent *p, const struct percent_conversion *c,
                                bool *negative)
{
    struct jinja_run *run = p->b.run;
    struct jinja_value value = next_argument(p);
    bool decimal = c->type == 'd' || c->type == 'i' || c->type == 'u';
    char *text = jinja_alloc(run, 72, 1);
    int64_t read;

    if (decimal && p->format->markup && value.type == JINJA_STRING &&
        jinja_read_int(run, value.string, 10, &read))
        value = jinja_int(read);
    if (p->format->markup && !decimal)
        value = jinja_none();
    if (decimal && value.type == JINJA_FLOAT && isfinite(value.real)) {
        *negative = value.real <= -1;
        return jinja_double_text(run, "%.*f", 0, trunc(fabs(value.real)));
    }
    if (value.type != JINJA_INT && value.type != JINJA_BOOL)
        jinja_fail(run, "%%%c: expected an integer, found %s", (int)c->type,
                   jinja_type_name(value));
    read = value.type == JINJA_BOOL ? value.boolean : value.integer;
    *negative = read < 0;
    jinja_digits(read, decimal ? 10 : c->type == 'o' ? 8 : 16, text);
    return text;
}

static void convert_integer(struct percent *p, const struct percent_conversion *c)
{
    static const char *const prefixes[] = {"0o", "0x", "0X"};
    bool negative;
    const char *digits = whole_digits(p, c, &negative), *prefix = "";
    size_t n = strlen(digits), zeros = 0;

    if (c->precision > 0 && (size_t)limit_size(p->b.run, c->precision) > n)
        zeros = (size_t)c->precision - n;
    char *text = jinja_alloc(p->b.run, zeros + n + 1, 1);
    memset(text, '0', zeros);
    memcpy(text + zeros, digits, n);
    for (char *t = text; c->type == 'X' && *t; t++)
        if (*t >= 'a')
            *t = (char)(*t - 'a' + 'A');
    if (c->alternate && (c->type == 'o' || c->type == 'x' || c->type == 'X'))
        prefix = prefixes[c->type == 'o' ? 0 : c->type == 'x' ? 1 : 2];
    put_number(p, c, negative, prefix, text);
}

static void convert_float(struct percent *p, const struct percent_conversion *c)
{
    struct jinja_run *run = p->b.run;
    struct jinja_value value = next_argument(p);
    double real;

    if (p->format->markup && value.type == JINJA_STRING &&
        jinja_read_float(run, value.string, &real))
        value = jinja_float(real);
    if (!jinja_is_number(value))
        jinja_fail(run, "%%%c: expected a number, found %s", (int)c->type, jinja_type_name(value));
    const char *text = jinja_float_format(run, (char)c->type, c->precision < 0 ? 6 : c->precision,
                                          c->alternate, jinja_real(value));
    put_number(p, c, *text == '-', "", text + (*text == '-'));
}

static void convert_char(struct percent *p, const struct percent_conversion *c)
{
    struct jinja_value value = next_argument(p);
    uint32_t given;
    struct percent_conversion plain = *c;

    plain.precision = -1;
    if (value.type == JINJA_BOOL)
        value = jinja_int(value.boolean);
    if (!p->format->markup && value.type == JINJA_STRING && value.string->n == 1) {
        put_text(p, &plain, value.string);
    } else if (!p->format->markup && value.type == JINJA_INT && value.integer >= 0 &&
               value.integer <= 0x10ffff && (value.integer & ~0x7ff) != 0xd800) {
        given = (uint32_t)value.integer | (uint32_t)JINJA_GIVEN;
        put_text(p, &plain, &(const struct jinja_string){.chars = &given, .n = 1});
    } else {
        jinja_fail(p->b.run, "%%c: expected a character, or its number, found %s",
                   jinja_type_name(value));
    }
}

static void convert(struct percent *p, const struct percent_conversion *c)
{
    if (c->type < 0x80 && strchr("sra", (int)c->type))
        convert_text(p, c);
    else if (c->type < 0x80 && strchr("diuoxX", (int)c->type))
        convert_integer(p, c);
    else if (c->type < 0x80 && strchr("eEfFgG", (int)c->type))
        convert_float(p, c);
    else if (c->type == 'c')
        convert_char(p, c);
    else
        jinja_fail(p->b.run, "%%: expected a conversion, found U+%04X", (unsigned)c->type);
}

/* What [] works on, but tuples and strings. */
static bool is_mapping(struct jinja_value value)
{
    if (value.type == JINJA_LIST)
        return value.list->kind == JINJA_PLAIN || value.list->kind == JINJA_RANGE;
    return value.type == JINJA_DICT || value.type == JINJA_UNDEFINED;
}

struct jinja_value jinja_percent(struct jinja_run *run, const struct jinja_string *format,
                                 struct jinja_value args)
{
    struct percent p = {.b = {.run = run}, .format = format, .args = args, .names = args};

    p.single = args.type != JINJA_LIST || args.list->kind != JINJA_TUPLE;
    p.mapping = is_mapping(args);
    jinja_work(run, format->n / 4);
    while (p.at < format->n) {
        size_t from = p.at;
        while (p.at < format->n && peek(&p) != '%')
            p.at++;
        jinja_put_chars(&p.b, format->chars + from, p.at - from);
        if (p.at == format->n)
            break;
        p.at++;
        if (peek(&p) == '%') {
            jinja_put(&p.b, format->chars[p.at++]);
            continue;
        }
        struct percent_conversion c = read_conversion(&p);
        convert(&p, &c);
    }
    if (!p.mapping && p.used < (p.single ? 1 : p.args.list->n))
        jinja_fail(run, "%%: expected a conversion for each argument, found too few");
    return jinja_like(run, format, jinja_built(&p.b));
}
