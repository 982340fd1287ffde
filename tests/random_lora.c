/* SPDX-License-Identifier: MIT */
#include "random_lora.h"

#include <check.h>
#include <stdlib.h>

struct lora random_lora(const struct model *model, size_t rank)
{
    struct lora lora = {.scale = 1, .n_layers = model->config.n_layers, .rank = rank};
    uint32_t seed = 1;
    lora.pairs = calloc((lora.n_layers + 1) * TENSOR_KINDS, sizeof *lora.pairs);
    ck_assert_ptr_nonnull(lora.pairs);
    for (size_t i = 0; i < tensor_count(model); i++) {
        const struct tensor t = tensor_at(model, i);
        struct lora_pair *pair =
            tensor_is_layers(t.kind) ? lora_pair(&lora, t.kind, t.layer) : NULL;
        if (pair == NULL)
            continue;
        size_t rows = t.matrix->rows, cols = t.matrix->cols, n = rank * (rows + cols);
        pair->memory = malloc(n * sizeof *pair->memory);
        ck_assert_ptr_nonnull(pair->memory);
        for (size_t k = 0; k < n; k++) {
            seed = seed * 1664525 + 1013904223;
            pair->memory[k] = ((float)(seed >> 8) * 0x1p-24f - 0.5f) / 10;
        }
        pair->a =
            (struct matrix){.type = DTYPE_F32, .rows = rank, .cols = cols, .data = pair->memory};
        pair->b = (struct matrix){
            .type = DTYPE_F32, .rows = rank, .cols = rows, .data = pair->memory + rank * cols};
    }
    return lora;
}
