/* SPDX-License-Identifier: MIT */
/* jinja_chars.c: classes and cases of characters, as Python's str has them. */
#include "text/jinja_tables.h"
#include "text/jinja_value.h"

/* ---- classes ------------------------------------------------------------------------------- */

/* The last run that begins at the scalar or before. */
static size_t run_of(uint32_t scalar)
{
    size_t low = 0, high = n_jinja_runs;
    while (high - low > 1) {
        size_t middle = low + (high - low) / 2;
        if (jinja_runs[middle] >> 5 <= scalar)
            low = middle;
        else
            high = middle;
    }
    return low;
}

static unsigned flags_of(uint32_t scalar)
{
    const unsigned letter = CHAR_ALPHA | CHAR_PRINTABLE | CHAR_CASED;
    if (scalar - 'a' < 26) /* as in the tables, but quicker: most of a text is of these */
        return letter | CHAR_LOWER;
    if (scalar >= 0x110000)
        return 0;
    unsigned class = jinja_runs[run_of(scalar)] & 31;
    if (class < n_jinja_classes)
        return jinja_classes[class];
    return letter | ((scalar ^ class ^ n_jinja_classes) & 1 ? CHAR_LOWER : CHAR_UPPER);
}

bool jinja_is_space(uint32_t scalar)
{
    if (scalar < 0x80)
        return scalar == ' ' || (scalar >= 9 && scalar <= 13) || (scalar >= 28 && scalar <= 31);
    return flags_of(scalar) & CHAR_SPACE;
}

bool jinja_is_printable(uint32_t scalar)
{
    if (scalar < 0x80)
        return scalar >= ' ' && scalar < 0x7f;
    return flags_of(scalar) & CHAR_PRINTABLE;
}

bool jinja_is_alpha(uint32_t scalar)
{
    return flags_of(scalar) & CHAR_ALPHA;
}

bool jinja_is_digit(uint32_t scalar)
{
    return flags_of(scalar) & CHAR_DIGIT;
}

bool jinja_is_decimal(uint32_t scalar)
{
    return flags_of(scalar) & CHAR_DECIMAL;
}

bool jinja_is_numeric(uint32_t scalar)
{
    return flags_of(scalar) & CHAR_NUMERIC;
}

bool jinja_is_alnum(uint32_t scalar)
{
    return flags_of(scalar) & (CHAR_ALPHA | CHAR_DECIMAL | CHAR_DIGIT | CHAR_NUMERIC);
}

bool jinja_is_upper(uint32_t scalar)
{
    return flags_of(scalar) & CHAR_UPPER;
}

bool jinja_is_lower(uint32_t scalar)
{
    return flags_of(scalar) & CHAR_LOWER;
}

bool jinja_is_title(uint32_t scalar)
{
    return flags_of(scalar) & CHAR_TITLE;
}

/* Decimal digits come in tens, from 0 to 9. */
int jinja_digit_value(uint32_t scalar)
{
    if (!jinja_is_decimal(scalar))
        return -1;
    return (int)((scalar - (jinja_runs[run_of(scalar)] >> 5)) % 10);
}

/* ---- cases --------------------------------------------------------------------------------- */

static const struct jinja_range *range_of(uint32_t scalar, enum char_case which)
{
    const struct jinja_ranges *ranges = &jinja_cases[which];
    size_t low = 0, high = ranges->n;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        const struct jinja_range *range = &ranges->ranges[middle];
        if (scalar < range->first)
            high = middle;
        else if (scalar > range->last)
            low = middle + 1;
        else
            return (scalar - range->first) % range->step == 0 ? range : NULL;
    }
    return NULL;
}

static const struct jinja_special *special_of(uint32_t scalar)
{
    size_t low = 0, high = n_jinja_specials;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (jinja_specials[middle].scalar == scalar)
            return &jinja_specials[middle];
        if (jinja_specials[middle].scalar < scalar)
            low = middle + 1;
        else
            high = middle;
    }
    return NULL;
}

static uint32_t simple_case(uint32_t scalar, enum char_case which)
{
    const struct jinja_range *range = range_of(scalar, which);
    if (range == NULL && which == CASE_TITLE)
        range = range_of(scalar, CASE_UPPER);
    if (range == NULL && which == CASE_FOLD)
        range = range_of(scalar, CASE_LOWER);
    return range != NULL ? scalar + (uint32_t)range->add : scalar;
}

static void put_case(struct jinja_builder *b, uint32_t c, enum char_case which)
{
    uint32_t scalar = jinja_scalar(c), given = c & (uint32_t)JINJA_GIVEN;
    const struct jinja_special *special = scalar < 0x80 ? NULL : special_of(scalar);
    if (special == NULL) {
        jinja_put(b, simple_case(scalar, which) | given);
        return;
    }
    for (size_t i = 0; i < 3 && special->to[which][i] != 0; i++)
        jinja_put(b, special->to[which][i] | given);
}

/* The first flags that are not of an ignored character, from s->chars[at] on by steps. */
static unsigned flags_beside(const struct jinja_string *s, size_t at, size_t step)
{
    for (; at < s->n; at += step) { /* below 0 is above n */
        unsigned flags = flags_of(jinja_scalar(s->chars[at]));
        if (!(flags & CHAR_IGNORED))
            return flags;
    }
    return 0;
}

/* The lower case of s->chars[at]. At the end of a word, a sigma has another. */
static void put_lower(struct jinja_builder *b, const struct jinja_string *s, size_t at)
{
    uint32_t c = s->chars[at];
    if (jinja_scalar(c) != 0x3a3) {
        put_case(b, c, CASE_LOWER);
        return;
    }
    bool final = (flags_beside(s, at - 1, SIZE_MAX) & CHAR_CASED) &&
                 !(flags_beside(s, at + 1, 1) & CHAR_CASED);
    jinja_put(b, (final ? 0x3c2 : 0x3c3) | (c & (uint32_t)JINJA_GIVEN));
}

void jinja_put_upper(struct jinja_builder *b, const struct jinja_string *s)
{
    jinja_work(b->run, s->n);
    for (size_t i = 0; i < s->n; i++)
        put_case(b, s->chars[i], CASE_UPPER);
}

void jinja_put_lower(struct jinja_builder *b, const struct jinja_string *s)
{
    jinja_work(b->run, s->n);
    for (size_t i = 0; i < s->n; i++)
        put_lower(b, s, i);
}

void jinja_put_title(struct jinja_builder *b, const struct jinja_string *s)
{
    bool inside = false;
    jinja_work(b->run, s->n);
    for (size_t i = 0; i < s->n; i++) {
        if (inside)
            put_lower(b, s, i);
        else
            put_case(b, s->chars[i], CASE_TITLE);
        inside = flags_of(jinja_scalar(s->chars[i])) & CHAR_CASED;
    }
}

void jinja_put_capitalize(struct jinja_builder *b, const struct jinja_string *s)
{
    jinja_work(b->run, s->n);
    for (size_t i = 0; i < s->n; i++)
        if (i == 0)
            put_case(b, s->chars[i], CASE_TITLE);
        else
            put_lower(b, s, i);
}

void jinja_put_swapcase(struct jinja_builder *b, const struct jinja_string *s)
{
    jinja_work(b->run, s->n);
    for (size_t i = 0; i < s->n; i++) {
        unsigned flags = flags_of(jinja_scalar(s->chars[i]));
        if (flags & CHAR_UPPER)
            put_lower(b, s, i);
        else if (flags & CHAR_LOWER)
            put_case(b, s->chars[i], CASE_UPPER);
        else
            jinja_put(b, s->chars[i]);
    }
}

void jinja_put_casefold(struct jinja_builder *b, const struct jinja_string *s)
{
    jinja_work(b->run, s->n);
    for (size_t i = 0; i < s->n; i++)
        put_case(b, s->chars[i], CASE_FOLD);
}
