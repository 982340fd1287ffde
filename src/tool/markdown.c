/* SPDX-License-Identifier: MIT */
#include "tool/markdown.h"

#include <ctype.h>
#include <string.h>

#include "base/utf8.h"

enum place {
    PLACE_START,  /* of a line, which is held until it is known what it is */
    PLACE_TEXT,   /* of a paragraph, heading, item, quote or table */
    PLACE_FENCE,  /* the line that begins a code block */
    PLACE_INSIDE, /* the start of a line in a code block, held while it may end the block */
    PLACE_CODE    /* of a code block */
};

/* What a line begins with. */
enum block {
    BLOCK_UNKNOWN, /* yet */
    BLOCK_TEXT,
    BLOCK_HEADING,
    BLOCK_ITEM,
    BLOCK_QUOTE,
    BLOCK_TABLE,
    BLOCK_FENCE,
    BLOCK_INDENTED /* code */
};

/* A fence is known for one at the end of its line, or when it has become this long. */
enum { MAX_HOLD = 128, INDENTED = 4 };

static bool is_space(uint32_t c)
{
    return c == ' ' || c == '\t' || c == '\n' || c == 0x3000;
}

static bool is_punctuation(uint32_t c)
{
    return c < 0x80 && ispunct((int)c);
}

static bool is_alnum(uint32_t c)
{
    return c < 0x80 && isalnum((int)c);
}

static void put(struct markdown *m, uint32_t scalar, const char *bytes, size_t n, unsigned style,
                bool glued)
{
    /* A thought stays dim, whatever it is made of. */
    unsigned dim = m->base & STYLE_DIM;
    style = dim != 0 ? dim | (style & STYLE_ITALIC) : m->base | m->line | style;
    wrap_char(&m->wrap, scalar, bytes, n, style, glued);
}

/* Of ASCII characters, or of whole ones in one style. */
static void put_all(struct markdown *m, const char *text, size_t n, unsigned style)
{
    uint32_t scalar;
    while (n > 0) {
        int length = utf8_decode((const uint8_t *)text, n, &scalar);
        if (length <= 0)
            return;
        put(m, scalar, text, (size_t)length, style, false);
        text += length;
        n -= (size_t)length;
    }
}

/* ---- within a line ------------------------------------------------------------------------- */

static unsigned text_style(const struct markdown *m)
{
    return (m->bold != 0 ? STYLE_BOLD : 0U) | (m->italic != 0 ? STYLE_ITALIC : 0U) |
           (m->code > 0 ? STYLE_CODE : 0U);
}

/* Whether a run of marks that open and close emphasis did so; before and next stand beside it. */
static bool emphasize(struct markdown *m, uint32_t before, uint32_t next)
{
    char run = m->run, *const marks[] = {&m->italic, &m->bold};
    size_t n = m->run_length, first = n == 2, end = n == 1 ? 1 : 2;
    bool word = run == '_'; /* which may stand within names */
    bool opens = !is_space(next) && !is_alnum(before) && (!word || before < 0x80) &&
                 (!is_punctuation(next) || is_space(before) || is_punctuation(before));
    bool closes = !is_space(before) && (!word || !is_alnum(next)), open = false, other = false;
    if (n > 3)
        return false;
    for (size_t i = first; i < end; i++) {
        open = open || *marks[i] == run;
        other = other || (*marks[i] != 0 && *marks[i] != run);
    }
    if (!(open && closes) && (open || other || !opens))
        return false;
    for (size_t i = first; i < end; i++)
        *marks[i] = open ? 0 : run;
    return true;
}

/* What a run of marks means is known with what follows it. */
static void end_run(struct markdown *m, uint32_t next)
{
    size_t n = m->run_length;
    if (n == 0)
        return;
    unsigned style = text_style(m);
    bool in_code = m->code > 0;
    bool marks = m->run == '`' ? !in_code || m->code == n : emphasize(m, m->last, next);
    for (size_t i = 0; i < n; i++)
        put(m, (uint32_t)m->run, &m->run, 1, marks ? STYLE_DIM : style, false);
    if (m->run == '`' && marks)
        m->code = in_code ? 0 : n;
    m->last = (uint32_t)m->run;
    m->run_length = 0;
}

static void text_char(struct markdown *m, uint32_t scalar, const char *bytes, size_t n)
{
    bool mark = scalar == '`' || (m->code == 0 && (scalar == '*' || scalar == '_'));
    if (m->run_length > 0 && (uint32_t)m->run != scalar)
        end_run(m, scalar);
    if (mark && !m->escaped) {
        m->run = (char)scalar;
        m->run_length++;
        return;
    }
    m->escaped = m->code == 0 && !m->escaped && scalar == '\\';
    put(m, scalar, bytes, n, text_style(m), m->code > 0);
    m->last = scalar;
}

/* ---- lines --------------------------------------------------------------------------------- */

/* How many bytes of blanks a line begins with; *columns: how many columns. */
static size_t leading(const char *text, size_t n, size_t *columns)
{
    size_t i = 0;
    for (*columns = 0; i < n && (text[i] == ' ' || text[i] == '\t'); i++)
        *columns += text[i] == '\t' ? INDENTED : 1;
    return i;
}

/* What the line text[0..n) begins with; ended: it is the whole line. *marks: bytes of the blanks
 * and marks at its beginning. */
static enum block classify(const struct markdown *m, const char *text, size_t n, bool ended,
                           size_t *marks)
{
    const enum block more = ended ? BLOCK_TEXT : BLOCK_UNKNOWN;
    size_t columns, at = leading(text, n, &columns), run = at;
    if (at == n)
        return n < MAX_HOLD ? more : BLOCK_TEXT;
    char c = text[at];
    if (columns >= INDENTED && m->after_blank && !m->in_list && !m->marked)
        return BLOCK_INDENTED;
    bool digit = isdigit((unsigned char)c);
    while (run < n && (digit ? isdigit((unsigned char)text[run]) != 0 : text[run] == c))
        run++;
    size_t length = run - at;
    bool blank_next = run < n && (text[run] == ' ' || text[run] == '\t');
    *marks = run;
    switch (c) {
    case '>':
        *marks = at + 1;
        return BLOCK_QUOTE;
    case '|':
        return BLOCK_TABLE;
    case '#':
        return run == n                    ? (length <= 6 ? more : BLOCK_TEXT)
               : length <= 6 && blank_next ? BLOCK_HEADING
                                           : BLOCK_TEXT;
    case '-':
    case '+':
    case '*':
        *marks = run + 1;
        return length > 1 ? BLOCK_TEXT : run == n ? more : blank_next ? BLOCK_ITEM : BLOCK_TEXT;
    case '`':
    case '~':
        if (run == n)
            return ended && length >= 3 ? BLOCK_FENCE : n < MAX_HOLD ? more : BLOCK_TEXT;
        if (length < 3 || (c == '`' && memchr(text + run, '`', n - run) != NULL))
            return BLOCK_TEXT;
        return ended || n >= MAX_HOLD ? BLOCK_FENCE : BLOCK_UNKNOWN;
    default:
        if (!digit || length > 9)
            return BLOCK_TEXT;
        if (run == n)
            return more;
        if (text[run] != '.' && text[run] != ')')
            return BLOCK_TEXT;
        *marks = run + 2;
        return run + 1 == n ? more : strchr(" \t", text[run + 1]) != NULL ? BLOCK_ITEM : BLOCK_TEXT;
    }
}

/* The line's text begins with what is held: it is read again as text. */
static void begin_text(struct markdown *m)
{
    uint32_t scalar;
    size_t columns, at = leading(m->hold.data, m->hold.size, &columns);
    size_t column = m->wrap.column + m->wrap.blank_columns + m->wrap.word_columns;
    if (columns == 0 && !m->marked && m->hold.size > 0)
        m->in_list = false;
    m->wrap.indent = column - (column < m->origin ? column : m->origin) + columns;
    m->place = PLACE_TEXT;
    m->last = ' ';
    put_all(m, m->hold.data, at, 0);
    while (at < m->hold.size) {
        const char *bytes = m->hold.data + at;
        int length = utf8_decode((const uint8_t *)bytes, m->hold.size - at, &scalar);
        if (length <= 0)
            break;
        text_char(m, scalar, bytes, (size_t)length);
        at += (size_t)length;
    }
    buf_clear(&m->hold);
}

/* Writes the marks at the beginning of what is held, which has nothing but them. */
static void put_marks(struct markdown *m, unsigned style)
{
    size_t columns, at = leading(m->hold.data, m->hold.size, &columns);
    put_all(m, m->hold.data, at, 0);
    put_all(m, m->hold.data + at, m->hold.size - at, style);
    m->marked = true;
    buf_clear(&m->hold);
}

/* Goes on from the start of a line as soon as it is known what it is. */
static void begin_line(struct markdown *m, bool ended)
{
    size_t marks = 0, columns;
    enum block block = classify(m, m->hold.data, m->hold.size, ended, &marks);
    switch (block) {
    case BLOCK_UNKNOWN:
        break;
    case BLOCK_ITEM:
        m->in_list = true;
        put_marks(m, STYLE_BOLD);
        break;
    case BLOCK_QUOTE:
        put_marks(m, STYLE_DIM);
        break;
    case BLOCK_HEADING:
        m->wrap.breaks = m->in_list = false;
        put_marks(m, STYLE_DIM);
        m->line = STYLE_BOLD;
        m->place = PLACE_TEXT;
        m->last = ' ';
        break;
    case BLOCK_FENCE:
        m->wrap.breaks = false;
        marks = leading(m->hold.data, m->hold.size, &columns);
        m->fence = m->hold.data[marks];
        for (m->fence_length = 0; m->hold.data[marks + m->fence_length] == m->fence;)
            m->fence_length++;
        put_marks(m, STYLE_DIM);
        m->place = PLACE_FENCE;
        break;
    case BLOCK_INDENTED:
        m->wrap.breaks = false;
        put_all(m, m->hold.data, m->hold.size, STYLE_CODE);
        buf_clear(&m->hold);
        m->place = PLACE_CODE;
        break;
    case BLOCK_TABLE:
        m->wrap.breaks = false;
        begin_text(m);
        break;
    case BLOCK_TEXT:
        begin_text(m);
        break;
    }
}

/* Whether the beginning of a line in a code block may be that of its end; ended: whether it is. */
static bool ends_block(const struct markdown *m, bool ended)
{
    const char *text = m->hold.data;
    size_t n = m->hold.size, at = 0, run;
    while (at < n && (text[at] == ' ' || text[at] == '>'))
        at++;
    for (run = at; run < n && text[run] == m->fence;)
        run++;
    size_t length = run - at;
    if (run < n && length < m->fence_length)
        return false;
    while (run < n && (text[run] == ' ' || text[run] == '\t'))
        run++;
    return run == n && n < MAX_HOLD && (!ended || length >= m->fence_length);
}

/* A line of a code block begins with what is held. */
static void begin_code(struct markdown *m)
{
    m->place = PLACE_CODE;
    put_all(m, m->hold.data, m->hold.size, STYLE_CODE);
    buf_clear(&m->hold);
}

static void end_line(struct markdown *m)
{
    size_t columns;
    bool blank = m->place == PLACE_START && !m->marked &&
                 leading(m->hold.data, m->hold.size, &columns) == m->hold.size;
    if (m->place == PLACE_START && m->hold.size > 0)
        begin_line(m, true);
    if (m->place == PLACE_INSIDE && ends_block(m, true)) {
        put_marks(m, STYLE_DIM);
        m->fence_length = 0;
    } else if (m->place == PLACE_INSIDE) {
        begin_code(m);
    }
    end_run(m, '\n');
    /* Of indented code, another line may follow. */
    m->after_blank = blank || (m->place == PLACE_CODE && m->fence_length == 0);
}

static void newline(struct markdown *m)
{
    end_line(m);
    wrap_newline(&m->wrap);
    m->wrap.breaks = m->fence_length == 0;
    m->place = m->fence_length > 0 ? PLACE_INSIDE : PLACE_START;
    m->line = 0;
    m->bold = m->italic = 0;
    m->code = m->origin = 0;
    m->marked = m->escaped = false;
}

/* ---- characters ---------------------------------------------------------------------------- */

static void one_char(struct markdown *m, uint32_t scalar, const char *bytes, size_t n)
{
    if (scalar == '\n') {
        newline(m);
        return;
    }
    switch ((enum place)m->place) {
    case PLACE_START:
        buf_add(&m->hold, bytes, n);
        if (!m->hold.failed)
            begin_line(m, false);
        break;
    case PLACE_INSIDE:
        buf_add(&m->hold, bytes, n);
        if (!m->hold.failed && !ends_block(m, false))
            begin_code(m);
        break;
    case PLACE_TEXT:
        text_char(m, scalar, bytes, n);
        break;
    case PLACE_FENCE:
        put(m, scalar, bytes, n, STYLE_DIM, false);
        break;
    case PLACE_CODE:
        put(m, scalar, bytes, n, STYLE_CODE, false);
        break;
    }
    m->wrap.out.failed = m->wrap.out.failed || m->hold.failed;
}

/* What a terminal would obey is shown as U+FFFD. */
static void shown_char(struct markdown *m, uint32_t scalar, const char *bytes, size_t n)
{
    bool control =
        (scalar < 0x20 && scalar != '\t' && scalar != '\n') || (scalar >= 0x7f && scalar < 0xa0);
    if (control)
        one_char(m, 0xfffd, "\xEF\xBF\xBD", 3);
    else
        one_char(m, scalar, bytes, n);
}

void markdown_begin(struct markdown *markdown, bool color, size_t column)
{
    *markdown = (struct markdown){.origin = column, .after_blank = true, .last = ' '};
    markdown->wrap.color = color;
    markdown->wrap.breaks = true;
    markdown->wrap.column = column;
}

void markdown_text(struct markdown *m, const char *text, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        uint32_t scalar;
        m->partial[m->n_partial++] = text[i];
        int length = utf8_decode((const uint8_t *)m->partial, m->n_partial, &scalar);
        if (length < 0)
            continue;
        if (length > 0) {
            m->n_partial = 0;
            shown_char(m, scalar, m->partial, (size_t)length);
            continue;
        }
        /* No character: all but the last byte were the beginning of none. */
        bool again = m->n_partial > 1;
        m->n_partial = 0;
        one_char(m, 0xfffd, "\xEF\xBF\xBD", 3);
        if (again)
            i--;
    }
    wrap_show(&m->wrap);
}

void markdown_end(struct markdown *m)
{
    if (m->n_partial > 0)
        one_char(m, 0xfffd, "\xEF\xBF\xBD", 3);
    m->n_partial = 0;
    end_line(m);
    wrap_flush(&m->wrap);
}

void markdown_free(struct markdown *markdown)
{
    wrap_free(&markdown->wrap);
    buf_free(&markdown->hold);
}
