/* SPDX-License-Identifier: MIT */
/*
 * gguf.h: the GGUF container, versions 2 and 3, little-endian (ggml/docs/gguf.md): keys with
 * values, and tensors. gguf_model.c knows the architecture.
 */
#ifndef CHECKPOINT_GGUF_H
#define CHECKPOINT_GGUF_H

#include "checkpoint/assemble.h"

enum gguf_type {
    GGUF_U8,
    GGUF_I8,
    GGUF_U16,
    GGUF_I16,
    GGUF_U32,
    GGUF_I32,
    GGUF_F32,
    GGUF_BOOL,
    GGUF_STRING,
    GGUF_ARRAY,
    GGUF_U64,
    GGUF_I64,
    GGUF_F64,
    GGUF_TYPE_COUNT
};

enum { GGUF_MAX_KEY = 256 }; /* bytes of a key */

struct gguf_type_info {
    const char *name; /* as errors spell it: "u32", "a string" */
    size_t size;      /* bytes of a value; for strings and arrays the minimum */
};

extern const struct gguf_type_info gguf_types[GGUF_TYPE_COUNT];

struct gguf_kv {
    const char *key; /* [key_length] in the copy of the header, as data */
    size_t key_length;
    enum gguf_type type;
    enum gguf_type item; /* of an array: no array of arrays */
    size_t n;            /* items of an array, bytes of a string, else 1 */
    const uint8_t *data; /* the value, or an array's first item; inside the header */
};

struct gguf {
    const char *path;
    uint8_t *header;     /* a copy, so that nobody can change it */
    struct gguf_kv *kvs; /* [n_kvs] by key */
    size_t n_kvs;
};

/* The architecture's names of tensors. */
extern const struct tensor_names gguf_tensor_names;
/* enum ggml_type of a type before DTYPE_ROWS. */
uint32_t gguf_tensor_type(enum dtype type);

/* Reads the header of a mapped file and adds its tensors to the table. path must stay valid. */
int gguf_parse(struct gguf *gguf, const struct map *map, const char *path,
               struct tensor_table *table, struct llama3_error *err);
void gguf_free(struct gguf *gguf);

/* NULL if there is no such key. */
const struct gguf_kv *gguf_find(const struct gguf *gguf, const char *key);

/* Like the getters of json.h: an absent key leaves *out as it was, unless it is required. Integers
 * of every width are accepted, also as numbers. */
int gguf_get_int(const struct gguf *gguf, const char *key, bool required, int64_t min, int64_t max,
                 int64_t *out, struct llama3_error *err);
int gguf_get_number(const struct gguf *gguf, const char *key, bool required, double min, double max,
                    double *out, struct llama3_error *err);
int gguf_get_bool(const struct gguf *gguf, const char *key, bool required, bool *out,
                  struct llama3_error *err);
int gguf_get_string(const struct gguf *gguf, const char *key, bool required, const char **out,
                    size_t *length, struct llama3_error *err);
/* -1 if the string is another one, or is absent and required. */
int gguf_expect_string(const struct gguf *gguf, const char *key, bool required,
                       const char *expected, struct llama3_error *err);
/* The array of that item type; NULL and err filled if it is absent or something else. */
const struct gguf_kv *gguf_get_array(const struct gguf *gguf, const char *key, enum gguf_type item,
                                     struct llama3_error *err);

/* The string at *at; *at moves to the next one of the array. */
const char *gguf_next_string(const uint8_t **at, size_t *length);
int32_t gguf_int32(const uint8_t *data, size_t index);

/* GGUF's names of tensors (gguf_model.c). */
extern const struct tensor_names gguf_tensor_names;

/* The tokenizer.* keys (gguf_vocab.c): fills vocab, template_text and eos_ids.
 * model->config.vocab_size limits the ids. */
int gguf_vocab_read(const struct gguf *gguf, struct model *model, struct llama3_error *err);

#endif
