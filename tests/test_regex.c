/* SPDX-License-Identifier: MIT */
/*
 * test_regex: random expressions against the sets of strings that they stand for, as far as those
 * are short; numbers against a comparison of decimals.
 */
#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "failing.h"
#include "grammar/regex.h"
#include "run.h"

static struct llama3_error err;
static struct regexes *all;

static void open_all(void)
{
    all = regexes_open(64 << 20, &err);
    ck_assert_msg(all != NULL, "%s", err.message);
}

static void close_all(void)
{
    ck_assert_msg(regexes_failed(all, &err) == 0, "%s", err.message);
    regexes_close(all);
}

static regex after(regex r, const void *text, size_t n)
{
    for (size_t i = 0; i < n; i++)
        r = regex_step(all, r, ((const uint8_t *)text)[i]);
    return r;
}

static bool matches(regex r, const char *text)
{
    return regex_nullable(all, after(r, text, strlen(text)));
}

static uint32_t seed = 1;
static uint32_t draw(uint32_t n)
{
    seed = seed * 1664525 + 1013904223;
    return (uint32_t)((uint64_t)(seed >> 8) * n >> 24);
}

/* ---- languages of short strings ---------------------------------------------------------- */

/* All strings of a, b and c up to LONGEST, by length and then by letters; a language is a set of
 * them. Whether a string belongs to a sum, a product or a complement depends on no longer one. */
enum { LONGEST = 5, N_STRINGS = 364 /* (3^6 - 1) / 2 */ };

struct language {
    bool has[N_STRINGS];
};

static size_t string_at(size_t i, char *text)
{
    size_t n = 0, many = 1;
    for (; i >= many; many *= 3, n++)
        i -= many;
    for (size_t k = n; k-- > 0; i /= 3)
        text[k] = (char)('a' + i % 3);
    text[n] = '\0';
    return n;
}

static size_t index_of(const char *text, size_t n)
{
    size_t first = 0, many = 1, i = 0;
    for (size_t k = 0; k < n; k++, many *= 3) {
        first += many;
        i = i * 3 + (size_t)(text[k] - 'a');
    }
    return first + i;
}

static struct language product(const struct language *a, const struct language *b)
{
    struct language c = {{false}};
    for (size_t i = 0; i < N_STRINGS; i++) {
        char text[LONGEST + 1];
        size_t n = string_at(i, text);
        for (size_t cut = 0; cut <= n && !c.has[i]; cut++)
            c.has[i] = a->has[index_of(text, cut)] && b->has[index_of(text + cut, n - cut)];
    }
    return c;
}

static struct language repeated(const struct language *a, uint32_t min, uint32_t max)
{
    struct language power = {{true}}, c = {{false}};
    for (uint32_t k = 0; k <= (max < min + LONGEST + 1 ? max : min + LONGEST + 1); k++) {
        for (size_t i = 0; i < N_STRINGS && k >= min; i++)
            c.has[i] |= power.has[i];
        power = product(&power, a);
    }
    return c;
}

struct both {
    regex r;
    struct language l;
};

static struct both random_strings(void)
{
    struct both b = {0};
    struct regex_string strings[4];
    static char texts[4][LONGEST + 1];
    size_t n = 0;
    for (size_t i = 0; i < N_STRINGS && n < 4; i++)
        b.l.has[i] = draw(100) == 0 && n++ < 4;
    n = 0;
    /* In order of bytes. */
    for (size_t i = 0; i < N_STRINGS; i++)
        if (b.l.has[i]) {
            size_t at = n++;
            char text[LONGEST + 1];
            string_at(i, text);
            for (; at > 0 && strcmp(texts[at - 1], text) > 0; at--)
                memcpy(texts[at], texts[at - 1], sizeof text);
            memcpy(texts[at], text, sizeof text);
        }
    for (size_t i = 0; i < n; i++)
        strings[i] = (struct regex_string){texts[i], strlen(texts[i])};
    b.r = regex_strings(all, strings, NULL, n);
    return b;
}

static struct both random_expression(int depth)
{
    struct both b = {0}, x, y;
    uint32_t what = depth == 0 ? draw(3) : draw(10);
    if (what > 2)
        x = random_expression(depth - 1);
    switch (what) {
    case 0:
    case 1: {
        struct byte_set set = {{0}};
        for (unsigned i = 0; i < 3; i++)
            if (draw(2) == 0) {
                set.bits[1] |= (uint64_t)1 << ('a' + i - 64);
                b.l.has[1 + i] = true;
            }
        b.r = regex_bytes(all, &set);
        break;
    }
    case 2:
        b = random_strings();
        break;
    case 3:
    case 4:
        y = random_expression(depth - 1);
        b.r = regex_concat(all, x.r, y.r);
        b.l = product(&x.l, &y.l);
        break;
    case 5:
        y = random_expression(depth - 1);
        b.r = regex_or(all, x.r, y.r);
        for (size_t i = 0; i < N_STRINGS; i++)
            b.l.has[i] = x.l.has[i] || y.l.has[i];
        break;
    case 6:
    case 7:
        y = random_expression(depth - 1);
        b.r = regex_and(all, x.r, y.r);
        for (size_t i = 0; i < N_STRINGS; i++)
            b.l.has[i] = x.l.has[i] && y.l.has[i];
        break;
    case 8:
        b.r = regex_not(all, x.r);
        for (size_t i = 0; i < N_STRINGS; i++)
            b.l.has[i] = !x.l.has[i];
        break;
    default: {
        uint32_t min = draw(4), max = draw(3) == 0 ? UINT32_MAX : min + draw(3);
        b.r = regex_repeat(all, x.r, min, max);
        b.l = repeated(&x.l, min, max);
    }
    }
    return b;
}

/* Whether some string follows, found without asking what the engine says about it. */
static bool can_end(regex r)
{
    enum { MOST = 3000 };
    static regex met[MOST];
    size_t n = 0;
    met[n++] = r;
    for (size_t i = 0; i < n; i++) {
        if (regex_nullable(all, met[i]))
            return true;
        for (const char *c = "abcd"; *c != '\0' && n < MOST; c++) {
            regex next = regex_step(all, met[i], (uint8_t)*c);
            size_t k = 0;
            while (k < n && met[k] != next)
                k++;
            if (k == n && next != REGEX_NONE)
                met[n++] = next;
        }
    }
    return n >= MOST;
}

START_TEST(test_random_expressions)
{
    size_t empty = 0, ends = 0;
    for (uint32_t round = 0; round < 3000; round++) {
        seed = round;
        open_all();
        struct both b = random_expression(1 + (int)draw(4)), other = random_expression(2);
        bool any = false, within = true;
        for (size_t i = 0; i < N_STRINGS; i++) {
            char text[LONGEST + 1];
            size_t n = string_at(i, text);
            regex r = after(b.r, text, n);
            any |= b.l.has[i];
            within &= !b.l.has[i] || other.l.has[i];
            require(regex_nullable(all, r) == b.l.has[i], "round %u: %s", round, text);
            if (r != REGEX_NONE && n < 2) {
                require(can_end(r), "round %u: nothing can follow %s", round, text);
                ends++;
            }
        }
        empty += b.r == REGEX_NONE;
        require(!any || b.r != REGEX_NONE, "round %u: it isn't empty", round);
        require(!regex_includes(all, other.r, b.r) || within, "round %u: it includes more", round);
        require(regex_includes(all, b.r, regex_and(all, b.r, other.r)), "round %u", round);
        require(regex_and(all, b.r, regex_not(all, b.r)) == REGEX_NONE, "round %u", round);
        close_all();
    }
    ck_assert_uint_gt(empty, 100);
    ck_assert_uint_gt(ends, 1000);
}
END_TEST

/* ---- counts and lists -------------------------------------------------------------------- */

struct collected {
    char text[2000];
    size_t n;
};

static int collect(void *arg, const uint8_t *bytes, size_t n)
{
    struct collected *c = arg;
    c->n += (size_t)snprintf(c->text + c->n, sizeof c->text - c->n, "%.*s,", (int)n,
                             n > 0 ? (const char *)bytes : "");
    return 0;
}

START_TEST(test_count_and_list)
{
    open_all();
    struct byte_set set = {{0}};
    set.bits[1] = (uint64_t)7 << ('a' - 64);
    regex letter = regex_bytes(all, &set);
    struct collected got = {.n = 0};
    ck_assert_int_eq(regex_list(all, regex_repeat(all, letter, 0, 2), 13, collect, &got), 0);
    ck_assert_str_eq(got.text, ",a,aa,ab,ac,b,ba,bb,bc,c,ca,cb,cc,");
    ck_assert_int_eq(regex_list(all, regex_repeat(all, letter, 0, 2), 12, collect, &got), -1);
    ck_assert_uint_eq(regex_count(all, regex_repeat(all, letter, 0, 2), 100), 13);
    ck_assert_uint_eq(regex_count(all, regex_repeat(all, letter, 3, 3), 27), 27);
    ck_assert_uint_eq(regex_count(all, regex_repeat(all, letter, 3, 3), 26), 26);
    ck_assert_uint_eq(regex_count(all, regex_repeat(all, letter, 0, UINT32_MAX), 1000), 1000);
    ck_assert_uint_eq(regex_count(all, regex_text(all, 0, 1000000000), 70000), 70000);
    ck_assert_uint_eq(regex_count(all, REGEX_NONE, 5), 0);
    ck_assert_uint_eq(regex_count(all, REGEX_EMPTY, 5), 1);
    ck_assert_uint_eq(regex_count(all, regex_text(all, 1, 1), 2000000), 0x110000 - 0x800);
    close_all();
}
END_TEST

/* ---- numbers ----------------------------------------------------------------------------- */

/* A decimal as text, and its value in millionths. */
static long long random_decimal(char *text, bool candidate)
{
    long long whole = draw(3) == 0 ? draw(10) : draw(2) == 0 ? draw(200) : draw(100000);
    size_t digits = draw(5);
    long long behind = 0, unit = 1000000;
    int n = sprintf(text, "%s%lld", draw(2) == 0 ? "-" : "", whole);
    if (digits > 0)
        text[n++] = '.';
    for (size_t i = 0; i < digits; i++) {
        unsigned digit = draw(3) == 0 ? draw(10) : draw(2) == 0 ? 0 : 9;
        unit /= 10;
        behind += digit * unit;
        text[n++] = (char)('0' + digit);
    }
    (void)candidate;
    text[n] = '\0';
    return (text[0] == '-' ? -1 : 1) * (whole * 1000000 + behind);
}

START_TEST(test_ranges)
{
    size_t inside = 0;
    for (uint32_t round = 0; round < 1500; round++) {
        char min[40], max[40], text[40];
        seed = round * 7 + 1;
        open_all();
        long long low = random_decimal(min, false), high = random_decimal(max, false);
        bool no_min = draw(5) == 0, no_max = draw(5) == 0, above = draw(2) == 0,
             below = draw(2) == 0;
        if (low > high && draw(10) > 0) {
            char other[40];
            memcpy(other, min, sizeof other);
            memcpy(min, max, sizeof other);
            memcpy(max, other, sizeof other);
            long long swapped = low;
            low = high;
            high = swapped;
        }
        regex r =
            regex_number_range(all, no_min ? NULL : min, above, no_max ? NULL : max, below, &err);
        for (uint32_t i = 0; i < 60; i++) {
            long long value;
            if (draw(3) > 0) {
                value = random_decimal(text, true);
            } else { /* near a bound, with zeros behind it */
                bool of_min = draw(2) == 0;
                value = of_min ? low : high;
                memcpy(text, of_min ? min : max, sizeof text);
                if (strchr(text, '.') != NULL && draw(2) == 0) {
                    strcat(text, draw(2) == 0 ? "0" : "00");
                } else if (strchr(text, '.') != NULL && draw(2) == 0) {
                    strcat(text, "01");
                    value += text[0] == '-' ? -1 : 1; /* more, whatever its size */
                }
            }
            bool in = (no_min || (above ? value > low : value >= low)) &&
                      (no_max || (below ? value < high : value <= high));
            inside += in;
            require(matches(r, text) == in, "round %u: %s in %s%s, %s%s", round, text,
                    no_min ? "-" : min, above ? " exclusive" : "", no_max ? "-" : max,
                    below ? " exclusive" : "");
        }
        close_all();
    }
    ck_assert_uint_gt(inside, 10000);
}
END_TEST

START_TEST(test_multiples)
{
    static const char *const divisors[] = {"1",    "2",   "7",     "0.1",  "0.01", "0.25", "1.5",
                                           "2.50", "100", "1.2e3", "4e-2", "12",   "0.003"};
    static const long long millionths[] = {1000000, 2000000,  7000000, 100000,    10000,
                                           250000,  1500000,  2500000, 100000000, 1200000000,
                                           40000,   12000000, 3000};
    size_t found = 0;
    open_all();
    for (size_t i = 0; i < sizeof divisors / sizeof *divisors; i++) {
        regex r = regex_multiple_of(all, divisors[i], &err);
        ck_assert_msg(r != REGEX_NONE, "%s", err.message);
        for (uint32_t round = 0; round < 3000; round++) {
            char text[40];
            long long value = random_decimal(text, true);
            if (draw(2) == 0) {
                value = (long long)draw(5000) * millionths[i];
                sprintf(text, "%lld.%06lld", value / 1000000, value % 1000000);
                if (draw(2) == 0 && value % 1000000 == 0)
                    *strchr(text, '.') = '\0';
            }
            found += value % millionths[i] == 0;
            require(matches(r, text) == (value % millionths[i] == 0), "%s of %s", text,
                    divisors[i]);
        }
    }
    ck_assert_uint_gt(found, 13 * 1000);
    ck_assert(!matches(regex_multiple_of(all, "2", &err), "04"));
    ck_assert(!matches(regex_multiple_of(all, "2", &err), "4."));
    ck_assert(!matches(regex_multiple_of(all, "1e300", &err), "10"));
    ck_assert(matches(regex_multiple_of(all, "1e300", &err), "-0.00"));
    ck_assert_uint_eq(regex_multiple_of(all, "0", &err), REGEX_NONE);
    ck_assert_uint_eq(regex_multiple_of(all, "-2", &err), REGEX_NONE);
    ck_assert_uint_eq(regex_multiple_of(all, "1234567890123456", &err), REGEX_NONE);
    ck_assert_uint_eq(regex_multiple_of(all, "abc", &err), REGEX_NONE);
    ck_assert_uint_ne(regex_multiple_of(all, "123456789012345", &err), REGEX_NONE);
    close_all();
}
END_TEST

int main(void)
{
    TCase *tests = tcase_create("regex");
    tcase_set_timeout(tests, 60);
    tcase_add_test(tests, test_random_expressions);
    tcase_add_test(tests, test_count_and_list);
    tcase_add_test(tests, test_ranges);
    tcase_add_test(tests, test_multiples);
    return run_tests("regex", tests);
}
