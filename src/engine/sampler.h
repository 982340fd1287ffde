/* SPDX-License-Identifier: MIT */
/*
 * sampler.h: logits in, one token id out. Applied in this order: biases, penalties, temperature,
 * top-k, top-p, min-p (transformers' order); ties go to the lower id everywhere.
 *
 * The random number of a draw is a function of (seed, position) alone, so that the same seed gives
 * the same text, whatever was computed or reused on the way.
 */
#ifndef ENGINE_SAMPLER_H
#define ENGINE_SAMPLER_H

#include "base/error.h"

struct sampler;

/* Checks the ranges that llama3.h names; an error names the field. The biases stay the caller's. */
struct sampler *sampler_open(const struct llama3_sampling *sampling, size_t vocab_size,
                             struct llama3_error *err);
void sampler_close(struct sampler *sampler);

/* Tokens that the penalties look at. */
void sampler_saw_prompt(struct sampler *sampler, const int32_t *tokens, size_t n);
void sampler_saw_answer(struct sampler *sampler, int32_t token);

/* The token after `position` tokens. logits: [vocab_size]; the engine sees to it that they are
 * finite; here NAN counts as minus infinity. */
int32_t sampler_draw(struct sampler *sampler, const float *logits, size_t position);

#endif
