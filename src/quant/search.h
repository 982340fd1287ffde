/* SPDX-License-Identifier: MIT */
/*
 * search.h: scales and codes for a group of weights (group.h), the heart of the quantizer. Here is
 * the scalar definition; the kernels of a backend compute the same bits.
 *
 * The steps for a matrix, a strip of STRIP rows at a time:
 *   1. search_scales finds for each group by itself the scale that serves it best;
 *   2. the largest of a row, divided by SCALE_MAX, becomes the row's scale;
 *   3. search_steps makes group scales whole numbers of row scales;
 *   4. search_codes takes the nearest codes.
 *
 * What is minimized is sum of importance * (w^2 + mean w^2)^(1/4) * (w - scale * level)^2: large
 * weights count for more, as they pass more on of whatever meets them. Of the exponents 0, 1/4 and
 * 1/2 this one came out best (HACKING.md).
 *
 * Every row is computed by itself, each product and sum rounded to f32 in the order of its columns.
 * Weights are expected in a range where their cubes are normal numbers: the caller scales a row by
 * a power of two.
 */
#ifndef QUANT_SEARCH_H
#define QUANT_SEARCH_H

#include <stddef.h>
#include <stdint.h>

#include "quant/group.h"

enum { SCALE_MAX = 127 }; /* of a group's int8 */

/* int4: the levels and the middles between them. int8 is rounded to whole numbers. */
struct level_table {
    float levels[16]; /* ascending */
    float bounds[16]; /* infinity at the end */
};

void level_table_fill(struct level_table *table, const int8_t levels[16]);

/* STRIP rows of a group, column by column. */
struct group_search {
    enum dtype type;
    const struct level_table *table;
    const float *x; /* [GROUP][STRIP], columns x_stride floats apart */
    size_t x_stride;
    const float *importance; /* [GROUP], 0: padding */
};

/* Where the search starts: levels that the largest weight of a group may become. */
struct search_starts {
    size_t n;
    const float *ends; /* [n] */
    bool both_signs;   /* of the scale: the table isn't symmetric */
};

enum { SEARCH_REFITS = 2 }; /* of the best start */
enum { SEARCH_REACH = 4 };  /* whole numbers beside the nearest, where codes make up for errors */
const struct search_starts *search_starts(enum dtype type);

/* The i-th of the whole numbers that are tried beside a start: 0, 1, -1, 2, -2, ... away. */
static inline float search_offset(int i)
{
    return (float)((i & 1) != 0 ? (i + 1) / 2 : -(i / 2));
}

/* For codes that make up for what the columns before have lost (backend/moments.h). x of the search
 * are then the targets, as far as columns before the group moved them. */
struct group_feedback {
    const float *weights; /* [GROUP][STRIP] as they are, */
    float *errors;        /* and what of them is lost, both x_stride apart */
    const float *factors; /* [GROUP][GROUP]: [j][k] for k > j */
};

struct group_codes {
    uint8_t codes[GROUP][STRIP]; /* int8: two's complement */
    float errors[STRIP];         /* sums of squared differences, not weighted */
};

/* 0 where all weights of a row are (close to) zero. */
void search_scales(const struct group_search *search, float *scales /* [STRIP] */);
/* scales: what search_scales found on entry, whole numbers of row_scales on return, within
 * +-SCALE_MAX. row_scales must not be 0. */
void search_steps(const struct group_search *search, const float *row_scales /* [STRIP] */,
                  float *scales /* [STRIP] */);
/* scales: whole numbers */
void search_codes(const struct group_search *search, const float *row_scales /* [STRIP] */,
                  const float *scales /* [STRIP] */, struct group_codes *out);
/* In the place of search_steps and search_codes: tries SEARCH_REACH whole numbers on either side of
 * what search_scales found, each with the codes that make up for each other within the group, and
 * keeps the one whose errors, weighted by importance, are least. */
void search_feedback(const struct group_search *search, const struct group_feedback *feedback,
                     const float *row_scales, float *scales, struct group_codes *out);

#endif
