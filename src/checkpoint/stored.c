/* SPDX-License-Identifier: MIT */
/* stored.c: what readers of quantized matrices share. */
#include "checkpoint/stored.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/size.h"
#include "checkpoint/float_formats.h"
#include "checkpoint/integer_formats.h"

int stored_take(const struct stored *s, struct matrix *out, bool *taken, struct llama3_error *err)
{
    static stored_reader *const readers[] = {bitsandbytes_take, float8_take, float4_take,
                                             gptq_take,         awq_take,    compressed_take};
    *taken = false;
    for (size_t i = 0; i < sizeof readers / sizeof *readers && !*taken; i++)
        if (readers[i](s, out, taken, err) != 0)
            return -1;
    return 0;
}

int stored_ignore(struct model *model, const struct tensor_table *table, const char *where,
                  struct llama3_error *err)
{
    static const char *const ends[] = {".input_scale", ".input_scale_ub", ".input_global_scale",
                                       ".k_scale", ".v_scale"};
    size_t n = 0;
    for (size_t i = 0; i < table->n; i++)
        for (size_t j = 0; j < sizeof ends / sizeof *ends; j++) {
            struct file_tensor *tensor = &table->tensors[i];
            size_t length = strlen(tensor->name), end = strlen(ends[j]);
            if (length < end || strcmp(tensor->name + length - end, ends[j]) != 0)
                continue;
            tensor->used = tensor->part = true;
            n++;
        }
    return n == 0 ? 0
                  : model_note(model, where, err,
                               "%zu scales of activations, keys or values are not used, as these "
                               "have more bits here",
                               n);
}

void *stored_alloc(const struct stored *s, size_t size, struct llama3_error *err)
{
    struct model *model = s->model;
    void *memory = size_alloc_for(1, size, s->stem, err);
    if (memory == NULL)
        return NULL;
    size_t bytes = (model->n_parts + 1) * sizeof *model->parts;
    void **moved = realloc(model->parts, bytes);
    if (moved == NULL) {
        free(memory);
        error_memory(err, s->stem, bytes);
        return NULL;
    }
    model->parts = moved;
    model->parts[model->n_parts++] = memory;
    return memory;
}

const char *stored_name(const struct stored *s, const char *suffix, char name[STORED_NAME])
{
    snprintf(name, STORED_NAME, "%.100s: tensor %.100s%s", s->where, s->stem, suffix);
    return name;
}

struct file_tensor *stored_find(const struct stored *s, const char *suffix)
{
    char name[STORED_NAME];
    snprintf(name, sizeof name, "%s%s", s->stem, suffix);
    return tensor_table_find(s->table, name);
}

int stored_error(const struct stored *s, const char *suffix, struct llama3_error *err,
                 const char *expected, const char *found)
{
    char name[STORED_NAME];
    return error_input(err, "%s: expected %s, found %s", stored_name(s, suffix, name), expected,
                       found);
}

/* Whether the shapes are the same without dimensions of 1. */
static bool has_shape(const struct file_tensor *tensor, const uint64_t *shape, size_t n_dims)
{
    size_t at = 0;
    for (size_t i = 0; i < tensor->n_dims; i++) {
        while (at < n_dims && shape[at] == 1)
            at++;
        if (tensor->dims[i] == 1)
            continue;
        if (at == n_dims || tensor->dims[i] != shape[at])
            return false;
        at++;
    }
    while (at < n_dims && shape[at] == 1)
        at++;
    return at == n_dims;
}

struct file_tensor *stored_expect(const struct stored *s, const char *suffix, const char *type,
                                  const uint64_t *shape, size_t n_dims, struct llama3_error *err)
{
    struct file_tensor *tensor = stored_find(s, suffix);
    char expected[96];
    if (tensor == NULL) {
        stored_error(s, suffix, err, "it beside the other tensors of a quantized matrix", "none");
        return NULL;
    }
    if (type != NULL && strcmp(tensor->stored, type) != 0) {
        stored_error(s, suffix, err, type, tensor->stored);
        return NULL;
    }
    if (shape != NULL ? !has_shape(tensor, shape, n_dims) : tensor->n_dims > n_dims) {
        char found[128];
        tensor_shape_text(tensor->dims, tensor->n_dims, found, sizeof found);
        if (shape != NULL)
            tensor_shape_text(shape, n_dims, expected, sizeof expected);
        else
            snprintf(expected, sizeof expected, "at most %zu dimensions", n_dims);
        stored_error(s, suffix, err, expected, found);
        return NULL;
    }
    tensor->used = tensor->part = true;
    return tensor;
}

int stored_floats(const struct stored *s, const struct file_tensor *tensor, const char *suffix,
                  struct numbers *numbers, struct llama3_error *err)
{
    numbers->data = tensor->data;
    numbers->bytes = tensor->bytes;
    switch (tensor->type) {
    case DTYPE_F32:
        numbers->type = NUMBER_F32;
        return 0;
    case DTYPE_F16:
        numbers->type = NUMBER_F16;
        return 0;
    case DTYPE_BF16:
        numbers->type = NUMBER_BF16;
        return 0;
    default:
        return stored_error(s, suffix, err, "F32, F16 or BF16", tensor->stored);
    }
}
