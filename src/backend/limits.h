/*
 * limits.h: what this machine can give at most, measured: the speed that results of llama3-bench
 * are a fraction of. The instructions are those of the kernels that $LLAMA3_CPU chooses.
 */
#ifndef BACKEND_LIMITS_H
#define BACKEND_LIMITS_H

#include "base/error.h"

/* 10^9 bytes or multiply-adds a second, of all threads together. */
struct limits {
    double read_gbs;   /* a plain read of memory, by the best of several loops */
    double int8_gmacs; /* products of bytes summed up in int32 */
    double bf16_gmacs; /* of bf16 summed up in f32, or f32's rate where that is higher */
    double f32_gmacs;
};

struct limits_meter;

/* Takes memory much larger than the caches, where there is that much: see limits_memory(). */
struct limits_meter *limits_open(int threads, struct llama3_error *err);
void limits_close(struct limits_meter *meter);

/* Bytes that a meter reads. */
size_t limits_memory(void);

/* One round, half a second long. What else runs on the machine shows: take the median of several
 * rounds, between those of what is measured beside. */
void limits_measure(struct limits_meter *meter, struct limits *limits);

#endif
