/* SPDX-License-Identifier: MIT */
/* utf8.h: UTF-8 as RFC 3629 defines it: no surrogates, nothing overlong, nothing over U+10FFFF. */
#ifndef BASE_UTF8_H
#define BASE_UTF8_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Decodes the character at text[0..n), n >= 1. Returns its length 1..4 and sets *scalar; 0 if the
 * bytes are no character (nor the beginning of one); -1 if they are a beginning cut off by n. */
int utf8_decode(const uint8_t *text, size_t n, uint32_t *scalar);

/* Writes 1..4 bytes and returns how many. scalar must be a Unicode scalar value. */
int utf8_encode(uint32_t scalar, uint8_t out[4]);

/* Offset of the first byte that is not part of valid UTF-8, or n. */
size_t utf8_valid(const uint8_t *text, size_t n);

#endif
