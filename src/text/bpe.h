/* SPDX-License-Identifier: MIT */
/*
 * bpe.h: byte-pair encoding (Sennrich et al. 2016, section 3.2) of one pre-token. It merges the
 * adjacent pair of the best rank, the leftmost among equals, until no pair has a merge.
 */
#ifndef TEXT_BPE_H
#define TEXT_BPE_H

#include <stddef.h>
#include <stdint.h>

#include "base/error.h"
#include "base/hash.h"
#include "checkpoint/vocab.h"

/* Merges by pair: a hash table with open addressing, at most two thirds full. */
struct bpe {
    struct bpe_slot {
        int32_t left, right, result; /* left < 0: empty */
        uint32_t rank;
    } * slots;   /* [mask + 1] */
    size_t mask; /* a power of two, less one */
    struct hash_key key;
};

/* Ids must be >= 0. ranks: see struct vocab. If the list has a pair twice, the later one counts, as
 * in the reference. */
int bpe_open(struct bpe *bpe, const struct merge *merges, const uint32_t *ranks, size_t n,
             struct llama3_error *err);
void bpe_close(struct bpe *bpe); /* frees and zeroes */

/* Merges ids[0..n) in place and returns how many are left; SIZE_MAX if memory ran out, with ids
 * unchanged. n <= INT32_MAX. Short sequences take n^2 very short steps, long ones n log n. */
size_t bpe_merge(const struct bpe *bpe, int32_t *ids, size_t n);

#endif
