/* SPDX-License-Identifier: MIT */
#include "config.h" /* getentropy */

#include "base/hash.h"

#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/size.h"

void hash_key_init(struct hash_key *key)
{
    struct timespec now;
    if (getentropy(key, sizeof *key) !=
        0) { /* an old kernel: values that a file's author can only guess */
        clock_gettime(CLOCK_MONOTONIC, &now);
        key->k[0] = ((uint64_t)now.tv_nsec << 32 ^ (uintptr_t)key) * 0x9e3779b97f4a7c15;
        key->k[1] = ((uint64_t)getpid() << 32 ^ (uint64_t)now.tv_sec) * 0x9e3779b97f4a7c15;
    }
    key->k[0] |= 1;
    key->k[1] |= 1;
}

/* ---- bytes ------------------------------------------------------------------------------- */

struct hashing {
    const struct hash_key *key;
    uint64_t hash;
    uint64_t word; /* bytes that make no whole word yet, the lowest first */
    size_t length; /* of all bytes */
};

static inline uint64_t load(const uint8_t *bytes, size_t n)
{
    uint64_t word = 0;
    memcpy(&word, bytes, n); /* little-endian, as the machine (quant/dtype.c) */
    return word;
}

/* n < 8 bytes: loads that overlap instead of a loop. */
static inline uint64_t load_few(const uint8_t *bytes, size_t n)
{
    if (n >= 4)
        return load(bytes, 4) | load(bytes + n - 4, 4) << 8 * (n - 4);
    if (n == 0)
        return 0;
    return bytes[0] | (uint64_t)bytes[n / 2] << 8 * (n / 2) | (uint64_t)bytes[n - 1] << 8 * (n - 1);
}

/* Adds n <= 8 bytes to those that make no word yet. */
static inline void add_word(struct hashing *h, uint64_t bytes, size_t n)
{
    size_t have = h->length % 8;
    h->word |= bytes << 8 * have;
    h->length += n;
    if (have + n < 8)
        return;
    h->hash = hash_mix(h->key, h->hash ^ h->word);
    h->word = have > 0 ? bytes >> 8 * (8 - have) : 0;
}

static inline void add_bytes(struct hashing *h, const uint8_t *bytes, size_t n)
{
    for (; n >= 8; bytes += 8, n -= 8)
        add_word(h, load(bytes, 8), 8);
    add_word(h, load_few(bytes, n), n);
}

/* The length is the last word's last byte, so that zeros at the end count. */
uint64_t hash_bytes(const struct hash_key *key, const void *a, size_t n_a, const void *b,
                    size_t n_b)
{
    struct hashing h = {.key = key, .hash = key->k[0] ^ key->k[1]};
    add_bytes(&h, a, n_a);
    if (n_b > 0)
        add_bytes(&h, b, n_b);
    return hash_mix(key, h.hash ^ h.word ^ (uint64_t)h.length << 56);
}

/* ---- the table --------------------------------------------------------------------------- */

bool hash_table_open(struct hash_table *table, size_t n)
{
    size_t slots = 16, most;
    *table = (struct hash_table){0};
    if (!size_mul(n, 2, &most))
        return false;
    while (slots < most)
        if (!size_mul(slots, 2, &slots))
            return false;
    table->slots = size_alloc(slots, sizeof *table->slots);
    if (table->slots == NULL)
        return false;
    memset(table->slots, 0xff, slots * sizeof *table->slots); /* -1 */
    table->mask = slots - 1;
    hash_key_init(&table->key);
    return true;
}

void hash_table_close(struct hash_table *table)
{
    free(table->slots);
    *table = (struct hash_table){0};
}
