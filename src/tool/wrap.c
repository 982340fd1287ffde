/* SPDX-License-Identifier: MIT */
#include "config.h" /* wcwidth, newlocale */

#include "tool/wrap.h"

#include <ctype.h>
#include <locale.h>
#include <stdio.h>
#include <string.h>
#include <wchar.h>

/* A word of more columns, or bytes (letters may have any number of marks), isn't held. */
enum { HELD_COLUMNS = 24, HELD_BYTES = 4096, TAB = 8 };

size_t wrap_width(uint32_t scalar)
{
    static locale_t unicode;
    if (scalar < 0x80)
        return scalar >= 0x20 && scalar != 0x7f;
    if (unicode == (locale_t)0) /* programs otherwise stay in "C" */
        unicode = newlocale(LC_CTYPE_MASK, "C.UTF-8", (locale_t)0);
    if (unicode == (locale_t)0)
        unicode = newlocale(LC_CTYPE_MASK, "", (locale_t)0);
    locale_t before = unicode != (locale_t)0 ? uselocale(unicode) : (locale_t)0;
    int width = wcwidth((wchar_t)scalar);
    if (before != (locale_t)0)
        uselocale(before);
    return width < 0 ? 1 : (size_t)width;
}

static void set_style(struct wrap *wrap, unsigned style)
{
    static const struct {
        enum style style;
        const char *code;
    } codes[] = {{STYLE_BOLD, ";1"}, {STYLE_DIM, ";2"}, {STYLE_ITALIC, ";3"}, {STYLE_CODE, ";36"}};
    if (!wrap->color || style == wrap->word_style)
        return;
    buf_add_str(&wrap->word, "\033[0");
    for (size_t i = 0; i < sizeof codes / sizeof *codes; i++)
        if ((style & codes[i].style) != 0)
            buf_add_str(&wrap->word, codes[i].code);
    buf_add_str(&wrap->word, "m");
    wrap->word_style = style;
}

/* Whether a word at the beginning of a line would be a list, a heading and so on in Markdown: what
 * is copied from the terminal would then mean something else. */
static bool begins_block(const struct buf *word)
{
    const char *text = word->data;
    size_t n = word->size, digits = strspn(text, "0123456789");
    return n == 0 || strchr(">|", text[0]) != NULL || strspn(text, "#") == n ||
           strspn(text, "-") == n || strspn(text, "=") == n || strspn(text, "*") == n ||
           strspn(text, "_") == n || (n == 1 && text[0] == '+') || strncmp(text, "```", 3) == 0 ||
           strncmp(text, "~~~", 3) == 0 ||
           (digits > 0 && digits + 1 == n && strchr(".)", text[digits]) != NULL);
}

/* Goes right, as a terminal does that continues in its next line by itself. */
static void advance(struct wrap *wrap, size_t columns)
{
    wrap->column += columns;
    if (wrap->columns > 0 && wrap->column > wrap->columns)
        wrap->column = (wrap->column - 1) % wrap->columns + 1;
}

static void break_line(struct wrap *wrap)
{
    bool fits = wrap->indent < wrap->columns / 2;
    buf_add_str(&wrap->out, "\n");
    for (size_t i = 0; fits && i < wrap->indent; i++)
        buf_add_str(&wrap->out, " ");
    wrap->column = fits ? wrap->indent : 0;
}

/* Whether the word may have to go to the next line. */
static bool is_near_end(const struct wrap *wrap)
{
    return wrap->columns > 0 && wrap->column + wrap->blank_columns + HELD_COLUMNS > wrap->columns;
}

void wrap_show(struct wrap *wrap)
{
    if (wrap->word.size > 0 && !is_near_end(wrap))
        wrap_flush(wrap);
}

void wrap_flush(struct wrap *wrap)
{
    size_t needed = wrap->blank_columns + wrap->word_columns;
    bool full = wrap->columns > 0 && wrap->column + needed > wrap->columns;
    if (full && is_near_end(wrap) && wrap->breaks && wrap->in_line && wrap->blanks.size > 0 &&
        wrap->word.size > 0 && !begins_block(&wrap->plain)) {
        break_line(wrap);
        advance(wrap, wrap->word_columns);
    } else {
        buf_add(&wrap->out, wrap->blanks.data, wrap->blanks.size);
        advance(wrap, needed);
    }
    wrap->in_line = wrap->in_line || wrap->word.size > 0;
    set_style(wrap, 0);
    buf_add(&wrap->out, wrap->word.data, wrap->word.size);
    wrap->out.failed =
        wrap->out.failed || wrap->blanks.failed || wrap->word.failed || wrap->plain.failed;
    buf_clear(&wrap->blanks);
    buf_clear(&wrap->word);
    buf_clear(&wrap->plain);
    wrap->word_columns = wrap->blank_columns = 0;
}

/* How many columns of a word are held at most. */
static size_t longest(const struct wrap *wrap)
{
    return wrap->columns > 0 && wrap->columns < HELD_COLUMNS ? wrap->columns : HELD_COLUMNS;
}

void wrap_char(struct wrap *wrap, uint32_t scalar, const char *bytes, size_t n, unsigned style,
               bool glued)
{
    bool tab = scalar == '\t', blank = (tab || scalar == ' ') && !glued;
    size_t at = wrap->column + wrap->blank_columns + wrap->word_columns;
    size_t columns = tab ? TAB - at % TAB : wrap_width(scalar);
    bool wide = columns == 2 && !tab;
    if (blank) {
        if (wrap->word.size > 0)
            wrap_flush(wrap);
        buf_add(&wrap->blanks, bytes, n);
        wrap->blank_columns += columns;
        return;
    }
    /* Lines are broken between wide characters, but the terminal does that: it adds no newline. */
    if (wrap->word.size > 0 &&
        (wide || wrap->plain.size > HELD_BYTES || wrap->word_columns + columns > longest(wrap)))
        wrap_flush(wrap);
    set_style(wrap, style);
    buf_add(&wrap->word, bytes, n);
    buf_add(&wrap->plain, bytes, n);
    wrap->word_columns += columns;
    if (wide)
        wrap_flush(wrap);
}

void wrap_newline(struct wrap *wrap)
{
    wrap_flush(wrap);
    buf_add_str(&wrap->out, "\n");
    wrap->column = wrap->indent = 0;
    wrap->in_line = false;
}

void wrap_free(struct wrap *wrap)
{
    buf_free(&wrap->out);
    buf_free(&wrap->blanks);
    buf_free(&wrap->word);
    buf_free(&wrap->plain);
}
