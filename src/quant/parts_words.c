/* SPDX-License-Identifier: MIT */
/*
 * parts_words.c: codes of GPTQ and AWQ to strips, several strips at once: what rows have of a
 * column lies side by side in these, and lines of the cache would be read again for each strip.
 * Compilers vectorize the loops over words.
 */
#include <string.h>

#include "quant/matrix.h"

enum { MOST_STRIPS = REPACK_ROWS / STRIP };

struct words {
    const struct parts *parts;
    const uint8_t *data;
    size_t each;    /* codes of a word */
    size_t n;       /* words of a row, */
    size_t padded;  /* and of a strip's */
    uint32_t flips; /* bits that differ between a code and its level */
};

typedef uint32_t four __attribute__((vector_size(16)));

static inline four load_four(const void *data)
{
    four words;
    memcpy(&words, data, sizeof words);
    return words;
}

/* Nibbles 0 1 2 3 4 5 6 7, from the low one, become 0 4 1 5 2 6 3 7: strips have the second four
 * columns in the high nibbles. */
static inline four interleave(four words)
{
    words = (words & 0xff0000ff) | (words & 0xff00) << 8 | (words >> 8 & 0xff00);
    return (words & 0xf00ff00f) | (words & 0xf000f0) << 4 | (words >> 4 & 0xf000f0);
}

/* n words as strips have them, in place. */
static void finish(const struct words *w, uint32_t *words, size_t n)
{
    for (size_t i = 0; i < n; i += 4) {
        four some = load_four(words + i);
        some = w->each == 4 ? some ^ w->flips : interleave(some);
        memcpy(words + i, &some, sizeof some);
    }
}

/* ---- words of one row each: GPTQ ------------------------------------------------------------- */

/* Word i of the rows [row, row + n), which are neighbours there; columns as they are. */
static void load_column(const struct words *w, size_t i, size_t row, size_t n, uint32_t *out)
{
    const struct numbers *codes = &w->parts->codes;
    memcpy(out, w->data + 4 * (i * (codes->col_step / w->each) + row), n * sizeof *out);
}

/* The same with columns in another order. */
static void load_ordered(const struct words *w, size_t i, size_t row, size_t n, uint32_t *out)
{
    const struct numbers *codes = &w->parts->codes;
    unsigned bits = w->each == 4 ? 8 : 4;
    uint32_t mask = w->each == 4 ? 255 : 15;
    memset(out, 0, n * sizeof *out);
    for (size_t c = 0; c < w->each; c++) {
        size_t col = w->parts->order[i * w->each + c];
        int from = (int)(col % w->each * bits), to = (int)(c * bits);
        const uint8_t *words = w->data + 4 * (col / w->each * (codes->col_step / w->each) + row);
        for (size_t lane = 0; lane < n; lane += 4) {
            four some = load_four(out + lane) | (load_four(words + 4 * lane) >> from & mask) << to;
            memcpy(out + lane, &some, sizeof some);
        }
    }
}

/* A word of each row after the other, so that cache lines of all strips are read as they come. */
static void take_columns(const struct words *w, size_t row, size_t strips, uint8_t *out,
                         size_t strip_bytes)
{
    uint32_t words[REPACK_ROWS];
    for (size_t i = 0; i < w->n; i++) {
        if (w->parts->order != NULL)
            load_ordered(w, i, row, strips * STRIP, words);
        else
            load_column(w, i, row, strips * STRIP, words);
        finish(w, words, strips * STRIP);
        for (size_t s = 0; s < strips; s++)
            memcpy(out + s * strip_bytes + i * 64, words + s * STRIP, 64);
    }
}

/* ---- words of 8 rows each: AWQ --------------------------------------------------------------- */

enum { AWQ_WORDS = REPACK_ROWS / 8 };

/* Nibble k of word p becomes nibble p of word k, for each set of 8 words. */
static void transpose(uint32_t words[8][AWQ_WORDS])
{
    static const uint32_t masks[] = {0x0f0f0f0f, 0x00ff00ff, 0x0000ffff};
    for (size_t step = 0; step < 3; step++)
        for (size_t i = 0; i < 8; i++) {
            size_t apart = (size_t)1 << step;
            int bits = (int)(4 * apart);
            if ((i & apart) != 0)
                continue;
            uint32_t *a = words[i], *b = words[i + apart];
            for (size_t c = 0; c < AWQ_WORDS; c += 4) {
                four x = load_four(a + c), y = load_four(b + c);
                four change = (x >> bits ^ y) & masks[step];
                y ^= change;
                x ^= change << bits;
                memcpy(b + c, &y, sizeof y);
                memcpy(a + c, &x, sizeof x);
            }
        }
}

static void take_awq(const struct words *w, size_t row, size_t strips, uint8_t *out,
                     size_t strip_bytes)
{
    /* Where a column's code is in a word of a strip: as interleave(). */
    static const uint8_t slots[8] = {0, 2, 4, 6, 1, 3, 5, 7};
    const uint8_t *places = w->parts->codes.places;
    size_t n = strips * 2, row_words = w->parts->codes.col_step / 8;
    uint32_t words[8][AWQ_WORDS] = {0};
    for (size_t i = 0; i < w->n; i++, out += 64) {
        for (size_t col = 0; col < 8; col++)
            memcpy(words[slots[col]], w->data + 4 * ((i * 8 + col) * row_words + row / 8),
                   n * sizeof **words);
        transpose(words);
        for (size_t c = 0; c < n; c++)
            for (size_t r = 0; r < 8; r++)
                memcpy(out + c / 2 * strip_bytes + (c % 2 * 8 + r) * 4, &words[places[r]][c], 4);
    }
}

/* ---- which it is ----------------------------------------------------------------------------- */

typedef void take_words(const struct words *w, size_t row, size_t strips, uint8_t *out,
                        size_t strip_bytes);

/* NULL: no layout of these. */
static take_words *find_layout(const struct matrix *m, struct words *w)
{
    const struct parts *p = m->parts;
    const struct numbers *codes = &p->codes;
    *w = (struct words){.parts = p, .data = codes->data, .each = codes->type == NUMBER_U4 ? 8 : 4};
    w->n = m->cols / w->each;
    w->padded = (m->cols + GROUP - 1) / GROUP * (GROUP / w->each);
    w->flips = codes->type == NUMBER_U8 ? 0x80808080 : 0;
    if (codes->type > NUMBER_S8 || m->cols % w->each != 0 || codes->row_run != 1 || codes->flat > 0)
        return NULL;
    if (codes->places == NULL && codes->col_run == w->each && codes->row_step == w->each &&
        codes->col_step % w->each == 0)
        return take_columns;
    return w->each == 8 && codes->places != NULL && codes->col_run == 1 && codes->row_step == 1 &&
                   codes->col_step % 8 == 0 && p->order == NULL
               ? take_awq
               : NULL;
}

bool parts_words(const struct matrix *m, const struct strip_layout *layout, size_t first,
                 size_t strips, uint8_t *out)
{
    struct words w;
    take_words *take = find_layout(m, &w);
    if (take == NULL)
        return false;
    for (size_t s = 0; s < strips; s += MOST_STRIPS) {
        size_t n = strips - s < MOST_STRIPS ? strips - s : MOST_STRIPS;
        take(&w, first + s * STRIP, n, out + s * layout->bytes + layout->codes, layout->bytes);
    }
    for (size_t s = 0; s < strips && w.n < w.padded; s++)
        memset(out + s * layout->bytes + layout->codes + w.n * 64, 0, (w.padded - w.n) * 64);
    return true;
}
