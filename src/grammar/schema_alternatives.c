/* SPDX-License-Identifier: MIT */
/*
 * schema_alternatives.c: sets of atoms, any of which may hold. A set that has all atoms of another
 * allows no more than that, and is left out, as is one that contradicts itself.
 */
#include <stdlib.h>
#include <string.h>

#include "grammar/schema_parts.h"

static int compare_ids(const void *a, const void *b)
{
    uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
    return (x > y) - (x < y);
}

/* Whether b has all of a's atoms. */
static bool subset(const struct alternative *a, const struct alternative *b)
{
    if (a->n > b->n || (a->bits & ~b->bits) != 0)
        return false;
    for (uint32_t i = 0, k = 0; i < a->n; i++, k++) {
        while (k < b->n && b->atoms[k] < a->atoms[i])
            k++;
        if (k == b->n || b->atoms[k] != a->atoms[i])
            return false;
    }
    return true;
}

/* A key that must be there and must not. */
static bool contradicts(const struct schemas *all, const uint32_t *atoms, uint32_t n)
{
    for (uint32_t i = 0; i < n; i++) {
        const struct atom *lacks = &all->atoms[atoms[i]];
        if ((lacks->kind == A_HAS || lacks->kind == A_ITEM || lacks->kind == A_WITNESS) &&
            lacks->e == EXPR_FALSE)
            return true;
        for (uint32_t k = 0; lacks->kind == A_LACKS && k < n; k++)
            if (all->atoms[atoms[k]].kind == A_HAS && all->atoms[atoms[k]].a == lacks->a)
                return true;
    }
    return false;
}

int alternatives_add(struct schemas *all, struct alternatives *to, uint32_t *atoms, uint32_t n)
{
    struct alternative added = {0};
    uint32_t kept = 0;
    if (n > 0)
        qsort(atoms, n, sizeof *atoms, compare_ids);
    for (uint32_t i = 0; i < n; i++)
        if (kept == 0 || atoms[kept - 1] != atoms[i]) {
            atoms[kept++] = atoms[i];
            added.bits |= (uint64_t)1 << atoms[i] % 64;
        }
    if (schema_work(all, 1 + kept / 4 + to->n / 8) != 0)
        return -1;
    if (contradicts(all, atoms, kept))
        return 0;
    added.atoms = atoms;
    added.n = kept;
    for (uint32_t i = 0; i < to->n; i++)
        if (subset(&to->each[i], &added))
            return 0;
    uint32_t left = 0;
    for (uint32_t i = 0; i < to->n; i++)
        if (!subset(&added, &to->each[i]))
            to->each[left++] = to->each[i];
    to->n = left;
    if (to->n == SCHEMA_COMBINATIONS)
        return schema_refuse(all, false, "expected at most %d alternatives, found more",
                             SCHEMA_COMBINATIONS);
    uint32_t *copy = schema_alloc(all, &all->scratch, kept, sizeof *copy);
    if (copy == NULL)
        return -1;
    if (kept > 0)
        memcpy(copy, atoms, kept * sizeof *copy);
    added.atoms = copy;
    if (to->n == to->capacity) {
        uint32_t room = to->capacity == 0 ? 4 : to->capacity * 2;
        struct alternative *each = schema_alloc(all, &all->scratch, room, sizeof *each);
        if (each == NULL)
            return -1;
        if (to->n > 0)
            memcpy(each, to->each, to->n * sizeof *each);
        to->each = each;
        to->capacity = room;
    }
    to->each[to->n++] = added;
    return 0;
}

int alternatives_add_all(struct schemas *all, struct alternatives *to)
{
    return alternatives_add(all, to, NULL, 0);
}

/* What is said of a key by all atoms of n but number `but`. */
static expr value_said(struct schemas *all, const uint32_t *atoms, uint32_t n, uint32_t but,
                       uint32_t key)
{
    expr e = EXPR_TRUE;
    for (uint32_t i = 0; i < n && e != EXPR_FALSE; i++) {
        struct atom atom = all->atoms[atoms[i]];
        if (i == but)
            continue;
        if (atom.kind == A_COVER)
            e = schema_and(all, e, schema_covered(all, atom.a, key));
        else if ((atom.kind == A_HAS || atom.kind == A_IF_HAS) && atom.a == key)
            e = schema_and(all, e, atom.e);
    }
    return e;
}

/* Leaves out atoms about a key's value that the others imply, so that alternatives which differ by
 * nothing else become one. Returns how many are left, UINT32_MAX after a failure for good. */
static uint32_t leave_implied(struct schemas *all, uint32_t *atoms, uint32_t n)
{
    uint32_t i = 0;
    while (i < n) {
        struct atom atom = all->atoms[atoms[i]];
        bool lacks = atom.kind == A_LACKS;
        int open = 2;
        if (lacks || ((atom.kind == A_HAS || atom.kind == A_IF_HAS) && atom.e != EXPR_TRUE)) {
            expr e = value_said(all, atoms, n, i, atom.a);
            if (!lacks)
                e = e != EXPR_TRUE ? schema_and(all, e, schema_not(all, atom.e)) : e;
            open = schema_sat(all, e);
        }
        if (all->failed || schema_work(all, n / 8) != 0)
            return UINT32_MAX;
        if (open == 0) {
            n--;
            for (uint32_t k = i; k < n; k++)
                atoms[k] = atoms[k + 1];
        } else {
            i++;
        }
    }
    return n;
}

int alternatives_and(struct schemas *all, struct alternatives *a, const struct alternatives *b,
                     bool objects)
{
    enum { FEW = 4 }; /* alternatives that aren't worth looking into */
    struct alternatives found = {0};
    uint32_t largest = 0;
    if (a->n == 0 || (b->n == 1 && b->each[0].n == 0))
        return 0;
    for (uint32_t i = 0; i < a->n; i++)
        largest = a->each[i].n > largest ? a->each[i].n : largest;
    uint32_t most = 0;
    for (uint32_t i = 0; i < b->n; i++)
        most = b->each[i].n > most ? b->each[i].n : most;
    uint32_t *atoms = schema_alloc(all, &all->scratch, (size_t)largest + most, sizeof *atoms);
    if (atoms == NULL)
        return -1;
    for (uint32_t i = 0; i < a->n; i++)
        for (uint32_t k = 0; k < b->n; k++) {
            const struct alternative *x = &a->each[i], *y = &b->each[k];
            if (x->n > 0)
                memcpy(atoms, x->atoms, x->n * sizeof *atoms);
            if (y->n > 0)
                memcpy(atoms + x->n, y->atoms, y->n * sizeof *atoms);
            struct alternative both = {.atoms = atoms, .n = x->n + y->n};
            if ((size_t)a->n * b->n > FEW && x->n > 0 && y->n > 0) {
                if (contradicts(all, atoms, both.n))
                    continue;
                int sat =
                    objects ? schema_object(all, &both, NULL) : schema_array(all, &both, NULL);
                if (all->failed)
                    return -1;
                if (sat == 0)
                    continue;
            }
            if (objects && x->n > 0 && y->n > 0)
                both.n = leave_implied(all, atoms, both.n);
            if (both.n == UINT32_MAX)
                return -1;
            if (alternatives_add(all, &found, atoms, both.n) != 0)
                return -1;
        }
    *a = found;
    return 0;
}

/* The key of an alternative that says nothing else than "k isn't there, or ..." or "k is there, and
 * ..."; *e: what is said of its value. UINT32_MAX: there is none. */
static uint32_t single_key(const struct schemas *all, const struct alternative *at, bool *lacks,
                           expr *e)
{
    uint32_t key = UINT32_MAX;
    *lacks = false;
    *e = EXPR_TRUE;
    for (uint32_t i = 0; i < at->n; i++) {
        const struct atom *atom = &all->atoms[at->atoms[i]];
        if (atom->kind != A_HAS && atom->kind != A_LACKS && atom->kind != A_IF_HAS)
            return UINT32_MAX;
        if (i > 0 && (atom->a != key || atom->kind != A_HAS || *lacks || *e != EXPR_TRUE))
            if (atom->a != key || atom->kind != A_HAS || *lacks || atom->e != EXPR_TRUE)
                return UINT32_MAX;
        key = atom->a;
        *lacks = atom->kind != A_HAS;
        if (atom->e != EXPR_TRUE || atom->kind != A_HAS)
            *e = atom->kind == A_LACKS ? EXPR_FALSE : atom->e;
    }
    return key;
}

int alternatives_merge(struct schemas *all, struct alternatives *alternatives)
{
    for (uint32_t i = 0; i < alternatives->n; i++) {
        bool lacks, other;
        expr e, more;
        uint32_t key = single_key(all, &alternatives->each[i], &lacks, &e), left = i + 1;
        bool merged = false;
        for (uint32_t k = i + 1; key != UINT32_MAX && k < alternatives->n; k++) {
            struct alternative next = alternatives->each[k];
            if (single_key(all, &next, &other, &more) == key && (lacks || other)) {
                lacks = merged = true;
                e = schema_or(all, e, more);
            } else {
                alternatives->each[left++] = next;
            }
        }
        if (schema_work(all, alternatives->n) != 0)
            return -1;
        if (!merged)
            continue;
        uint32_t *atom = schema_alloc(all, &all->scratch, 1, sizeof *atom);
        if (atom == NULL)
            return -1;
        *atom = schema_atom(all, (struct atom){.kind = A_IF_HAS, .a = key, .e = e});
        if (all->failed)
            return -1;
        alternatives->n = left;
        alternatives->each[i] =
            (struct alternative){.atoms = atom, .n = 1, .bits = (uint64_t)1 << *atom % 64};
        if (e == EXPR_TRUE) { /* anything */
            alternatives->each[0] = (struct alternative){0};
            alternatives->n = 1;
            return 0;
        }
        i--; /* two that were merged with neither may now fit together */
    }
    return 0;
}

/* ---- complements ---------------------------------------------------------------------------- */

static int add(struct schemas *all, struct alternatives *to, struct atom first,
               const struct atom *second)
{
    uint32_t atoms[2] = {schema_atom(all, first)};
    if (second != NULL)
        atoms[1] = schema_atom(all, *second);
    return all->failed ? -1 : alternatives_add(all, to, atoms, second != NULL ? 2 : 1);
}

/* Key is there, and its value satisfies e. */
static int add_has(struct schemas *all, struct alternatives *to, uint32_t key, expr e)
{
    struct atom has = {.kind = A_HAS, .a = key, .e = EXPR_TRUE}, value = has;
    value.e = e;
    return e == EXPR_FALSE ? 0 : add(all, to, has, e != EXPR_TRUE ? &value : NULL);
}

static int add_witness(struct schemas *all, struct alternatives *to, regex keys, expr e)
{
    if (keys == REGEX_NONE || e == EXPR_FALSE)
        return 0;
    return add(all, to, (struct atom){.kind = A_WITNESS, .r = keys, .e = e}, NULL);
}

static int negate_cover(struct schemas *all, uint32_t id, struct alternatives *to)
{
    struct object_cover cover = all->object_covers[id];
    for (uint32_t i = 0; i < cover.n_names; i++)
        if (add_has(all, to, cover.names[i], schema_not(all, cover.values[i])) != 0)
            return -1;
    for (uint32_t i = 0; i < cover.n_patterns; i++)
        if (add_witness(all, to, cover.patterns[i], schema_not(all, cover.matching[i])) != 0)
            return -1;
    if (cover.other == EXPR_TRUE)
        return 0;
    regex named = REGEX_NONE;
    for (uint32_t i = 0; i < cover.n_names; i++) {
        const struct name *name = &all->names[cover.names[i]];
        named = regex_or(all->regexes, named, regex_literal(all->regexes, name->bytes, name->n));
    }
    for (uint32_t i = 0; i < cover.n_patterns; i++)
        named = schema_string_or(all, named, cover.patterns[i]);
    return add_witness(all, to, schema_string_not(all, named), schema_not(all, cover.other));
}

static int negate_items(struct schemas *all, uint32_t id, struct alternatives *to)
{
    struct array_cover cover = all->array_covers[id];
    for (uint32_t i = 0; i < cover.n_prefix; i++) {
        expr e = schema_not(all, cover.prefix[i]);
        if (e != EXPR_FALSE &&
            add(all, to, (struct atom){.kind = A_ITEM, .a = i, .e = e}, NULL) != 0)
            return -1;
    }
    if (cover.rest == EXPR_TRUE)
        return 0;
    if (cover.rest == EXPR_FALSE)
        return add(all, to, (struct atom){.kind = A_MIN_ITEMS, .a = cover.n_prefix + 1}, NULL);
    struct atom atom = {.kind = A_CONTAINS, .a = 1, .b = UINT32_MAX, .r = cover.n_prefix};
    atom.e = schema_not(all, cover.rest);
    return add(all, to, atom, NULL);
}

static int negate_bound(struct schemas *all, struct atom atom, struct alternatives *to)
{
    bool min = atom.kind == A_MIN_ITEMS || atom.kind == A_MIN_KEYS;
    bool items = atom.kind == A_MIN_ITEMS || atom.kind == A_MAX_ITEMS;
    struct atom other = {.a = min ? atom.a - 1 : atom.a + 1};
    if (min)
        other.kind = items ? A_MAX_ITEMS : A_MAX_KEYS;
    else
        other.kind = items ? A_MIN_ITEMS : A_MIN_KEYS;
    return (min ? atom.a == 0 : atom.a == UINT32_MAX) ? 0 : add(all, to, other, NULL);
}

static int negate_contains(struct schemas *all, struct atom atom, struct alternatives *to)
{
    struct atom less = atom, more = atom;
    less.a = 0;
    less.b = atom.a - 1;
    more.a = atom.b + 1;
    more.b = UINT32_MAX;
    if (atom.a > 0 && add(all, to, less, NULL) != 0)
        return -1;
    return atom.b != UINT32_MAX ? add(all, to, more, NULL) : 0;
}

int schema_atom_negate(struct schemas *all, uint32_t id, struct alternatives *to)
{
    struct atom atom = all->atoms[id], lacks = {.kind = A_LACKS, .a = atom.a};
    const struct raw *raw;
    int known;
    switch (atom.kind) {
    case A_COVER:
        return negate_cover(all, atom.a, to);
    case A_NAMES:
        known = schema_raw(all, atom.e, &raw);
        if (known != 0)
            return known < 0
                       ? -1
                       : schema_refuse(all, false, "expected propertyNames that don't refer back");
        return add_witness(all, to, schema_string_not(all, raw->string), EXPR_TRUE);
    case A_HAS:
        if (add(all, to, lacks, NULL) != 0)
            return -1;
        return add_has(all, to, atom.a, schema_not(all, atom.e));
    case A_LACKS:
        return add_has(all, to, atom.a, EXPR_TRUE);
    case A_IF_HAS:
        return add_has(all, to, atom.a, schema_not(all, atom.e));
    case A_DEPENDS:
        lacks.a = atom.b;
        return add(all, to, (struct atom){.kind = A_HAS, .a = atom.a, .e = EXPR_TRUE}, &lacks);
    case A_MIN_KEYS:
    case A_MAX_KEYS:
    case A_MIN_ITEMS:
    case A_MAX_ITEMS:
        return negate_bound(all, atom, to);
    case A_ITEMS:
        return negate_items(all, atom.a, to);
    case A_CONTAINS:
        return negate_contains(all, atom, to);
    case A_UNIQUE:
        return schema_refuse(all, false, "expected no complement of uniqueItems, found one");
    case A_WITNESS:
    case A_WITNESSED:
    case A_ITEM:
        break;
    }
    return schema_refuse(all, false, "expected no complement of this, found one");
}
