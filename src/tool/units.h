/* SPDX-License-Identifier: MIT */
/* units.h: numbers as people read them. */
#ifndef TOOL_UNITS_H
#define TOOL_UNITS_H

#include <stdint.h>

enum { UNIT_SIZE = 32 };

/* "1.50 GiB", in the unit that leaves one to four digits before the point. Returns out. */
const char *unit_bytes(char out[UNIT_SIZE], uint64_t bytes);
/* "8.03 billion" */
const char *unit_count(char out[UNIT_SIZE], uint64_t count);

#endif
