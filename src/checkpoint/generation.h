/* SPDX-License-Identifier: MIT */
/*
 * generation.h: how a checkpoint wants its answers sampled. generation_config.json says it, and the
 * keys general.sampling.* that llama.cpp's converter writes into a GGUF file.
 */
#ifndef CHECKPOINT_GENERATION_H
#define CHECKPOINT_GENERATION_H

#include "checkpoint/gguf.h"

/* A number that counts: its name in both formats, and its place in struct generation_defaults. */
struct generation_number {
    const char *json, *gguf; /* the whole GGUF key */
    double min, max;
    size_t offset; /* of a double */
};

extern const struct generation_number generation_numbers[]; /* [n_generation_numbers] */
extern const size_t n_generation_numbers;

double *generation_value(struct generation_defaults *generation,
                         const struct generation_number *number);

/* As hf_generation_read() does, this adds to what was read before, and replaces what both say. Keys
 * that would change an answer and are not supported go to generation->unsupported. */
int generation_read_gguf(const struct gguf *gguf, struct generation_defaults *generation,
                         struct llama3_error *err);

/* One line about unsupported keys for users; false if there are none. path: the model's. */
bool generation_note(const struct generation_defaults *generation, const char *path,
                     struct llama3_error *note);

#endif
