/* SPDX-License-Identifier: MIT */
/*
 * golden: what another implementation computed, as tests/reference's scripts write it down - token
 * ids in a .json, the logits of some of their positions in a .f32 - and how far we are from it.
 */
#ifndef TESTS_GOLDEN_H
#define TESTS_GOLDEN_H

#include <stddef.h>
#include <stdint.h>

struct golden {
    int32_t *ids; /* [n_ids] */
    size_t n_ids;
    int32_t *greedy; /* [n_greedy] what follows ids at temperature 0; 0 of them where not given */
    size_t n_greedy;
    int32_t *rows; /* [n_rows] ascending positions within ids */
    size_t n_rows;
    float *logits; /* [n_rows][n_vocab] */
    size_t n_vocab;
};

/* Both fail the running test where a file is missing or not as it has to be. */
void golden_load(struct golden *golden, const char *json_path, const char *f32_path);
void golden_free(struct golden *golden);

size_t argmax(const float *logits, size_t n); /* the lower index wins a tie */
float margin(const float *logits, size_t n);  /* between the best and the second best */

/* Kullback-Leibler divergence of softmax(ours) from softmax(reference), in nats. */
double divergence(const float *reference, const float *ours, size_t n);

#endif
