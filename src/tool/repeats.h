/* SPDX-License-Identifier: MIT */
/*
 * repeats.h: notices that an answer says the same passage over and over, as small models do until
 * nothing but --max-tokens ends them.
 *
 * It goes by the text's bytes, so neither temperature nor tokens matter, and it is for loops alone:
 * prose that stands at least 6 times in a row, without a byte between, and makes up 1200 bytes or
 * more; or anything, if it stands 200 times in a row and makes up 2000. Prose is a passage with at
 * least 4 words between blanks, or 12 letters of a script without blanks. So rows of tables,
 * matrices, rulers and drawings are none, and songs and code don't get that far.
 */
#ifndef TOOL_REPEATS_H
#define TOOL_REPEATS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { REPEATS_LONGEST = 2048 }; /* bytes of a passage */

struct repeats {
    /* How many of the last bytes are each the one `period` bytes before; index period - 1. */
    uint32_t runs[REPEATS_LONGEST];
    char last[REPEATS_LONGEST]; /* the last bytes, byte i at i % REPEATS_LONGEST */
    size_t n;                   /* bytes so far */
};

/* Adds text to a zeroed or used *repeats. Returns how many bytes the passage has that repeats, 0
 * while none does. */
size_t repeats_add(struct repeats *repeats, const char *text, size_t n);

#endif
