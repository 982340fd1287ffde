/* SPDX-License-Identifier: MIT */
/*
 * unpack.h: GGUF's types of few bits or with tables, mxfp4, nvfp4 and q8_k as strips, which expand
 * to the same bits. All but q8_k become int4: none has more than 16 levels. Of mxfp4, whose scales
 * span 2^255, a strip holds those from a row's largest down to 2^-39 of it; smaller ones become 0.
 */
#ifndef QUANT_UNPACK_H
#define QUANT_UNPACK_H

#include "quant/group.h"

/* The grouped type and format of a type's strips; false if it is not one of these. */
bool unpack_target(enum dtype type, enum dtype *grouped, struct group_format *format);

/* One block of 256 weights to f32, of the types that expand.c doesn't know. */
void unpack_expand(enum dtype type, const uint8_t *block, float *out /* [GROUP_BLOCK] */);

/* n rows, 1..STRIP, row_bytes apart, to a strip of that format. Writes all of it. */
void unpack_repack(enum dtype type, const struct group_format *format, const uint8_t *rows,
                   size_t row_bytes, size_t n, size_t cols, uint8_t *strip);

#endif
