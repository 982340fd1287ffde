/* SPDX-License-Identifier: MIT */
/*
 * checksum.h: a sum over many bytes at about the speed of memory, by which damage is found. Whoever
 * changes bytes on purpose can keep the sum: it is no digest.
 */
#ifndef BASE_CHECKSUM_H
#define BASE_CHECKSUM_H

#include <stddef.h>
#include <stdint.h>

enum { CHECKSUM_LANES = 8 };

/* Begin with zeros. A change of one word always changes its lane, and no other lane. */
struct checksum {
    uint64_t lanes[CHECKSUM_LANES];
};

/* Adds n bytes, a multiple of 64 in every call but the last. On a big-endian machine the sum is
 * another one. */
void checksum_add(struct checksum *sum, const void *bytes, size_t n);

#endif
