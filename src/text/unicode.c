/* SPDX-License-Identifier: MIT */
#include "text/unicode.h"

/* The last run that begins at or before a key, by a branchless binary search. */
static uint32_t run_of(const uint32_t *run, size_t n, uint32_t key)
{
    while (n > 1) {
        size_t half = n / 2;
        run += run[half] <= key ? half : 0;
        n -= half;
    }
    return *run;
}

enum unicode_class unicode_class(uint32_t scalar)
{
    if (scalar < 128)
        return (enum unicode_class)unicode_ascii[scalar];
    return (enum unicode_class)(run_of(unicode_runs, n_unicode_runs, scalar << 3 | 7) & 7);
}

enum unicode_detail unicode_detail(uint32_t scalar)
{
    return (enum unicode_detail)(run_of(unicode_details, n_unicode_details, scalar << 4 | 15) & 7);
}

bool unicode_is_word(uint32_t scalar)
{
    return (run_of(unicode_details, n_unicode_details, scalar << 4 | 15) & 8) != 0;
}
