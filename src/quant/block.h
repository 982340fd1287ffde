/* SPDX-License-Identifier: MIT */
/*
 * block.h: makes blocks of GGUF's types (expand.c has their layout), and the search for what they
 * store. kernels_block.inc in the CPU's backend is the search; it is compiled for each instruction
 * set, with the same bits.
 *
 * A run is 32 columns, of q6_k 16, that share a scale, and may share an offset:
 *
 *     weight = scale * level - offset
 *
 * Both are integer multiples of a unit. A k-quant's block of 256 has two units, f16 numbers. A
 * block of 32 stores scale and offset as f16; their units are powers of two, so that the
 * multiples, of 8 bits, are exact.
 *
 * What is minimized is what search.h says.
 */
#ifndef QUANT_BLOCK_H
#define QUANT_BLOCK_H

#include <stdbool.h>

#include "quant/search.h"

enum { BLOCK_COLS = 256, BLOCK_RUNS = BLOCK_COLS / GROUP };

struct block_type {
    int low, high;          /* codes are 0..high - low; levels low..high, or the codebook's */
    const int8_t *codebook; /* [high + 1] ascending; NULL: levels are uniform */
    size_t run;             /* columns of a run */
    int scale_low, scale_high, offset_high; /* the multiples; offset_high 0: no offset */
};

/* NULL: not a type of blocks that can be made. */
const struct block_type *block_type(enum dtype type);

/* What a block stores. */
struct block_content {
    uint8_t codes[BLOCK_COLS];
    uint16_t d, dmin;              /* f16: of blocks of 32, scale and offset */
    int8_t scales[2 * BLOCK_RUNS]; /* of k-quants: multiples of d */
    uint8_t offsets[BLOCK_RUNS];   /* of dmin */
};
void block_pack(enum dtype type, const struct block_content *block, uint8_t *out);

/* STRIP rows of a run, column by column. */
struct block_search {
    const struct block_type *type;
    const float *x; /* [run][STRIP], columns x_stride floats apart */
    size_t x_stride;
    const float *importance; /* [run] */
};

/* With feedback (hessian.h): x are the targets. Of a group's columns the run is [first, first +
 * run). */
struct block_feedback {
    struct group_feedback group; /* weights and errors: of the group */
    size_t first;
};

/* Scales and offsets that serve each run best by themselves; offsets are 0 or more. */
typedef void block_fit(const struct block_search *search, float *scales /* [STRIP] */,
                       float *offsets /* [STRIP] */);
/* Tries multiples around given scales and offsets, keeps the best, and takes the codes. On return
 * scales and offsets are the multiples. feedback: NULL, or codes make up for errors before them.
 * Units may be 0. */
typedef void block_choose(const struct block_search *search, const struct block_feedback *feedback,
                          const float *units /* [STRIP] */, const float *offset_units /* [STRIP] */,
                          float *scales, float *offsets, uint8_t codes[][STRIP] /* [run] */,
                          float *errors /* [STRIP] */);

#endif
