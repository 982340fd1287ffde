/* SPDX-License-Identifier: MIT */
/* limit_loops.h: the loops that limits.c times, a table for each instruction set. */
#ifndef BACKEND_CPU_LIMIT_LOOPS_H
#define BACKEND_CPU_LIMIT_LOOPS_H

#include <stddef.h>
#include <stdint.h>

enum { READ_LOOPS = 4 };

struct limit_loops {
    const char *name; /* of the table of kernels */
    /* Multiply-adds in registers, n times round; what they return keeps them from being dropped. */
    uint32_t (*int8)(size_t n), (*bf16)(size_t n), (*f32)(size_t n);
    size_t int8_macs, bf16_macs, f32_macs; /* of one round; bf16: NULL and 0 if there is none */
    uint32_t (*read[READ_LOOPS])(const uint8_t *data, size_t n); /* n: a multiple of READ_UNIT */
};

enum { READ_UNIT = 4096 };

extern const struct limit_loops limit_loops_scalar, limit_loops_avx2, limit_loops_avxvnni,
    limit_loops_avx512vl, limit_loops_avx512, limit_loops_avx512bf16, limit_loops_neon,
    limit_loops_dotprod;

#endif
