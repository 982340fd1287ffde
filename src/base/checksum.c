/* SPDX-License-Identifier: MIT */
/* checksum.c: each 64-bit word is mixed into one of eight lanes by steps that can be undone, so
 * that eight multiplications are under way at once. */
#include "base/checksum.h"

#include <string.h>

enum { BLOCK = CHECKSUM_LANES * sizeof(uint64_t) };

static inline uint64_t mix(uint64_t lane, uint64_t word)
{
    const uint64_t odd = 0x9e3779b97f4a7c15; /* 2^64 divided by the golden ratio */
    lane = (lane ^ word) * odd;
    return (lane << 29 | lane >> 35) + odd; /* what multiplying carried upwards comes down */
}

void checksum_add(struct checksum *sum, const void *bytes, size_t n)
{
    const unsigned char *at = bytes;
    struct checksum s = *sum; /* in registers */
    for (; n >= BLOCK; at += BLOCK, n -= BLOCK) {
#pragma GCC unroll 8 /* so that lanes stay in registers */
        for (size_t i = 0; i < CHECKSUM_LANES; i++) {
            uint64_t word;
            memcpy(&word, at + i * sizeof word, sizeof word);
            s.lanes[i] = mix(s.lanes[i], word);
        }
    }
    for (size_t i = 0; n > 0; i++) {
        size_t some = n < sizeof(uint64_t) ? n : sizeof(uint64_t);
        uint64_t word = 0;
        memcpy(&word, at, some);
        s.lanes[i] = mix(s.lanes[i], word + some);
        at += some;
        n -= some;
    }
    *sum = s;
}
