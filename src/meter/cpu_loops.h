/* SPDX-License-Identifier: MIT */
/* cpu_loops.h: the loops that cpu.c times, a table for each instruction set. */
#ifndef METER_CPU_LOOPS_H
#define METER_CPU_LOOPS_H

#include <stddef.h>
#include <stdint.h>

enum { READ_LOOPS = 4 };

struct cpu_loops {
    const char *name; /* of the table of kernels */
    /* Multiply-adds in registers, n times round; what they return keeps them from being dropped. */
    uint32_t (*int8)(size_t n), (*bf16)(size_t n), (*f32)(size_t n);
    size_t int8_macs, bf16_macs, f32_macs; /* of one round; bf16: NULL and 0 if there is none */
    uint32_t (*read[READ_LOOPS])(const uint8_t *data, size_t n); /* n: a multiple of READ_UNIT */
};

enum { READ_UNIT = 4096 };

extern const struct cpu_loops cpu_loops_scalar, cpu_loops_avx2, cpu_loops_avxvnni,
    cpu_loops_avx512vl, cpu_loops_avx512, cpu_loops_avx512bf16, cpu_loops_neon, cpu_loops_dotprod;

#endif
