/* SPDX-License-Identifier: MIT */
#include "tool/repeats.h"

#include <ctype.h>

enum {
    PROSE_TIMES = 6,
    PROSE_BYTES = 1200,
    PROSE_WORDS = 4,
    PROSE_LETTERS = 12, /* without blanks */
    ANY_TIMES = 200,
    ANY_BYTES = 2000
};

/* The first byte of a letter: of ASCII's, and of the blocks that hold scripts. Signs, lines to draw
 * tables with and emoji are elsewhere. */
static bool is_letter(unsigned char c)
{
    return isalpha(c) != 0 || (c >= 0xc3 && c <= 0xed && c != 0xe2);
}

static bool is_continuation(unsigned char c)
{
    return c >= 0x80 && c < 0xc0;
}

/* Whether the last `period` bytes, which stand many times in a row, are prose. */
static bool is_prose(const struct repeats *r, size_t period)
{
    size_t words = 0, wide = 0, word = 0;
    bool after_blank = false;
    /* Twice, since a word may go over the end; what is counted is the second time. */
    for (size_t i = 0; i < 2 * period; i++) {
        unsigned char c = (unsigned char)r->last[(r->n - period + i % period) % REPEATS_LONGEST];
        if (is_continuation(c))
            continue;
        if (is_letter(c)) {
            word++;
            wide += i >= period && c >= 0xe3;
            words += i >= period && word == 2 && after_blank;
            continue;
        }
        word = 0;
        after_blank = isspace(c) != 0;
    }
    return words >= PROSE_WORDS || wide >= PROSE_LETTERS;
}

static bool add_byte(struct repeats *r, char c, size_t *period)
{
    size_t least = 0;
    for (size_t p = 1; p <= REPEATS_LONGEST && p <= r->n; p++) {
        uint32_t *run = &r->runs[p - 1];
        *run = r->last[(r->n - p) % REPEATS_LONGEST] == c ? *run + 1 : 0;
        if (least == 0 && *run + p >= PROSE_BYTES && *run + p >= PROSE_TIMES * p)
            least = p;
    }
    r->last[r->n++ % REPEATS_LONGEST] = c;
    if (least == 0)
        return false;
    size_t length = r->runs[least - 1] + least;
    *period = least;
    return (length >= ANY_BYTES && length >= ANY_TIMES * least) || is_prose(r, least);
}

size_t repeats_add(struct repeats *repeats, const char *text, size_t n)
{
    size_t period;
    for (size_t i = 0; i < n; i++)
        if (add_byte(repeats, text[i], &period))
            return period;
    return 0;
}
