/* SPDX-License-Identifier: MIT */
/*
 * group.h: group-quantized matrices, int4 and int8: what they mean and how they lie in memory and,
 * byte for byte the same, in a file.
 *
 * A group is GROUP consecutive columns of one row. It has one scale and may have one offset:
 *
 *     weight = row_scale * (scale * level + offset)
 *
 * int4: level = levels[code], a table of 16 int8 that belongs to the matrix; int8: the code itself.
 * The group's scale is an int8 (what the quantizer makes: 4.25 bits a weight) or an f16, the offset
 * an f16 (both: what GGUF's types map onto without another rounding of their codes; row_scale is 1
 * then). Products and sums are rounded in f32 in the order written.
 *
 * Layout. STRIP consecutive rows lie together; columns are padded to a multiple of GROUP and rows
 * to one of STRIP, with codes and scales of zero. A strip is, each part padded to 64 bytes:
 *
 *     row scales    STRIP f32
 *     codes         for each group, int4: 4 x 64 bytes, int8: 8 x 64 bytes
 *     group scales  for each group, STRIP int8 or f16
 *     offsets       for each group, STRIP f16, if the matrix has them
 *
 * In 64 bytes of codes each 32-bit lane is one row: 4 consecutive columns of int8, a byte each; or
 * two runs of 4 consecutive columns of int4, the first in the low nibbles, the second in the high
 * ones. So one load serves 16 rows, whatever the width of a vector: 1 x 16, 2 x 8 or 4 x 4 lanes.
 */
#ifndef QUANT_GROUP_H
#define QUANT_GROUP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "quant/dtype.h"

enum { GROUP = 32, STRIP = 16 };

enum group_scale { GROUP_SCALE_INT8, GROUP_SCALE_F16 };

struct group_format {
    enum group_scale scale;
    bool offset;
    int8_t levels[16]; /* of int4's codes; zero for int8 */
};

/* The 16 levels that llama3-quantize uses: the best we found for groups of weights of trained
 * matrices, scaled so that the largest lies at the end of the range (see HACKING.md). */
extern const int8_t group_levels[16];
/* code - 8, and code: uniform, as in GGUF's q4_0, and in its q4_1 and q4_k. */
extern const int8_t group_levels_signed[16];
extern const int8_t group_levels_unsigned[16];
/* GGUF's iq4_nl */
extern const int8_t group_levels_iq4_nl[16];

/* Where the parts of a strip lie, in bytes from its start. */
struct strip_layout {
    size_t groups; /* of a row */
    size_t codes, scales, offsets;
    size_t bytes; /* of a strip */
};

static inline bool is_grouped(enum dtype type)
{
    return type == DTYPE_INT4 || type == DTYPE_INT8;
}

/* cols: at most what the checkpoint readers let through (MAX_FFN), so that nothing overflows. */
struct strip_layout strip_layout(enum dtype type, const struct group_format *format, size_t cols);

/* Bytes of a matrix; rows and cols within the readers' limits. */
size_t group_bytes(enum dtype type, const struct group_format *format, size_t rows, size_t cols);

/* The code of row `lane` of a strip, 0..STRIP-1, and column col: 0..15 for int4. */
int group_code(enum dtype type, const struct strip_layout *layout, const void *strip, size_t lane,
               size_t col);
void group_set_code(enum dtype type, const struct strip_layout *layout, void *strip, size_t lane,
                    size_t col, int code);
/* All codes of a group at once; int8 as two's complement. */
void group_store(enum dtype type, const struct strip_layout *layout, void *strip, size_t group,
                 const uint8_t codes[GROUP][STRIP]);

/* Columns [first, first + n) of a row of a strip to f32: the scalar definition. */
void group_expand(enum dtype type, const struct group_format *format, size_t cols,
                  const void *strip, size_t lane, size_t first, size_t n, float *out /* [n] */);

/* The grouped type and format that a type of GGUF maps onto; false if it has none. q4_0, q4_1,
 * iq4_nl, q8_0, q5_0 and q5_1 are taken as they are; q4_k and q5_k to the rounding of their scales
 * and offsets to f16; q6_k, whose groups are of 16, is rounded to int8 again. */
bool group_from_gguf(enum dtype type, enum dtype *grouped, struct group_format *format);

/* n rows of such a type, 1..STRIP, row_bytes apart, to a strip, all of which is written. */
void group_repack(enum dtype type, const void *rows, size_t row_bytes, size_t n, size_t cols,
                  void *strip);

#endif
