/* SPDX-License-Identifier: MIT */
/*
 * unicode.h: what the pre-tokenizers and the templates ask about a character. The classes are those
 * of the regex engine inside the `tokenizers` package (its version, and the versions of Unicode,
 * are at the top of unicode_tables.c), so that text is cut exactly where the reference cuts it.
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
    UNICODE_DIGIT   /* numeric for the Digits pre-tokenizer, which knows a newer Unicode than the
                       regex engine, but not yet \p{N} */
};

enum unicode_class unicode_class(uint32_t scalar);

/* unicode_tables.c, made by scripts/make-unicode-tables: where runs of one class begin, ascending:
 * scalar << 3 | class. */
extern const uint32_t unicode_runs[]; /* [n_unicode_runs] */
extern const size_t n_unicode_runs;
extern const uint8_t unicode_ascii[128]; /* classes */

#endif
