/* SPDX-License-Identifier: MIT */
/*
 * parts_words.c: codes of GPTQ and AWQ to strips, several strips at once: what rows have of a
 * column lies side by side in these, and lines of the cache would be read again for each strip.
 * Compilers vectorize the loops over words.
 */
#include <string.h>

#include "quant/matrix.h"
#include "quant/words.h"

enum { MOST_STRIPS = REPACK_ROWS / STRIP };

struct words {
    const struct parts *parts;
    const uint8_t *data;
    size_t each;    /* codes of a word */
    size_t n;       /* words of a row, */
    size_t padded;  /* and of a strip's */
    uint32_t flips; /* bits that differ between a code and its level */
};

/* Words of neighbouring rows, by fours. */
enum { FOURS = REPACK_ROWS / 4 };

/* As strips have them, in place. */
static void finish(const struct words *w, four *words, size_t n)
{
    for (size_t i = 0; i < n; i++)
        words[i] = w->each == 4 ? words[i] ^ w->flips : interleave(words[i]);
}

/* ---- words of one row each: GPTQ ------------------------------------------------------------- */

/* Those with a column's code, from a row on. */
static inline const uint8_t *words_at(const struct words *w, size_t each, size_t col, size_t row)
{
    return w->data + 4 * (col / each * (w->parts->codes.col_step / each) + row);
}

/* For the next word: rows of words lie too far apart for processors to do so by themselves. */
static inline void prefetch_rows(const struct words *w, size_t each, size_t col, size_t row,
                                 size_t n)
{
    for (size_t f = 0; f < n; f += 4)
        __builtin_prefetch(words_at(w, each, col, row + f * 4));
}

/* Word i of n fours of rows; columns as they are. */
static void load_column(const struct words *w, size_t i, size_t row, size_t n, four *out)
{
    if (i + 1 < w->n)
        prefetch_rows(w, w->each, (i + 1) * w->each, row, n);
    memcpy(out, words_at(w, w->each, i * w->each, row), n * sizeof *out);
}

/* The same with columns in another order. Half of the time was waiting without the prefetches. */
static inline __attribute__((always_inline)) void load_ordered(const struct words *w, size_t each,
                                                               size_t i, size_t row, size_t n,
                                                               four *out)
{
    const uint32_t *order = w->parts->order + i * each;
    const uint8_t *words[8];
    int from[8], bits = each == 4 ? 8 : 4;
    uint32_t mask = each == 4 ? 255 : 15;
    for (size_t c = 0; c < each; c++) {
        from[c] = (int)(order[c] % each) * bits;
        words[c] = words_at(w, each, order[c], row);
        if (i + 1 < w->n)
            prefetch_rows(w, each, order[each + c], row, n);
    }
    for (size_t f = 0; f < n; f++) {
        out[f] = (four){0};
#pragma GCC unroll 8
        for (size_t c = 0; c < each; c++)
            out[f] |= (load_four(words[c] + 16 * f) >> from[c] & mask) << (int)c * bits;
    }
}

/* A word of each row after the other, so that cache lines of all strips are read as they come. */
static void take_columns(const struct words *w, size_t row, size_t strips, uint8_t *out,
                         size_t strip_bytes)
{
    four words[FOURS];
    size_t n = strips * (STRIP / 4);
    for (size_t i = 0; i < w->n; i++) {
        if (w->parts->order == NULL)
            load_column(w, i, row, n, words);
        else if (w->each == 8)
            load_ordered(w, 8, i, row, n, words);
        else
            load_ordered(w, 4, i, row, n, words);
        finish(w, words, n);
        for (size_t s = 0; s < strips; s++)
            memcpy(out + s * strip_bytes + i * 64, words + s * (STRIP / 4), 64);
    }
}

/* ---- words of 8 rows each: AWQ --------------------------------------------------------------- */

enum { AWQ_FOURS = FOURS / 8, AHEAD = 2 };

/* Nibble k of word p becomes nibble p of word k, for each set of 8 words. */
static void transpose(four words[8][AWQ_FOURS])
{
    static const uint32_t masks[] = {0x0f0f0f0f, 0x00ff00ff, 0x0000ffff};
    for (size_t step = 0; step < 3; step++)
        for (size_t i = 0; i < 8; i++) {
            size_t apart = (size_t)1 << step;
            int bits = (int)(4 * apart);
            four *a = words[i], *b = words[i + apart];
            for (size_t c = 0; c < AWQ_FOURS && (i & apart) == 0; c++) {
                four change = (a[c] >> bits ^ b[c]) & masks[step];
                b[c] ^= change;
                a[c] ^= change << bits;
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
    four words[8][AWQ_FOURS] = {0};
    for (size_t i = 0; i < w->n; i++, out += 64) {
        for (size_t col = 0; col < 8; col++) {
            const uint8_t *from = w->data + 4 * ((i * 8 + col) * row_words + row / 8);
            if (i + AHEAD < w->n)
                __builtin_prefetch(from + (size_t)4 * 8 * AHEAD * row_words);
            memcpy(words[slots[col]], from, n * 4);
        }
        transpose(words);
        for (size_t c = 0; c < n; c++)
            for (size_t r = 0; r < 8; r++)
                memcpy(out + c / 2 * strip_bytes + (c % 2 * 8 + r) * 4,
                       &(uint32_t){words[places[r]][c / 4][c % 4]}, 4);
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
