/*
 * quant: number formats of weights - what a row of them is, byte for byte, and how it becomes f32.
 *
 * dtype.h: the types a checkpoint may hold. The blocks of GGUF's types are specified by ggml's
 * gguf documentation (ggml/docs/gguf.md) and ggml-common.h; ours are spelled out in dtype.c.
 */
#ifndef QUANT_DTYPE_H
#define QUANT_DTYPE_H

#include <stddef.h>
#include <stdint.h>

enum dtype {
    DTYPE_F32,
    DTYPE_F16,
    DTYPE_BF16,
    DTYPE_Q4_0,
    DTYPE_Q4_1,
    DTYPE_Q5_0,
    DTYPE_Q5_1,
    DTYPE_Q8_0,
    DTYPE_Q4_K,
    DTYPE_Q5_K,
    DTYPE_Q6_K,
    DTYPE_IQ4_NL,
    DTYPE_ROWS, /* the types before are stored row by row, the others in strips: group.h */
    DTYPE_INT4 = DTYPE_ROWS,
    DTYPE_INT8,
    DTYPE_COUNT
};

struct dtype_info {
    const char *name; /* "q4_1" */
    size_t block;     /* weights per block; columns must be a multiple of it */
    size_t block_bytes;
};

const struct dtype_info *dtype_info(enum dtype type);

/* Bytes of a row. cols must be a multiple of the block, and small enough (the checkpoint readers
 * see to both). Types before DTYPE_ROWS. */
size_t dtype_row_bytes(enum dtype type, size_t cols);

/* Expands n weights (a multiple of the block) to f32: the scalar definition of every type before
 * DTYPE_ROWS. */
void dtype_expand(enum dtype type, const void *blocks, float *out /* [n] */, size_t n);

/* Scale and min of run j of a block of q4_k or q5_k: 6 bits each, the last four runs' upper two
 * bits beside the first's. */
void scale_min_k(const uint8_t packed[12], int j, int *scale, int *min);

float f16_to_f32(uint16_t half);
uint16_t f32_to_f16(float value); /* nearest, ties to even; overflow to infinity */
float bf16_to_f32(uint16_t value);

#endif
