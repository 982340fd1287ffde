/* SPDX-License-Identifier: MIT */
/* gguf_blocks.h: where the scales of GGUF's blocks are, so that random blocks can have sane ones.
 */
#ifndef TESTS_GGUF_BLOCKS_H
#define TESTS_GGUF_BLOCKS_H

#include <string.h>

#include "quant/dtype.h"

/* The last bytes of a block's floats; 0: there is none. The second highest bit of such a byte, when
 * it is clear, makes an f16 finite. */
static inline void block_float_ends(enum dtype type, size_t ends[2])
{
    static const uint8_t firsts[DTYPE_ROWS] = {
        [DTYPE_F16] = 1,    [DTYPE_Q4_0] = 1,   [DTYPE_Q4_1] = 1,    [DTYPE_Q5_0] = 1,
        [DTYPE_Q5_1] = 1,   [DTYPE_Q8_0] = 1,   [DTYPE_Q4_K] = 1,    [DTYPE_Q5_K] = 1,
        [DTYPE_Q6_K] = 209, [DTYPE_IQ4_NL] = 1, [DTYPE_Q2_K] = 81,   [DTYPE_Q3_K] = 109,
        [DTYPE_Q8_K] = 3,   [DTYPE_IQ4_XS] = 1, [DTYPE_IQ3_S] = 1,   [DTYPE_IQ3_XXS] = 1,
        [DTYPE_IQ2_S] = 1,  [DTYPE_IQ2_XS] = 1, [DTYPE_IQ2_XXS] = 1, [DTYPE_IQ1_S] = 1,
        [DTYPE_IQ1_M] = 55, [DTYPE_TQ1_0] = 53, [DTYPE_TQ2_0] = 65,
    };
    ends[0] = firsts[type];
    ends[1] = type == DTYPE_Q2_K ? 83
              : type == DTYPE_Q4_1 || type == DTYPE_Q5_1 || type == DTYPE_Q4_K || type == DTYPE_Q5_K
                  ? 3
                  : 0;
}

/* Sets the f16 fields. What other types have becomes about as large as d. */
static inline void block_set_scales(enum dtype type, uint8_t *block, uint16_t d, uint16_t second)
{
    const float wide = f16_to_f32(d);
    size_t ends[2];
    block_float_ends(type, ends);
    if (type == DTYPE_Q8_K) {
        memcpy(block, &wide, sizeof wide);
    } else if (type == DTYPE_IQ1_M) {
        for (size_t i = 0; i < 4; i++)
            block[49 + 2 * i] = (uint8_t)((block[49 + 2 * i] & 15) | (d >> i * 4 & 15) << 4);
    } else if (type == DTYPE_GGUF_MXFP4) {
        block[0] = (uint8_t)(f32_bits(wide) >> 23);
    } else if (type == DTYPE_GGUF_NVFP4) {
        for (size_t i = 0; i < 4; i++)
            block[i] = 40 + block[i] % 16;
    } else {
        memcpy(block + ends[0] - 1, &d, sizeof d);
        if (ends[1] != 0)
            memcpy(block + ends[1] - 1, &second, sizeof second);
    }
}

#endif
