/* SPDX-License-Identifier: MIT */
/*
 * tensor_write.h: what the writers of files have in common (packed.h, gguf_write.h): the tensors,
 * what each becomes, and their data. All sizes follow from the shapes, so a header can come first.
 */
#ifndef CHECKPOINT_TENSOR_WRITE_H
#define CHECKPOINT_TENSOR_WRITE_H

#include "base/new_file.h"
#include "checkpoint/tensors.h"

/* Rows [first, first + n) of a tensor as `target` has them, into out: matrix_bytes() of n rows,
 * 64-byte aligned. first is a multiple of STRIP, and so is n unless the matrix ends. Norms are f32.
 * -1 with err filled ends the writing. */
typedef int tensor_fill(void *arg, const struct tensor *tensor, const struct matrix *target,
                        size_t first, size_t n, void *out, struct llama3_error *err);

/* Of a file that goes on (base/partial.h), such rows of an earlier run. -1 ends the writing. */
typedef int tensor_again(void *arg, const struct tensor *tensor, const struct matrix *target,
                         size_t first, size_t n, const void *rows, struct llama3_error *err);

/* All of a tensor is in the file, made or found there. -1 ends the writing. */
typedef int tensor_done(void *arg, const struct tensor *tensor, struct llama3_error *err);

/* What a tensor becomes: another type of the same shape; data is not looked at.
 * Norms, which become f32, are not asked for. */
typedef struct matrix tensor_target(void *arg, const struct tensor *tensor);

struct tensor_source {
    const struct model *model;
    tensor_target *target; /* NULL: every tensor stays as it is */
    tensor_fill *fill;     /* NULL likewise */
    tensor_again *again;   /* NULL: nobody wants to see them */
    tensor_done *done;     /* NULL likewise */
    void *arg;
};

/* A tensor of a file: bytes in memory, or one of the model's tensors. */
struct tensor_entry {
    char name[TENSOR_NAME_SIZE];
    const char *type; /* as safetensors calls it */
    size_t n_dims;
    uint64_t dims[2];
    uint64_t bytes;
    const void *data;     /* NULL: one of the model */
    struct tensor tensor; /* what it is made of */
    struct matrix target; /* what it becomes */
};

/* What a tensor becomes, as the source says. */
struct matrix tensor_target_of(const struct tensor_source *source, const struct tensor *tensor);

/* Bytes to the next multiple of an alignment, a power of two of at most TENSOR_ALIGNMENT. */
enum { TENSOR_ALIGNMENT = 4096 };
size_t tensor_padding(uint64_t bytes, size_t alignment);

/* Writes the data of all tensors, each padded with zeros. */
int tensor_write_all(struct new_file *file, const struct tensor_source *source,
                     const struct tensor_entry *entries, size_t n, size_t alignment,
                     struct llama3_error *err);

#endif
