/* SPDX-License-Identifier: MIT */
/*
 * sampler.h: logits in, one token id out (llama3_sampling_* in llama3.h).
 *
 * The random number of a draw is a function of (seed, position) alone, so that the same seed gives
 * the same text, whatever was computed or reused on the way.
 */
#ifndef ENGINE_SAMPLER_H
#define ENGINE_SAMPLER_H

#include "checkpoint/model.h"

/* vocab_size 0: it can't draw. */
struct llama3_sampling *sampling_open(const struct generation_defaults *defaults, size_t vocab_size,
                                      struct llama3_error *err);

/* Gets it ready to draw from logits of so many tokens. LLAMA3_EINPUT for a sampling of another
 * model. */
int sampling_prepare(struct llama3_sampling *sampling, size_t vocab_size, struct llama3_error *err);

/* llama3_sampling_draw() among the tokens that another mask allows as well; NULL: all. */
int sampling_draw(struct llama3_sampling *sampling, const float *logits, size_t position,
                  const uint32_t *also, int32_t *token, struct llama3_error *err);

#endif
