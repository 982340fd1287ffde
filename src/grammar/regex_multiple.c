/* SPDX-License-Identifier: MIT */
/*
 * regex_multiple.c: multiples of a number. A state is the remainder of the digits so far, so there
 * are as many as the divisor is large; only those that are reached exist.
 *
 * A number is a multiple of d / 10^scale if its digits, with as many zeros behind them as make
 * `scale` digits after the point, are a multiple of d.
 */
#include "grammar/regex_parts.h"

#include <stdlib.h>

/* Before the first digit, after a zero that no digit may follow, in the integer, behind the point,
 * and then the number of digits there. */
enum { MAX_DIVISOR_DIGITS = 15 };
enum phase { START, ZERO, WHOLE, POINT };

static const struct regex_divisor *divisor_of(const struct regexes *all, uint32_t i)
{
    return &((const struct regex_divisor *)all->divisors.items)[i];
}

/* remainder * 10^n mod d; d < 2^60 */
static uint64_t shifted(uint64_t remainder, uint64_t d, uint32_t n)
{
    while (n-- > 0 && remainder != 0)
        remainder = remainder * 10 % d;
    return remainder;
}

/* Whether digits make it a multiple, of which no more than n may follow. */
static bool can_end(uint64_t remainder, uint64_t d, uint32_t n)
{
    uint64_t missing = (d - shifted(remainder, d, n)) % d;
    uint64_t most = 1; /* 10^n - 1, or d */
    for (uint32_t i = 0; i < n && most <= d; i++)
        most *= 10;
    return missing < most;
}

/* The state; REGEX_NONE where no multiple can follow. */
static regex state(struct regexes *all, uint32_t divisor, uint32_t phase, uint64_t remainder)
{
    struct regex_divisor by = *divisor_of(all, divisor);
    uint32_t behind = phase >= POINT ? phase - POINT : 0; /* digits after the point */
    uint32_t left = behind < by.scale ? by.scale - behind : 0;
    bool ends = phase != START && phase != POINT && shifted(remainder, by.d, left) == 0;
    if (phase >= POINT && !can_end(remainder, by.d, left))
        return REGEX_NONE;
    return regex_intern(all,
                        &(struct regex_node){.kind = KIND_MULTIPLE,
                                             .life = LIFE_LIVE,
                                             .nullable = ends,
                                             .utf8 = true,
                                             .depth = 1,
                                             .a = divisor,
                                             .b = phase,
                                             .c = (uint32_t)remainder,
                                             .d = (uint32_t)(remainder >> 32)},
                        NULL, 0);
}

regex regex_multiple_step(struct regexes *all, regex r, uint8_t byte, struct byte_set *same)
{
    struct regex_node n = *regex_node(all, r);
    struct regex_divisor by = *divisor_of(all, n.a);
    struct byte_set bytes = {0};
    bool digit = byte >= '0' && byte <= '9', point = byte == '.';
    if (!digit && !point) {
        byte_set_add(&bytes, '0', '9');
        byte_set_add(&bytes, '.', '.');
        byte_set_narrow(same, &bytes, UINT64_MAX);
        return REGEX_NONE;
    }
    byte_set_add(&bytes, byte, byte);
    byte_set_narrow(same, &bytes, 0);
    uint64_t remainder = (uint64_t)n.d << 32 | n.c;
    if (point)
        return !by.bare && (n.b == ZERO || n.b == WHOLE) ? state(all, n.a, POINT, remainder)
                                                         : (regex)REGEX_NONE;
    if (n.b == ZERO || (by.bare && n.b == START && byte == '0'))
        return REGEX_NONE;
    uint32_t behind = n.b >= POINT ? n.b - POINT : 0;
    if (n.b >= POINT && behind >= by.scale) /* nothing but zeros */
        return byte != '0' ? (regex)REGEX_NONE
                           : state(all, n.a, behind == by.scale ? n.b + 1 : n.b, remainder);
    remainder = (remainder * 10 + (byte - '0')) % by.d;
    if (n.b >= POINT)
        return state(all, n.a, n.b + 1, remainder);
    return state(all, n.a, n.b == START && byte == '0' ? ZERO : WHOLE, remainder);
}

static regex multiple(struct regexes *all, const struct regex_divisor *by)
{
    size_t i = 0;
    for (; i < all->divisors.n; i++) {
        const struct regex_divisor *other = divisor_of(all, (uint32_t)i);
        if (other->d == by->d && other->scale == by->scale && other->bare == by->bare)
            return state(all, (uint32_t)i, START, 0);
    }
    if (!regex_room(all, &all->divisors, 1, sizeof *by))
        return REGEX_NONE;
    ((struct regex_divisor *)all->divisors.items)[all->divisors.n++] = *by;
    return state(all, (uint32_t)i, START, 0);
}

regex regex_multiple_of(struct regexes *all, const char *divisor, struct llama3_error *err)
{
    struct regex_decimal d;
    if (regex_read_decimal(&d, divisor, err) != 0)
        return REGEX_NONE;
    struct regex_divisor by = {.d = 0};
    for (size_t i = 0; i < d.n && d.n <= MAX_DIVISOR_DIGITS; i++)
        by.d = by.d * 10 + (uint64_t)(d.digits[i] - '0');
    int64_t behind = (int64_t)d.n - d.point; /* the digits that count end there */
    bool negative = d.negative;
    free(d.memory);
    if (by.d == 0 || negative) {
        error_input(err, "expected a divisor above 0 of at most %d digits that count, found %.40s",
                    MAX_DIVISOR_DIGITS, divisor);
        return REGEX_NONE;
    }
    regex minus = re_optional(all, re_bytes(all, '-', '-'));
    by.scale = behind > 0 ? (uint32_t)behind : 0;
    if (behind >= 0)
        return re_concat(all, minus, multiple(all, &by));
    /* A multiple of d with so many zeros behind it. */
    by.bare = true;
    regex zero = re_bytes(all, '0', '0');
    regex r = re_concat(all, multiple(all, &by),
                        re_repeat(all, zero, (uint32_t)-behind, (uint32_t)-behind));
    regex zeros = re_concat(all, re_bytes(all, '.', '.'), re_repeat(all, zero, 1, REGEX_INFINITE));
    r = re_concat(all, re_or(all, zero, r), re_optional(all, zeros));
    return re_concat(all, minus, r);
}
