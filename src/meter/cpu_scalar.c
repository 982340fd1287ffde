/* SPDX-License-Identifier: MIT */
/* cpu_scalar.c: the most that plain C gives, of what the compiler makes of loops like those of
 * kernels_scalar.c. */
#include <string.h>

#include "meter/cpu_loops.h"

enum { LANES_SUMMED = 16 };

/* Factors that the compiler knows nothing of. */
static volatile const int8_t some_byte = 37;
static volatile const float some_float = 0.7f;

static uint32_t int8(size_t n)
{
    int8_t a[LANES_SUMMED], b[LANES_SUMMED];
    uint32_t sums[LANES_SUMMED] = {0}, all = 0;
    for (int i = 0; i < LANES_SUMMED; i++)
        a[i] = b[i] = some_byte;
    while (n-- > 0) {
        __asm__ volatile("" : : "r"(a), "r"(b) : "memory");
        for (int i = 0; i < LANES_SUMMED; i++)
            sums[i] += (uint32_t)(a[i] * b[i]);
    }
    for (int i = 0; i < LANES_SUMMED; i++)
        all ^= sums[i];
    return all;
}

static uint32_t f32(size_t n)
{
    float a[LANES_SUMMED], b[LANES_SUMMED], sums[LANES_SUMMED] = {0};
    uint32_t words[LANES_SUMMED], all = 0;
    for (int i = 0; i < LANES_SUMMED; i++)
        a[i] = b[i] = some_float;
    while (n-- > 0) {
        __asm__ volatile("" : : "r"(a), "r"(b) : "memory");
        for (int i = 0; i < LANES_SUMMED; i++)
            sums[i] += a[i] * b[i];
    }
    memcpy(words, sums, sizeof words);
    for (int i = 0; i < LANES_SUMMED; i++)
        all ^= words[i];
    return all;
}

static uint32_t read_words(const uint8_t *data, size_t n)
{
    uint64_t sums[8] = {0};
    for (size_t at = 0; at < n; at += sizeof sums) {
        uint64_t words[8];
        memcpy(words, data + at, sizeof words);
        for (int i = 0; i < 8; i++)
            sums[i] ^= words[i];
    }
    for (int i = 1; i < 8; i++)
        sums[0] ^= sums[i];
    return (uint32_t)(sums[0] ^ sums[0] >> 32);
}

const struct cpu_loops cpu_loops_scalar = {
    .name = "scalar",
    .int8 = int8,
    .f32 = f32,
    .int8_macs = LANES_SUMMED,
    .f32_macs = LANES_SUMMED,
    .read = {read_words},
};
