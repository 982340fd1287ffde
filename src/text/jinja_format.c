/* SPDX-License-Identifier: MIT */
/*
 * jinja_format.c: str.format() as the sandbox has it: Python's string.Formatter, whose fields are
 * looked up as a template looks them up.
 */
#include <math.h>
#include <string.h>

#include "text/jinja_builtins.h"

struct formatter {
    struct jinja_run *run;
    bool markup;                     /* what is put in is escaped */
    const struct jinja_value *items; /* [n] */
    size_t n;
    struct jinja_value mapping;
    int64_t next; /* the number of the next field without a name; -1 once one had a number */
};

/* A part of a format, and where it is read. */
struct format_reader {
    const uint32_t *at, *end;
};

struct format_field {
    struct format_reader name, spec;
    uint32_t conversion; /* 0: none */
};

static uint32_t peek(const struct format_reader *r)
{
    return r->at < r->end ? jinja_scalar(*r->at) : 0;
}

static struct jinja_value string_of(struct jinja_run *run, const struct format_reader *r)
{
    return jinja_string(run, r->at, (size_t)(r->end - r->at));
}

/* ---- values by a specification ------------------------------------------------------------------
 */

struct spec {
    uint32_t fill;
    char align, sign; /* 0: none */
    bool positive_zero, alternate;
    int64_t width, precision; /* -1: none */
    char separator;           /* 0: none */
    uint32_t type;            /* 0: none */
};

static bool take(struct format_reader *r, uint32_t c)
{
    if (r->at == r->end || jinja_scalar(*r->at) != c)
        return false;
    r->at++;
    return true;
}

static bool take_one_of(struct format_reader *r, const char *chars, char *taken)
{
    uint32_t c = peek(r);

    if (c == 0 || c > 0x7f || !strchr(chars, (int)c))
        return false;
    *taken = (char)c;
    r->at++;
    return true;
}

/* A number; -1 if there is none. */
static int64_t take_number(struct jinja_run *run, struct format_reader *r)
{
    int64_t value = -1;

    for (; r->at < r->end; r->at++) {
        int digit = jinja_digit_value(jinja_scalar(*r->at));
        if (digit < 0)
            break;
        value = (value < 0 ? 0 : value * 10) + digit;
        if (value > INT32_MAX)
            jinja_fail(run, "format: expected a number of 32 bits, found a larger one");
    }
    return value;
}

static void read_separator(struct jinja_run *run, struct format_reader *r, struct spec *spec)
{
    bool comma = take(r, ',');
    bool line = take(r, '_');

    if ((comma || line) && (peek(r) == ',' || (comma && line)))
        jinja_fail(run, "format: expected one separator, found several");
    spec->separator = comma ? ',' : line ? '_' : 0;
}

/* left: strings stay at the left without an alignment. */
static struct spec read_spec(struct jinja_run *run, struct format_reader r, bool left)
{
    struct spec spec = {.fill = ' ' | (uint32_t)JINJA_GIVEN, .precision = -1};
    struct format_reader second = {r.at + 1, r.end};
    bool filled = r.end - r.at >= 2 && take_one_of(&second, "<>=^", &spec.align);

    if (filled) {
        spec.fill = *r.at;
        r.at += 2;
    } else {
        take_one_of(&r, "<>=^", &spec.align);
    }
    take_one_of(&r, " +-", &spec.sign);
    spec.positive_zero = take(&r, 'z');
    spec.alternate = take(&r, '#');
    if (!filled && peek(&r) == '0') {
        spec.fill = *r.at++;
        if (spec.align == 0 && !left)
            spec.align = '=';
    }
    spec.width = take_number(run, &r);
    read_separator(run, &r, &spec);
    if (take(&r, '.')) {
        spec.precision = take_number(run, &r);
        if (spec.precision < 0)
            jinja_fail(run, "format: expected a precision after \".\", found none");
    }
    if (r.end - r.at > 1)
        jinja_fail(run, "format: expected one character for the type, found more");
    spec.type = peek(&r);
    return spec;
}

static void check_separator(struct jinja_run *run, const struct spec *spec)
{
    if (!spec->separator || (spec->type < 0x80 && strchr("defgEG%F", (int)spec->type)) ||
        (spec->separator == '_' && spec->type < 0x80 && strchr("boxX", (int)spec->type)))
        return;
    jinja_fail(run, "format: expected no separator with this type, found \"%c\"", spec->separator);
}

static size_t padding(struct jinja_run *run, const struct spec *spec, size_t n)
{
    enum { MOST = 100 * 1000 * 1000 };

    if (spec->width > MOST)
        jinja_fail(run, "format: expected a width of at most %d, found a larger one", MOST);
    return spec->width > 0 && (size_t)spec->width > n ? (size_t)spec->width - n : 0;
}

static void put_text(struct jinja_builder *b, const struct jinja_string *s, struct format_reader r)
{
    struct spec spec = read_spec(b->run, r, true);

    check_separator(b->run, &spec);
    if ((spec.type != 0 && spec.type != 's') || spec.separator)
        jinja_fail(b->run, "format: expected the type \"s\" for a string, found another");
    if (spec.sign || spec.positive_zero || spec.alternate || spec.align == '=')
        jinja_fail(b->run,
                   "format: expected no sign, \"z\", \"#\" or \"=\" for a string, found one");
    size_t n = spec.precision >= 0 && (size_t)spec.precision < s->n ? (size_t)spec.precision : s->n;
    size_t pad = padding(b->run, &spec, n);
    size_t before = spec.align == '>' ? pad : spec.align == '^' ? pad / 2 : 0;
    jinja_put_many(b, spec.fill, before);
    jinja_put_chars(b, s->chars, n);
    jinja_put_many(b, spec.fill, pad - before);
}

/* Digits in groups, and with zeros before them up to `least` characters; backwards. */
static char *group_digits(struct jinja_run *run, const char *digits, size_t n, size_t group,
                          char separator, size_t least)
{
    size_t room = 2 * (n + least) + 2, to = room;
    char *text = jinja_alloc(run, room + 1, 1);

    jinja_work(run, room / 4);
    for (;;) {
        size_t wanted = n > least ? n : least;
        wanted = wanted < 1 ? 1 : wanted < group ? wanted : group;
        for (size_t i = 0; i < wanted; i++)
            text[--to] = n > 0 ? digits[--n] : '0';
        least = least > wanted ? least - wanted : 0;
        if (n == 0 && least == 0)
            return text + to;
        least -= least > 0;
        text[--to] = separator;
    }
}

/* A number: its sign, a prefix, its digits, and what follows them as it is. */
struct number {
    bool negative;
    const char *prefix;
    const char *digits; /* [n_digits] */
    size_t n_digits;
    const uint32_t *rest; /* [n_rest] */
    size_t n_rest;
};

static void put_number(struct jinja_builder *b, const struct spec *spec, const struct number *x)
{
    char sign[] = {x->negative ? '-' : spec->sign == '-' ? '\0' : spec->sign, '\0'};
    size_t around = strlen(sign) + strlen(x->prefix) + x->n_rest, n = x->n_digits;
    bool zeros = jinja_scalar(spec->fill) == '0' && spec->align == '=';
    const char *digits = x->digits;

    if (spec->separator && n > 0) {
        size_t group = spec->type < 0x80 && strchr("boxX", (int)spec->type) && spec->type ? 4 : 3;
        size_t least = zeros ? n + padding(b->run, spec, around + n) : 0;
        digits = group_digits(b->run, digits, n, group, spec->separator, least);
        n = strlen(digits);
    }
    size_t pad = padding(b->run, spec, around + n);
    size_t before = spec->align == '<' || spec->align == '=' ? 0
                    : spec->align == '^'                     ? pad / 2
                                                             : pad;
    jinja_put_many(b, spec->fill, before);
    jinja_put_ascii(b, sign);
    jinja_put_ascii(b, x->prefix);
    if (spec->align == '=')
        jinja_put_many(b, spec->fill, pad);
    for (size_t i = 0; i < n; i++)
        jinja_put(b, (uint32_t)digits[i] | (uint32_t)JINJA_GIVEN);
    jinja_put_chars(b, x->rest, x->n_rest);
    if (spec->align == '<' || spec->align == '^')
        jinja_put_many(b, spec->fill, pad - before);
}

static void put_char(struct jinja_builder *b, const struct spec *spec, int64_t value)
{
    uint32_t c = (uint32_t)value | (uint32_t)JINJA_GIVEN;

    if (spec->sign || spec->alternate)
        jinja_fail(b->run, "format: expected no sign or \"#\" with \"c\", found one");
    if (value < 0 || value > 0x10ffff || (value & ~0x7ff) == 0xd800)
        jinja_fail(b->run, "format: expected the number of a character, found another");
    put_number(b, spec, &(const struct number){.prefix = "", .rest = &c, .n_rest = 1});
}

static void put_integer(struct jinja_builder *b, const struct spec *spec, int64_t value)
{
    char digits[72], prefix[3] = "";
    unsigned base = 10;

    if (spec->precision >= 0 || spec->positive_zero)
        jinja_fail(b->run, "format: expected no precision or \"z\" for an integer, found one");
    if (spec->type == 'c') {
        put_char(b, spec, value);
        return;
    }
    if (spec->type == 'b')
        base = 2;
    else if (spec->type == 'o')
        base = 8;
    else if (spec->type == 'x' || spec->type == 'X')
        base = 16;
    jinja_digits(value, base, digits);
    for (char *d = digits; spec->type == 'X' && *d; d++)
        if (*d >= 'a')
            *d = (char)(*d - 'a' + 'A');
    if (spec->alternate && base != 10) {
        prefix[0] = '0';
        prefix[1] = (char)spec->type;
    }
    put_number(
        b, spec,
        &(const struct number){
            .negative = value < 0, .prefix = prefix, .digits = digits, .n_digits = strlen(digits)});
}

/* Without zeros at the end of the fraction before `end`; `keep` of them stay. */
static void trim_zeros(char *text, size_t keep)
{
    char *point = strchr(text, '.'), *end = strchr(text, 'e'), *at;

    if (!point)
        return;
    if (!end)
        end = text + strlen(text);
    for (at = end; at > point + 1 + keep && at[-1] == '0'; at--)
        ;
    if (at == point + 1)
        at--;
    memmove(at, end, strlen(end) + 1);
}

/* As 'g', but with a digit after the point, and an exponent one place sooner: of no type. */
static char *general(struct jinja_run *run, const struct spec *spec, double value)
{
    int64_t precision = spec->precision > 0 ? spec->precision : 1;
    char *text = jinja_float_format(run, 'e', precision - 1, spec->alternate, value);

    if (!isfinite(value))
        return text;
    char *e = strchr(text, 'e');
    int64_t exponent = 0;
    for (const char *d = e + 2; *d; d++)
        exponent = exponent * 10 + (*d - '0');
    if (e[1] == '-')
        exponent = -exponent;
    bool scientific = exponent < -4 || exponent >= precision - 1;
    if (!scientific)
        text = jinja_float_format(run, 'f', precision - 1 - exponent, spec->alternate, value);
    if (!spec->alternate)
        trim_zeros(text, scientific ? 0 : 1);
    return text;
}

/* repr(), but that '#' is a point before the exponent. */
static char *shortest(struct jinja_run *run, const struct spec *spec, double value)
{
    char *text = jinja_alloc(run, 48, 1), *e;

    jinja_float_text(value, text);
    e = strchr(text, 'e');
    if (spec->alternate && isfinite(value) && e && !strchr(text, '.')) {
        memmove(e + 1, e, strlen(e) + 1);
        *e = '.';
    }
    return text;
}

static char *float_text(struct jinja_run *run, const struct spec *spec, double value)
{
    char type = spec->type == 'n' ? 'g' : spec->type == '%' ? 'f' : (char)spec->type;

    if (spec->type == 0)
        return spec->precision < 0 ? shortest(run, spec, value) : general(run, spec, value);
    return jinja_float_format(run, type, spec->precision < 0 ? 6 : spec->precision, spec->alternate,
                              spec->type == '%' ? value * 100 : value);
}

static void put_float(struct jinja_builder *b, const struct spec *spec, double value)
{
    const char *text = float_text(b->run, spec, value);
    struct number x = {.negative = *text == '-', .prefix = ""};
    struct jinja_builder rest = {.run = b->run};

    x.digits = text + x.negative;
    char beyond = x.digits[strspn(x.digits, "0.")];
    if (spec->positive_zero && (beyond == '\0' || beyond == 'e' || beyond == 'E'))
        x.negative = false;
    x.n_digits = strspn(x.digits, "0123456789");
    jinja_put_ascii(&rest, x.digits + x.n_digits);
    if (spec->type == '%')
        jinja_put_ascii(&rest, "%");
    x.rest = rest.chars;
    x.n_rest = rest.n;
    put_number(b, spec, &x);
}

static void put_numeric(struct jinja_builder *b, struct jinja_value value, struct format_reader r)
{
    struct spec spec = read_spec(b->run, r, false);
    bool real = value.type == JINJA_FLOAT;
    int64_t whole = value.type == JINJA_BOOL ? value.boolean : value.integer;

    check_separator(b->run, &spec);
    if (spec.type > 0x7f)
        jinja_fail(b->run, "format: expected a type, found U+%04X", (unsigned)spec.type);
    if (strchr(real ? "eEfFgGn%" : "eEfFgG%", (int)spec.type) && (spec.type != 0 || real))
        put_float(b, &spec, jinja_real(value));
    else if (!real && strchr("bcdoxXn", (int)spec.type))
        put_integer(b, &spec, whole);
    else
        jinja_fail(b->run, "format: expected a type for %s, found \"%c\"", jinja_type_name(value),
                   (int)spec.type);
}

/* format(value, spec) */
static void put_formatted(struct jinja_builder *b, struct jinja_value value,
                          struct format_reader spec)
{
    if (spec.at == spec.end)
        jinja_put_value(b, value);
    else if (value.type == JINJA_STRING)
        put_text(b, value.string, spec);
    else if (jinja_is_number(value))
        put_numeric(b, value, spec);
    else
        jinja_fail(b->run, "format: expected no format for %s, found one", jinja_type_name(value));
}

/* ---- fields ------------------------------------------------------------------------------------
 */

/* Reads on after '{', to behind the '}'. */
static struct format_field read_field(struct jinja_run *run, struct format_reader *r)
{
    struct format_field field = {.name = {r->at, r->at}};
    size_t depth = 1;

    while (r->at < r->end && peek(r) != '}' && peek(r) != ':' && peek(r) != '!') {
        if (peek(r) == '{')
            jinja_fail(run, "format: expected a field's name, found \"{\"");
        if (peek(r) == '[')
            while (r->at < r->end && peek(r) != ']')
                r->at++;
        else
            r->at++;
    }
    field.name.end = r->at;
    if (take(r, '!')) {
        if (r->at == r->end)
            jinja_fail(run, "format: expected a conversion after \"!\", found the end");
        field.conversion = jinja_scalar(*r->at++);
        if (take(r, '}'))
            return field;
        if (r->at < r->end && peek(r) != ':')
            jinja_fail(run, "format: expected \":\" after the conversion, found another");
    } else if (take(r, '}')) {
        return field;
    }
    take(r, ':');
    field.spec.at = r->at;
    for (; r->at < r->end; r->at++) {
        depth += peek(r) == '{';
        depth -= peek(r) == '}';
        if (depth == 0)
            break;
    }
    field.spec.end = r->at;
    if (!take(r, '}'))
        jinja_fail(run, "format: expected \"}\" after a field, found the end");
    return field;
}

/* A name that is a number as a whole, else -1. */
static int64_t name_number(struct jinja_run *run, struct format_reader name)
{
    struct format_reader r = name;

    while (r.at < r.end && jinja_digit_value(jinja_scalar(*r.at)) >= 0)
        r.at++;
    if (r.at < r.end || name.at == name.end)
        return -1;
    return take_number(run, &name);
}

static struct jinja_value first_value(struct formatter *f, struct format_reader name)
{
    int64_t number = name_number(f->run, name);

    if (number >= 0) {
        if ((uint64_t)number >= f->n)
            jinja_fail(f->run, "format: expected a value for the field %lld, found %zu",
                       (long long)number, f->n);
        return f->items[number];
    }
    const struct jinja_value *found = NULL;
    if (f->mapping.type == JINJA_DICT)
        found = jinja_dict_get(f->run, f->mapping.dict, string_of(f->run, &name));
    if (!found)
        jinja_fail(f->run, "format: expected a value for each named field, found none");
    return *found;
}

/* Follows ".name" and "[key]". */
static struct jinja_value follow(struct formatter *f, struct jinja_value value,
                                 struct format_reader r)
{
    while (r.at < r.end) {
        struct format_reader name = {r.at + 1, r.at + 1};
        bool attribute = peek(&r) == '.';
        if (!attribute && peek(&r) != '[')
            jinja_fail(f->run, "format: expected \".\" or \"[\" after \"]\", found another");
        for (; name.end < r.end; name.end++) {
            uint32_t c = jinja_scalar(*name.end);
            if (attribute ? c == '.' || c == '[' : c == ']')
                break;
        }
        if (name.at == name.end || (!attribute && name.end == r.end))
            jinja_fail(f->run, "format: expected a name and \"]\", found none");
        r.at = name.end + !attribute;
        int64_t number = attribute ? -1 : name_number(f->run, name);
        struct jinja_value key = string_of(f->run, &name);
        value = attribute ? jinja_attribute(f->run, value, key.string)
                          : jinja_subscript(f->run, value, number < 0 ? key : jinja_int(number));
    }
    return value;
}

/* A field without a name has the next number; numbers can't come with those. */
static struct jinja_value field_value(struct formatter *f, struct format_reader name)
{
    struct format_reader first = {name.at, name.at};
    bool digits = name.at < name.end;

    for (const uint32_t *c = name.at; c < name.end; c++)
        digits = digits && jinja_is_digit(jinja_scalar(*c));
    if ((name.at == name.end && f->next < 0) || (digits && f->next > 0))
        jinja_fail(f->run, "format: expected fields that all have numbers or none, found both");
    if (name.at == name.end) {
        if ((uint64_t)f->next >= f->n)
            jinja_fail(f->run, "format: expected a value for each field, found %zu", f->n);
        return f->items[f->next++];
    }
    if (digits)
        f->next = -1;
    while (first.end < name.end && jinja_scalar(*first.end) != '.' &&
           jinja_scalar(*first.end) != '[')
        first.end++;
    return follow(f, first_value(f, first), (struct format_reader){first.end, name.end});
}

static struct jinja_value convert(struct formatter *f, struct jinja_value value,
                                  uint32_t conversion)
{
    switch (conversion) {
    case 0:
        return value;
    case 's':
        return jinja_str(f->run, value);
    case 'r':
        return jinja_repr(f->run, value);
    case 'a':
        return jinja_ascii_only(f->run, jinja_repr(f->run, value));
    default:
        jinja_fail(f->run, "format: expected the conversion s, r or a, found another");
    }
}

static void put_field(struct formatter *f, struct jinja_builder *b, struct jinja_value value,
                      struct format_reader spec)
{
    struct jinja_builder plain = {.run = f->run};
    bool markup = value.type == JINJA_STRING && value.string->markup;

    if (!f->markup) {
        put_formatted(b, value, spec);
    } else if (markup) {
        if (spec.at < spec.end)
            jinja_fail(f->run, "format: expected no format for Markup, found one");
        jinja_put_chars(b, value.string->chars, value.string->n);
    } else {
        put_formatted(&plain, value, spec);
        jinja_put_escaped(b, jinja_built(&plain).string);
    }
}

/* depth: how often fields may be within the specification of others. */
static void put_format(struct formatter *f, struct jinja_builder *b, struct format_reader r,
                       int depth)
{
    if (depth < 0)
        jinja_fail(f->run, "format: expected fields within fields twice at most, found more");
    jinja_work(f->run, (size_t)(r.end - r.at) / 4 + 1);
    while (r.at < r.end) {
        const uint32_t *from = r.at;
        while (r.at < r.end && peek(&r) != '{' && peek(&r) != '}')
            r.at++;
        jinja_put_chars(b, from, (size_t)(r.at - from));
        if (r.at == r.end)
            return;
        uint32_t brace = *r.at++;
        if (peek(&r) == jinja_scalar(brace)) {
            jinja_put(b, brace);
            r.at++;
            continue;
        }
        if (jinja_scalar(brace) == '}' || r.at == r.end)
            jinja_fail(f->run, "format: expected braces in pairs, found a single one");
        struct format_field field = read_field(f->run, &r);
        struct jinja_value value = convert(f, field_value(f, field.name), field.conversion);
        struct jinja_builder spec = {.run = f->run};
        put_format(f, &spec, field.spec, depth - 1);
        const struct jinja_string *built = jinja_built(&spec).string;
        put_field(f, b, value, (struct format_reader){built->chars, built->chars + built->n});
    }
}

struct jinja_value jinja_str_format(struct jinja_run *run, const struct jinja_string *format,
                                    const struct jinja_value *items, size_t n,
                                    struct jinja_value mapping)
{
    struct formatter f = {
        .run = run, .markup = format->markup, .items = items, .n = n, .mapping = mapping};
    struct jinja_builder b = {.run = run};

    put_format(&f, &b, (struct format_reader){format->chars, format->chars + format->n}, 2);
    return jinja_like(run, format, jinja_built(&b));
}

struct jinja_value jinja_ascii_only(struct jinja_run *run, struct jinja_value string)
{
    const struct jinja_string *s = string.string;
    struct jinja_builder b = {.run = run};

    jinja_work(run, s->n / 4);
    for (size_t i = 0; i < s->n; i++) {
        uint32_t c = jinja_scalar(s->chars[i]);
        if (c < 0x80)
            jinja_put(&b, s->chars[i]);
        else
            jinja_put_value(&b, jinja_format(run,
                                             c < 0x100     ? "\\x%02x"
                                             : c < 0x10000 ? "\\u%04x"
                                                           : "\\U%08x",
                                             (unsigned)c));
    }
    return jinja_built(&b);
}
