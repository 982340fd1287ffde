/* SPDX-License-Identifier: MIT */
/*
 * group.h: group-quantized matrices, int4 and int8: what they mean, and their layout in memory,
 * which is also the layout in a file.
 *
 * A group is 16, 32, 64 or 128 consecutive columns of one row (group_format.cols). It has one scale
 * and may have one offset:
 *
 *     weight = row_scale * (scale * level + offset)
 *
 * int4: level = codebook[code], where a matrix has a codebook of 16 int8. int8: the level is the
 * code. Scales are int8 (offsets then are f16), or both are f16, or both are int8 times an f32 that
 * GROUP_BLOCK columns of a row share, one for scales and one for offsets. The quantizer makes int8
 * scales of 32 columns without offsets (4.25 bits a weight). GGUF's types keep their codes, scales
 * and offsets, with a row_scale of 1. Products and sums are rounded in f32 in the order written;
 * without offsets nothing is added.
 *
 * Layout. STRIP consecutive rows lie together. Columns are padded to a multiple of GROUP and rows
 * to a multiple of STRIP, with codes and numbers of zero. A strip has these arrays, each padded to
 * 64 bytes, the last three if the format has them:
 *
 *     row scales     STRIP f32
 *     codes          for each GROUP columns, int4: 4 x 64 bytes, int8: 8 x 64 bytes
 *     group scales   for each group, STRIP int8 or f16
 *     offsets        for each group, STRIP f16, or int8 if there are blocks
 *     block scales   for each GROUP_BLOCK columns, STRIP f32
 *     block offsets  for each GROUP_BLOCK columns, STRIP f32, if there are offsets too
 *
 * In 64 bytes of codes each 32-bit lane is one row. int8: 4 consecutive columns, a byte each. int4:
 * two runs of 4 consecutive columns, the first in the low nibbles, the second in the high ones. So
 * 64 bytes serve 16 rows for vectors of any width: 1 x 16, 2 x 8 or 4 x 4 lanes.
 */
#ifndef QUANT_GROUP_H
#define QUANT_GROUP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "quant/dtype.h"

enum {
    GROUP = 32, /* columns that are multiplied at once, and a group of activations */
    STRIP = 16,
    GROUP_COLS_LEAST = 16, /* columns of a group */
    GROUP_COLS_MOST = 128,
    GROUP_BLOCK = 256 /* columns that share a block's numbers */
};

enum group_scale { GROUP_SCALE_INT8, GROUP_SCALE_F16, GROUP_SCALE_BLOCK, GROUP_SCALES };

struct group_format {
    enum group_scale scale;
    bool offset;
    size_t cols;         /* of a group: 16, 32, 64 or 128 */
    int8_t codebook[16]; /* of int4; zero for int8 */
};

/* The codebook that llama3-quantize uses: the best we found for groups of weights of trained
 * matrices, with the largest level at the end of the range (BENCHMARKS.md). */
extern const int8_t group_codebook[16];
/* Uniform: code - 8, as in GGUF's q4_0, and code, as in its q4_1 and q4_k. */
extern const int8_t group_codebook_signed[16];
extern const int8_t group_codebook_unsigned[16];
/* GGUF's iq4_nl */
extern const int8_t group_codebook_iq4_nl[16];
/* Twice the floats of 4 bits of mxfp4 and nvfp4. fp4_code() sorts their codes: zero has one. */
extern const int8_t group_codebook_fp4[16];

static inline int fp4_code(int code)
{
    return code == 8 ? 8 : code ^ 8;
}

/* Where the arrays of a strip begin, in bytes from its start. One that a format lacks has no bytes.
 */
struct strip_layout {
    size_t groups;  /* of GROUP columns of a row */
    size_t numbers; /* scales of a row */
    size_t blocks;  /* of GROUP_BLOCK columns of a row */
    size_t codes, scales, offsets, block_scales, block_offsets;
    size_t bytes; /* of a strip */
};

/* "int8", "f16", "block": by enum group_scale, as our own file says it. */
extern const char *const group_scale_names[GROUP_SCALES];

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
/* The scale and the offset of a column; 0 where there are no offsets. */
float group_scale_at(const struct group_format *format, const struct strip_layout *layout,
                     const void *strip, size_t lane, size_t col);
float group_offset_at(const struct group_format *format, const struct strip_layout *layout,
                      const void *strip, size_t lane, size_t col);
/* All codes of GROUP columns at once; int8 as two's complement. */
void group_store(enum dtype type, const struct strip_layout *layout, void *strip, size_t group,
                 const uint8_t codes[GROUP][STRIP]);

/* Columns [first, first + n) of a row of a strip to f32: the scalar definition. */
void group_expand(enum dtype type, const struct group_format *format, size_t cols,
                  const void *strip, size_t lane, size_t first, size_t n, float *out /* [n] */);

/* The grouped type and format that a type of GGUF becomes; false if it has none. All are taken
 * exactly: a strip expands to the bits of dtype_expand(). */
bool group_from_gguf(enum dtype type, enum dtype *grouped, struct group_format *format);

/* n rows of such a type, 1..STRIP, row_bytes apart, to a strip. Writes all of it. */
void group_repack(enum dtype type, const void *rows, size_t row_bytes, size_t n, size_t cols,
                  void *strip);

#endif
