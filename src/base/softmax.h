/* SPDX-License-Identifier: MIT */
/* softmax.h: what logits say: the probabilities that they stand for, and how far apart two are. */
#ifndef BASE_SOFTMAX_H
#define BASE_SOFTMAX_H

#include <stddef.h>

struct softmax {
    size_t top;      /* the likeliest token; the lower id wins a tie */
    double log_norm; /* log of the sum of e^logit */
};

/* Of n >= 1 logits. */
struct softmax softmax_of(const float *logits, size_t n);

/* KL(p || q) of two rows of n logits, in nats. */
double softmax_divergence(const float *p, const struct softmax *ps, const float *q,
                          const struct softmax *qs, size_t n);

#endif
