/* SPDX-License-Identifier: MIT */
#include "checkpoint/tensor_write.h"

#include <stdlib.h>

#include "base/size.h"

enum { CHUNK = 4 << 20 }; /* about as many bytes of a matrix are made at a time */

struct matrix tensor_target_of(const struct tensor_source *source, const struct tensor *tensor)
{
    struct matrix target = *tensor->matrix;
    if (tensor_is_norm(tensor->kind))
        target.type = DTYPE_F32;
    else if (source->target != NULL)
        target = source->target(source->arg, tensor);
    return target;
}

size_t tensor_padding(uint64_t bytes, size_t alignment)
{
    return (size_t)(-bytes % alignment);
}

static int fill(const struct tensor_source *source, const struct tensor_entry *e, size_t first,
                size_t n, void *out, struct llama3_error *err)
{
    if (source->fill != NULL)
        return source->fill(source->arg, &e->tensor, &e->target, first, n, out, err);
    if (tensor_is_norm(e->tensor.kind)) {
        matrix_row(e->tensor.matrix, 0, out);
        return 0;
    }
    matrix_copy_rows(e->tensor.matrix, first, n, out);
    return 0;
}

/* Rows that an earlier run made. */
static int again(const struct new_file *file, const struct tensor_source *source,
                 const struct tensor_entry *e, size_t first, size_t n, void *out, size_t bytes,
                 struct llama3_error *err)
{
    if (source->again == NULL)
        return 0;
    return new_file_read(file, out, bytes, err) != 0
               ? -1
               : source->again(source->arg, &e->tensor, &e->target, first, n, out, err);
}

static int write_tensor(struct new_file *file, const struct tensor_source *source,
                        const struct tensor_entry *e, struct llama3_error *err)
{
    struct matrix some = e->target;
    some.rows = STRIP;
    size_t strips = CHUNK / matrix_bytes(&some);
    size_t step = (strips > 0 ? strips : 1) * STRIP;
    step = step < e->target.rows ? step : e->target.rows;
    some.rows = step;
    void *out = size_alloc_aligned(1, matrix_bytes(&some));
    if (out == NULL)
        return error_memory(err, e->name, matrix_bytes(&some));
    int result = 0;
    for (size_t first = 0; first < e->target.rows && result == 0; first += step) {
        size_t left = e->target.rows - first;
        some.rows = left < step ? left : step;
        size_t bytes = matrix_bytes(&some);
        result = new_file_keeps(file, bytes)
                     ? again(file, source, e, first, some.rows, out, bytes, err)
                     : fill(source, e, first, some.rows, out, err);
        if (result == 0)
            result = new_file_write(file, out, bytes, err);
    }
    free(out);
    return result;
}

int tensor_write_all(struct new_file *file, const struct tensor_source *source,
                     const struct tensor_entry *entries, size_t n, size_t alignment,
                     struct llama3_error *err)
{
    static const char zeros[TENSOR_ALIGNMENT];
    for (size_t i = 0; i < n; i++) {
        const struct tensor_entry *e = &entries[i];
        if ((e->data != NULL ? new_file_write(file, e->data, (size_t)e->bytes, err)
                             : write_tensor(file, source, e, err)) != 0 ||
            new_file_write(file, zeros, tensor_padding(e->bytes, alignment), err) != 0)
            return -1;
        if (e->data == NULL && source->done != NULL &&
            source->done(source->arg, &e->tensor, err) != 0)
            return -1;
    }
    return 0;
}
