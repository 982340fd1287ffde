/* SPDX-License-Identifier: MIT */
/* dtype.c: the table of types. */
#include "quant/dtype.h"

static const struct dtype_info infos[DTYPE_COUNT] = {
    [DTYPE_F32] = {"f32", 1, 4},
    [DTYPE_F16] = {"f16", 1, 2},
    [DTYPE_BF16] = {"bf16", 1, 2},
    [DTYPE_Q4_0] = {"q4_0", 32, 18},
    [DTYPE_Q4_1] = {"q4_1", 32, 20},
    [DTYPE_Q5_0] = {"q5_0", 32, 22},
    [DTYPE_Q5_1] = {"q5_1", 32, 24},
    [DTYPE_Q8_0] = {"q8_0", 32, 34},
    [DTYPE_Q4_K] = {"q4_k", 256, 144},
    [DTYPE_Q5_K] = {"q5_k", 256, 176},
    [DTYPE_Q6_K] = {"q6_k", 256, 210},
    [DTYPE_IQ4_NL] = {"iq4_nl", 32, 18},
    [DTYPE_Q2_K] = {"q2_k", 256, 84},
    [DTYPE_Q3_K] = {"q3_k", 256, 110},
    [DTYPE_Q8_K] = {"q8_k", 256, 292},
    [DTYPE_IQ4_XS] = {"iq4_xs", 256, 136},
    [DTYPE_IQ3_S] = {"iq3_s", 256, 110},
    [DTYPE_IQ3_XXS] = {"iq3_xxs", 256, 98},
    [DTYPE_IQ2_S] = {"iq2_s", 256, 82},
    [DTYPE_IQ2_XS] = {"iq2_xs", 256, 74},
    [DTYPE_IQ2_XXS] = {"iq2_xxs", 256, 66},
    [DTYPE_IQ1_S] = {"iq1_s", 256, 50},
    [DTYPE_IQ1_M] = {"iq1_m", 256, 56},
    [DTYPE_TQ1_0] = {"tq1_0", 256, 54},
    [DTYPE_TQ2_0] = {"tq2_0", 256, 66},
    [DTYPE_GGUF_MXFP4] = {"mxfp4", 32, 17},
    [DTYPE_GGUF_NVFP4] = {"nvfp4", 64, 36},
    [DTYPE_INT4] = {"int4", 1, 0},
    [DTYPE_INT8] = {"int8", 1, 0},
    [DTYPE_GPTQ4] = {"gptq4", 1, 0},
    [DTYPE_GPTQ8] = {"gptq8", 1, 0},
    [DTYPE_AWQ] = {"awq", 1, 0},
    [DTYPE_W4] = {"w4", 1, 0},
    [DTYPE_W8] = {"w8", 1, 0},
    [DTYPE_NF4] = {"nf4", 1, 0},
    [DTYPE_FP4] = {"fp4", 1, 0},
    [DTYPE_LLM_INT8] = {"llm.int8", 1, 0},
    [DTYPE_FP8] = {"fp8", 1, 0},
    [DTYPE_MXFP4] = {"mxfp4", 1, 0},
    [DTYPE_NVFP4] = {"nvfp4", 1, 0},
};

const struct dtype_info *dtype_info(enum dtype type)
{
    return &infos[type];
}

size_t dtype_row_bytes(enum dtype type, size_t cols)
{
    return cols / infos[type].block * infos[type].block_bytes;
}
