/* SPDX-License-Identifier: MIT */
/* regex_class.c: escapes and classes of characters. */
#include <string.h>

#include "base/utf8.h"
#include "grammar/regex_pattern.h"
#include "text/unicode.h"

/* ---- ranges --------------------------------------------------------------------------------- */

void pattern_add(struct pattern *p, uint32_t first, uint32_t last)
{
    if (!regex_room(p->all, &p->ranges, 1, sizeof(uint32_t[2])))
        return;
    uint32_t *range = (uint32_t *)p->ranges.items + 2 * p->ranges.n++;
    range[0] = first;
    range[1] = last;
}

void pattern_invert(struct pattern *p, size_t from)
{
    size_t n = p->ranges.n - from;
    uint32_t(*tidied)[2] = regex_alloc(p->all, 2 * n, sizeof *tidied);
    uint32_t next = 0;
    if (tidied == NULL)
        return;
    size_t kept = n == 0 ? 0 : regex_tidy(tidied, (const uint32_t(*)[2])p->ranges.items + from, n);
    p->ranges.n = from;
    for (size_t i = 0; i < kept; next = tidied[i++][1] + 1)
        if (tidied[i][0] > next)
            pattern_add(p, next, tidied[i][0] - 1);
    if (next <= 0x10ffff)
        pattern_add(p, next, 0x10ffff);
    regex_release(p->all, tidied, 2 * n * sizeof *tidied);
}

regex pattern_take(struct pattern *p, bool inverted)
{
    if (p->work > PATTERN_MAX_WORK)
        pattern_error(p, p->at, "fewer properties, and characters of either case");
    else if (p->fold)
        pattern_add_cases(p);
    if (inverted)
        pattern_invert(p, 0);
    size_t n = p->ranges.n;
    p->ranges.n = 0;
    return n == 0 || p->failed ? (regex)REGEX_NONE
                               : regex_chars(p->all, (const uint32_t(*)[2])p->ranges.items, n);
}

/* ---- classes with a letter ------------------------------------------------------------------ */

void pattern_add_words(struct pattern *p, bool inverted)
{
    size_t from = p->ranges.n;
    if (p->syntax == REGEX_ECMA) {
        pattern_add(p, 'a', 'z');
        pattern_add(p, 'A', 'Z');
        pattern_add(p, '0', '9');
        pattern_add(p, '_', '_');
    } else {
        for (size_t i = 0; i < n_unicode_details; i++)
            if ((unicode_details[i] & 8) != 0)
                pattern_add(p, unicode_details[i] >> 4,
                            i + 1 < n_unicode_details ? (unicode_details[i + 1] >> 4) - 1
                                                      : 0x10ffff);
    }
    if (inverted)
        pattern_invert(p, from);
}

static void add_digits(struct pattern *p, bool inverted)
{
    size_t from = p->ranges.n;
    if (p->syntax == REGEX_WHOLE)
        pattern_add_property(p, "Nd", 2, false);
    else
        pattern_add(p, '0', '9');
    if (inverted)
        pattern_invert(p, from);
}

static void add_spaces(struct pattern *p, bool inverted)
{
    size_t from = p->ranges.n;
    for (size_t i = 0; i < n_unicode_runs; i++)
        if ((unicode_runs[i] & 7) == UNICODE_SPACE)
            pattern_add(p, unicode_runs[i] >> 3,
                        i + 1 < n_unicode_runs ? (unicode_runs[i + 1] >> 3) - 1 : 0x10ffff);
    if (p->syntax == REGEX_ECMA) { /* ECMA-262 has no U+0085 but U+FEFF */
        pattern_invert(p, from);
        pattern_add(p, 0x85, 0x85);
        pattern_invert(p, from);
        pattern_add(p, 0xfeff, 0xfeff);
    }
    if (inverted)
        pattern_invert(p, from);
}

regex pattern_dot(struct pattern *p)
{
    bool fold = p->fold;
    if (p->dot_all)
        return p->all->character;
    pattern_add(p, '\n', '\n');
    if (p->syntax == REGEX_ECMA) {
        pattern_add(p, '\r', '\r');
        pattern_add(p, 0x2028, 0x2029);
    }
    p->fold = false;
    regex r = pattern_take(p, true);
    p->fold = fold;
    return r;
}

/* Behind p or P: {name} or, of one letter, the letter. */
static int property(struct pattern *p, bool inverted)
{
    size_t from = p->at, n = 1;
    if (pattern_skip(p, "{")) {
        from = p->at;
        while (p->at < p->n && p->text[p->at] != '}')
            p->at++;
        n = p->at - from;
        if (!pattern_skip(p, "}"))
            return (int)pattern_error(p, p->at, "}");
    } else if (p->at < p->n) {
        p->at++;
    } else {
        return (int)pattern_error(p, p->at, "a property");
    }
    if (from < p->n && p->text[from] == '^' && p->syntax == REGEX_WHOLE) {
        inverted = !inverted;
        from++;
        n--;
    }
    if (from < p->n && pattern_add_property(p, (const char *)p->text + from, n, inverted))
        return 2;
    if (p->failed || p->all->failed)
        return 0;
    p->failed = true;
    return error_input(p->err,
                       "pattern, byte %zu: expected a general category or a script, "
                       "found \"%.*s\"",
                       from + 1, (int)(n < 40 ? n : 40), (const char *)p->text + from) *
           0;
}

/* ---- escapes -------------------------------------------------------------------------------- */

static int hex_digit(uint8_t c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    c |= 0x20;
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* So many hexadecimal digits. */
static bool hex(struct pattern *p, size_t digits, uint32_t *scalar)
{
    *scalar = 0;
    for (; digits > 0; digits--, p->at++) {
        int value = p->at < p->n ? hex_digit(p->text[p->at]) : -1;
        if (value < 0) {
            pattern_error(p, p->at, "a hexadecimal digit");
            return false;
        }
        *scalar = *scalar << 4 | (uint32_t)value;
    }
    return true;
}

/* Digits in braces, as many as there are. */
static bool hex_in_braces(struct pattern *p, uint32_t *scalar)
{
    size_t digits = 0;
    while (digits < 9 && p->at + digits < p->n && p->text[p->at + digits] != '}')
        digits++;
    if (digits == 0 || digits > 8)
        return pattern_error(p, p->at, "1 to 8 hexadecimal digits") != 0;
    if (!hex(p, digits, scalar))
        return false;
    if (!pattern_skip(p, "}"))
        return pattern_error(p, p->at, "}") != 0;
    return true;
}

/* \uD83D\uDE00 is one character. */
static void second_half(struct pattern *p, uint32_t *scalar)
{
    size_t at = p->at;
    uint32_t low;
    if (*scalar < 0xd800 || *scalar >= 0xdc00 || p->n - at < 6 || !pattern_skip(p, "\\u"))
        return;
    bool digits = true;
    for (int i = 0; i < 4; i++)
        digits &= hex_digit(p->text[p->at + (size_t)i]) >= 0;
    if (digits && hex(p, 4, &low) && low >= 0xdc00 && low < 0xe000)
        *scalar = 0x10000 + ((*scalar - 0xd800) << 10) + (low - 0xdc00);
    else
        p->at = at;
}

/* \x.., \u.... and their like, of which c is the letter. */
static int hex_escape(struct pattern *p, uint8_t c, uint32_t *scalar)
{
    size_t at = p->at;
    bool whole = p->syntax == REGEX_WHOLE, good;
    if ((whole || c == 'u') && pattern_skip(p, "{"))
        good = hex_in_braces(p, scalar);
    else
        good = hex(p, c == 'x' ? 2 : c == 'u' ? 4 : 8, scalar);
    if (good && c == 'u' && !whole)
        second_half(p, scalar);
    if (good && (*scalar > 0x10ffff || (*scalar >= 0xd800 && *scalar < 0xe000)))
        return (int)pattern_error(p, at, "a Unicode scalar");
    return good;
}

int pattern_escape(struct pattern *p, bool in_class, uint32_t *scalar)
{
    static const char letters[] = "tnrfv", controls[] = "\t\n\r\f\v";
    bool whole = p->syntax == REGEX_WHOLE;
    size_t at = p->at;
    if (at >= p->n)
        return (int)pattern_error(p, at, "an escape");
    uint8_t c = p->text[p->at++], lower = c | 0x20;
    bool letter = lower >= 'a' && lower <= 'z', digit = c >= '0' && c <= '9';
    *scalar = c;
    if (letter && strchr("dws", lower) != NULL) {
        bool inverted = c != lower;
        (lower == 'd' ? add_digits : lower == 'w' ? pattern_add_words : add_spaces)(p, inverted);
        return 2;
    }
    if (lower == 'p' && letter)
        return property(p, c == 'P');
    if (c == 'x' || c == 'u' || (c == 'U' && whole))
        return hex_escape(p, c, scalar);
    const char *control = letter ? strchr(letters, c) : NULL;
    if (control != NULL) {
        *scalar = (uint8_t)controls[control - letters];
        return 1;
    }
    if (c == 'a' && whole) {
        *scalar = 7;
        return 1;
    }
    if (c == 'b' && in_class) {
        *scalar = 8;
        return 1;
    }
    if (c == 'c' && !whole && p->at < p->n && ((p->text[p->at] | 0x20) >= 'a') &&
        ((p->text[p->at] | 0x20) <= 'z')) {
        *scalar = p->text[p->at++] & 0x1f;
        return 1;
    }
    if (c == '0' && (p->at >= p->n || p->text[p->at] < '0' || p->text[p->at] > '9')) {
        *scalar = 0;
        return 1;
    }
    if (digit)
        return (int)pattern_error(p, at, "an escape that isn't a back-reference");
    if (letter)
        return (int)pattern_error(p, at, "an escape");
    int n = utf8_decode(p->text + at, p->n - at, scalar);
    if (n <= 0)
        return (int)pattern_error(p, at, "UTF-8");
    p->at = at + (size_t)n;
    return 1;
}

/* ---- classes in brackets -------------------------------------------------------------------- */

static bool posix_class(struct pattern *p)
{
    static const struct {
        const char *name;
        const char *ranges; /* pairs */
    } classes[] = {{"alnum:]", "09AZaz"},
                   {"alpha:]", "AZaz"},
                   {"blank:]", "\t\t  "},
                   {"digit:]", "09"},
                   {"graph:]", "!~"},
                   {"lower:]", "az"},
                   {"print:]", " ~"},
                   {"punct:]", "!/:@[`{~"},
                   {"space:]", "\t\r  "},
                   {"upper:]", "AZ"},
                   {"word:]", "09AZaz__"},
                   {"xdigit:]", "09AFaf"},
                   {"cntrl:]", "\1\37\177\177"},
                   {"ascii:]", "\1\177"}};
    size_t from = p->ranges.n, at = p->at;
    if (p->syntax != REGEX_WHOLE || !pattern_skip(p, "[:"))
        return false;
    bool inverted = pattern_skip(p, "^");
    for (size_t i = 0; i < sizeof classes / sizeof *classes; i++) {
        if (!pattern_skip(p, classes[i].name))
            continue;
        for (const char *r = classes[i].ranges; *r != '\0'; r += 2)
            pattern_add(p, (uint8_t)(r[0] == 1 ? 0 : r[0]), (uint8_t)r[1]);
        if (inverted)
            pattern_invert(p, from);
        return true;
    }
    pattern_error(p, at, "a class such as [:alpha:]");
    return true;
}

/* One character, or a class within: 1, 2 or 0 as of pattern_escape(). */
static int member(struct pattern *p, uint32_t *scalar)
{
    size_t at = p->at;
    if (pattern_skip(p, "\\"))
        return pattern_escape(p, true, scalar);
    /* Rust's engine has classes within classes there, Python's characters. */
    if (p->syntax == REGEX_WHOLE && (pattern_peek(p, "[") || pattern_peek(p, "&&") ||
                                     pattern_peek(p, "--") || pattern_peek(p, "~~")))
        return (int)pattern_error(p, at, "a backslash before it, since engines differ about it");
    int n = at < p->n ? utf8_decode(p->text + at, p->n - at, scalar) : 0;
    if (n <= 0)
        return (int)pattern_error(p, at, "the class's ]");
    p->at = at + (size_t)n;
    return 1;
}

regex pattern_class(struct pattern *p)
{
    bool inverted = pattern_skip(p, "^"), first = p->syntax == REGEX_WHOLE;
    /* Elsewhere than in ECMAScript, a ] that comes first is a character. */
    for (; !p->failed && !p->all->failed && (first || !pattern_peek(p, "]")); first = false) {
        uint32_t from, to;
        if (posix_class(p))
            continue;
        size_t at = p->at;
        int kind = member(p, &from);
        if (kind == 0)
            return REGEX_NONE;
        bool range = pattern_peek(p, "-") && p->at + 1 < p->n && p->text[p->at + 1] != ']';
        if (range && p->syntax == REGEX_WHOLE && pattern_peek(p, "--"))
            range = false;
        if (kind == 2) /* a - behind a class is a character */
            continue;
        to = from;
        if (range) {
            size_t classes = p->ranges.n;
            p->at++;
            kind = member(p, &to);
            if (kind == 0)
                return REGEX_NONE;
            if (kind == 2) { /* and before one */
                p->ranges.n = p->ranges.n > classes ? p->ranges.n : classes;
                pattern_add(p, '-', '-');
                to = from;
            }
        }
        if (to < from)
            pattern_error(p, at, "a range in order");
        else
            pattern_add(p, from, to);
    }
    if (!pattern_skip(p, "]"))
        pattern_error(p, p->at, "]");
    return pattern_take(p, inverted);
}
