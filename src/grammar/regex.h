/* SPDX-License-Identifier: MIT */
/*
 * grammar: constraints on what may be said: regular expressions, JSON Schema, grammars; and the
 * mask of the tokens that may come next.
 *
 * regex.h: regular languages of bytes, by Brzozowski's derivatives (Owens, Reppy and Turon 2009),
 * with conjunction and complement. Expressions are interned: equal ones have equal ids, so that a
 * derivative is computed once, and a table of derivatives is a lazy DFA.
 *
 * An expression whose language is empty is always REGEX_NONE: after regex_step() a non-zero result
 * can still be completed. That takes a search where conjunctions or complements are involved, and
 * the search is bounded.
 *
 * Failures stick: without memory, or beyond the limit on expressions, every function returns
 * REGEX_NONE, and regexes_failed() says why. Not thread-safe.
 */
#ifndef GRAMMAR_REGEX_H
#define GRAMMAR_REGEX_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"

typedef uint32_t regex;
enum { REGEX_NONE, REGEX_EMPTY }; /* no string; the empty string */

struct regexes;

/* limit: bytes of memory that expressions and their tables may take. */
struct regexes *regexes_open(size_t limit, struct llama3_error *err);
void regexes_close(struct regexes *all);
/* 0, or -1 with err filled: something that was made is not what was asked for. */
int regexes_failed(const struct regexes *all, struct llama3_error *err);
size_t regexes_memory(const struct regexes *all); /* bytes */

/* ---- building ------------------------------------------------------------------------------- */

struct byte_set {
    uint64_t bits[4];
};

regex regex_bytes(struct regexes *all, const struct byte_set *set); /* one byte of the set */
regex regex_literal(struct regexes *all, const void *bytes, size_t n);
regex regex_concat(struct regexes *all, regex a, regex b);
regex regex_or(struct regexes *all, regex a, regex b);
regex regex_and(struct regexes *all, regex a, regex b);
regex regex_not(struct regexes *all, regex a); /* of all byte strings; see regex_text() */
/* max: UINT32_MAX for no limit. */
regex regex_repeat(struct regexes *all, regex a, uint32_t min, uint32_t max);

/* One Unicode scalar in UTF-8 of the n ranges, first and last inclusive; surrogates are left out.
 */
regex regex_chars(struct regexes *all, const uint32_t (*ranges)[2], size_t n);
/* Any text of valid UTF-8, of min to max characters (UINT32_MAX: no limit). */
regex regex_text(struct regexes *all, uint32_t min, uint32_t max);

/* One of n texts, sorted by bytes, all different. Needs n * 4 bytes and no states: a derivative is
 * a range of them. The texts and the tags (any numbers, or NULL: their positions) are copied. */
struct regex_string {
    const char *bytes;
    size_t n;
};
regex regex_strings(struct regexes *all, const struct regex_string *strings, const uint32_t *tags,
                    size_t n);
/* The tag of the string that ends here, if r is such a set or a derivative of one; else
 * UINT32_MAX. */
uint32_t regex_tag(const struct regexes *all, regex r);

/* ---- parsing -------------------------------------------------------------------------------- */

enum regex_syntax {
    REGEX_ECMA, /* JSON Schema's `pattern`: found anywhere in the text, unless anchored; `.` is no
                 * line end, \d ASCII, \s and \w as ECMA-262 with the flag u says */
    REGEX_WHOLE /* the whole text, as Rust's and Python's `re` write them, (?i), (?s), (?x) included
                 */
};
/* The language of valid UTF-8 text that matches. Alternation, groups, classes, \p{...} of general
 * categories and scripts that text/unicode.h or a generated table has, counted repetition (lazy
 * ones too: they are the same language), ^ $ \b \B (zero width, anywhere), look-ahead (?= and (?!.
 * Back-references, look-behind and what else isn't regular is LLAMA3_EINPUT, which says at which
 * byte: "pattern, byte 7: expected ..., found ...". */
regex regex_parse(struct regexes *all, const char *pattern, size_t n, enum regex_syntax syntax,
                  struct llama3_error *err);

/* ---- languages that JSON Schema needs ------------------------------------------------------- */

/* Numbers as JSON writes them. With an exponent: any; without: decimals, "-0" and "1.50" included.
 * The functions below are sets of such decimals, by value: with 1 there are 1.0 and 1.00 too. */
regex regex_number(struct regexes *all, bool exponent);
regex regex_integer_text(struct regexes *all);  /* -?(0|[1-9][0-9]*) */
regex regex_integer_value(struct regexes *all); /* the same, or with .0 .00 ... behind it */
/* Bounds are decimal text such as "-12.50", or NULL. LLAMA3_EINPUT where one has an exponent
 * beyond +-400 or is no number. "1e3" is one. */
regex regex_number_range(struct regexes *all, const char *min, bool min_exclusive, const char *max,
                         bool max_exclusive, struct llama3_error *err);
/* LLAMA3_EINPUT where the divisor has more than 15 digits that count. */
regex regex_multiple_of(struct regexes *all, const char *divisor, struct llama3_error *err);
/* The decimals that are equal to this one. */
regex regex_number_equal(struct regexes *all, const char *number, struct llama3_error *err);

/* The texts of a `format` of JSON Schema 2020-12 (section 7.3) or OpenAPI's for strings; REGEX_NONE
 * without failure where it has no such name. A format is exact but where its RFC needs counting
 * across parts; then it is a subset (every text that is said is valid). */
regex regex_format(struct regexes *all, const char *name);

/* ---- asking --------------------------------------------------------------------------------- */

bool regex_nullable(const struct regexes *all, regex r); /* the empty string belongs to it */
/* The derivative by a byte: what may follow. REGEX_NONE: nothing. */
regex regex_step(struct regexes *all, regex r, uint8_t byte);
/* The 256 derivatives as far as they are known; REGEX_UNKNOWN where regex_step() was not asked yet.
 * Valid until the next call that builds or steps. NULL: none is known. */
#define REGEX_UNKNOWN UINT32_MAX
const uint32_t *regex_row(const struct regexes *all, regex r);
bool regex_includes(struct regexes *all, regex outer, regex inner);
/* How many strings there are, or `limit` if there are as many or more. */
size_t regex_count(struct regexes *all, regex r, size_t limit);
/* Appends the strings in order of bytes, of a language of at most limit strings, to out, each
 * after its length. -1: there are more. */
int regex_list(struct regexes *all, regex r, size_t limit,
               int (*on_string)(void *arg, const uint8_t *bytes, size_t n), void *arg);

/* A number of characters L so that any text of at most L valid characters can be completed to one
 * of r's; UINT32_MAX: any text. It may be less than the truth, 0 always is true. */
uint32_t regex_free_chars(struct regexes *all, regex r);
/* The Unicode scalars that r's texts may begin with, as sorted ranges. Returns how many there are;
 * the first `room` are written. */
size_t regex_first_chars(struct regexes *all, regex r, uint32_t (*ranges)[2], size_t room);

#endif
