/* SPDX-License-Identifier: MIT */
/*
 * jinja_builtins.h: what filters, tests and methods share. They are Python's and jinja2's, one
 * function each, found by name in sorted tables.
 */
#ifndef TEXT_JINJA_BUILTINS_H
#define TEXT_JINJA_BUILTINS_H

#include "text/jinja_value.h"

struct jinja_entry {
    const char *name;
    jinja_builtin *builtin;
};

/* Of entries in the order of their names, whose first `skip` characters don't count; else NULL. */
const struct jinja_entry *jinja_entry(const struct jinja_entry *entries, size_t n, size_t skip,
                                      const struct jinja_string *name);

/* jinja_bind() for functions whose parameters have no names in Python. */
void jinja_bind_places(struct jinja_run *run, const char *what, const char *parameters,
                       const struct jinja_args *args, struct jinja_value *values);

/* The functions that every template has, in no order. */
enum { JINJA_GLOBALS = 6 };
extern const struct jinja_entry jinja_globals[JINJA_GLOBALS];

/* Fails for what is no UTF-8. bits: of each character (jinja_value.h). */
struct jinja_value jinja_from_utf8(struct jinja_run *run, const char *text, size_t n,
                                   uint32_t bits);

/* ---- sorting ------------------------------------------------------------------------------- */

struct jinja_keyed {
    const struct jinja_value *key; /* what `before` compares */
    size_t index;                  /* of what is sorted */
};

typedef bool jinja_before(struct jinja_run *run, const struct jinja_value *a,
                          const struct jinja_value *b);
jinja_before jinja_is_less; /* a < b */
/* Stable, in reverse as well, as Python's. */
void jinja_sort(struct jinja_run *run, struct jinja_keyed *items, size_t n, jinja_before *before,
                bool reverse);

/* ---- strings ------------------------------------------------------------------------------- */

static inline struct jinja_value jinja_of_string(const struct jinja_string *string)
{
    return (struct jinja_value){.type = JINJA_STRING, .string = string};
}

static inline bool jinja_is_absent(struct jinja_value value) /* or None, where that is the same */
{
    return value.type == JINJA_ABSENT || value.type == JINJA_NONE;
}

/* str(value), but Markup stays Markup. */
const struct jinja_string *jinja_soft_str(struct jinja_run *run, struct jinja_value value);
/* What a method of `self` gives: Markup if that is. */
struct jinja_value jinja_like(struct jinja_run *run, const struct jinja_string *self,
                              struct jinja_value string);
/* string[from..to) */
struct jinja_value jinja_part(struct jinja_run *run, const struct jinja_string *string, size_t from,
                              size_t to);
/* escape(): Markup is as it is. */
const struct jinja_string *jinja_escape(struct jinja_run *run, struct jinja_value value);
void jinja_put_many(struct jinja_builder *b, uint32_t c, size_t n);

/* Whether `part` is at whole[at..]. */
bool jinja_is_at(struct jinja_run *run, const struct jinja_string *whole, size_t at,
                 const struct jinja_string *part);
/* Where the line that begins at `from` ends; *next: where the next one begins. */
size_t jinja_line(const struct jinja_string *string, size_t from, size_t *next);
struct jinja_value jinja_split_lines(struct jinja_run *run, const struct jinja_string *string,
                                     bool keep_ends);
/* string.replace(old, new, count); count < 0: all. */
struct jinja_value jinja_replace(struct jinja_run *run, const struct jinja_string *string,
                                 const struct jinja_string *old, const struct jinja_string *new,
                                 int64_t count);
/* string.strip(chars), chars NULL: white space; side: 'l', 'r' or 'b' for both. */
struct jinja_value jinja_strip(struct jinja_run *run, const struct jinja_string *string,
                               const struct jinja_string *chars, char side);
/* side 'c': string.center(); 'l': ljust(); 'r': rjust(). */
struct jinja_value jinja_justify(struct jinja_run *run, const struct jinja_string *string,
                                 int64_t width, uint32_t fill, char side);
bool jinja_is_lowered(struct jinja_run *run, const struct jinja_string *string); /* islower() */
bool jinja_is_raised(struct jinja_run *run, const struct jinja_string *string);  /* isupper() */

/* ascii(): repr() with all that is not ASCII as escapes. */
struct jinja_value jinja_ascii_only(struct jinja_run *run, struct jinja_value string);
/* str.format(); mapping: what names stand for. (jinja_format.c) */
struct jinja_value jinja_str_format(struct jinja_run *run, const struct jinja_string *format,
                                    const struct jinja_value *items, size_t n,
                                    struct jinja_value mapping);

/* ---- numbers (jinja_number.c) -------------------------------------------------------------- */

/* int(text, base) and float(text); false where Python has a ValueError. */
bool jinja_read_int(struct jinja_run *run, const struct jinja_string *text, int64_t base,
                    int64_t *value);
bool jinja_read_float(struct jinja_run *run, const struct jinja_string *text, double *value);
/* int(value) of a float; fails for one that has more than 64 bits, or is none. */
int64_t jinja_truncate(struct jinja_run *run, double value);
/* round(value, digits), digits absent or None: to an int. */
struct jinja_value jinja_round(struct jinja_run *run, struct jinja_value value,
                               struct jinja_value digits);
/* The digits of an integer's magnitude, in a base: 2, 8, 10 or 16. */
void jinja_digits(int64_t value, unsigned base, char text[72]);
/* A double as C writes it by a format with a precision, whatever the locale. In the arena. */
char *jinja_double_text(struct jinja_run *run, const char *format, int precision, double value);
/* Python's formatting of doubles, type one of e E f F g G; alternate: '#'. In the arena. */
char *jinja_float_format(struct jinja_run *run, char type, int64_t precision, bool alternate,
                         double value);

/* ---- other builtins that more than one file has ---------------------------------------------- */

/* Filters of text, in jinja_text_filters.c. */
jinja_builtin jinja_filter_indent, jinja_filter_pprint, jinja_filter_title, jinja_filter_truncate,
    jinja_filter_urlencode, jinja_filter_wordcount, jinja_filter_wordwrap;

/* Methods that are filters as well, of strings (jinja_methods.c). */
jinja_builtin jinja_str_capitalize, jinja_str_lower, jinja_str_upper;

#endif
