/* SPDX-License-Identifier: MIT */
#include "config.h"

#include "grammar/term.h"

#include <string.h>

#include "base/utf8.h"

/* Whether a character of [first, last] may come next. */
static bool any_char(struct regexes *all, regex r, uint32_t first, uint32_t last)
{
    const uint32_t range[1][2] = {{first, last}};
    if (regex_free_chars(all, r) > 0)
        return !(first >= 0xd800 && last <= 0xdfff);
    regex begins = regex_concat(all, regex_chars(all, range, 1), regex_text(all, 0, UINT32_MAX));
    return regex_and(all, r, begins) != REGEX_NONE;
}

/* The same for what [first, last] shares with [from, to]. */
static bool any_shared(struct regexes *all, regex r, uint32_t first, uint32_t last, uint32_t from,
                       uint32_t to)
{
    first = first > from ? first : from;
    last = last < to ? last : to;
    return first <= last && any_char(all, r, first, last);
}

/* Whether a \u escape whose first unit lies in [first, last] can stand for what may come next.
 * Printable ASCII has no such escapes: nothing needs them, and text that must come is forced. */
static bool any_unit(struct regexes *all, regex r, uint32_t first, uint32_t last)
{
    uint32_t high = first > 0xd800 ? first : 0xd800, top = last < 0xdbff ? last : 0xdbff;
    return any_shared(all, r, first, last, 0, 0x1f) ||
           any_shared(all, r, first, last, 0x7f, 0xd7ff) ||
           any_shared(all, r, first, last, 0xe000, 0xffff) ||
           (high <= top && any_char(all, r, 0x10000 + ((high - 0xd800) << 10),
                                    0x10000 + ((top - 0xd800) << 10) + 0x3ff));
}

static regex step_char(struct regexes *all, regex r, uint32_t scalar, uint8_t *decoded,
                       size_t *n_decoded)
{
    uint8_t bytes[4];
    size_t n = (size_t)utf8_encode(scalar, bytes);
    for (size_t i = 0; i < n && r != REGEX_NONE; i++)
        r = regex_step(all, r, bytes[i]);
    if (decoded != NULL) {
        memcpy(decoded, bytes, n);
        *n_decoded = n;
    }
    return r;
}

static term inside(regex r)
{
    return r == REGEX_NONE ? TERM_DEAD : term_make(r, STAGE_INSIDE, 0);
}

static int hex_digit(uint8_t byte)
{
    if (byte >= '0' && byte <= '9')
        return byte - '0';
    byte |= 0x20;
    return byte >= 'a' && byte <= 'f' ? byte - 'a' + 10 : -1;
}

/* A digit of \uXXXX, the first or the only one of a pair. */
static term step_unit(struct regexes *all, regex r, unsigned n, uint32_t digits, uint8_t byte,
                      uint8_t *decoded, size_t *n_decoded)
{
    int digit = hex_digit(byte);
    if (digit < 0)
        return TERM_DEAD;
    digits = digits << 4 | (uint32_t)digit;
    n++;
    unsigned open = 4 * (4 - n);
    if (!any_unit(all, r, digits << open, (digits << open) + ((1u << open) - 1)))
        return TERM_DEAD;
    if (n < 4)
        return term_make(r, STAGE_UNIT + n, digits);
    if (digits >= 0xd800 && digits <= 0xdbff)
        return term_make(r, STAGE_PAIR, digits - 0xd800);
    return inside(step_char(all, r, digits, decoded, n_decoded));
}

/* A digit of the low surrogate; the high one's ten bits are above the digits' sixteen. */
static term step_low(struct regexes *all, regex r, unsigned n, uint32_t digits, uint8_t byte,
                     uint8_t *decoded, size_t *n_decoded)
{
    int digit = hex_digit(byte);
    uint32_t high = digits >> 16;
    if (digit < 0)
        return TERM_DEAD;
    digits = (digits & 0xffff) << 4 | (uint32_t)digit;
    n++;
    unsigned open = 4 * (4 - n);
    uint32_t first = digits << open, last = first + ((1u << open) - 1);
    first = first > 0xdc00 ? first : 0xdc00;
    last = last < 0xdfff ? last : 0xdfff;
    uint32_t base = 0x10000 + (high << 10);
    if (first > last || !any_char(all, r, base + (first - 0xdc00), base + (last - 0xdc00)))
        return TERM_DEAD;
    if (n < 4)
        return term_make(r, STAGE_LOW + n, high << 16 | digits);
    return inside(step_char(all, r, base + (digits - 0xdc00), decoded, n_decoded));
}

static term step_escape(struct regexes *all, regex r, uint8_t byte, uint8_t *decoded,
                        size_t *n_decoded)
{
    static const char names[] = "\"\\/bfnrt", values[] = "\"\\/\b\f\n\r\t";
    if (byte == 'u')
        return any_unit(all, r, 0, 0xffff) ? term_make(r, STAGE_UNIT, 0) : TERM_DEAD;
    const char *at = byte != '\0' ? strchr(names, byte) : NULL;
    if (at == NULL)
        return TERM_DEAD;
    return inside(step_char(all, r, (uint8_t)values[at - names], decoded, n_decoded));
}

/* Whether some escape can stand for what may come next. */
static bool any_escape(struct regexes *all, regex r)
{
    static const char values[] = "\"\\/\b\f\n\r\t";
    for (size_t i = 0; values[i] != '\0'; i++)
        if (regex_step(all, r, (uint8_t)values[i]) != REGEX_NONE)
            return true;
    return any_unit(all, r, 0, 0xffff);
}

term term_step(struct regexes *all, term t, uint8_t byte, uint8_t *decoded, size_t *n_decoded)
{
    regex r = term_regex(t);
    enum term_stage stage = term_stage(t);
    uint32_t digits = (uint32_t)t & 0x0fffffff;

    if (decoded != NULL)
        *n_decoded = 0;
    switch (stage) {
    case STAGE_BEFORE:
        return byte == '"' ? term_make(r, STAGE_INSIDE, 0) : TERM_DEAD;
    case STAGE_ESCAPE:
        return step_escape(all, r, byte, decoded, n_decoded);
    case STAGE_PAIR:
        return byte == '\\' ? term_make(r, STAGE_PAIR_U, digits) : TERM_DEAD;
    case STAGE_PAIR_U:
        return byte == 'u' ? term_make(r, STAGE_LOW, digits << 16) : TERM_DEAD;
    case STAGE_UNIT:
    case STAGE_UNIT1:
    case STAGE_UNIT2:
    case STAGE_UNIT3:
        return step_unit(all, r, stage - STAGE_UNIT, digits, byte, decoded, n_decoded);
    case STAGE_LOW:
    case STAGE_LOW1:
    case STAGE_LOW2:
    case STAGE_LOW3:
        return step_low(all, r, stage - STAGE_LOW, digits, byte, decoded, n_decoded);
    case STAGE_INSIDE:
        if (byte == '"')
            return regex_nullable(all, r) ? TERM_CLOSED : TERM_DEAD;
        if (byte == '\\')
            return any_escape(all, r) ? term_make(r, STAGE_ESCAPE, 0) : TERM_DEAD;
        if (byte < 0x20)
            return TERM_DEAD;
        break;
    case STAGE_TEXT:
    case STAGE_LAZY:
        break;
    }
    if (decoded != NULL) {
        *decoded = byte;
        *n_decoded = 1;
    }
    r = regex_step(all, r, byte);
    return r == REGEX_NONE ? TERM_DEAD : term_make(r, stage, 0);
}
