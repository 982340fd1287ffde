#include "text/bpe.h"

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "base/size.h"

#define NO_RANK UINT32_MAX /* a pair without a merge */

enum { SHORT = 48 }; /* up to here looking at every pair beats the heap; words are far shorter */

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

int bpe_open(struct bpe *bpe, const struct merge *merges, size_t n, struct llama3_error *err)
{
    *bpe = (struct bpe){0};
    if (n >= INT32_MAX)
        return error_set(err, LLAMA3_EINPUT, "vocabulary: at most %d merges expected, %zu found",
                         INT32_MAX - 1, n);
    size_t slots = 4;
    while (slots / 3 * 2 <= n)
        slots *= 2;
    bpe->slots = size_alloc(slots, sizeof *bpe->slots);
    if (bpe->slots == NULL)
        return error_memory(err, "the table of merges", slots * sizeof *bpe->slots);
    bpe->mask = slots - 1;
    hash_key_init(&bpe->key);
    for (size_t i = 0; i < slots; i++)
        bpe->slots[i].left = -1;

    for (size_t i = 0; i < n; i++) {
        struct bpe_slot *slot = slot_of(bpe, merges[i].left, merges[i].right);
        *slot = (struct bpe_slot){merges[i].left, merges[i].right, merges[i].result, (uint32_t)i};
    }
    return 0;
}

void bpe_close(struct bpe *bpe)
{
    free(bpe->slots);
    *bpe = (struct bpe){0};
}

/* Looks at every pair for the best one, each time. */
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

/* A heap of (rank << 32 | position) with four children a node: half as deep as a binary one, and
 * the children share a cache line. Entries whose pair has changed since stay in it until they come
 * up; every merge takes one out and puts two in, so that twice the length is room enough. */
struct heap {
    uint64_t *keys;
    size_t n;
};

static void heap_sink(struct heap *heap, size_t at)
{
    uint64_t key = heap->keys[at];
    for (;;) {
        size_t child = 4 * at + 1;
        if (child >= heap->n)
            break;
        size_t end = child + 4 < heap->n ? child + 4 : heap->n;
        size_t best = child;
        for (size_t i = child + 1; i < end; i++)
            best = heap->keys[i] < heap->keys[best] ? i : best;
        if (heap->keys[best] >= key)
            break;
        heap->keys[at] = heap->keys[best];
        at = best;
    }
    heap->keys[at] = key;
}

static void heap_push(struct heap *heap, uint64_t key)
{
    size_t at = heap->n++;
    while (at > 0 && heap->keys[(at - 1) / 4] > key) {
        heap->keys[at] = heap->keys[(at - 1) / 4];
        at = (at - 1) / 4;
    }
    heap->keys[at] = key;
}

static uint64_t heap_pop(struct heap *heap)
{
    uint64_t top = heap->keys[0];
    heap->keys[0] = heap->keys[--heap->n];
    if (heap->n > 1)
        heap_sink(heap, 0);
    return top;
}

/* A symbol and the pair that it begins. Merging keeps the left symbol and drops the right one. */
struct symbol {
    int32_t previous, next; /* -1: none */
    uint32_t rank;          /* NO_RANK also once dropped */
    int32_t result;
};

static void renew_pair(const struct bpe *bpe, const int32_t *ids, struct symbol *symbols,
                       int32_t at, struct heap *heap)
{
    struct symbol *symbol = &symbols[at];
    symbol->rank = NO_RANK;
    if (symbol->next >= 0)
        symbol->rank = pair_rank(bpe, ids[at], ids[symbol->next], &symbol->result);
    if (symbol->rank != NO_RANK)
        heap_push(heap, (uint64_t)symbol->rank << 32 | (uint32_t)at);
}

static size_t merge_long(const struct bpe *bpe, int32_t *ids, size_t n)
{
    struct symbol *symbols = size_alloc(n, sizeof *symbols);
    struct heap heap = {size_alloc(n, 2 * sizeof *heap.keys), 0};
    if (symbols == NULL || heap.keys == NULL) {
        free(symbols);
        free(heap.keys);
        return SIZE_MAX;
    }

    for (size_t i = 0; i < n; i++) {
        symbols[i].previous = (int32_t)i - 1;
        symbols[i].next = i + 1 < n ? (int32_t)i + 1 : -1;
        symbols[i].rank = NO_RANK;
        if (i + 1 < n)
            symbols[i].rank = pair_rank(bpe, ids[i], ids[i + 1], &symbols[i].result);
        if (symbols[i].rank != NO_RANK)
            heap.keys[heap.n++] = (uint64_t)symbols[i].rank << 32 | i;
    }
    for (size_t i = heap.n; i-- > 0;)
        heap_sink(&heap, i);

    while (heap.n > 0) {
        uint64_t key = heap_pop(&heap);
        int32_t at = (int32_t)(uint32_t)key;
        struct symbol *left = &symbols[at];
        if (left->rank != key >> 32)
            continue;
        struct symbol *right = &symbols[left->next];
        ids[at] = left->result;
        right->rank = NO_RANK;
        left->next = right->next;
        if (right->next >= 0)
            symbols[right->next].previous = at;
        renew_pair(bpe, ids, symbols, at, &heap);
        if (left->previous >= 0)
            renew_pair(bpe, ids, symbols, left->previous, &heap);
    }

    size_t left = 0;
    for (int32_t at = 0; at >= 0; at = symbols[at].next)
        ids[left++] = ids[at];
    free(symbols);
    free(heap.keys);
    return left;
}

size_t bpe_merge(const struct bpe *bpe, int32_t *ids, size_t n)
{
    if (n < 2)
        return n;
    return n <= SHORT ? merge_short(bpe, ids, n) : merge_long(bpe, ids, n);
}
