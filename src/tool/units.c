/* SPDX-License-Identifier: MIT */
#include "tool/units.h"

#include <stdio.h>

const char *unit_bytes(char out[UNIT_SIZE], uint64_t bytes)
{
    static const char *const units[] = {"bytes", "KiB", "MiB", "GiB", "TiB"};
    double value = (double)bytes;
    size_t unit = 0;
    while (value >= 1000 && unit < 4) {
        value /= 1024;
        unit++;
    }
    snprintf(out, UNIT_SIZE, "%.*f %s",
             unit == 0 || value >= 100 ? 0
             : value >= 10             ? 1
                                       : 2,
             value, units[unit]);
    return out;
}

const char *unit_count(char out[UNIT_SIZE], uint64_t count)
{
    double value = (double)count;
    if (value >= 1e9)
        snprintf(out, UNIT_SIZE, "%.2f billion", value / 1e9);
    else if (value >= 1e6)
        snprintf(out, UNIT_SIZE, "%.1f million", value / 1e6);
    else
        snprintf(out, UNIT_SIZE, "%llu", (unsigned long long)count);
    return out;
}
