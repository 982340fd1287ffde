/* SPDX-License-Identifier: MIT */
/*
 * regex_number.c: sets of decimals by their values. A bound compares digit by digit, so the set of
 * what is above or below it is a chain of as many alternatives as it has digits: exact for any.
 */
#include "grammar/regex_parts.h"

#include <stdlib.h>

#include "base/size.h"

/* ---- decimal text --------------------------------------------------------------------------- */

enum { MAX_EXPONENT = 400 };

static bool is_digit(char c)
{
    return c >= '0' && c <= '9';
}

int regex_read_decimal(struct regex_decimal *d, const char *text, struct llama3_error *err)
{
    const char *at = text;
    size_t length = strlen(text), before = 0;
    int64_t exponent = 0;
    *d = (struct regex_decimal){.negative = *at == '-'};
    at += *at == '-';
    d->memory = size_alloc_for(length + 1, 1, "a number", err);
    if (d->memory == NULL)
        return -1;
    for (; is_digit(*at); at++, before++)
        d->memory[d->n++] = *at;
    bool any = before > 0;
    if (*at == '.')
        for (at++, any &= is_digit(*at); is_digit(*at); at++)
            d->memory[d->n++] = *at;
    if (any && (*at == 'e' || *at == 'E')) {
        bool below = *++at == '-';
        at += *at == '-' || *at == '+';
        any = is_digit(*at);
        for (; is_digit(*at) && exponent <= MAX_EXPONENT; at++)
            exponent = exponent * 10 + (*at - '0');
        exponent = below ? -exponent : exponent;
    }
    if (!any || (*at != '\0' && !is_digit(*at)) || exponent > MAX_EXPONENT ||
        exponent < -MAX_EXPONENT) {
        free(d->memory);
        d->memory = NULL;
        return error_input(err, "expected a number with an exponent of at most %d, found \"%.40s\"",
                           MAX_EXPONENT, text);
    }
    d->point = (int64_t)before + exponent;
    d->digits = d->memory;
    for (; d->n > 0 && *d->digits == '0'; d->digits++, d->n--)
        d->point--;
    while (d->n > 0 && d->digits[d->n - 1] == '0')
        d->n--;
    if (d->n == 0)
        d->point = 0;
    return 0;
}

/* How many digits stand before the point ("0" is none), and which digit stands at place i of them
 * or, from there on, behind it. */
static size_t whole_digits(const struct regex_decimal *d)
{
    return d->point > 0 ? (size_t)d->point : 0;
}

static size_t fraction_digits(const struct regex_decimal *d)
{
    int64_t n = (int64_t)d->n - d->point;
    return n > 0 ? (size_t)n : 0;
}

static unsigned digit_at(const struct regex_decimal *d, int64_t i)
{
    return i >= 0 && i < (int64_t)d->n ? (unsigned)(d->digits[i] - '0') : 0;
}

static unsigned whole_digit(const struct regex_decimal *d, size_t i)
{
    return digit_at(d, (int64_t)i);
}

static unsigned fraction_digit(const struct regex_decimal *d, size_t i)
{
    return digit_at(d, d->point + (int64_t)i);
}

/* ---- pieces of text ------------------------------------------------------------------------- */

static regex one(struct regexes *all, char c)
{
    return re_bytes(all, (uint8_t)c, (uint8_t)c);
}

/* Digits from one to another; nothing if there is none between. */
static regex digits(struct regexes *all, unsigned from, unsigned to)
{
    return from <= to ? re_bytes(all, '0' + from, '0' + to) : (regex)REGEX_NONE;
}

static regex many(struct regexes *all, unsigned from, unsigned to, size_t min, bool more)
{
    uint32_t n = min < REGEX_INFINITE ? (uint32_t)min : UINT32_MAX - 1;
    return re_repeat(all, digits(all, from, to), n, more ? REGEX_INFINITE : n);
}

static regex any_fraction(struct regexes *all)
{
    return re_optional(all, re_concat(all, one(all, '.'), many(all, 0, 9, 1, true)));
}

static regex zero_fraction(struct regexes *all)
{
    return re_optional(all, re_concat(all, one(all, '.'), many(all, 0, 0, 1, true)));
}

/* A digit that isn't zero, somewhere. */
static regex not_zero(struct regexes *all)
{
    return re_concat(all, many(all, 0, 0, 0, true),
                     re_concat(all, digits(all, 1, 9), many(all, 0, 9, 0, true)));
}

static regex sign(struct regexes *all)
{
    return re_optional(all, one(all, '-'));
}

static regex whole_text(struct regexes *all)
{
    return re_or(all, one(all, '0'), re_concat(all, digits(all, 1, 9), many(all, 0, 9, 0, true)));
}

/* ---- comparison ----------------------------------------------------------------------------- */

/* Fractions, from the point on, that are above or below the bound's, or equal. */
static regex fraction(struct regexes *all, const struct regex_decimal *d, bool above, bool equal)
{
    size_t n = fraction_digits(d);
    regex rest;
    if (above)
        rest = equal ? many(all, 0, 9, 0, true) : not_zero(all);
    else
        rest = equal ? many(all, 0, 0, 0, true) : (regex)REGEX_NONE;
    if (n == 0) {
        /* Without a digit there is no point. */
        rest = above && equal ? many(all, 0, 9, 1, true) : equal ? many(all, 0, 0, 1, true) : rest;
        rest = re_concat(all, one(all, '.'), rest);
        return equal ? re_optional(all, rest) : rest;
    }
    for (size_t i = n; i-- > 0 && !all->failed;) {
        unsigned digit = fraction_digit(d, i);
        regex other = above ? digits(all, digit + 1, 9)
                            : (digit > 0 ? digits(all, 0, digit - 1) : (regex)REGEX_NONE);
        rest = re_or(all, re_concat(all, digits(all, digit, digit), rest),
                     re_concat(all, other, many(all, 0, 9, 0, true)));
        /* What ends before the bound does is below it. */
        if (!above && i > 0)
            rest = re_optional(all, rest);
    }
    rest = re_concat(all, one(all, '.'), rest);
    return above ? rest : re_optional(all, rest);
}

/* Decimals without a sign that are above |bound|, or below it, or equal. */
static regex compared(struct regexes *all, const struct regex_decimal *d, bool above, bool equal)
{
    size_t n = whole_digits(d);
    regex rest = fraction(all, d, above, equal);
    for (size_t i = n; i-- > 0 && !all->failed;) {
        unsigned digit = whole_digit(d, i), least = i == 0 ? 1 : 0;
        regex other = above ? digits(all, digit + 1, 9)
                            : (digit > least ? digits(all, least, digit - 1) : (regex)REGEX_NONE);
        other = re_concat(all, other,
                          re_concat(all, many(all, 0, 9, n - 1 - i, false), any_fraction(all)));
        rest = re_or(all, re_concat(all, digits(all, digit, digit), rest), other);
    }
    if (n == 0)
        rest = re_concat(all, one(all, '0'), rest);
    if (above) {
        /* More digits before the point. */
        regex longer = re_concat(all, digits(all, 1, 9),
                                 re_concat(all, many(all, 0, 9, n, true), any_fraction(all)));
        return re_or(all, rest, longer);
    }
    if (n > 0) {
        uint32_t most = n < REGEX_INFINITE ? (uint32_t)n : UINT32_MAX - 1;
        regex shorter = one(all, '0');
        if (most > 1)
            shorter = re_or(
                all, shorter,
                re_concat(all, digits(all, 1, 9), re_repeat(all, digits(all, 0, 9), 0, most - 2)));
        rest = re_or(all, rest, re_concat(all, shorter, any_fraction(all)));
    }
    return rest;
}

/* Decimals without a sign from low to high, of which NULL is no bound; both are of one sign or
 * zero, and their signs don't count. */
static regex between(struct regexes *all, const struct regex_decimal *low, bool low_too,
                     const struct regex_decimal *high, bool high_too)
{
    regex r = re_concat(all, whole_text(all), any_fraction(all));
    if (low != NULL)
        r = re_and(all, r, compared(all, low, true, low_too));
    if (high != NULL)
        r = re_and(all, r, compared(all, high, false, high_too));
    return r;
}

static const struct regex_decimal *positive(const struct regex_decimal *d, bool negative)
{
    return d != NULL && d->n > 0 && d->negative == negative ? d : NULL;
}

/* The values of one sign, and zero. */
static regex half(struct regexes *all, bool negative, const struct regex_decimal *low, bool low_too,
                  const struct regex_decimal *high, bool high_too)
{
    /* Seen from zero, low is the nearer bound, and high the farther. */
    static const struct regex_decimal zero;
    const struct regex_decimal *near = positive(low, negative), *far = positive(high, negative);
    if (high != NULL && far == NULL) {
        /* On the other side, or zero. */
        if (high->n > 0 || !high_too)
            return REGEX_NONE;
        far = &zero;
    }
    bool near_too = low_too;
    if (low != NULL && near == NULL && low->n == 0 && !low_too) {
        near = &zero;
        near_too = false;
    }
    return between(all, near, near_too, far, high_too);
}

regex regex_number_range(struct regexes *all, const char *min, bool min_exclusive, const char *max,
                         bool max_exclusive, struct llama3_error *err)
{
    struct regex_decimal low = {0}, high = {0};
    const struct regex_decimal *l = NULL, *h = NULL;
    regex r = REGEX_NONE;
    if (min != NULL && regex_read_decimal(&low, min, err) != 0)
        return REGEX_NONE;
    if (max == NULL || regex_read_decimal(&high, max, err) == 0) {
        l = min != NULL ? &low : NULL;
        h = max != NULL ? &high : NULL;
        regex below = half(all, true, h, !max_exclusive, l, !min_exclusive);
        r = re_or(all, half(all, false, l, !min_exclusive, h, !max_exclusive),
                  re_concat(all, one(all, '-'), below));
    }
    free(low.memory);
    free(high.memory);
    return regex_settle(all, r);
}

regex regex_number_equal(struct regexes *all, const char *number, struct llama3_error *err)
{
    struct regex_decimal d;
    if (regex_read_decimal(&d, number, err) != 0)
        return REGEX_NONE;
    regex r = zero_fraction(all);
    if (fraction_digits(&d) > 0) {
        r = many(all, 0, 0, 0, true);
        for (size_t i = fraction_digits(&d); i-- > 0;)
            r = re_concat(all, digits(all, fraction_digit(&d, i), fraction_digit(&d, i)), r);
        r = re_concat(all, one(all, '.'), r);
    }
    for (size_t i = whole_digits(&d); i-- > 0;)
        r = re_concat(all, digits(all, whole_digit(&d, i), whole_digit(&d, i)), r);
    if (whole_digits(&d) == 0)
        r = re_concat(all, one(all, '0'), r);
    if (d.n == 0)
        r = re_concat(all, sign(all), r);
    else if (d.negative)
        r = re_concat(all, one(all, '-'), r);
    free(d.memory);
    return regex_settle(all, r);
}

/* ---- kinds of numbers ----------------------------------------------------------------------- */

regex regex_number(struct regexes *all, bool exponent)
{
    regex r = re_concat(all, sign(all), re_concat(all, whole_text(all), any_fraction(all)));
    if (!exponent)
        return r;
    struct byte_set e = {0}, signs = {0};
    byte_set_add(&e, 'e', 'e');
    byte_set_add(&e, 'E', 'E');
    byte_set_add(&signs, '+', '+');
    byte_set_add(&signs, '-', '-');
    regex power = re_concat(
        all, regex_bytes(all, &e),
        re_concat(all, re_optional(all, regex_bytes(all, &signs)), many(all, 0, 9, 1, true)));
    return re_concat(all, r, re_optional(all, power));
}

regex regex_integer_text(struct regexes *all)
{
    return re_concat(all, sign(all), whole_text(all));
}

regex regex_integer_value(struct regexes *all)
{
    return re_concat(all, regex_integer_text(all), zero_fraction(all));
}
