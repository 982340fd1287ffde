/* SPDX-License-Identifier: MIT */
/*
 * wrap.h: styled text to the bytes that a terminal gets, words wrapped at its width. A style is
 * ended with each word, so that whatever else is written meanwhile (an error, "^C") has none. A
 * word is held until it ends only near the end of a line, where it may have to go to the next one.
 */
#ifndef TOOL_WRAP_H
#define TOOL_WRAP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"

enum style { STYLE_BOLD = 1, STYLE_ITALIC = 2, STYLE_CODE = 4, STYLE_DIM = 8 };

struct wrap {
    size_t columns; /* of the terminal; 0: no line is broken. May change at any time */
    bool color;     /* false: styles are ignored */
    bool breaks;    /* blanks of this line may become newlines */
    size_t indent;  /* blanks before what follows such a newline */
    struct buf out; /* for the terminal; the caller takes it */
    /* the inside */
    size_t column;
    bool in_line;           /* a word stands in this line, so that a newline may follow */
    struct buf blanks;      /* between the last word and this one */
    struct buf word, plain; /* the word that is held until it ends, with its styles and without */
    size_t word_columns, blank_columns;
    unsigned word_style;
};

/* Columns of a character on a terminal: 0, 1 or 2. */
size_t wrap_width(uint32_t scalar);

/* A character of n bytes in a set of styles. Blanks end the word, unless they are glued to it. */
void wrap_char(struct wrap *wrap, uint32_t scalar, const char *bytes, size_t n, unsigned style,
               bool glued);
/* Writes the beginning of a word that is going to stay in this line. Where a longer word's lines
 * are broken does not depend on it. */
void wrap_show(struct wrap *wrap);
/* Writes what is held. */
void wrap_flush(struct wrap *wrap);
/* The end of a line. */
void wrap_newline(struct wrap *wrap);
void wrap_free(struct wrap *wrap);

#endif
