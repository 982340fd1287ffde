/* SPDX-License-Identifier: MIT */
#include "text/unicode.h"

enum unicode_class unicode_class(uint32_t scalar)
{
    if (scalar < 128)
        return (enum unicode_class)unicode_ascii[scalar];

    /* Finds the last run that begins at or before the scalar, by a branchless binary search. */
    const uint32_t *run = unicode_runs;
    uint32_t key = scalar << 3 | 7;
    for (size_t n = n_unicode_runs; n > 1;) {
        size_t half = n / 2;
        run += run[half] <= key ? half : 0;
        n -= half;
    }
    return (enum unicode_class)(*run & 7);
}
