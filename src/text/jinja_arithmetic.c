/* SPDX-License-Identifier: MIT */
/* jinja_arithmetic.c: + - * / // % ** of a template's values, as Python has them. */
#include <errno.h>
#include <math.h>
#include <string.h>

#include "text/jinja_value.h"

static _Noreturn void fail_large(struct jinja_run *run)
{
    jinja_fail(run, "expected an integer of 64 bits, found a larger one");
}

static _Noreturn void fail_zero(struct jinja_run *run)
{
    jinja_fail(run, "expected a divisor other than 0, found 0");
}

/* ---- integers ------------------------------------------------------------------------------ */

/* a / b, rounded once: (double)a would be rounded as well. The quotient has more bits than a
 * double, and its last one says whether something is left, so that no half is mistaken. */
static double divide_exactly(int64_t a, int64_t b)
{
    uint64_t x = a < 0 ? 0 - (uint64_t)a : (uint64_t)a, y = b < 0 ? 0 - (uint64_t)b : (uint64_t)b;
    if (x == 0)
        return b < 0 ? -0.0 : 0.0;
    int shift = 62 + __builtin_clzll(x) - __builtin_clzll(y); /* the quotient has 62 or 63 bits */
    unsigned __int128 dividend = x, divisor = y;
    if (shift >= 0)
        dividend <<= shift;
    else
        divisor <<= -shift;
    uint64_t quotient = (uint64_t)(dividend / divisor);
    quotient |= dividend % divisor != 0;
    double result = ldexp((double)quotient, -shift);
    return (a < 0) != (b < 0) ? -result : result;
}

static int64_t floor_div(int64_t a, int64_t b)
{
    return a / b - (a % b != 0 && (a < 0) != (b < 0));
}

static int64_t power(struct jinja_run *run, int64_t base, int64_t exponent)
{
    int64_t result = 1;
    for (;;) {
        if ((exponent & 1) && __builtin_mul_overflow(result, base, &result))
            fail_large(run);
        exponent >>= 1;
        if (exponent == 0)
            return result;
        if (__builtin_mul_overflow(base, base, &base))
            fail_large(run);
    }
}

static struct jinja_value of_reals(struct jinja_run *run, char op, double a, double b);

static struct jinja_value of_integers(struct jinja_run *run, char op, int64_t a, int64_t b)
{
    int64_t result = 0;
    bool large = false;
    if ((op == '/' || op == 'f' || op == '%') && b == 0)
        fail_zero(run);
    switch (op) {
    case '+':
        large = __builtin_add_overflow(a, b, &result);
        break;
    case '-':
        large = __builtin_sub_overflow(a, b, &result);
        break;
    case '*':
        large = __builtin_mul_overflow(a, b, &result);
        break;
    case '/':
        return jinja_float(divide_exactly(a, b));
    case 'f':
        large = b == -1 && a == INT64_MIN;
        result = large ? 0 : floor_div(a, b);
        break;
    case '%':
        result = b == -1 ? 0 : a % b;
        result += result != 0 && (a < 0) != (b < 0) ? b : 0;
        break;
    default:
        if (b < 0)
            return of_reals(run, op, (double)a, (double)b);
        result = power(run, a, b);
    }
    if (large)
        fail_large(run);
    return jinja_int(result);
}

/* ---- floats -------------------------------------------------------------------------------- */

static bool is_zero(double value)
{
    return fpclassify(value) == FP_ZERO;
}

/* Of b's sign, and a zero as well. */
static double modulo(double a, double b)
{
    double rest = fmod(a, b);
    if (is_zero(rest))
        return copysign(0, b);
    return (rest < 0) != (b < 0) ? rest + b : rest;
}

static double floor_real(double a, double b)
{
    double rest = fmod(a, b);
    double quotient = (a - rest) / b;
    if (!is_zero(rest) && (rest < 0) != (b < 0))
        quotient -= 1;
    if (is_zero(quotient))
        return copysign(0, a / b);
    double whole = floor(quotient); /* the quotient is one but for an error of rounding */
    return quotient - whole > 0.5 ? whole + 1 : whole;
}

static double power_real(struct jinja_run *run, double a, double b)
{
    if (is_zero(a) && b < 0 && isfinite(b))
        jinja_fail(run, "expected a power of 0 that is not negative, found one");
    if (a < 0 && isfinite(a) && isfinite(b) && floor(b) < b)
        jinja_fail(run, "expected a power of a negative number that is whole, found another");
    double result = pow(a, b);
    if (isinf(result) && isfinite(a) && isfinite(b))
        jinja_fail(run, "expected a power in the range of a float, found a larger one");
    return result;
}

static struct jinja_value of_reals(struct jinja_run *run, char op, double a, double b)
{
    if ((op == '/' || op == 'f' || op == '%') && is_zero(b))
        fail_zero(run);
    switch (op) {
    case '+':
        return jinja_float(a + b);
    case '-':
        return jinja_float(a - b);
    case '*':
        return jinja_float(a * b);
    case '/':
        return jinja_float(a / b);
    case 'f':
        return jinja_float(floor_real(a, b));
    case '%':
        return jinja_float(modulo(a, b));
    default:
        return jinja_float(power_real(run, a, b));
    }
}

static struct jinja_value of_numbers(struct jinja_run *run, char op, struct jinja_value a,
                                     struct jinja_value b)
{
    if (a.type == JINJA_FLOAT || b.type == JINJA_FLOAT)
        return of_reals(run, op, jinja_real(a), jinja_real(b));
    return of_integers(run, op, a.type == JINJA_BOOL ? a.boolean : a.integer,
                       b.type == JINJA_BOOL ? b.boolean : b.integer);
}

/* ---- strings and lists --------------------------------------------------------------------- */

/* Markup escapes what is added to it. */
static void put_operand(struct jinja_builder *b, const struct jinja_string *string, bool markup)
{
    if (markup && !string->markup)
        jinja_put_escaped(b, string);
    else
        jinja_put_chars(b, string->chars, string->n);
}

static struct jinja_value with_markup(struct jinja_builder *b, bool markup)
{
    struct jinja_value built = jinja_built(b);
    return markup ? jinja_markup(b->run, built.string) : built;
}

static struct jinja_value join_strings(struct jinja_run *run, const struct jinja_string *a,
                                       const struct jinja_string *b)
{
    struct jinja_builder joined = {.run = run};
    bool markup = a->markup || b->markup;
    put_operand(&joined, a, markup);
    put_operand(&joined, b, markup);
    return with_markup(&joined, markup);
}

struct jinja_value jinja_extend(struct jinja_run *run, const struct jinja_string *a,
                                const struct jinja_string *b)
{
    if (a->markup != b->markup)
        return join_strings(run, a, b);
    struct jinja_builder joined = jinja_reopen(run, a);
    jinja_put_chars(&joined, b->chars, b->n);
    return with_markup(&joined, a->markup);
}

static struct jinja_value join_lists(struct jinja_run *run, const struct jinja_list *a,
                                     const struct jinja_list *b)
{
    struct jinja_value joined = jinja_list(run, a->kind, a->n + b->n);
    jinja_work(run, a->n + b->n);
    for (size_t i = 0; i < a->n; i++)
        jinja_append(run, joined.list, a->items[i]);
    for (size_t i = 0; i < b->n; i++)
        jinja_append(run, joined.list, b->items[i]);
    return joined;
}

static bool is_joined(struct jinja_value value)
{
    return value.type == JINJA_STRING ||
           (value.type == JINJA_LIST &&
            (value.list->kind == JINJA_PLAIN || value.list->kind == JINJA_TUPLE));
}

static struct jinja_value repeat_string(struct jinja_run *run, const struct jinja_string *string,
                                        size_t times)
{
    struct jinja_builder b = {.run = run};
    if (string->n > 0) {
        jinja_work(run, times);
        b.chars = jinja_alloc(run, times, string->n * sizeof *b.chars);
        b.capacity = times * string->n;
        for (size_t i = 0; i < times; i++)
            jinja_put_chars(&b, string->chars, string->n);
    }
    return with_markup(&b, string->markup);
}

static struct jinja_value repeat_list(struct jinja_run *run, const struct jinja_list *list,
                                      size_t times)
{
    size_t n = 0;
    if (__builtin_mul_overflow(list->n, times, &n))
        fail_large(run);
    struct jinja_value all = jinja_list(run, list->kind, n);
    jinja_work(run, n);
    for (size_t i = 0; i < n; i++)
        jinja_append(run, all.list, list->items[i % list->n]);
    return all;
}

static struct jinja_value repeat(struct jinja_run *run, struct jinja_value value,
                                 struct jinja_value times)
{
    int64_t n = times.type == JINJA_BOOL ? times.boolean : times.integer;
    size_t count = n > 0 ? (size_t)n : 0;
    return value.type == JINJA_STRING ? repeat_string(run, value.string, count)
                                      : repeat_list(run, value.list, count);
}

static bool is_times(struct jinja_value value)
{
    return value.type == JINJA_BOOL || value.type == JINJA_INT;
}

struct jinja_value jinja_arithmetic(struct jinja_run *run, char op, struct jinja_value a,
                                    struct jinja_value b)
{
    const char *name = op == 'f' ? "//" : op == 'p' ? "**" : (char[]){op, '\0'};
    if (jinja_is_number(a) && jinja_is_number(b))
        return of_numbers(run, op, a, b);
    if (op == '%' && a.type == JINJA_STRING)
        return jinja_percent(run, a.string, b);
    if (a.type == JINJA_UNDEFINED || b.type == JINJA_UNDEFINED)
        jinja_fail_undefined(run, "a value", a.type == JINJA_UNDEFINED ? a : b);
    if (op == '+' && a.type == JINJA_STRING && b.type == JINJA_STRING)
        return join_strings(run, a.string, b.string);
    if (op == '+' && is_joined(a) && a.type == b.type && is_joined(b) &&
        a.list->kind == b.list->kind)
        return join_lists(run, a.list, b.list);
    if (op == '*' && is_joined(a) && is_times(b))
        return repeat(run, a, b);
    if (op == '*' && is_times(a) && is_joined(b))
        return repeat(run, b, a);
    jinja_fail(run, "expected values that %s works on, found %s and %s", name, jinja_type_name(a),
               jinja_type_name(b));
}
