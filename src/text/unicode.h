/* SPDX-License-Identifier: MIT */
/*
 * unicode.h: classes of characters for pre-tokenizers and templates. They are those of the regex
 * engine in the `tokenizers` package, so that text is cut exactly where the reference cuts it.
 * unicode_tables.c names its version, and the versions of Unicode.
 */
#ifndef TEXT_UNICODE_H
#define TEXT_UNICODE_H

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

/* unicode_tables.c, made by scripts/make-unicode-tables: the first scalar of each run of one class,
 * ascending, as scalar << 3 | class. */
extern const uint32_t unicode_runs[]; /* [n_unicode_runs] */
extern const size_t n_unicode_runs;
extern const uint8_t unicode_ascii[128]; /* classes */

#endif
