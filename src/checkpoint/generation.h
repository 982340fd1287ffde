/* SPDX-License-Identifier: MIT */
/*
 * generation.h: a checkpoint's sampling defaults, from generation_config.json or from the keys
 * general.sampling.* that llama.cpp's converter writes into GGUF files.
 */
#ifndef CHECKPOINT_GENERATION_H
#define CHECKPOINT_GENERATION_H

#include "checkpoint/gguf.h"

/* A supported number: its name in both formats, and its offset in struct generation_defaults. */
struct generation_number {
    const char *json, *gguf; /* the whole GGUF key */
    double min, max;
    size_t offset; /* of a double */
};

extern const struct generation_number generation_numbers[]; /* [n_generation_numbers] */
extern const size_t n_generation_numbers;

double *generation_value(struct generation_defaults *generation,
                         const struct generation_number *number);

/* Like hf_generation_read(): what is read replaces what was read before, key by key. Keys that
 * would change answers but are not supported go to generation->unsupported. */
int generation_read_gguf(const struct gguf *gguf, struct generation_defaults *generation,
                         struct llama3_error *err);

/* One line for users about unsupported keys; false if there are none. path: the model's. */
bool generation_note(const struct generation_defaults *generation, const char *path,
                     struct llama3_error *note);

#endif
