/* SPDX-License-Identifier: MIT */
/*
 * search.h: finds scales and codes for a group of weights (group.h), the heart of the quantizer.
 * search.c is the scalar definition; a backend's kernels compute the same bits.
 *
 * The steps for a matrix, a strip of STRIP rows at a time:
 *   1. search_scales finds for each group by itself the scale that serves it best;
 *   2. the largest of a row, divided by SCALE_MAX, becomes the row's scale;
 *   3. search_steps makes group scales integer multiples of row scales;
 *   4. search_codes takes the nearest codes.
 *
 * What is minimized is sum of importance * (w^2 + mean w^2)^(1/4) * (w - scale * level)^2: large
 * weights count for more. Of the exponents 0, 1/4 and 1/2 this one came out best (BENCHMARKS.md).
 *
 * Rows are independent; each product and sum is rounded to f32 in the order of the columns. The
 * cubes of weights must be normal numbers: the caller scales a row by a power of two.
 */
#ifndef QUANT_SEARCH_H
#define QUANT_SEARCH_H

#include <stddef.h>
#include <stdint.h>

#include "quant/group.h"

enum { SCALE_MAX = 127 }; /* of a group's int8 */

/* int4: the levels and the midpoints between them. int8 is rounded to integers. */
struct codebook {
    float levels[16]; /* ascending */
    float bounds[16]; /* infinity at the end */
};

void codebook_fill(struct codebook *codebook, const int8_t levels[16]);

/* STRIP rows of a group, column by column. */
struct group_search {
    enum dtype type;
    const struct codebook *codebook;
    const float *x; /* [GROUP][STRIP], columns x_stride floats apart */
    size_t x_stride;
    const float *importance; /* [GROUP], 0: padding */
};

/* Where the search starts: levels for the largest weight of a group. */
struct search_starts {
    size_t n;
    const float *ends; /* [n] */
    bool both_signs;   /* of the scale: the codebook is not symmetric */
};

enum { SEARCH_REFITS = 2 }; /* of the best start */
enum { SEARCH_REACH = 4 };  /* integers tried on each side of the nearest, with feedback */
const struct search_starts *search_starts(enum dtype type);

/* The offset of the i-th integer that is tried: 0, 1, -1, 2, -2, ... */
static inline float search_offset(int i)
{
    return (float)((i & 1) != 0 ? (i + 1) / 2 : -(i / 2));
}

/* For codes that make up for the errors of earlier columns (backend/hessian.h). The search's x are
 * then the targets, which columns before the group have already moved. */
struct group_feedback {
    const float *weights; /* [GROUP][STRIP] unmoved, */
    float *errors;        /* and their errors, columns x_stride apart */
    const float *factors; /* [GROUP][GROUP]: [j][k] for k > j */
};

struct group_codes {
    uint8_t codes[GROUP][STRIP]; /* int8: two's complement */
    float errors[STRIP];         /* sums of squared differences, not weighted */
};

/* 0 where all weights of a row are zero or nearly so. */
void search_scales(const struct group_search *search, float *scales /* [STRIP] */);
/* scales: as search_scales found them; on return integer multiples of row_scales within
 * +-SCALE_MAX. row_scales must not be 0. */
void search_steps(const struct group_search *search, const float *row_scales /* [STRIP] */,
                  float *scales /* [STRIP] */);
/* scales: integers */
void search_codes(const struct group_search *search, const float *row_scales /* [STRIP] */,
                  const float *scales /* [STRIP] */, struct group_codes *out);
/* Instead of search_steps and search_codes: tries SEARCH_REACH integers on each side of what
 * search_scales found, with feedback inside the group, and keeps the one whose errors, weighted by
 * importance, are least. */
void search_feedback(const struct group_search *search, const struct group_feedback *feedback,
                     const float *row_scales, float *scales, struct group_codes *out);

#endif
