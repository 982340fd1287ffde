/* SPDX-License-Identifier: MIT */
/* schema_array.c: a set of atoms as the shape of an array, or that none satisfies it. */
#include <stdlib.h>
#include <string.h>

#include "grammar/schema_parts.h"

/* A shape while it is made. */
struct making {
    const struct alternative *of;
    expr *prefix; /* [n], scratch */
    uint32_t n;
    expr rest;
    uint32_t min, max;
    bool unique, maybe;
    struct contained *contains; /* [n_contains], scratch */
    uint32_t n_contains;
};

/* 1 or 0; notes what isn't known, which counts as 1. */
static int sat(struct schemas *all, struct making *m, expr e)
{
    int found = schema_sat(all, e);
    m->maybe |= found == 2;
    return found == 2 ? 1 : found;
}

/* Bounds, and how many items have exprs of their own. */
static int collect(struct schemas *all, struct making *m)
{
    for (uint32_t i = 0; i < m->of->n; i++) {
        const struct atom *atom = &all->atoms[m->of->atoms[i]];
        uint32_t n = 0;
        if (atom->kind == A_ITEMS)
            n = all->array_covers[atom->a].n_prefix;
        if (atom->kind == A_ITEM)
            n = atom->a + 1;
        if (atom->kind == A_CONTAINS)
            n = atom->r;
        if (n > SCHEMA_PREFIX)
            return schema_refuse(all, false, "expected at most %d items with schemas of their own",
                                 SCHEMA_PREFIX);
        m->n = n > m->n ? n : m->n;
        if (atom->kind == A_MIN_ITEMS && atom->a == UINT32_MAX)
            return schema_refuse(all, false, "expected minItems below 2^32 - 1");
        if (atom->kind == A_MIN_ITEMS || atom->kind == A_ITEM) {
            uint32_t min = atom->a + (atom->kind == A_ITEM);
            m->min = min > m->min ? min : m->min;
        }
        if (atom->kind == A_MAX_ITEMS)
            m->max = atom->a < m->max ? atom->a : m->max;
        m->unique |= atom->kind == A_UNIQUE;
        m->n_contains += atom->kind == A_CONTAINS;
    }
    return 0;
}

/* The exprs of items; contains of none says the same of every item. */
static int fill(struct schemas *all, struct making *m)
{
    m->prefix = schema_alloc(all, &all->scratch, m->n, sizeof *m->prefix);
    m->contains = schema_alloc(all, &all->scratch, m->n_contains, sizeof *m->contains);
    if (m->prefix == NULL || m->contains == NULL)
        return -1;
    m->n_contains = 0;
    for (uint32_t i = 0; i < m->n; i++)
        m->prefix[i] = EXPR_TRUE;
    for (uint32_t i = 0; i < m->of->n; i++) {
        struct atom atom = all->atoms[m->of->atoms[i]];
        if (atom.kind == A_ITEM)
            m->prefix[atom.a] = schema_and(all, m->prefix[atom.a], atom.e);
        if (atom.kind == A_CONTAINS && atom.b == 0 && atom.a == 0) {
            expr no = schema_not(all, atom.e);
            for (uint32_t k = atom.r; k < m->n; k++)
                m->prefix[k] = schema_and(all, m->prefix[k], no);
            m->rest = schema_and(all, m->rest, no);
        } else if (atom.kind == A_CONTAINS) {
            m->contains[m->n_contains++] =
                (struct contained){atom.e, schema_not(all, atom.e), atom.r, atom.a, atom.b};
        }
        if (atom.kind != A_ITEMS)
            continue;
        struct array_cover cover = all->array_covers[atom.a];
        for (uint32_t k = 0; k < m->n; k++)
            m->prefix[k] =
                schema_and(all, m->prefix[k], k < cover.n_prefix ? cover.prefix[k] : cover.rest);
        m->rest = schema_and(all, m->rest, cover.rest);
    }
    return all->failed ? -1 : schema_work(all, m->n);
}

/* Cuts off what no item satisfies. */
static int cut(struct schemas *all, struct making *m, bool full)
{
    for (uint32_t i = 0; i < m->n && i < m->max; i++) {
        if (!full && i >= m->min)
            break;
        int found = sat(all, m, m->prefix[i]);
        if (found < 0)
            return -1;
        if (found == 0)
            m->max = i;
    }
    if (m->max > m->n && (full || m->min > m->n)) {
        int found = sat(all, m, m->rest);
        if (found < 0)
            return -1;
        if (found == 0)
            m->max = m->n;
    }
    if (m->n >= m->max) {
        m->n = m->max;
        m->rest = EXPR_FALSE;
    }
    return m->min <= m->max;
}

/* ---- contains ------------------------------------------------------------------------------- */

/* Whether an item can satisfy `yes`, and whether it must. */
static int item_of(struct schemas *all, struct making *m, expr item, const struct contained *c,
                   bool *can, bool *must)
{
    int yes = sat(all, m, schema_and(all, item, c->yes));
    int no = yes < 0 ? -1 : sat(all, m, schema_and(all, item, c->no));
    *can = yes == 1;
    *must = no == 0;
    return no < 0 ? -1 : 0;
}

/* Fits the bounds to one `contains`; *says: whether they don't say it all. */
static int fit(struct schemas *all, struct making *m, const struct contained *c, bool *says)
{
    uint32_t could = 0, musts = 0, shortest = c->min == 0 ? 0 : UINT32_MAX;
    bool can, must, every_must = true, any_can = false;
    for (uint32_t i = c->from; i < m->n; i++) {
        if (item_of(all, m, m->prefix[i], c, &can, &must) != 0)
            return -1;
        could += can;
        if (can && could == c->min)
            shortest = i + 1;
        if (must && musts++ == c->max)
            m->max = i < m->max ? i : m->max;
        every_must &= must;
        any_can |= can;
    }
    if (m->max > m->n) {
        if (item_of(all, m, m->rest, c, &can, &must) != 0)
            return -1;
        if (can && shortest == UINT32_MAX && c->min - could < UINT32_MAX - m->n)
            shortest = m->n + (c->min - could);
        if (must && c->max != UINT32_MAX) {
            uint64_t most = (uint64_t)m->n + (c->max > musts ? c->max - musts : 0);
            m->max = most < m->max ? (uint32_t)most : m->max;
        }
        every_must &= must;
        any_can |= can;
    }
    m->min = shortest > m->min ? shortest : m->min;
    *says = any_can && !every_must;
    return m->min <= m->max && m->min != UINT32_MAX;
}

static int contain(struct schemas *all, struct making *m)
{
    uint32_t kept = 0;
    uint64_t needed = 0;
    bool limited = false;
    for (uint32_t i = 0; i < m->n_contains; i++) {
        struct contained c = m->contains[i];
        bool says;
        int fits = c.min > c.max ? 0 : fit(all, m, &c, &says);
        if (fits != 1)
            return fits;
        if (says)
            m->contains[kept++] = c;
        needed += says ? c.min : 0;
        limited |= says && c.max != UINT32_MAX;
    }
    m->n_contains = kept;
    if (kept < 2)
        return 1;
    if (m->max == 1) { /* the one item satisfies them all */
        expr item = m->n > 0 ? m->prefix[0] : m->rest;
        for (uint32_t i = 0; i < kept; i++)
            item = schema_and(all, item, m->contains[i].min > 0 ? m->contains[i].yes : EXPR_TRUE);
        expr *prefix = schema_alloc(all, &all->scratch, 1, sizeof *prefix);
        if (prefix == NULL)
            return -1;
        prefix[0] = item;
        m->prefix = prefix;
        m->n = 1;
        m->n_contains = 0;
        m->rest = EXPR_FALSE;
        int found = sat(all, m, item);
        if (found == 0 && m->min == 0) {
            m->max = m->n = 0;
            return 1;
        }
        return found;
    }
    /* Several need items each; with enough of the rest there is no question. */
    bool enough = !limited && needed <= (uint64_t)m->max - m->n;
    for (uint32_t i = 0; i < kept && enough; i++) {
        int found = sat(all, m, schema_and(all, m->rest, m->contains[i].yes));
        if (found < 0)
            return -1;
        enough = found == 1;
    }
    if (!enough)
        return schema_refuse(all, false,
                             "expected one contains, or several that any further items "
                             "may satisfy, found %u",
                             kept);
    return 1;
}

/* ---- uniqueItems ---------------------------------------------------------------------------- */

/* How many different scalars there are, up to `limit`; -1 where it may be an array or an object. */
static int64_t distinct(struct schemas *all, expr e, size_t limit)
{
    const struct raw *raw;
    int known = schema_raw(all, e, &raw);
    if (known != 0)
        return known == 2 ? (int64_t)limit : -1;
    struct alternatives shapes[2] = {raw->arrays, raw->objects};
    for (int i = 0; i < 2; i++)
        for (uint32_t k = 0; k < shapes[i].n; k++) {
            int found = i == 0 ? schema_array(all, &shapes[i].each[k], NULL)
                               : schema_object(all, &shapes[i].each[k], NULL);
            if (found < 0)
                return -1;
            if (found != 0)
                return schema_refuse(all, false,
                                     "expected uniqueItems of scalars, found items "
                                     "that may be arrays or objects");
        }
    size_t n = (size_t)raw->null + raw->no + raw->yes;
    n += regex_count(all->regexes, raw->string, limit);
    regex numbers = schema_number_said(all, raw);
    n += raw->number == all->number_all || raw->number == all->integers
             ? limit
             : regex_count(all->regexes, regex_and(all->regexes, numbers, all->canonical), limit);
    return (int64_t)(n < limit ? n : limit);
}

static int differ(struct schemas *all, struct making *m, bool full)
{
    enum { MANY = 4096 };
    if (m->max <= 1 || (!full && m->min <= 1)) {
        m->unique = m->max > 1;
        return 1;
    }
    /* More values than there are items with schemas of their own always leave one. */
    for (uint32_t i = 0; i < m->n; i++) {
        size_t limit = (size_t)m->n + m->min < MANY ? MANY : (size_t)m->n + m->min + 1;
        int64_t n = distinct(all, m->prefix[i], limit);
        if (n < 0)
            return -1;
        if (n < (int64_t)limit)
            return schema_refuse(all, false,
                                 "expected uniqueItems of items that have many "
                                 "values, found %lld for item %u",
                                 (long long)n, i);
    }
    if (m->max == m->n)
        return 1;
    size_t limit = m->max != UINT32_MAX && m->max < 1 << 20 ? (size_t)m->max + m->n + 1 : MANY;
    if (m->min + (size_t)1 > limit)
        limit = m->min + (size_t)1;
    int64_t n = distinct(all, m->rest, limit);
    if (n < 0)
        return -1;
    if (n >= (int64_t)limit)
        return 1;
    if (m->n > 0)
        return schema_refuse(all, false,
                             "expected uniqueItems of items that have many values, "
                             "found %lld for those behind the first %u",
                             (long long)n, m->n);
    m->max = (uint32_t)n < m->max ? (uint32_t)n : m->max;
    for (uint32_t i = 0; i < m->n_contains; i++) {
        int64_t yes = distinct(all, schema_and(all, m->rest, m->contains[i].yes), limit);
        int64_t no = distinct(all, schema_and(all, m->rest, m->contains[i].no), limit);
        if (yes < 0 || no < 0)
            return -1;
        if (yes < m->contains[i].min)
            return 0;
        if (m->contains[i].max < UINT32_MAX && no + m->contains[i].max < m->max)
            m->max = (uint32_t)(no + m->contains[i].max);
    }
    return m->min <= m->max;
}

/* ---- the whole ------------------------------------------------------------------------------ */

static int add_shape(struct schemas *all, struct making *m, struct array_shapes *out)
{
    while (m->n > 0 && m->prefix[m->n - 1] == m->rest && m->max > m->n && m->n_contains == 0)
        m->n--;
    struct array_shape *shape = schema_alloc(all, &all->kept, 1, sizeof *shape);
    expr *prefix = schema_alloc(all, &all->kept, m->n, sizeof *prefix);
    struct contained *contains = schema_alloc(all, &all->kept, m->n_contains, sizeof *contains);
    if (shape == NULL || prefix == NULL || contains == NULL ||
        schema_grow(all, &out->each, out->n, &out->room, sizeof *out->each) != 0)
        return -1;
    if (m->n > 0)
        memcpy(prefix, m->prefix, m->n * sizeof *prefix);
    if (m->n_contains > 0)
        memcpy(contains, m->contains, m->n_contains * sizeof *contains);
    *shape = (struct array_shape){
        .prefix = prefix,
        .n_prefix = m->n,
        .rest = m->rest,
        .min = m->min,
        .max = m->max,
        .unique = m->unique,
        .contains = contains,
        .n_contains = m->n_contains,
    };
    out->each[out->n++] = shape;
    return 1;
}

int schema_array(struct schemas *all, const struct alternative *alternative,
                 struct array_shapes *out)
{
    struct making m = {.of = alternative, .rest = EXPR_TRUE, .max = UINT32_MAX};
    struct arena_mark mark = arena_mark(&all->scratch);
    int result = collect(all, &m);
    if (result == 0)
        result = fill(all, &m);
    if (result == 0) {
        bool full = out != NULL || m.n_contains > 0 || m.unique;
        result = cut(all, &m, full);
        if (result == 1 && m.n_contains > 0)
            result = contain(all, &m);
        if (result == 1 && m.unique)
            result = differ(all, &m, out != NULL);
        if (result == 1 && full && m.n >= m.max) {
            m.n = m.max;
            m.rest = EXPR_FALSE;
        }
        if (result == 1 && out != NULL)
            result = add_shape(all, &m, out);
    }
    arena_release(all, &all->scratch, mark);
    return result == 1 && m.maybe ? 2 : result;
}
