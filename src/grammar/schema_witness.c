/* SPDX-License-Identifier: MIT */
/*
 * schema_witness.c: keys that must be there because some value must not satisfy a schema. Which key
 * it is makes alternatives.
 */
#include <string.h>

#include "grammar/schema_keys.h"

/* The alternative without atoms `at` and `and_at` (the same, if it is one), with others. */
static int with(struct schemas *all, const struct object_keys *m, uint32_t at, uint32_t and_at,
                const struct atom *others, uint32_t n, struct object_shapes *out, bool *maybe)
{
    struct arena_mark mark = arena_mark(&all->scratch);
    uint32_t *atoms = schema_alloc(all, &all->scratch, (size_t)m->of->n + n, sizeof *atoms);
    if (atoms == NULL)
        return -1;
    uint32_t kept = 0;
    for (uint32_t i = 0; i < m->of->n; i++)
        if (i != at && i != and_at)
            atoms[kept++] = m->of->atoms[i];
    for (uint32_t i = 0; i < n; i++)
        atoms[kept + i] = schema_atom(all, others[i]);
    struct alternative next = {.atoms = atoms, .n = kept + n};
    int result = all->failed ? -1 : schema_object(all, &next, out);
    *maybe |= result == 2;
    arena_release(all, &all->scratch, mark);
    return result;
}

int schema_keys_witness(struct schemas *all, struct object_keys *m, uint32_t at,
                        struct object_shapes *out)
{
    struct atom atom = all->atoms[m->of->atoms[at]];
    bool any = false, maybe = false;
    for (uint32_t i = 0; i < m->n; i++) {
        if (m->each[i].forbidden || !schema_matches(all, atom.r, m->each[i].name))
            continue;
        struct atom has[2] = {{.kind = A_HAS, .a = m->each[i].name, .e = EXPR_TRUE},
                              {.kind = A_HAS, .a = m->each[i].name, .e = atom.e}};
        int found = with(all, m, at, at, has, 2, out, &maybe);
        if (found < 0)
            return -1;
        any |= found == 1;
        if (any && out == NULL)
            return 1;
    }
    for (uint32_t i = 0; i < m->n_classes; i++) {
        struct atom one = {.kind = A_WITNESSED, .e = atom.e};
        one.r = schema_string_and(all, m->classes[i].keys, atom.r);
        if (one.r == REGEX_NONE)
            continue;
        int found = schema_keys_sat(all, m, schema_and(all, m->classes[i].value, atom.e));
        if (found > 0)
            found = with(all, m, at, at, &one, 1, out, &maybe);
        if (found < 0)
            return -1;
        any |= found == 1;
        if (any && out == NULL)
            return 1;
    }
    return any ? 1 : maybe ? 2 : 0;
}

int schema_keys_share(struct schemas *all, struct object_keys *m, struct object_shapes *out)
{
    bool any = false, maybe = false;
    for (uint32_t i = 0; i < m->of->n; i++)
        for (uint32_t k = i + 1; k < m->of->n; k++) {
            struct atom a = all->atoms[m->of->atoms[i]], b = all->atoms[m->of->atoms[k]];
            if (a.kind != A_WITNESSED || b.kind != A_WITNESSED)
                continue;
            struct atom both = {.kind = A_WITNESS, .e = schema_and(all, a.e, b.e)};
            both.r = schema_string_and(all, a.r, b.r);
            if (both.r == REGEX_NONE || both.e == EXPR_FALSE)
                continue;
            int found = with(all, m, i, k, &both, 1, out, &maybe);
            if (found < 0)
                return -1;
            any |= found == 1;
            if (any && out == NULL)
                return 1;
        }
    return any ? 1 : maybe ? 2 : 0;
}
