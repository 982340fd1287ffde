/* SPDX-License-Identifier: MIT */
/*
 * prefix.h: the prefix cache: sequences that sessions have left, for prompts that begin with the
 * same tokens.
 *
 * They lie in radix trees, one for each owner and each mix of adapters, since keys and values
 * depend on these. A node has a run of tokens that all sequences below it go on with. A leaf holds
 * the sequence of all tokens from the root to its end; an inner node borrows from any leaf below
 * it, as these share the pages of what they have in common. So a page is held once, and a lookup
 * compares each token of the prompt once: 131,072 tokens among 1,000 sequences that begin alike
 * take 0.08 to 0.13 ms on the Xeon of BENCHMARKS.md, and to leave one 0.04 ms.
 *
 * Pages that were used least recently go first, from the end of a sequence: what ends it has been
 * used no more recently than what begins it. The owner that has most pages loses one. So no owner
 * can push out what others keep.
 *
 * The caller serializes calls with those on the forward's sequences.
 */
#ifndef ENGINE_PREFIX_H
#define ENGINE_PREFIX_H

#include "engine/forward.h"

struct prefix_index;

/* n_loras: of the forward, which must outlive it. */
struct prefix_index *prefix_open(struct forward *forward, size_t n_loras, struct llama3_error *err);
void prefix_close(struct prefix_index *index);

/* A new sequence of the longest prefix of n tokens that the owner has with these scales, [n_loras],
 * and *length, its length. NULL if it has none that is longer than more_than, or without memory. */
struct sequence *prefix_take(struct prefix_index *index, int owner, const float *scales,
                             const int32_t *tokens, size_t n, size_t more_than, size_t *length);
/* Takes over a sequence that no pass uses, of n evaluated tokens. */
void prefix_give(struct prefix_index *index, int owner, struct sequence *sequence,
                 const int32_t *tokens, size_t n);

/* Drops the page to go first, or less than one where a node ends within it; false: none is left.
 * Its memory is free unless a session has it as well. */
bool prefix_drop(struct prefix_index *index);

/* Distinct pages held. */
size_t prefix_pages(const struct prefix_index *index);

#endif
