/* SPDX-License-Identifier: MIT */
/*
 * jinja_tables.h: what Python's str knows of characters. jinja_tables.c is made by
 * scripts/make-unicode-tables, which asks it.
 */
#ifndef TEXT_JINJA_TABLES_H
#define TEXT_JINJA_TABLES_H

#include <stddef.h>
#include <stdint.h>

enum {
    CHAR_ALPHA = 1 << 0,
    CHAR_DECIMAL = 1 << 1,
    CHAR_DIGIT = 1 << 2,
    CHAR_NUMERIC = 1 << 3,
    CHAR_SPACE = 1 << 4,
    CHAR_PRINTABLE = 1 << 5,
    CHAR_UPPER = 1 << 6,
    CHAR_LOWER = 1 << 7,
    CHAR_TITLE = 1 << 8,
    CHAR_CASED = 1 << 9,
    CHAR_IGNORED = 1 << 10 /* between a cased character and a final sigma */
};

/* The first scalar of each run of one class, ascending, as scalar << 5 | class. */
extern const uint32_t jinja_runs[]; /* [n_jinja_runs] */
extern const size_t n_jinja_runs;
/* The flags of each class. Two more classes are of letters that are upper and lower by turns: the
 * even ones are upper in the class n_jinja_classes, the odd ones in the next. */
extern const uint16_t jinja_classes[]; /* [n_jinja_classes] */
extern const unsigned n_jinja_classes;

enum char_case {
    CASE_UPPER,
    CASE_LOWER,
    CASE_TITLE, /* where it is not the upper case */
    CASE_FOLD   /* where it is not the lower case */
};

/* Each step-th scalar of a range becomes itself + add. */
extern const struct jinja_ranges {
    const struct jinja_range {
        uint32_t first, last, step;
        int32_t add;
    } * ranges; /* [n], ascending */
    size_t n;
} jinja_cases[4];

/* Scalars of which a case is more than one; of less than 3, zeros follow. */
extern const struct jinja_special {
    uint16_t scalar, to[4][3];
} jinja_specials[]; /* [n_jinja_specials], ascending */
extern const size_t n_jinja_specials;

#endif
