/* SPDX-License-Identifier: MIT */
/*
 * intern.h: lists of numbers, each kept once, so that equal ones have equal ids; and a map from a
 * pair of numbers to a third. What a parser's state is made of, and what leads from one to another.
 */
#ifndef GRAMMAR_INTERN_H
#define GRAMMAR_INTERN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/hash.h"

enum { INTERN_NONE = 0 }; /* no list; also what is returned without memory */

struct interner {
    uint32_t *words; /* [n_words] the lists, one after another */
    size_t n_words, words_capacity;
    struct interned {
        size_t at;
        uint32_t n, hash;
    } * lists; /* [n_lists] */
    uint32_t n_lists, lists_capacity;
    uint32_t *slots; /* [n_slots], a power of two; 0: free */
    uint32_t n_slots;

    struct step {
        uint64_t key; /* 0: free */
        uint32_t to;
    } * steps; /* [n_step_slots], a power of two */
    uint32_t n_steps, n_step_slots;

    struct hash_key hash;
    bool failed; /* no memory */
};

bool interner_open(struct interner *all);
void interner_close(struct interner *all);
size_t interner_memory(const struct interner *all); /* bytes */

/* The list's id, > 0. kind tells lists of different kinds apart. words may lie in the interner. */
uint32_t interner_add(struct interner *all, uint32_t kind, const uint32_t *words, size_t n);
/* Valid until the next one is added. */
static inline const uint32_t *interner_list(const struct interner *all, uint32_t id, size_t *n)
{
    *n = all->lists[id].n - 1;
    return all->words + all->lists[id].at + 1;
}

/* What leads from `from` by `by`, or UINT32_MAX if it isn't known. */
uint32_t interner_step(const struct interner *all, uint32_t from, uint32_t by);
void interner_set_step(struct interner *all, uint32_t from, uint32_t by, uint32_t to);

#endif
