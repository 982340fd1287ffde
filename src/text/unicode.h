/* SPDX-License-Identifier: MIT */
/*
 * unicode.h: classes of characters for pre-tokenizers and templates. They are those of the regex
 * engine in the `tokenizers` package, so that text is cut exactly where the reference cuts it.
 * unicode_tables.c names its version, and the versions of Unicode.
 */
#ifndef TEXT_UNICODE_H
#define TEXT_UNICODE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum unicode_class {
    UNICODE_OTHER = 0,
    UNICODE_LETTER, /* \p{L} */
    UNICODE_NUMBER, /* \p{N} */
    UNICODE_SPACE,  /* \s, the same as White_Space */
    UNICODE_DIGIT   /* for the Digits pre-tokenizer, which has a newer Unicode; not \p{N} */
};

enum unicode_class unicode_class(uint32_t scalar);

/* Finer classes, which fewer texts are asked for. */
enum unicode_detail {
    UNICODE_NONE = 0,
    UNICODE_UPPER,    /* \p{Lu}, \p{Lt} */
    UNICODE_LOWER,    /* \p{Ll} */
    UNICODE_CASELESS, /* \p{Lm}, \p{Lo} */
    UNICODE_MARK,     /* \p{M} */
    UNICODE_PUNCTUATION,
    UNICODE_SYMBOL
};

enum unicode_detail unicode_detail(uint32_t scalar);

/* Whether `tokenizers` finds no added token of a single word beside it: \w. */
bool unicode_is_word(uint32_t scalar);

/* unicode_tables.c, made by scripts/make-unicode-tables: the first scalar of each run of one class,
 * ascending, as scalar << 3 | class. */
extern const uint32_t unicode_runs[]; /* [n_unicode_runs] */
extern const size_t n_unicode_runs;
extern const uint8_t unicode_ascii[128]; /* classes */
/* The same of details: scalar << 4 | is a word << 3 | detail. */
extern const uint32_t unicode_details[]; /* [n_unicode_details] */
extern const size_t n_unicode_details;

/* unicode_properties.c, made by the same script: general categories, the first of which is Cn, and
 * scripts as "Name=Abbr" or "Name". Both lists end with NULL. A run is the first scalar of one
 * value: scalar << 5 | category, scalar << 8 | script. */
extern const char *const unicode_categories[];
extern const char *const unicode_scripts[];
extern const uint32_t unicode_category_runs[]; /* [n_unicode_category_runs] */
extern const size_t n_unicode_category_runs;
extern const uint32_t unicode_script_runs[]; /* [n_unicode_script_runs] */
extern const size_t n_unicode_script_runs;

#endif
