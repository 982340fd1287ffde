/* SPDX-License-Identifier: MIT */
/*
 * limits.h: what a backend's machine can give at most, measured: the speed that results of
 * llama3-bench are a fraction of. On a CPU the instructions are those of the kernels that
 * $LLAMA3_CPU chooses, and memory is the host's; on a device both are the device's own.
 */
#ifndef BACKEND_LIMITS_H
#define BACKEND_LIMITS_H

#include "backend/backend.h"

/* 10^9 bytes or multiply-adds a second, of all threads together. */
struct limits {
    double read_gbs;   /* a plain read of memory, by the best of several loops */
    double int8_gmacs; /* products of bytes summed up in int32 */
    double bf16_gmacs; /* of bf16 summed up in f32, or f32's rate where that is higher */
    double f32_gmacs;
};

struct limits_meter; /* each backend's own */

struct limits_ops {
    /* Takes memory much larger than the caches, where there is that much: */
    struct limits_meter *(*open)(const struct backend_options *options, struct llama3_error *err);
    uint64_t (*memory)(void); /* so many bytes */
    /* One round, half a second long. What else runs on the machine shows: take the median of
     * several rounds, between those of what is measured beside. */
    int (*measure)(struct limits_meter *meter, struct limits *limits, struct llama3_error *err);
    void (*close)(struct limits_meter *meter);
};

#endif
