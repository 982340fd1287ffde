/* SPDX-License-Identifier: MIT */
/*
 * test_regex: random expressions against the sets of strings that they stand for, as far as those
 * are short; numbers against a comparison of decimals.
 */
#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/utf8.h"
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

/* ---- patterns ---------------------------------------------------------------------------- */

struct pattern_case {
    enum regex_syntax syntax;
    const char *pattern, *yes, *no; /* texts, each ended by a '\x1e' but the last */
};
#define OR "\x1e"

static const struct pattern_case patterns[] = {
    /* ECMAScript: found anywhere */
    {REGEX_ECMA, "abc", "abc" OR "xabcx" OR "\nabc\n", "ab" OR "" OR "acb"},
    {REGEX_ECMA, "^abc$", "abc", "abc\n" OR "xabc" OR "abcx" OR "x\nabc"},
    {REGEX_ECMA, "^a|b$", "a" OR "ax" OR "b" OR "xb", "xa" OR "bx" OR ""},
    {REGEX_ECMA, "", "" OR "x" OR "\xc3\xa4", "\xc3"},
    {REGEX_ECMA, "^$", "", "x" OR "\n"},
    {REGEX_ECMA, "a^b", NULL, "a" OR "ab" OR "a\nb"},
    {REGEX_ECMA, "^.$", "a" OR "\xc3\xa4" OR "\xf0\x9f\x98\x80" OR "\xc2\x85",
     "\n" OR "\r" OR "\xe2\x80\xa8" OR "\xe2\x80\xa9" OR "ab"},
    {REGEX_ECMA, "^\\d+$", "0" OR "123", "" OR "a" OR "\xd9\xa3"},
    {REGEX_ECMA, "^\\D$", "a" OR "\xd9\xa3", "0" OR ""},
    {REGEX_ECMA, "^\\w+$", "aZ_9", "\xc3\xa4" OR "-"},
    {REGEX_ECMA, "^\\W$", "\xc3\xa4" OR "-", "a" OR "_"},
    {REGEX_ECMA, "^\\s$", " " OR "\t" OR "\xc2\xa0" OR "\xef\xbb\xbf" OR "\xe2\x80\xa8",
     "\xc2\x85" OR "a" OR "\xe1\xa0\x8e"},
    {REGEX_ECMA, "^\\S$", "\xc2\x85" OR "a", " " OR "\xef\xbb\xbf"},
    {REGEX_ECMA, "^[a-c-]x[^a-c]$", "ax-" OR "-xd" OR "bx\n", "dxd" OR "axa" OR "x-"},
    {REGEX_ECMA, "^[\\w.-]+$", "a.b-c", "a b"},
    {REGEX_ECMA, "^[]$", NULL, "" OR "a"},
    {REGEX_ECMA, "^[^]$", "a" OR "\n", "" OR "ab"},
    {REGEX_ECMA, "^[\\b\\0\\x41\\u0042\\u{1F600}\\ud83d\\ude01\\cJ]+$",
     "\b" OR "A" OR "BA" OR "\xf0\x9f\x98\x80" OR "\xf0\x9f\x98\x81" OR "\n", "C"},
    {REGEX_ECMA, "^[^\\d\\s]+$", "ab", "a1" OR "a b"},
    {REGEX_ECMA, "^a{2}b{1,}c{0,2}$", "aab" OR "aabbcc", "ab" OR "aac" OR "aabccc"},
    {REGEX_ECMA, "^a{,2}$", "a{,2}", "a" OR "aa"},
    {REGEX_ECMA, "^{x}a{$", "{x}a{", "x"},
    {REGEX_ECMA, "^(a+?|b*?)(?:c?\?)$", "" OR "aac" OR "bb", "ab" OR "cc"},
    {REGEX_ECMA, "^(?<year>\\d{4})-(?<m>\\d\\d)$", "2026-12", "26-12"},
    {REGEX_ECMA, "\\bfoo\\b",
     "foo" OR "a foo b" OR "-foo-" OR "foo\n" OR "\xc3\xa4"
     "foo",
     "xfoo" OR "foox" OR "foo_" OR "fo"},
    {REGEX_ECMA, "o\\Bo", "foo" OR "oo", "o o" OR "of"},
    {REGEX_ECMA, "^(?=.*\\d)(?=.*[a-z]).{4,6}$", "abc1" OR "1abcde",
     "abcd" OR "1234" OR "a1b" OR "a123456"},
    {REGEX_ECMA, "^(?!foo).*$", "" OR "fo" OR "xfoo" OR "barfoo", "foo" OR "foobar"},
    {REGEX_ECMA, "^(?!.*--)[a-z-]+$", "a-b-c", "a--b" OR ""},
    {REGEX_ECMA, "^(?:(?!ab).)*$", "" OR "ba" OR "bbaa", "ab" OR "xabx"},
    {REGEX_ECMA, "foo(?!bar)", "foo" OR "foobaz" OR "foobarfoo", "foobar"},
    {REGEX_ECMA, "^(\\ba+\\b ?)+$", "a" OR "a aa" OR "aaa ", "ab" OR ""},
    {REGEX_ECMA, "^(^a|b)*$", "" OR "a" OR "ab" OR "bb" OR "abb", "ba" OR "aa"},
    {REGEX_ECMA, "^(a$|b)*$", "" OR "a" OR "ba" OR "bb", "ab" OR "aa"},
    {REGEX_ECMA, "^(a|\\b)*$", "" OR "a" OR "aaa", "b"},
    {REGEX_ECMA, "^\\p{L}\\p{Lu}\\P{L}$",
     "\xc3\xa4\xc3\x84"
     "1" OR "aA-",
     "aa1" OR "1A1" OR "aAb"},
    {REGEX_ECMA, "^\\p{Script=Greek}\\p{sc=Cyrl}\\p{gc=Nd}$",
     "\xce\xb1\xd0\xb1"
     "1",
     "ab1"},
    {REGEX_ECMA, "^[\\p{Letter}\\p{Decimal_Number}_]+$", "a\xd9\xa3_", "-"},
    {REGEX_ECMA, "^\\/\\-\\.\\$$", "/-.$", "/-.x"},
    {REGEX_ECMA, "^(a|b|)c$", "ac" OR "c", "abc"},
    {REGEX_ECMA, "^x*y*z*$", "" OR "xz" OR "xxyyzz", "zx"},
    /* Whole texts */
    {REGEX_WHOLE, "abc", "abc", "xabc" OR "abc\n"},
    {REGEX_WHOLE, "a|b", "a" OR "b", "ab"},
    {REGEX_WHOLE, "^abc$", "abc", "abcd"},
    {REGEX_WHOLE, "\\Aabc\\z", "abc", "ab"},
    {REGEX_WHOLE, ".*", "" OR "a\rb" OR "\xe2\x80\xa8", "a\nb"},
    {REGEX_WHOLE, "(?s).*", "a\nb", "\xff"},
    {REGEX_WHOLE, "(?s:a.)b.", "a\nbc", "acb\n"},
    {REGEX_WHOLE,
     "(?i)stra\xc3\x9f"
     "e\xc3\xa4k",
     "STRA\xc3\x9f"
     "E\xc3\x84\xe2\x84\xaa" OR "stra\xe1\xba\x9e"
     "e\xc3\xa4k",
     "strasseak"},
    {REGEX_WHOLE, "a(?i:b)c", "abc" OR "aBc", "ABC" OR "abC"},
    {REGEX_WHOLE, "a(?i)b(?-i)c", "aBc", "aBC" OR "Abc"},
    {REGEX_WHOLE, "(?i)[a-c]+[^x]", "AbC-" OR "aY", "aX" OR "dz"},
    {REGEX_WHOLE, "(?x) a b # comment\n c [ ]", "abc ", "a b c"},
    {REGEX_WHOLE, "(?m)^a$\n^b$", "a\nb", "a\n\nb"},
    {REGEX_WHOLE, "(?m)(?:^x.*$\n?)+", "x1\nx2\n" OR "x", "x1\ny" OR ""},
    {REGEX_WHOLE, "\\d\\w\\s", "\xd9\xa3\xc3\xa4\xc2\x85", "a1 " OR "1- "},
    {REGEX_WHOLE, "[]a]+", "]a", "b"},
    {REGEX_WHOLE, "[^]a]", "b", "]"},
    {REGEX_WHOLE, "[[:alpha:]_][[:^digit:]]", "a_" OR "_-", "1a" OR "a1"},
    {REGEX_WHOLE, "\\pL\\PL\\p{Greek}\\p{^Lu}",
     "a1\xce\xb1"
     "a",
     "a1\xce\xb1"
     "A"},
    {REGEX_WHOLE, "\\x{1F600}\\U0001F601\\a", "\xf0\x9f\x98\x80\xf0\x9f\x98\x81\a", "a"},
    {REGEX_WHOLE, "(?P<name>a)(?#why)b", "ab", "a"},
    {REGEX_WHOLE, "a{,2}", "" OR "a" OR "aa", "aaa"},
    {REGEX_WHOLE, "(?=a)..|b(?!c).", "ax" OR "bd", "bc" OR "xx"},
    {REGEX_WHOLE, "(a{2,3}){2}", "aaaa" OR "aaaaa" OR "aaaaaa", "aaa" OR "aaaaaaa"},
    {REGEX_WHOLE, "((ab)*c?){2,}", "" OR "abc" OR "abcabcc" OR "cc", "ba"},
};

static void each(regex r, const struct pattern_case *c, const char *texts, bool expected)
{
    char text[200];
    while (texts != NULL) {
        const char *end = strchr(texts, '\x1e');
        size_t n = end != NULL ? (size_t)(end - texts) : strlen(texts);
        snprintf(text, sizeof text, "%.*s", (int)n, texts);
        ck_assert_msg(matches(r, text) == expected, "%s: \"%s\" should%s match", c->pattern, text,
                      expected ? "" : "n't");
        texts = end != NULL ? end + 1 : NULL;
    }
}

START_TEST(test_patterns)
{
    for (size_t i = 0; i < sizeof patterns / sizeof *patterns; i++) {
        const struct pattern_case *c = &patterns[i];
        open_all();
        regex r = regex_parse(all, c->pattern, strlen(c->pattern), c->syntax, &err);
        ck_assert_msg(r != REGEX_NONE || c->yes == NULL, "%s: %s", c->pattern, err.message);
        ck_assert_msg(r == REGEX_NONE || c->yes != NULL, "%s", c->pattern);
        ck_assert_msg(regex_includes(all, regex_text(all, 0, UINT32_MAX), r), "%s", c->pattern);
        each(r, c, c->yes, true);
        each(r, c, c->no, false);
        close_all();
    }
}
END_TEST

START_TEST(test_pattern_errors)
{
    static const struct {
        enum regex_syntax syntax;
        const char *pattern, *message;
    } cases[] = {
        {REGEX_ECMA, "a(b", "pattern, byte 4: expected ), found the end"},
        {REGEX_ECMA, "a\\p", "pattern, byte 4: expected a property, found the end"},
        {REGEX_WHOLE, "[\\P", "pattern, byte 4: expected a property, found the end"},
        {REGEX_ECMA, "ab)", "pattern, byte 3: expected the end, found \")\""},
        {REGEX_ECMA, "(a)\\1",
         "pattern, byte 5: expected an escape that isn't a back-reference, found \"1\""},
        {REGEX_ECMA, "(?<n>a)\\k<n>", "pattern, byte 9: expected an escape, found \"k\""},
        {REGEX_ECMA, "(?<=a)b",
         "pattern, byte 2: expected a group without look-behind, found \"?\""},
        {REGEX_ECMA, "(?<!a)b",
         "pattern, byte 2: expected a group without look-behind, found \"?\""},
        {REGEX_WHOLE, "(?>a)b", "pattern, byte 2: expected a group that isn't atomic, found \"?\""},
        {REGEX_WHOLE, "a*+",
         "pattern, byte 3: expected a repetition that isn't possessive, found \"+\""},
        {REGEX_WHOLE, "(?P<n>a)(?P=n)",
         "pattern, byte 10: expected a group that doesn't refer to another, found \"?\""},
        {REGEX_ECMA, "a**", "pattern, byte 3: expected something to repeat, found \"*\""},
        {REGEX_ECMA, "+a", "pattern, byte 1: expected something to repeat, found \"+\""},
        {REGEX_ECMA, "a{3,2}",
         "pattern, byte 2: expected a count whose first number isn't above the second, found \"{\""},
        {REGEX_ECMA, "[b-a]", "pattern, byte 2: expected a range in order, found \"b\""},
        {REGEX_ECMA, "[a", "pattern, byte 3: expected the class's ], found the end"},
        {REGEX_ECMA, "\\p{Klingon}",
         "pattern, byte 4: expected a general category or a script, found \"Klingon\""},
        {REGEX_ECMA, "\\u12G4", "pattern, byte 5: expected a hexadecimal digit, found \"G\""},
        {REGEX_ECMA, "\\ud800", "pattern, byte 3: expected a Unicode scalar, found \"d\""},
        {REGEX_ECMA, "\\a", "pattern, byte 2: expected an escape, found \"a\""},
        {REGEX_ECMA, "a\\", "pattern, byte 3: expected an escape, found the end"},
        {REGEX_ECMA, "a\xff", "pattern, byte 2: expected UTF-8, found no UTF-8"},
        {REGEX_WHOLE, "[a[b]]",
         "pattern, byte 3: expected a backslash before it, since engines differ about it, found \"[\""},
        {REGEX_WHOLE, "[[:foo:]]",
         "pattern, byte 2: expected a class such as [:alpha:], found \"[\""},
        {REGEX_WHOLE, "(?q)a",
         "pattern, byte 3: expected one of the flags i, m, s, u and x, found \"q\""},
    };
    open_all();
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        err = (struct llama3_error){0};
        ck_assert_uint_eq(
            regex_parse(all, cases[i].pattern, strlen(cases[i].pattern), cases[i].syntax, &err),
            REGEX_NONE);
        ck_assert_int_eq(err.code, LLAMA3_EINPUT);
        ck_assert_str_eq(err.message, cases[i].message);
    }
    close_all();
}
END_TEST

/* ---- what any text may become ------------------------------------------------------------ */

/* Texts of so many characters, of one to four bytes, the i-th of 5^n. */
static size_t text_of(char *text, uint32_t n, uint32_t i)
{
    static const char *const chars[] = {"a", "b", "\n", "\xc3\xa4", "\xf0\x9f\x98\x80"};
    text[0] = '\0';
    for (; n > 0; n--, i /= 5)
        strcat(text, chars[i % 5]);
    return strlen(text);
}

static void no_more_than_free(regex r, const char *what)
{
    uint32_t most = regex_free_chars(all, r);
    for (uint32_t n = 0, many = 1; n <= 4 && n <= most; n++, many *= 5)
        for (uint32_t i = 0; i < many; i++) {
            char text[40];
            size_t length = text_of(text, n, i);
            require(after(r, text, length) != REGEX_NONE, "%s: nothing can follow %s of %u", what,
                    text, most);
        }
}

START_TEST(test_free_chars)
{
    static const struct {
        const char *pattern;
        uint32_t min, max, free;
    } cases[] = {{"", 0, UINT32_MAX, UINT32_MAX},
                 {"", 0, 7, 7},
                 {"", 3, 7, 7},
                 {"abc", 0, UINT32_MAX, UINT32_MAX},
                 {"abc", 0, 7, 4},
                 {"abc|[xyz]{2}$", 0, 7, 5},
                 {"^a", 0, 7, 0},
                 {"^[a-z]*$", 0, 7, 0},
                 {"a$", 0, 2, 1}};
    open_all();
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        regex r = regex_parse(all, cases[i].pattern, strlen(cases[i].pattern), REGEX_ECMA, &err);
        r = regex_and(all, r, regex_text(all, cases[i].min, cases[i].max));
        ck_assert_msg(regex_free_chars(all, r) == cases[i].free, "%s: %u", cases[i].pattern,
                      regex_free_chars(all, r));
        no_more_than_free(r, cases[i].pattern);
        regex a = after(r, "a", 1);
        if (a != REGEX_NONE)
            no_more_than_free(a, cases[i].pattern);
    }
    /* Keys that aren't taken. */
    const struct regex_string names[] = {{"a", 1}, {"ab", 2}, {"\xc3\xa4", 2}};
    regex others = regex_and(all, regex_text(all, 0, UINT32_MAX),
                             regex_not(all, regex_strings(all, names, NULL, 3)));
    ck_assert_uint_eq(regex_free_chars(all, others), UINT32_MAX);
    ck_assert_uint_eq(regex_free_chars(all, after(others, "a", 1)), UINT32_MAX);
    ck_assert_uint_eq(regex_free_chars(all, after(others, "\xc3", 1)), 0);
    no_more_than_free(regex_and(all, regex_text(all, 0, 2), others), "short ones");
    ck_assert_uint_eq(regex_free_chars(all, REGEX_NONE), 0);
    close_all();
    for (uint32_t round = 0; round < 2000; round++) {
        seed = round + 5000;
        open_all();
        regex r = random_expression(3).r,
              text = regex_text(all, draw(3), draw(2) == 0 ? UINT32_MAX : 3);
        switch (draw(4)) {
        case 0:
            r = regex_and(all, text, regex_not(all, r));
            break;
        case 1:
            r = regex_or(all, regex_concat(all, text, r), random_expression(2).r);
            break;
        case 2:
            r = regex_and(all, text, regex_concat(all, regex_text(all, 0, UINT32_MAX), r));
            break;
        default:
            r = regex_and(all, regex_concat(all, regex_text(all, 0, UINT32_MAX), r),
                          regex_not(all, random_strings().r));
        }
        if (r != REGEX_NONE)
            no_more_than_free(r, "a random one");
        regex b = r == REGEX_NONE ? r : after(r, "b", 1);
        if (b != REGEX_NONE)
            no_more_than_free(b, "behind b");
        close_all();
    }
}
END_TEST

START_TEST(test_first_chars)
{
    static const char *const several[] = {"^[a-cx\\u00e4\\u0800-\\uffff\\u{10000}\\u{10ffff}]",
                                          "^[^a]", "^\\p{Greek}", "^(?!b)[a-c]", "^\\p{L}\\d"};
    open_all();
    for (size_t i = 0; i < sizeof several / sizeof *several; i++) {
        uint32_t ranges[2000][2];
        regex r = regex_parse(all, several[i], strlen(several[i]), REGEX_ECMA, &err);
        size_t n = regex_first_chars(all, r, ranges, 2000), at = 0;
        ck_assert_uint_gt(n, 0);
        ck_assert_uint_lt(n, 2000);
        ck_assert_uint_eq(regex_first_chars(all, r, ranges, 1), n);
        for (uint32_t c = 0; c < 0x110000; c++) {
            uint8_t bytes[4];
            if (c >= 0xd800 && c < 0xe000)
                continue;
            size_t length = (size_t)utf8_encode(c, bytes);
            while (at < n && ranges[at][1] < c)
                at++;
            bool in = at < n && ranges[at][0] <= c;
            require((after(r, bytes, length) != REGEX_NONE) == in, "%s: U+%04X", several[i], c);
        }
    }
    ck_assert_uint_eq(regex_first_chars(all, REGEX_EMPTY, NULL, 0), 0);
    close_all();
}
END_TEST

START_TEST(test_tags)
{
    const struct regex_string names[] = {{"", 0}, {"ab", 2}, {"abc", 3}, {"b", 1}};
    const uint32_t tags[] = {7, 5, 9, 0};
    open_all();
    regex r = regex_strings(all, names, tags, 4);
    ck_assert_uint_eq(regex_tag(all, r), 7);
    ck_assert_uint_eq(regex_tag(all, after(r, "a", 1)), UINT32_MAX);
    ck_assert_uint_eq(regex_tag(all, after(r, "ab", 2)), 5);
    ck_assert_uint_eq(regex_tag(all, after(r, "abc", 3)), 9);
    ck_assert_uint_eq(regex_tag(all, after(r, "b", 1)), 0);
    ck_assert_uint_eq(after(r, "c", 1), REGEX_NONE);
    ck_assert_uint_eq(after(r, "ba", 2), REGEX_NONE);
    r = regex_strings(all, names, NULL, 4);
    ck_assert_uint_eq(regex_tag(all, after(r, "abc", 3)), 2);
    ck_assert_uint_eq(regex_tag(all, regex_text(all, 0, 1)), UINT32_MAX);
    close_all();
}
END_TEST

/* ---- limits ------------------------------------------------------------------------------ */

/* Parses, and walks a text of all bytes, as far as it goes. */
static void use(const char *pattern, size_t n, size_t steps)
{
    all = regexes_open(16 << 20, &err);
    ck_assert_ptr_nonnull(all);
    regex r = regex_parse(all, pattern, n, REGEX_ECMA, &err);
    for (size_t i = 0; i < steps && r != REGEX_NONE; i++)
        r = regex_step(all, r, (uint8_t)("ab"[i % 2]));
    ck_assert_uint_le(regexes_memory(all), 16 << 20);
    if (regexes_failed(all, &err) != 0)
        ck_assert_int_eq(err.code, LLAMA3_EINPUT);
    regexes_close(all);
}

START_TEST(test_hostile)
{
    static const char *const patterns_[] = {
        "^((a{1,1000}){1,1000}){1,1000}$",
        "^(((a{0,1000}b?){0,1000}){0,1000}){0,4000000000}$",
        "(a|b)*a(a|b){60}$",
        "^(?=.*a.{20})(?=.*b.{21})(?=.*a.{22}b)(?!.*b.{23}a).*$",
        "^(a?){3000}a{3000}$",
        "^(\\ba{1,1000}){1,1000}$",
        "^(?:(?:(?:\\b){9}|a{900}){900}\\B){900}$",
        "(?!(?!(?!(?!(a*b*)*c)*d)*e)*f)*",
        "^(a*)*(a*)*(a*)*(b*a*)*$",
        "(((((((((((a?){9}){9}){9}){9}){9}){9}){9}){9}){9}){9}){9}",
    };
    for (size_t i = 0; i < sizeof patterns_ / sizeof *patterns_; i++)
        use(patterns_[i], strlen(patterns_[i]), 2000);
    enum { LONG = 8 << 20 }; /* bytes */
    static const char *const repeated_[] = {
        "a", "a|", "(", "a?", "[a]", "(?=", "a{9}", ".*", "[^a]", "(?i:z)", "\\p{L}"};
    char *pattern = malloc(LONG + 8);
    for (size_t i = 0; i < sizeof repeated_ / sizeof *repeated_; i++) {
        size_t n = strlen(repeated_[i]), at = 0;
        for (; at + n <= LONG; at += n)
            memcpy(pattern + at, repeated_[i], n);
        use(pattern, at, 20);
        use(pattern, at / 500, 20);
    }
    free(pattern);
}
END_TEST

START_TEST(test_sticky)
{
    all = regexes_open(100000, &err);
    ck_assert_ptr_nonnull(all);
    regex r = regex_parse(all, "(a|b)*a(a|b){60}$", 17, REGEX_ECMA, &err);
    ck_assert_uint_ne(r, REGEX_NONE);
    for (size_t i = 0; i < 100000 && r != REGEX_NONE; i++)
        r = regex_step(all, r, (uint8_t)("ab"[i / 3 % 2]));
    ck_assert_uint_eq(r, REGEX_NONE);
    ck_assert_int_ne(regexes_failed(all, &err), 0);
    ck_assert_int_eq(err.code, LLAMA3_EINPUT);
    ck_assert_str_eq(err.message, "regular expression: expected one whose states fit 100000 bytes, "
                                  "found one that needs more");
    ck_assert_uint_eq(regex_text(all, 1, 5), REGEX_NONE);
    ck_assert_uint_eq(regex_or(all, REGEX_EMPTY, REGEX_EMPTY), REGEX_NONE);
    ck_assert_uint_eq(regex_number(all, true), REGEX_NONE);
    ck_assert_uint_eq(regex_count(all, REGEX_EMPTY, 9), 0);
    ck_assert_uint_eq(regex_format(all, "uri"), REGEX_NONE);
    regexes_close(all);
    ck_assert_ptr_null(regexes_open(100, &err));
    ck_assert_int_eq(err.code, LLAMA3_EINPUT);
}
END_TEST

/* Everything, of which some allocation fails. True: none did. */
static bool everything(void)
{
    const struct regex_string names[] = {{"a", 1}, {"ab", 2}};
    static const char pattern[] = "^(?!.*b.{3}$)(?:\\bx|[\\p{L}a-z]\\b ?)+$";
    struct collected got = {.n = 0};
    err = (struct llama3_error){0};
    all = regexes_open(64 << 20, &err);
    if (all == NULL) {
        ck_assert_int_eq(err.code, LLAMA3_ENOMEM);
        return false;
    }
    regex r = regex_parse(all, pattern, strlen(pattern), REGEX_WHOLE, &err);
    regex s = regex_strings(all, names, names[0].n > 0 ? (uint32_t[]){1, 2} : NULL, 2);
    r = regex_or(all, r, regex_and(all, s, regex_text(all, 1, 5)));
    after(r, "a b c", 5);
    regex_list(all, s, 5, collect, &got);
    regex_count(all, r, 100);
    regex_free_chars(all, r);
    regex n = regex_number_range(all, "-1.5", false, "20", true, NULL);
    after(regex_and(all, n, regex_multiple_of(all, "0.25", NULL)), "1.25", 4);
    regex_includes(all, n, regex_format(all, "date"));
    bool failed = regexes_failed(all, &err) != 0;
    if (failed)
        ck_assert_msg(err.code == LLAMA3_ENOMEM, "%s", err.message);
    regexes_close(all);
    return !failed;
}

START_TEST(test_without_memory)
{
    size_t failures = 0;
    for (size_t i = 1;; i++) {
        fails_in = i;
        bool worked = everything();
        bool none = fails_in > 0;
        fails_in = 0;
        failures += !worked;
        if (none)
            break;
    }
    ck_assert_uint_gt(failures, 50);
    ck_assert(everything());
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
    tcase_add_test(tests, test_patterns);
    tcase_add_test(tests, test_pattern_errors);
    tcase_add_test(tests, test_free_chars);
    tcase_add_test(tests, test_first_chars);
    tcase_add_test(tests, test_tags);
    tcase_add_test(tests, test_hostile);
    tcase_add_test(tests, test_sticky);
    tcase_add_test(tests, test_without_memory);
    return run_tests("regex", tests);
}
