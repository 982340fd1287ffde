/* SPDX-License-Identifier: MIT */
#include "text/bpe.h"

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "base/size.h"

#define NO_RANK UINT32_MAX /* a pair without a merge */

enum { SHORT = 48 }; /* up to here a scan of all pairs is faster; words are far shorter */

/* The pair's slot, or the empty one where it would be. */
static struct bpe_slot *slot_of(const struct bpe *bpe, int32_t left, int32_t right)
{
    size_t at = hash_mix(&bpe->key, (uint64_t)(uint32_t)left << 32 | (uint32_t)right) & bpe->mask;
    while (bpe->slots[at].left >= 0 &&
           (bpe->slots[at].left != left || bpe->slots[at].right != right))
        at = (at + 1) & bpe->mask;
    return &bpe->slots[at];
}

static uint32_t pair_rank(const struct bpe *bpe, int32_t left, int32_t right, int32_t *result)
{
    const struct bpe_slot *slot = slot_of(bpe, left, right);
    *result = slot->result;
    return slot->left < 0 ? NO_RANK : slot->rank;
}

int bpe_open(struct bpe *bpe, const struct merge *merges, const uint32_t *ranks, size_t n,
             struct llama3_error *err)
{
    *bpe = (struct bpe){0};
    if (n >= INT32_MAX)
        return error_input(err, "vocabulary: expected at most %d merges, found %zu", INT32_MAX - 1,
                           n);
    size_t slots = 4;
    while (slots / 3 * 2 <= n)
        slots *= 2;
    bpe->slots = size_alloc_for(slots, sizeof *bpe->slots, "the table of merges", err);
    if (bpe->slots == NULL)
        return -1;
    bpe->mask = slots - 1;
    hash_key_init(&bpe->key);
    for (size_t i = 0; i < slots; i++)
        bpe->slots[i].left = -1;

    for (size_t i = 0; i < n; i++) {
        struct bpe_slot *slot = slot_of(bpe, merges[i].left, merges[i].right);
        *slot = (struct bpe_slot){merges[i].left, merges[i].right, merges[i].result,
                                  ranks != NULL ? ranks[i] : (uint32_t)i};
    }
    return 0;
}

void bpe_close(struct bpe *bpe)
{
    free(bpe->slots);
    *bpe = (struct bpe){0};
}

/* Scans all pairs for each merge. */
static size_t merge_short(const struct bpe *bpe, int32_t *ids, size_t n)
{
    uint32_t ranks[SHORT]; /* [n - 1] of the pair (i, i + 1) */
    int32_t results[SHORT];

    for (size_t i = 0; i + 1 < n; i++)
        ranks[i] = pair_rank(bpe, ids[i], ids[i + 1], &results[i]);
    while (n > 1) {
        size_t best = 0;
        for (size_t i = 1; i + 1 < n; i++)
            best = ranks[i] < ranks[best] ? i : best;
        if (ranks[best] == NO_RANK)
            break;

        ids[best] = results[best];
        n--;
        memmove(ids + best + 1, ids + best + 2, (n - best - 1) * sizeof *ids);
        if (best + 1 < n) { /* the pair (best + 1, best + 2) becomes (best, best + 1) */
            memmove(ranks + best + 1, ranks + best + 2, (n - best - 2) * sizeof *ranks);
            memmove(results + best + 1, results + best + 2, (n - best - 2) * sizeof *results);
            ranks[best] = pair_rank(bpe, ids[best], ids[best + 1], &results[best]);
        }
        if (best > 0)
            ranks[best - 1] = pair_rank(bpe, ids[best - 1], ids[best], &results[best - 1]);
    }
    return n;
}

/* A tree of minima: level 0 has the rank of the pair at each position, and each higher level the
 * least of every FAN below. So the best pair is found, and a rank updated, in a few steps. It takes
 * 4.3 bytes a symbol; a heap with linked symbols took 32, and a client may send 8 MB without a
 * space.
 */
enum { FAN = 16, MAX_LEVELS = 8 }; /* FAN^MAX_LEVELS > INT32_MAX */

struct ranks {
    uint32_t *levels[MAX_LEVELS]; /* padded with NO_RANK to a multiple of FAN; one allocation */
    size_t n_levels;
};

static uint32_t least_of(const uint32_t *block /* [FAN] */)
{
    uint32_t least = block[0];
    for (size_t i = 1; i < FAN; i++)
        least = block[i] < least ? block[i] : least;
    return least;
}

/* Fills all levels with NO_RANK. */
static bool ranks_open(struct ranks *ranks, size_t n)
{
    size_t sizes[MAX_LEVELS], total = 0;
    ranks->n_levels = 0;
    do {
        n = (n + FAN - 1) / FAN;
        total += sizes[ranks->n_levels++] = n * FAN;
    } while (n > 1);
    ranks->levels[0] = size_alloc(total, sizeof(uint32_t));
    if (ranks->levels[0] == NULL)
        return false;
    memset(ranks->levels[0], 0xff, total * sizeof(uint32_t));
    for (size_t i = 1; i < ranks->n_levels; i++)
        ranks->levels[i] = ranks->levels[i - 1] + sizes[i - 1];
    return true;
}

static void ranks_set(struct ranks *ranks, size_t at, uint32_t rank)
{
    ranks->levels[0][at] = rank;
    for (size_t i = 1; i < ranks->n_levels; i++) {
        at /= FAN;
        uint32_t least = least_of(ranks->levels[i - 1] + at * FAN);
        if (ranks->levels[i][at] == least)
            break;
        ranks->levels[i][at] = least;
    }
}

/* The position of the pair of the best rank, the leftmost among equals. */
static size_t ranks_best(const struct ranks *ranks)
{
    size_t at = 0;
    for (size_t i = ranks->n_levels; i-- > 0;) {
        const uint32_t *block = ranks->levels[i] + at * FAN;
        uint32_t least = least_of(block);
        at *= FAN;
        while (*block++ != least)
            at++;
    }
    return at;
}

/* A merged symbol stands at its first position. The second and the last one that it covers hold its
 * length, negated, so that both neighbours are found at once. */
static size_t symbol_end(const int32_t *ids, size_t n, size_t at)
{
    return at + 1 < n && ids[at + 1] < 0 ? at + (size_t)-ids[at + 1] : at + 1;
}

static size_t symbol_before(const int32_t *ids, size_t at)
{
    return ids[at - 1] < 0 ? at - (size_t)-ids[at - 1] : at - 1;
}

static void renew_pair(const struct bpe *bpe, const int32_t *ids, size_t n, struct ranks *ranks,
                       size_t at)
{
    int32_t result;
    size_t right = symbol_end(ids, n, at);
    ranks_set(ranks, at, right < n ? pair_rank(bpe, ids[at], ids[right], &result) : NO_RANK);
}

static size_t merge_long(const struct bpe *bpe, int32_t *ids, size_t n)
{
    struct ranks ranks;
    if (!ranks_open(&ranks, n))
        return SIZE_MAX;
    for (size_t i = 0; i + 1 < n; i++)
        renew_pair(bpe, ids, n, &ranks, i);

    for (;;) {
        size_t at = ranks_best(&ranks);
        if (ranks.levels[0][at] == NO_RANK)
            break;
        size_t right = symbol_end(ids, n, at), end = symbol_end(ids, n, right);
        pair_rank(bpe, ids[at], ids[right], &ids[at]);
        ranks_set(&ranks, right, NO_RANK);
        ids[at + 1] = ids[end - 1] = -(int32_t)(end - at);
        renew_pair(bpe, ids, n, &ranks, at);
        if (at > 0)
            renew_pair(bpe, ids, n, &ranks, symbol_before(ids, at));
    }

    size_t left = 0;
    for (size_t at = 0; at < n;) {
        size_t end = symbol_end(ids, n, at);
        ids[left++] = ids[at];
        at = end;
    }
    free(ranks.levels[0]);
    return left;
}

size_t bpe_merge(const struct bpe *bpe, int32_t *ids, size_t n)
{
    if (n < 2)
        return n;
    return n <= SHORT ? merge_short(bpe, ids, n) : merge_long(bpe, ids, n);
}
