/* SPDX-License-Identifier: MIT */
/*
 * jinja_number.c: numbers to text and back, and round(), as Python has them. The locale's decimal
 * point is none of theirs.
 */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/number.h"
#include "text/jinja_builtins.h"

/* ---- text to numbers ----------------------------------------------------------------------- */

static bool is_ascii(const struct jinja_string *s)
{
    for (size_t i = 0; i < s->n; i++)
        if (jinja_scalar(s->chars[i]) > 0x7f)
            return false;
    return true;
}

/* The ASCII that Python reads a number from, without white space around it: digits of any script
 * are digits, other characters '?'. Python looks at white space of ASCII in another way where the
 * text has nothing else. */
static char *number_text(struct jinja_run *run, const struct jinja_string *s)
{
    bool ascii = is_ascii(s);
    char *text = jinja_alloc(run, s->n + 1, 1);

    jinja_work(run, s->n / 4);
    for (size_t i = 0; i < s->n; i++) {
        uint32_t c = jinja_scalar(s->chars[i]);
        int digit = ascii ? -1 : jinja_digit_value(c);
        if (digit >= 0)
            text[i] = (char)('0' + digit);
        else if (ascii ? c == ' ' || (c >= '\t' && c <= '\r') : jinja_is_space(c))
            text[i] = ' ';
        else
            text[i] = c > ' ' && c < 0x7f ? (char)c : '?';
    }
    size_t n = s->n;
    for (; n > 0 && text[n - 1] == ' '; n--)
        text[n - 1] = '\0';
    return text + strspn(text, " ");
}

static int base_of_prefix(const char *text)
{
    if (text[0] != '0')
        return 10;
    switch (text[1] | 0x20) {
    case 'x':
        return 16;
    case 'o':
        return 8;
    case 'b':
        return 2;
    default:
        return 0;
    }
}

static int digit_of(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    c = (char)(c | 0x20);
    return c >= 'a' && c <= 'z' ? c - 'a' + 10 : 36;
}

/* Digits with single underscores between them, and nothing else; 0 digits are none. */
static bool are_digits(const char *text, int base, size_t *n)
{
    *n = 0;
    for (const char *p = text; *p; p++) {
        if (*p == '_' && p > text && p[1] && p[1] != '_')
            continue;
        if (*p == '_' || digit_of(*p) >= base)
            return false;
        ++*n;
    }
    return *n > 0;
}

static int64_t sum_digits(struct jinja_run *run, const char *digits, int base, bool negative)
{
    int64_t value = 0;

    for (const char *p = digits; *p; p++) {
        if (*p == '_')
            continue;
        int digit = negative ? -digit_of(*p) : digit_of(*p);
        if (__builtin_mul_overflow(value, (int64_t)base, &value) ||
            __builtin_add_overflow(value, (int64_t)digit, &value))
            jinja_fail(run, "expected an integer of 64 bits, found a larger one");
    }
    return value;
}

bool jinja_read_int(struct jinja_run *run, const struct jinja_string *string, int64_t base,
                    int64_t *value)
{
    enum { MOST_DIGITS = 4300 }; /* Python reads no more of a base that is no power of two */
    const char *text = number_text(run, string);
    size_t n;

    if (base != 0 && (base < 2 || base > 36))
        return false;
    bool negative = *text == '-';
    if (*text == '-' || *text == '+')
        text++;
    int prefix = base_of_prefix(text), use = (int)base;
    bool only_zero = base == 0 && prefix == 0;
    if (base == 0)
        use = prefix == 0 ? 10 : prefix;
    if (*text == '0' && prefix == use && use != 10) {
        text += 2;
        if (*text == '_')
            text++;
    }
    if (!are_digits(text, use, &n) || (only_zero && text[strspn(text, "0_")] != '\0'))
        return false;
    if (n > MOST_DIGITS && (use & (use - 1)) != 0)
        return false;
    *value = sum_digits(run, text, use, negative);
    return true;
}

/* Moves over digits and the underscores between them, and copies the digits. */
static size_t take_digits(const char **from, char **to)
{
    const char *p = *from;
    size_t n = 0;

    for (; (*p >= '0' && *p <= '9') || (n > 0 && *p == '_' && p[1] >= '0' && p[1] <= '9'); p++)
        if (*p != '_') {
            *(*to)++ = *p;
            n++;
        }
    *from = p;
    return n;
}

/* Copies what is a decimal number as a whole, without underscores; false if it is none. */
static bool take_decimal(const char *p, char *to)
{
    size_t n = take_digits(&p, &to);

    if (*p == '.') {
        *to++ = *p++;
        n += take_digits(&p, &to);
    }
    if (n == 0)
        return false;
    if ((*p | 0x20) == 'e') {
        *to++ = *p++;
        if (*p == '-' || *p == '+')
            *to++ = *p++;
        if (take_digits(&p, &to) == 0)
            return false;
    }
    *to = '\0';
    return *p == '\0';
}

static bool is_word(const char *text, const char *word)
{
    for (; *word; text++, word++)
        if ((*text | 0x20) != *word)
            return false;
    return *text == '\0';
}

static double read_plain(struct jinja_run *run, const char *text)
{
    double value;

    if (!number_read(text, &value))
        jinja_fail(run, "expected memory, found none");
    return value;
}

bool jinja_read_float(struct jinja_run *run, const struct jinja_string *string, double *value)
{
    const char *text = number_text(run, string);
    char *plain = jinja_alloc(run, strlen(text) + 1, 1);
    bool negative = *text == '-';

    if (*text == '-' || *text == '+')
        text++;
    if (is_word(text, "inf") || is_word(text, "infinity")) {
        *value = INFINITY;
    } else if (is_word(text, "nan")) {
        *value = (double)NAN;
    } else if (take_decimal(text, plain)) {
        *value = read_plain(run, plain);
    } else {
        return false;
    }
    if (negative)
        *value = -*value;
    return true;
}

int64_t jinja_truncate(struct jinja_run *run, double value)
{
    if (!(value >= -0x1p63 && value < 0x1p63))
        jinja_fail(run, "expected an integer of 64 bits, found a larger one");
    return (int64_t)value;
}

/* ---- numbers to text ----------------------------------------------------------------------- */

void jinja_digits(int64_t value, unsigned base, char text[72])
{
    uint64_t left = value < 0 ? 0 - (uint64_t)value : (uint64_t)value;
    size_t n = 0;

    do
        text[n++] = "0123456789abcdef"[left % base];
    while ((left /= base) > 0);
    text[n] = '\0';
    for (size_t i = 0; i < n / 2; i++) {
        char c = text[i];
        text[i] = text[n - 1 - i];
        text[n - 1 - i] = c;
    }
}

char *jinja_double_text(struct jinja_run *run, const char *format, int precision, double value)
{
    enum { MOST_DIGITS = 330, MARGIN = 16 }; /* DBL_MAX has 309 before the point */
    size_t size = (size_t)(precision > 0 ? precision : 0) + MOST_DIGITS + MARGIN;
    char *text = jinja_alloc(run, size, 1), *to = text;

    jinja_work(run, size / 16);
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wformat-nonliteral" /* formats of ours */
    snprintf(text, size, format, precision, value);
#pragma GCC diagnostic pop
    for (const char *from = text; *from; from++) {
        bool plain =
            (*from >= '0' && *from <= '9') || (*from | 0x20) >= 'a' || *from == '+' || *from == '-';
        if (plain && (signed char)*from > 0)
            *to++ = *from;
        else if (to == text || to[-1] != '.') /* the locale's decimal point, of any length */
            *to++ = '.';
    }
    *to = '\0';
    return text;
}

static char *with_case(char *text, bool upper)
{
    for (char *p = text; upper && *p; p++)
        if (*p >= 'a' && *p <= 'z')
            *p = (char)(*p - 'a' + 'A');
    return text;
}

char *jinja_float_format(struct jinja_run *run, char type, int64_t precision, bool alternate,
                         double value)
{
    enum { MOST = 100 * 1000 * 1000 };
    char format[8] = {'%', alternate ? '#' : '.', alternate ? '.' : '*', alternate ? '*' : 0};

    if (precision > MOST)
        jinja_fail(run, "expected a precision of at most %d, found a larger one", MOST);
    if (isnan(value)) {
        char *text = jinja_alloc(run, 4, 1);
        memcpy(text, "nan", 3);
        return with_case(text, type < 'a');
    }
    format[strlen(format)] = type;
    return jinja_double_text(run, format, (int)precision, value);
}

/* ---- round() ------------------------------------------------------------------------------- */

static int64_t round_int(struct jinja_run *run, int64_t value, int64_t digits)
{
    int64_t unit = 1;

    if (digits >= 0)
        return value;
    for (int64_t i = digits; i < 0; i++)
        if (__builtin_mul_overflow(unit, (int64_t)10, &unit))
            return 0; /* more than twice the value, and then some */
    int64_t rest = value % unit, down = value - rest;
    if (rest < 0) {
        rest += unit;
        if (__builtin_sub_overflow(down, unit, &down))
            jinja_fail(run, "expected an integer of 64 bits, found a larger one");
    }
    bool up = rest > unit - rest || (rest == unit - rest && (down / unit) % 2 != 0);
    if (up && __builtin_add_overflow(down, unit, &down))
        jinja_fail(run, "expected an integer of 64 bits, found a larger one");
    return down;
}

/* To `digits` < 0 places, on the exact digits of the whole part. */
static double round_tens(struct jinja_run *run, double value, int64_t digits)
{
    char *text = jinja_double_text(run, "%.*f", 0, trunc(fabs(value)));
    size_t n = strlen(text), keep = (uint64_t)-digits > n ? 0 : n - (size_t)-digits;

    if ((uint64_t)-digits > n)
        return copysign(0, value);
    bool beyond = trunc(value) != value || text[keep + 1 + strspn(text + keep + 1, "0")] != '\0';
    bool odd = keep > 0 && (text[keep - 1] - '0') % 2 != 0;
    bool up = text[keep] > '5' || (text[keep] == '5' && (beyond || odd));

    /* The kept digits plus one, if up, and an exponent: read as a number, it is rounded once. */
    char *result = jinja_alloc(run, n + 32, 1);
    result[0] = '0';
    memcpy(result + 1, text, keep);
    size_t at = keep;
    for (; up && result[at] == '9'; at--)
        result[at] = '0';
    if (up)
        result[at]++;
    snprintf(result + keep + 1, 31, "e%lld", (long long)-digits);
    double rounded = read_plain(run, result);
    if (isinf(rounded))
        jinja_fail(run, "round: expected a result that a float can have, found a larger one");
    return copysign(rounded, value);
}

static double round_float(struct jinja_run *run, double value, int64_t digits)
{
    enum { MOST = 323, LEAST = -308 }; /* more changes nothing; less leaves nothing */

    if (!isfinite(value) || digits > MOST)
        return value;
    if (digits < LEAST)
        return 0 * value;
    if (digits < 0)
        return round_tens(run, value, digits);
    return read_plain(run, jinja_double_text(run, "%.*f", (int)digits, value));
}

struct jinja_value jinja_round(struct jinja_run *run, struct jinja_value value,
                               struct jinja_value digits)
{
    bool whole = jinja_is_absent(digits);
    int64_t n = whole ? 0 : jinja_want_int(run, "round", digits);

    if (value.type == JINJA_BOOL)
        value = jinja_int(value.boolean);
    if (value.type == JINJA_INT)
        return jinja_int(round_int(run, value.integer, n));
    if (value.type != JINJA_FLOAT)
        jinja_fail(run, "round: expected a number, found %s", jinja_type_name(value));
    if (whole)
        return jinja_int(jinja_truncate(run, nearbyint(value.real)));
    return jinja_float(round_float(run, value.real, n));
}
