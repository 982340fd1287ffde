/* SPDX-License-Identifier: MIT */
/*
 * lora.h: low-rank adapters (LoRA; Hu et al. 2021, arXiv:2106.09685): a matrix W of the base model
 * becomes W + scale B A, where A has few rows. Read from a folder as PEFT writes it, or from a GGUF
 * file of llama.cpp's converter; and added to weights that are floats.
 */
#ifndef CHECKPOINT_LORA_H
#define CHECKPOINT_LORA_H

#include "checkpoint/tensors.h"

enum { LORA_MAX_RANK = 4096, LORA_DIGEST = 32 };

/* What is added to one matrix: b^T a. Both f32; a.data NULL: nothing. */
struct lora_pair {
    struct matrix a; /* [rank][cols of the matrix] */
    struct matrix b; /* [rank][rows of the matrix] transposed, times alpha's scale */
    float *memory;   /* of both */
};

struct lora {
    char *path, *name;
    float scale;
    struct lora_pair *pairs; /* [n_layers + 1][TENSOR_KINDS]: the head's is in the last row */
    size_t n_layers, n_pairs, rank; /* rank: the largest */
    uint64_t parameters;
    uint8_t digest[LORA_DIGEST]; /* of types, shapes, and numbers from all over the pairs */
};

/* The pair of a matrix, which may have none; NULL for kinds that can't have one. */
struct lora_pair *lora_pair(const struct lora *lora, enum tensor_kind kind, size_t layer);

/* Frees what it holds: there is none any more. */
void lora_pair_drop(struct lora_pair *pair);

/* Reads an adapter for this model, whose q and k may be in another order than the adapter's. path:
 * a folder with adapter_config.json, or a .gguf file. name: NULL for the path's last name. Fills a
 * zeroed lora; on failure lora_close() frees what it holds. */
int lora_open(struct lora *lora, const char *path, const char *name, float scale,
              const struct model *base, struct llama3_error *err);
void lora_close(struct lora *lora);

/* Adds the pairs of all n adapters, each times its scale, to the base's matrices of floats, and
 * drops these pairs. The sum is rounded once, to the matrix's type, in a copy that is the model's.
 * Others keep their pairs, and so does the head of a tied model. *bytes: of the copies. */
int lora_merge(struct lora *loras, size_t n, struct model *base, int threads, uint64_t *bytes,
               struct llama3_error *err);

#endif
