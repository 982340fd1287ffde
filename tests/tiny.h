/* SPDX-License-Identifier: MIT */
/*
 * tiny.h: the smallest checkpoints there can be, written by the test itself, so that every field of
 * theirs can be changed: a Hugging Face directory and a GGUF file of one layer and eight tokens.
 */
#ifndef TESTS_TINY_H
#define TESTS_TINY_H

#include "base/buf.h"
#include "checkpoint/gguf.h"

/* The JSON files. */
extern const char tiny_config[], tiny_generation[], tiny_tokenizer[], tiny_tokenizer_config[];

/* A fresh directory, "" free: tiny_remove() deletes it with all files in it. */
char *tiny_folder(void);
void tiny_remove(char *folder);
void tiny_put(const char *folder, const char *name, const void *data, size_t size);
void tiny_put_text(const char *folder, const char *name, const char *text);

/* text with the first `old` (it must be there) replaced, for free(). */
char *tiny_replace(const char *text, const char *old, const char *new);

/* The header of model.safetensors, and the file of a header and n bytes of data. */
void tiny_header(struct buf *out, size_t *data_size);
void tiny_safetensors(struct buf *out, const char *header, size_t length, size_t data_size);
/* A whole directory. */
void tiny_hf(const char *folder);

/* Our own file of what a path opens, with int4 matrices in its layers and an int8 head or
 * embedding, all of scale 1 and a few codes, in each variant of group.h: for readers, not for the
 * engine. */
void tiny_packed(const char *source, const char *path);

/* ---- GGUF ------------------------------------------------------------------------------------ */

struct tiny_kv {
    const char *key;
    enum gguf_type type, item;
    double number;
    const char *text; /* a string; items of an array, a line each */
};

struct tiny_tensor {
    const char *name;
    uint32_t type, n_dims;
    uint64_t dims[4]; /* ggml's order */
};

struct tiny_gguf {
    uint32_t version;
    struct tiny_kv kvs[40];
    size_t n_kvs;
    struct tiny_tensor tensors[20];
    size_t n_tensors;
};

/* Where numbers stand that say how to read what follows. */
struct tiny_fields {
    struct {
        size_t offset, size;
    } at[600];
    size_t n;
};

void tiny_gguf_default(struct tiny_gguf *gguf);
struct tiny_kv *tiny_gguf_kv(struct tiny_gguf *gguf, const char *key); /* there, or new */
void tiny_gguf_drop(struct tiny_gguf *gguf, const char *key);
void tiny_gguf_write(const struct tiny_gguf *gguf, struct buf *out, struct tiny_fields *fields);

#endif
