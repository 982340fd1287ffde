/* SPDX-License-Identifier: MIT */
/*
 * hash.h: hash tables that a crafted file cannot slow down. Keys come from checkpoints; without a
 * secret in the hash, a file of colliding tokens would take hours to open.
 */
#ifndef BASE_HASH_H
#define BASE_HASH_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Two odd random numbers. */
struct hash_key {
    uint64_t k[2];
};

void hash_key_init(struct hash_key *key);

/* Multiplies by numbers that the file's author cannot know, and shifts the upper bits down.
 * Different x stay different; two of them share a slot only by chance (multiply-shift:
 * Dietzfelbinger et al. 1997). */
static inline uint64_t hash_mix(const struct hash_key *key, uint64_t x)
{
    x *= key->k[0];
    x = (x ^ x >> 32) * key->k[1];
    return x ^ x >> 32;
}

/* The hash of the bytes a followed by the bytes b. */
uint64_t hash_bytes(const struct hash_key *key, const void *a, size_t n_a, const void *b,
                    size_t n_b);

/* Maps byte strings, which the caller keeps, to numbers. Open addressing, at most half full. */
struct hash_table {
    struct hash_slot {
        uint32_t hash;
        int32_t id; /* < 0: free */
    } * slots;      /* [mask + 1] */
    size_t mask;
    struct hash_key key;
};

/* Room for n ids; false without memory. */
bool hash_table_open(struct hash_table *table, size_t n);
void hash_table_close(struct hash_table *table); /* frees and zeroes */

/* The slot of the id with this hash for which equal() is true, or the free one where it belongs. */
static inline struct hash_slot *hash_table_slot(const struct hash_table *table, uint64_t hash,
                                                bool (*equal)(const void *arg, int32_t id),
                                                const void *arg)
{
    size_t at = hash & table->mask;
    for (; table->slots[at].id >= 0; at = (at + 1) & table->mask)
        if (table->slots[at].hash == (uint32_t)hash && equal(arg, table->slots[at].id))
            break;
    return &table->slots[at];
}

#endif
