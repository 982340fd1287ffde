/* SPDX-License-Identifier: MIT */
/*
 * layout.h: matrices as the kernels read them. A thread loads a unit of 16 bytes at once: a group
 * of int4, half a group of int8, 8 columns of 16 bits or 4 of f32. The units of 32 rows with the
 * same columns lie side by side, so that a warp reads 512 consecutive bytes: both where a thread
 * has a row, and where tensor cores need eight rows and a quarter of 32 columns in each.
 *
 * A matrix is one piece of memory: units, scales, offsets and row scales, each padded to 256 bytes
 * (struct device_matrix of kernels.h). In int4, nibble i of a group is column i.
 *
 * The kernels have groups of 32 columns, with scales of int8 or f16. Scales of 64 and 128 columns
 * are repeated. Int8 numbers with blocks are multiplied and rounded to f16. Groups of 16 columns
 * are rounded to int8 again, in pairs.
 */
#ifndef BACKEND_CUDA_LAYOUT_H
#define BACKEND_CUDA_LAYOUT_H

#include "backend/cuda/kernels.h"
#include "checkpoint/model.h"

struct layout {
    enum matrix_form form;
    enum dtype grouped;         /* the strips that the matrix is, or becomes first: DTYPE_INT4 */
    struct group_format format; /* or DTYPE_INT8, and their format */
    bool rounded;               /* groups of 16 columns */
    bool half_scales;           /* f16, as in the format or because f16 holds them and int8 not */
    size_t rows, cols, blocks, padded_blocks, tiles;
    size_t tile_units, tile_scales, tile_offsets, tile_row_scales; /* bytes of a tile's, 0: none */
    size_t scales, offsets, row_scales;                            /* where the arrays begin */
    size_t bytes;
};

struct layout layout_of(const struct matrix *matrix);

/* Shuffles tile number `tile` into the four arrays. scratch: layout_scratch() bytes. */
void layout_tile(const struct layout *layout, const struct matrix *matrix, size_t tile,
                 uint8_t *units, uint8_t *scales, uint8_t *offsets, uint8_t *row_scales,
                 void *scratch);
size_t layout_scratch(const struct layout *layout);

/* What kernels get for such a matrix in memory. */
struct device_matrix layout_view(const struct layout *layout, const uint8_t *memory);

#endif
