/* SPDX-License-Identifier: MIT */
/* ranges.h: which bytes of a file are there: intervals in order that don't touch. */
#ifndef HUB_RANGES_H
#define HUB_RANGES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* More than connections ever leave: pieces are fetched in order. */
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
/* Takes bytes [begin, end) away. False, with nothing changed, if there would be too many. */
bool ranges_remove(struct ranges *ranges, uint64_t begin, uint64_t end);

/* The first bytes of [from, end) that are not there, *until where the next ones are; end if none
 * are missing. */
uint64_t ranges_gap(const struct ranges *ranges, uint64_t from, uint64_t end, uint64_t *until);

bool ranges_have(const struct ranges *ranges, uint64_t begin, uint64_t end);
/* How many bytes are there in all. */
uint64_t ranges_bytes(const struct ranges *ranges);
/* Whether they are in order, don't touch, and lie inside [0, size): what was read from a file. */
bool ranges_valid(const struct ranges *ranges, uint64_t size);

#endif
