/* SPDX-License-Identifier: MIT */
/* ranges.h: a set of bytes of a file, as sorted intervals that don't touch. */
#ifndef HUB_RANGES_H
#define HUB_RANGES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Pieces are fetched in order, so that there are few gaps. */
enum { MAX_RANGES = 200 };

struct range {
    uint64_t begin, end;
};

struct ranges {
    uint32_t n;
    struct range list[MAX_RANGES]; /* [n] */
};

/* Adds bytes [begin, end). False, with nothing changed, if there would be too many intervals. */
bool ranges_add(struct ranges *ranges, uint64_t begin, uint64_t end);
/* Removes bytes [begin, end). False, with nothing changed, if there would be too many intervals. */
bool ranges_remove(struct ranges *ranges, uint64_t begin, uint64_t end);

/* The first gap in [from, end): returns where it begins and sets *until to its end. Returns end if
 * there is no gap. */
uint64_t ranges_gap(const struct ranges *ranges, uint64_t from, uint64_t end, uint64_t *until);

bool ranges_have(const struct ranges *ranges, uint64_t begin, uint64_t end);
/* The number of bytes in the set. */
uint64_t ranges_bytes(const struct ranges *ranges);
/* Whether ranges that were read from a file are sorted, don't touch, and lie inside [0, size). */
bool ranges_valid(const struct ranges *ranges, uint64_t size);

#endif
