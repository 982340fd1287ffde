/* SPDX-License-Identifier: MIT */
/*
 * stored.h: matrices of safetensors that are several tensors each, as libraries of quantization
 * write them. A reader for each format makes a struct parts of them, and checks that all that it
 * points to is inside of the tensors.
 */
#ifndef CHECKPOINT_STORED_H
#define CHECKPOINT_STORED_H

#include "checkpoint/assemble.h"

/* A matrix that is to be read. */
struct stored {
    struct model *model;
    const struct tensor_table *table;
    const char *stem; /* of its tensors' names: "model.layers.0.mlp.up_proj" */
    size_t rows, cols;
    const char *where;
};

/* Fills *out, and sets *taken, if the tensors are of its formats. */
typedef int stored_reader(const struct stored *s, struct matrix *out, bool *taken,
                          struct llama3_error *err);

/* Tries all readers. */
stored_reader stored_take;

/* Scales of activations, keys and values count as used; a note says that they aren't. */
int stored_ignore(struct model *model, const struct tensor_table *table, const char *where,
                  struct llama3_error *err);

/* ---- for readers ------------------------------------------------------------------------- */

/* Zeroed; the model's. */
void *stored_alloc(const struct stored *s, size_t size, struct llama3_error *err);

enum { STORED_NAME = 256 };
/* The name of one of its tensors, and where it is; for errors. */
const char *stored_name(const struct stored *s, const char *suffix, char name[STORED_NAME]);
/* NULL if there is none. */
struct file_tensor *stored_find(const struct stored *s, const char *suffix);
/* Of a type as safetensors calls it (NULL: any) and a shape, which may have more dimensions of 1
 * (NULL: any of at most n_dims). It counts as used then. */
struct file_tensor *stored_expect(const struct stored *s, const char *suffix, const char *type,
                                  const uint64_t *shape, size_t n_dims, struct llama3_error *err);
int stored_error(const struct stored *s, const char *suffix, struct llama3_error *err,
                 const char *expected, const char *found);
/* The numbers of an f32, f16 or bf16 tensor: their type, data and size. */
int stored_floats(const struct stored *s, const struct file_tensor *tensor, const char *suffix,
                  struct numbers *numbers, struct llama3_error *err);

#endif
