/* SPDX-License-Identifier: MIT */
/*
 * matrix.h: a matrix as a checkpoint stores it, what its weights are in f32, and the strips of
 * group.h that it becomes. Checkpoint readers fill struct matrix. Backends and llama3-quantize read
 * it through these functions, which know the formats.
 *
 * A matrix is stored in one of three ways:
 *
 *     rows      types before DTYPE_ROWS: row after row, in blocks (dtype.h)
 *     strips    int4 and int8: group.h
 *     parts     types from DTYPE_PARTS: several tensors, as those of GPTQ (struct parts)
 *
 * A new format of several tensors is a name in enum dtype, and a reader that fills a struct parts.
 * That makes matrix_row() the scalar definition of its weights. matrix_target() then says which
 * groups it becomes, and matrix_repack() makes them: code by code if no faster loop knows the
 * layout of its codes.
 */
#ifndef QUANT_MATRIX_H
#define QUANT_MATRIX_H

#include "quant/group.h"

/* y = W x, W as [rows][cols] row-major: rows are outputs, cols inputs. */
struct matrix {
    enum dtype type;
    size_t rows, cols;
    const void *data; /* [rows][dtype_row_bytes(type, cols)], in a mapped file; any alignment.
                         Grouped types: the strips of group.h, 64-byte aligned. With parts: the
                         codes */
    struct group_format groups; /* of grouped types */
    const struct parts *parts;  /* of types from DTYPE_PARTS: the model's; else NULL */
};

/* ---- parts ----------------------------------------------------------------------------------- */

enum number {
    NUMBER_U4, /* nibbles: of two neighbours the first is the low one */
    NUMBER_U8,
    NUMBER_S8,
    NUMBER_E4M3, /* float8 with 3 bits of fraction (OCP): no infinity */
    NUMBER_E8M0, /* a power of two, 2^(code - 127) */
    NUMBER_F16,
    NUMBER_BF16,
    NUMBER_F32
};

/* A tensor of numbers, each for a block of `rows` x `cols` weights. The number of block (r, c) is
 * the one at this index:
 *
 *     r / row_run * row_step + r % row_run + c / col_run * col_step + c % col_run
 *
 * A run of more than 1 is what a word of 32 bits holds: of GPTQ's codes 8 columns. The reader has
 * checked that all indices are inside of the tensor. */
struct numbers {
    enum number type;
    const uint8_t *data; /* NULL: the matrix has none of these. Any alignment */
    size_t bytes;        /* of the tensor */
    size_t rows, cols;   /* of a block; at most the matrix's */
    size_t row_run, row_step, col_run, col_step; /* runs are 1 or more */
    const uint8_t
        *places;        /* [8]: the number of index i is at i / 8 * 8 + places[i % 8]; NULL: at i */
    const float *table; /* [256], of U4 [16]: what codes stand for; NULL: for themselves. The
                           model's */
    size_t flat; /* > 0: blocks go on in the next row, and the number of weight (r, c) is the one at
                    (r * row_step + c) / flat */
    /* Numbers that are quantized themselves: number * factor + added, where neighbours share a
     * factor. NULL: they are not. */
    const uint8_t *factors;          /* f32, at any alignment */
    size_t factor_bytes, factor_run; /* of all; numbers that share one */
    float added;
};

/* weight = (code - zero) * scale: the difference of integers, the product rounded in f32. Then
 * times `last`, if it is not 0. */
struct parts {
    struct numbers codes; /* rows = cols = 1 */
    struct numbers scales;
    struct numbers zeros; /* of U4, U8 or S8, with the same cols as the scales */
    int zero; /* without zeros: all of them; else added to each, of U4 modulo 16, of U8 256 */
    /* Act-order: columns that share a scale are neighbours once they are sorted. Column j of strips
     * is column order[j] of the matrix, and scales and zeros are of column j. NULL: as they are */
    const uint32_t *order; /* [cols], a permutation; the model's */
    float last;
    float unit; /* > 0: scales are this times numbers that f16 holds exactly */
};

/* ---- any matrix ------------------------------------------------------------------------------ */

/* Bytes of a matrix as it is stored. */
size_t matrix_bytes(const struct matrix *matrix);

/* The memory that rows [first, first + n) are read from. Of grouped types first is a multiple of
 * STRIP, and n too unless the matrix ends. Returns how many spans there are, at most MATRIX_SPANS.
 * Where rows are not stored one after another, a span is a whole tensor. */
enum { MATRIX_SPANS = 4 };
struct span_of_bytes {
    const uint8_t *data;
    size_t bytes;
};
size_t matrix_spans(const struct matrix *matrix, size_t first, size_t n,
                    struct span_of_bytes spans[MATRIX_SPANS]);

/* One row to f32: the scalar definition. */
void matrix_row(const struct matrix *matrix, size_t row, float *out /* [cols] */);

/* Columns [first, first + n) of a row, whole blocks of types that are stored row by row. Columns
 * are in the order of strips: as in the matrix unless its parts have an order. */
void matrix_expand(const struct matrix *matrix, size_t row, size_t first, size_t n,
                   float *out /* [n] */);

/* The grouped type that a matrix becomes, and its format; false if it has none, or is grouped
 * already. */
bool matrix_target(const struct matrix *matrix, enum dtype *type, struct group_format *format);

/* Rows [first, first + n) to strips of that type: first is a multiple of STRIP, and n too unless
 * the matrix ends. Faster with REPACK_ROWS at once, where neighbouring rows share cache lines. */
enum { REPACK_ROWS = 8 * STRIP };
void matrix_repack(const struct matrix *matrix, size_t first, size_t n, void *strips);

/* ---- of rows or strips alone ----------------------------------------------------------------- */

/* The data of the rows [first, first + n), and its *bytes. Of grouped types first is a multiple of
 * STRIP, and n too unless the matrix ends. */
const uint8_t *matrix_rows(const struct matrix *matrix, size_t first, size_t n, size_t *bytes);
void matrix_copy_rows(const struct matrix *matrix, size_t first, size_t n, void *out);

/* ---- inside ---------------------------------------------------------------------------------- */

/* All codes but NaN, and those of E8M0 in the other direction. */
float e4m3_to_f32(uint8_t code);
float number_at(const struct numbers *numbers, size_t row, size_t col);

/* As the functions of a matrix, for one with parts: parts.c. */
void parts_expand(const struct matrix *matrix, size_t row, size_t first, size_t n, float *out);
bool parts_target(const struct matrix *matrix, enum dtype *type, struct group_format *format);
void parts_repack(const struct matrix *matrix, size_t first, size_t n, void *strips);

/* All codes of so many whole strips, if they lie as GPTQ's or AWQ's do; else false: parts_words.c.
 */
bool parts_words(const struct matrix *matrix, const struct strip_layout *layout, size_t first,
                 size_t strips, uint8_t *out);
/* The codes of rows [row, row + n) of a strip, less `middle` if they have 8 bits: parts_codes.c. */
void parts_codes(const struct matrix *matrix, size_t row, size_t n, int middle,
                 const struct strip_layout *layout, void *strip);

/* The nearest levels that a table can have, and what a level of 1 stands for: levels.c. */
float table_levels(const float table[16], int8_t codebook[16]);
/* The codes of FP8 as levels; the scales of groups that strips have are multiplied by the power of
 * two that a level is there, but for 2^-9, the row scales' part. */
void float8_repack(const struct matrix *matrix, size_t first, size_t n,
                   const struct strip_layout *layout, void *strips);

#endif
