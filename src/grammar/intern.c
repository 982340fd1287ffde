/* SPDX-License-Identifier: MIT */
#include "config.h"

#include "grammar/intern.h"

#include <stdlib.h>
#include <string.h>

enum { FIRST_SLOTS = 256, FIRST_WORDS = 2048 };

bool interner_open(struct interner *all)
{
    *all = (struct interner){.n_slots = FIRST_SLOTS,
                             .n_step_slots = FIRST_SLOTS,
                             .words_capacity = FIRST_WORDS,
                             .lists_capacity = FIRST_SLOTS,
                             .n_lists = 1};
    hash_key_init(&all->hash);
    all->words = malloc(FIRST_WORDS * sizeof *all->words);
    all->lists = calloc(FIRST_SLOTS, sizeof *all->lists);
    all->slots = calloc(FIRST_SLOTS, sizeof *all->slots);
    all->steps = calloc(FIRST_SLOTS, sizeof *all->steps);
    if (all->words != NULL && all->lists != NULL && all->slots != NULL && all->steps != NULL)
        return true;
    interner_close(all);
    return false;
}

void interner_close(struct interner *all)
{
    free(all->words);
    free(all->lists);
    free(all->slots);
    free(all->steps);
    *all = (struct interner){0};
}

size_t interner_memory(const struct interner *all)
{
    return all->words_capacity * sizeof *all->words + all->lists_capacity * sizeof *all->lists +
           all->n_slots * sizeof *all->slots + all->n_step_slots * sizeof *all->steps;
}

static uint32_t hash_words(const struct interner *all, uint32_t kind, const uint32_t *words,
                           size_t n)
{
    uint64_t hash = hash_mix(&all->hash, kind + ((uint64_t)n << 8));
    size_t i = 0;
    for (; i + 2 <= n; i += 2)
        hash = hash_mix(&all->hash, hash ^ (words[i] | (uint64_t)words[i + 1] << 32));
    if (i < n)
        hash = hash_mix(&all->hash, hash ^ words[i]);
    return (uint32_t)(hash ^ hash >> 32);
}

static uint32_t *find_slot(struct interner *all, uint32_t hash, uint32_t kind,
                           const uint32_t *words, size_t n)
{
    uint32_t at = hash & (all->n_slots - 1);
    for (; all->slots[at] != 0; at = (at + 1) & (all->n_slots - 1)) {
        const struct interned *list = &all->lists[all->slots[at]];
        const uint32_t *held = all->words + list->at;
        if (list->hash == hash && list->n == n + 1 && held[0] == kind &&
            (n == 0 || memcmp(held + 1, words, n * sizeof *words) == 0))
            break;
    }
    return &all->slots[at];
}

static bool grow_slots(struct interner *all)
{
    uint32_t n = all->n_slots * 2;
    uint32_t *slots = calloc(n, sizeof *slots);
    if (slots == NULL)
        return false;
    for (uint32_t i = 1; i < all->n_lists; i++) {
        uint32_t at = all->lists[i].hash & (n - 1);
        while (slots[at] != 0)
            at = (at + 1) & (n - 1);
        slots[at] = i;
    }
    free(all->slots);
    all->slots = slots;
    all->n_slots = n;
    return true;
}

/* Doubles *array until it has room for `needed`. */
static bool grow(void *array, size_t *capacity, size_t needed, size_t size)
{
    size_t n = *capacity;
    while (n < needed)
        n *= 2;
    if (n == *capacity)
        return true;
    void *bigger = realloc(*(void **)array, n * size);
    if (bigger == NULL)
        return false;
    *(void **)array = bigger;
    *capacity = n;
    return true;
}

uint32_t interner_add(struct interner *all, uint32_t kind, const uint32_t *words, size_t n)
{
    uint32_t hash = hash_words(all, kind, words, n);
    uint32_t *slot = find_slot(all, hash, kind, words, n);
    if (*slot != 0)
        return *slot;

    size_t own = all->n_words; /* where `words` lies, if it does so in the interner */
    bool inside = n > 0 && words >= all->words && words < all->words + all->n_words;
    if (inside)
        own = (size_t)(words - all->words);
    size_t lists = all->lists_capacity;
    if (all->failed || n >= UINT32_MAX / 4 || all->n_lists >= UINT32_MAX / 4 ||
        !grow(&all->words, &all->words_capacity, all->n_words + n + 1, sizeof *all->words) ||
        !grow(&all->lists, &lists, all->n_lists + 1, sizeof *all->lists)) {
        all->failed = true;
        return INTERN_NONE;
    }
    all->lists_capacity = (uint32_t)lists;
    uint32_t id = all->n_lists++;
    all->lists[id] = (struct interned){all->n_words, (uint32_t)n + 1, hash};
    all->words[all->n_words] = kind;
    if (n > 0)
        memcpy(all->words + all->n_words + 1, inside ? all->words + own : words, n * sizeof *words);
    all->n_words += n + 1;
    *slot = id;
    if (all->n_lists > all->n_slots / 2 && !grow_slots(all))
        all->failed = true;
    return id;
}

/* ---- steps ---------------------------------------------------------------------------------- */

static struct step *step_slot(struct step *steps, uint32_t n, const struct hash_key *hash,
                              uint64_t key)
{
    uint32_t at = (uint32_t)hash_mix(hash, key) & (n - 1);
    while (steps[at].key != 0 && steps[at].key != key)
        at = (at + 1) & (n - 1);
    return &steps[at];
}

uint32_t interner_step(const struct interner *all, uint32_t from, uint32_t by)
{
    const struct step *step =
        step_slot(all->steps, all->n_step_slots, &all->hash, (uint64_t)from << 32 | by);
    return step->key != 0 ? step->to : UINT32_MAX;
}

void interner_set_step(struct interner *all, uint32_t from, uint32_t by, uint32_t to)
{
    uint64_t key = (uint64_t)from << 32 | by;
    if (all->n_steps >= all->n_step_slots / 2) {
        uint32_t n = all->n_step_slots * 2;
        struct step *steps = calloc(n, sizeof *steps);
        if (steps == NULL) {
            all->failed = true;
            return;
        }
        for (uint32_t i = 0; i < all->n_step_slots; i++)
            if (all->steps[i].key != 0)
                *step_slot(steps, n, &all->hash, all->steps[i].key) = all->steps[i];
        free(all->steps);
        all->steps = steps;
        all->n_step_slots = n;
    }
    struct step *slot = step_slot(all->steps, all->n_step_slots, &all->hash, key);
    all->n_steps += slot->key == 0;
    *slot = (struct step){key, to};
}
