/* SPDX-License-Identifier: MIT */
/* convert_rows.h: rows of a matrix in another type, where nothing has to be searched for. */
#ifndef ENGINE_CONVERT_ROWS_H
#define ENGINE_CONVERT_ROWS_H

#include "backend/quantize.h"

struct convert_rows {
    const struct matrix *from;
    enum dtype type;   /* that the rows get */
    size_t interleave; /* as struct quantize_options' */
    float *row;        /* [cols] memory */
};

/* Rows to strips with the same codes. */
int convert_to_strips(const struct matrix *from, const struct matrix *to, size_t first, size_t n,
                      uint8_t *out, struct llama3_error *err);
/* Rows to f32, f16 or bf16. Adds to *error. */
int convert_round(const struct convert_rows *rows, size_t first, size_t n, uint8_t *out,
                  struct quantize_error *error, struct llama3_error *err);

/* Whether strips hold the codes and scales of a type of blocks. */
bool convert_fits_blocks(const struct matrix *from, enum dtype to);
/* Blocks of the same type, or such strips, to blocks. */
int convert_to_blocks(const struct convert_rows *rows, size_t first, size_t n, uint8_t *out,
                      struct llama3_error *err);

#endif
