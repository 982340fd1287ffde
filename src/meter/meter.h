/* SPDX-License-Identifier: MIT */
/*
 * meter: what a machine can give at most, measured: llama3-bench shows its results as fractions of
 * that. Only llama3-bench links it. On a CPU the instructions are those of the kernels that
 * $LLAMA3_CPU chooses, and the memory is the host's; on a device both are the device's own.
 */
#ifndef METER_METER_H
#define METER_METER_H

#include "backend/backend.h"

enum limit {
    LIMIT_READ, /* a plain read of memory, by the best of several loops */
    LIMIT_INT8, /* products of bytes summed up in int32 */
    LIMIT_BF16, /* of bf16 summed up in f32, or f32's rate where that is higher */
    LIMIT_F32,
    LIMITS
};

/* 10^9 bytes or multiply-adds a second, of all threads together. */
struct limits {
    double rates[LIMITS];
};

struct meter; /* each backend's own */

struct meter_ops {
    /* Takes memory much larger than the caches, where there is that much: */
    struct meter *(*open)(const struct backend_options *options, struct llama3_error *err);
    uint64_t (*memory)(void); /* so many bytes */
    /* One round of half a second. Other programs that run slow it down: measure several rounds,
     * between those of the test, and take the median. */
    int (*measure)(struct meter *meter, struct limits *limits, struct llama3_error *err);
    void (*close)(struct meter *meter);
};

extern const struct meter_ops cpu_meter, cuda_meter;

/* Of the machine that a backend computes on. */
const struct meter_ops *meter_of(const struct backend_ops *backend);

#endif
