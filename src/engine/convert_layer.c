/* SPDX-License-Identifier: MIT */
#include "engine/convert_layer.h"

#include <stdlib.h>
#include <string.h>

#include "base/size.h"

static const struct {
    enum tensor_kind kind;
    enum layer_input input;
} linears[] = {
    {TENSOR_Q, INPUT_QKV},     {TENSOR_K, INPUT_QKV},        {TENSOR_V, INPUT_QKV},
    {TENSOR_O, INPUT_OUT},     {TENSOR_GATE, INPUT_GATE_UP}, {TENSOR_UP, INPUT_GATE_UP},
    {TENSOR_DOWN, INPUT_DOWN},
};
enum { N_LINEARS = sizeof linears / sizeof *linears };

/* The input that a linear reads; INPUT_COUNT for norms. */
static enum layer_input input_of(enum tensor_kind kind)
{
    for (size_t i = 0; i < N_LINEARS; i++)
        if (linears[i].kind == kind)
            return linears[i].input;
    return INPUT_COUNT;
}

/* Whether it is the first of those that read its input. */
static bool reads_first(enum tensor_kind kind)
{
    return kind == TENSOR_Q || kind == TENSOR_O || kind == TENSOR_GATE || kind == TENSOR_DOWN;
}

static void drop(struct convert_layer *c)
{
    for (int kind = TENSOR_ATTN_NORM; kind <= TENSOR_DOWN; kind++)
        free((void *)(uintptr_t)layer_matrix(&c->layer, (enum tensor_kind)kind)->data);
    c->layer = (struct layer){0};
    c->whole = false;
}

/* Where a layer begins, takes the text through the one before. */
static int begin(struct convert_layer *c, const struct tensor *tensor, size_t first,
                 struct llama3_error *err)
{
    if (tensor->kind != TENSOR_ATTN_NORM || first > 0 || !c->whole)
        return 0;
    if (calibration_advance(c->calibration, &c->layer, err) != 0)
        return -1;
    drop(c);
    return 0;
}

int convert_layer_before(struct convert_layer *c, const struct tensor *tensor, size_t first,
                         struct quantize_options *options, struct llama3_error *err)
{
    enum layer_input input = input_of(tensor->kind);
    if (c->calibration == NULL || !tensor_is_layers(tensor->kind))
        return 0;
    if (begin(c, tensor, first, err) != 0)
        return -1;
    if (input == INPUT_COUNT)
        return 0;
    if (first == 0 && reads_first(tensor->kind) &&
        calibration_measure(c->calibration, &c->layer, input, err) != 0)
        return -1;
    calibration_options(c->calibration, options);
    return 0;
}

int convert_layer_after(struct convert_layer *c, const struct tensor *tensor,
                        const struct matrix *target, size_t first, size_t n, const void *rows,
                        struct llama3_error *err)
{
    if (c->calibration == NULL || !tensor_is_layers(tensor->kind))
        return 0;
    if (begin(c, tensor, first, err) != 0)
        return -1;
    struct matrix *kept = layer_matrix(&c->layer, tensor->kind);
    if (kept->data == NULL) {
        *kept = *target;
        kept->data = size_alloc_aligned(1, matrix_bytes(target));
        if (kept->data == NULL)
            return error_memory(err, "a layer", matrix_bytes(target));
    }
    size_t bytes;
    uint8_t *out = (uint8_t *)(uintptr_t)matrix_rows(kept, first, n, &bytes);
    memcpy(out, rows, bytes);
    c->whole = tensor->kind == TENSOR_DOWN && first + n == kept->rows;
    return 0;
}

void convert_layer_free(struct convert_layer *c)
{
    drop(c);
    calibration_close(c->calibration);
    c->calibration = NULL;
}
