/* SPDX-License-Identifier: MIT */
/*
 * assemble.h: makes the matrices of struct model from what a reader found: a filled struct config
 * and a table of named tensors. safetensors and GGUF share it; they differ in the tensors' names.
 * Every shape is checked, and no tensor may be left over.
 */
#ifndef CHECKPOINT_ASSEMBLE_H
#define CHECKPOINT_ASSEMBLE_H

#include "checkpoint/tensors.h"

enum { MAX_DIMS = 4 };

struct file_tensor {
    enum dtype type; /* DTYPE_COUNT: not for weights */
    size_t n_dims;
    uint64_t dims[MAX_DIMS];    /* [n_dims], outermost first (GGUF stores them innermost first) */
    struct group_format groups; /* of grouped types */
    const void *data;           /* in one of the model's maps */
    size_t bytes;
    const char *stored; /* its type as safetensors calls it: static; GGUF: NULL */
    bool used, part;    /* part: of a matrix of several */
    char *name;         /* the table's own copy */
};

struct tensor_table {
    struct file_tensor *tensors; /* [n], sorted by name once tensor_table_sort was called */
    size_t n, capacity;
};

/* Copies *tensor with its own copy of name[0..length). */
int tensor_table_add(struct tensor_table *table, const struct file_tensor *tensor, const char *name,
                     size_t length, struct llama3_error *err);
/* Call it once, after the last add; -1 if a name is there twice. where: the file or directory for
 * errors, here and below. */
int tensor_table_sort(struct tensor_table *table, const char *where, struct llama3_error *err);
/* NULL if there is none of that name. */
struct file_tensor *tensor_table_find(const struct tensor_table *table, const char *name);
void tensor_table_free(struct tensor_table *table);
/* "[576, 1536]" */
void tensor_shape_text(const uint64_t *dims, size_t n_dims, char *out, size_t size);

/* True if the name ends with one of names->ignored. */
bool tensor_ignored(const struct tensor_names *names, const char *name);

/* Fills in n_kv_heads and head_dim where they are 0, and checks what config must satisfy in every
 * format: the limits of model.h, heads that divide, an even head dimension, positive finite
 * numbers. Errors name the fields of struct config. */
int config_finish(struct config *config, const char *where, struct llama3_error *err);

/* Fills embed, norm, head, layers, parameters and dtype from the table. model->config is checked
 * before; absent_head_is_tied may set its `tied`. -1 names the tensor that is missing, has the
 * wrong shape or type, or belongs to another architecture. Mark tensors with another use
 * (rope_freqs) as used before. */
int assemble_model(struct model *model, struct tensor_table *table,
                   const struct tensor_names *names, const char *where, struct llama3_error *err);

/* The tensor rope_freqs.weight, if the table has it, into config.rope.factors. */
int assemble_rope_factors(struct model *model, struct tensor_table *table, const char *where,
                          struct llama3_error *err);

/* Maps a file until model_close(), and adds its size to file_bytes. */
int model_map(struct model *model, const char *path, struct map *map, struct llama3_error *err);
/* The same with a map; the model owns it afterwards, even on failure. */
int model_add_map(struct model *model, struct map *map, const char *path, struct llama3_error *err);

/* Copies a chat template, in the place of one of that name. One whose name is empty, long or like a
 * path is left out, and model->note says so. -1 if it is no text. */
int model_set_template(struct model *model, const char *name, size_t name_length, const char *text,
                       size_t length, const char *where, struct llama3_error *err);

/* Copies the text of a special token: key as in tokenizer_config.json. */
int model_set_special(struct model *model, const char *key, const char *text, size_t length,
                      const char *where, struct llama3_error *err);

/* Adds a sentence to the notes. -1 without memory. */
int model_note(struct model *model, const char *where, struct llama3_error *err, const char *format,
               ...) __attribute__((format(printf, 4, 5)));

/* Inserts an id below config.vocab_size into eos_ids, unless it is there. */
int model_add_eos(struct model *model, int64_t id, const char *where, struct llama3_error *err);

#endif
