/* SPDX-License-Identifier: MIT */
/* parts_codes.c: the codes of a matrix of several tensors, to strips. */
#include <string.h>

#include "quant/matrix.h"
#include "quant/words.h"

enum { GROUP_BYTES4 = GROUP / 2, WORDS4 = GROUP / 8, WORDS8 = GROUP / 4 };

/* Which strips a loop below fills, and from where. */
struct codes {
    const uint8_t *data; /* of the first row */
    size_t row_bytes, lanes, groups;
    uint8_t *out; /* of the first group's codes */
};

/* Rows of nibbles. */
static inline __attribute__((always_inline)) void nibble_rows(const struct codes *c,
                                                              bool high_first)
{
    for (size_t group = 0; group < c->groups; group++) {
        const uint8_t *from = c->data + group * GROUP_BYTES4;
        uint8_t *out = c->out + group * WORDS4 * 64;
        for (size_t lane = 0; lane < c->lanes; lane++, from += c->row_bytes, out += 4) {
            four words = load_four(from);
            if (high_first)
                words = (words >> 4 & 0x0f0f0f0f) | (words & 0x0f0f0f0f) << 4;
            words = interleave(words);
            for (size_t i = 0; i < WORDS4; i++)
                memcpy(out + i * 64, &(uint32_t){words[i]}, sizeof(uint32_t));
        }
    }
}

/* Rows of bytes, from which 128 is subtracted, or nothing. */
static void byte_rows(const struct codes *c, int middle)
{
    uint32_t sign = middle != 0 ? 0x80808080 : 0;
    for (size_t group = 0; group < c->groups; group++) {
        const uint8_t *from = c->data + group * GROUP;
        uint8_t *out = c->out + group * WORDS8 * 64;
        for (size_t lane = 0; lane < c->lanes; lane++, from += c->row_bytes, out += 4)
            for (size_t i = 0; i < WORDS8; i++) {
                uint32_t word = load_32(from + i * 4) ^ sign;
                memcpy(out + i * 64, &word, sizeof word);
            }
    }
}

/* Any layout, code by code. */
static void any(const struct matrix *m, size_t row, size_t n, int middle,
                const struct strip_layout *l, uint8_t *strip)
{
    const struct parts *p = m->parts;
    struct numbers codes_only = p->codes;
    enum dtype type = p->codes.type == NUMBER_U4 ? DTYPE_INT4 : DTYPE_INT8;
    uint8_t codes[GROUP][STRIP];
    codes_only.table = NULL;
    for (size_t group = 0; group < l->groups; group++) {
        memset(codes, 0, sizeof codes);
        for (size_t i = 0; i < GROUP && group * GROUP + i < m->cols; i++) {
            size_t col = group * GROUP + i;
            col = p->order != NULL ? p->order[col] : col;
            for (size_t lane = 0; lane < n; lane++)
                codes[i][lane] = (uint8_t)((int)number_at(&codes_only, row + lane, col) - middle);
        }
        group_store(type, l, strip, group, codes);
    }
}

void parts_codes(const struct matrix *m, size_t row, size_t n, int middle,
                 const struct strip_layout *l, void *strip)
{
    const struct parts *p = m->parts;
    const struct numbers *from = &p->codes;
    static const uint8_t high_first[8] = {1, 0, 3, 2, 5, 4, 7, 6};
    bool nibbles = from->type == NUMBER_U4;
    bool high = from->places != NULL && memcmp(from->places, high_first, sizeof high_first) == 0;
    struct codes c = {from->data, nibbles ? m->cols / 2 : m->cols, n, l->groups,
                      (uint8_t *)strip + l->codes};
    c.data += row * c.row_bytes;
    if (p->order != NULL || m->cols % GROUP != 0 || from->row_run != 1 || from->col_run != 1 ||
        from->col_step != 1 || from->row_step != m->cols || (from->places != NULL && !high))
        any(m, row, n, nibbles ? 0 : middle, l, strip);
    else if (!nibbles)
        byte_rows(&c, middle);
    else if (high)
        nibble_rows(&c, true);
    else
        nibble_rows(&c, false);
}
