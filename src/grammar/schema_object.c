/* SPDX-License-Identifier: MIT */
/* schema_object.c: a set of atoms as shapes of an object, or that none satisfies it. */
#include <stdlib.h>
#include <string.h>

#include "grammar/schema_keys.h"
#include "grammar/schema_parts.h"

/* ---- keys with names ------------------------------------------------------------------------ */

int schema_keys_sat(struct schemas *all, struct object_keys *m, expr e)
{
    int found = schema_sat(all, e);
    m->maybe |= found == 2;
    return found == 2 ? 1 : found;
}

int schema_keys_add(struct schemas *all, struct object_keys *m, uint32_t name)
{
    if (schema_grow(all, &m->each, m->n, &m->room, sizeof *m->each) != 0)
        return -1;
    m->each[m->n++] = (struct object_key){.name = name, .value = EXPR_TRUE};
    return 0;
}

static int compare_names(const void *a, const void *b)
{
    const struct object_key *x = a, *y = b;
    return (x->name > y->name) - (x->name < y->name);
}

struct object_key *schema_keys_find(const struct object_keys *m, uint32_t name)
{
    struct object_key key = {.name = name};
    return m->n == 0 ? NULL : bsearch(&key, m->each, m->n, sizeof key, compare_names);
}

static int collect(struct schemas *all, struct object_keys *m)
{
    const struct alternative *of = m->of;
    m->allowed = all->string_all;
    m->max = UINT32_MAX;
    for (uint32_t i = 0; i < of->n; i++) {
        struct atom atom = all->atoms[of->atoms[i]];
        const struct raw *raw;
        switch (atom.kind) {
        case A_NAMES: {
            int known = schema_raw(all, atom.e, &raw);
            if (known < 0)
                return -1;
            m->maybe |= known == 2;
            if (known == 0)
                m->allowed = schema_string_and(all, m->allowed, raw->string);
            break;
        }
        case A_HAS:
        case A_LACKS:
        case A_IF_HAS:
            if (schema_keys_add(all, m, atom.a) != 0)
                return -1;
            break;
        case A_DEPENDS:
            if (schema_keys_add(all, m, atom.a) != 0 || schema_keys_add(all, m, atom.b) != 0)
                return -1;
            break;
        case A_MIN_KEYS:
            m->min = atom.a > m->min ? atom.a : m->min;
            break;
        case A_MAX_KEYS:
            m->max = atom.a < m->max ? atom.a : m->max;
            break;
        case A_WITNESS:
        case A_WITNESSED:
            m->n_witnesses++;
            break;
        default:
            break;
        }
    }
    return m->min <= m->max;
}

static int add_covered(struct schemas *all, struct object_keys *m)
{
    for (uint32_t i = 0; i < m->of->n; i++) {
        struct atom atom = all->atoms[m->of->atoms[i]];
        if (atom.kind != A_COVER)
            continue;
        struct object_cover cover = all->object_covers[atom.a];
        for (uint32_t k = 0; k < cover.n_names; k++)
            if (schema_keys_add(all, m, cover.names[k]) != 0)
                return -1;
    }
    return 0;
}

static void sort_names(struct object_keys *m)
{
    uint32_t n = 0;
    if (m->n > 0)
        qsort(m->each, m->n, sizeof *m->each, compare_names);
    for (uint32_t i = 0; i < m->n; i++)
        if (n == 0 || m->each[n - 1].name != m->each[i].name)
            m->each[n++] = m->each[i];
    m->n = n;
}

/* What is said of each key. */
static int fill(struct schemas *all, struct object_keys *m)
{
    for (uint32_t i = 0; i < m->of->n; i++) {
        struct atom atom = all->atoms[m->of->atoms[i]];
        struct object_key *key = NULL;
        if (atom.kind == A_HAS || atom.kind == A_LACKS || atom.kind == A_IF_HAS)
            key = schema_keys_find(m, atom.a);
        if ((atom.kind == A_HAS || atom.kind == A_IF_HAS) && key != NULL) {
            key->required |= atom.kind == A_HAS;
            key->value = schema_and(all, key->value, atom.e);
        }
        if (atom.kind == A_LACKS && key != NULL)
            key->forbidden = true;
        for (uint32_t k = 0; atom.kind == A_COVER && k < m->n; k++)
            if (m->each[k].value != EXPR_FALSE)
                m->each[k].value =
                    schema_and(all, m->each[k].value, schema_covered(all, atom.a, m->each[k].name));
        if (schema_work(all, atom.kind == A_COVER ? 1 + m->n / 4 : 1) != 0)
            return -1;
    }
    for (uint32_t i = 0; i < m->n; i++) {
        struct object_key *key = &m->each[i];
        if (m->allowed != all->string_all && !schema_matches(all, m->allowed, key->name))
            key->forbidden = true;
        if (key->required && (key->forbidden || key->value == EXPR_FALSE))
            return 0;
    }
    for (uint32_t i = 0; i < m->n; i++) {
        struct object_key *key = &m->each[i];
        int found = key->forbidden ? 0 : schema_keys_sat(all, m, key->value);
        if (found < 0)
            return -1;
        key->forbidden = found == 0;
        if (key->required && key->forbidden)
            return 0;
    }
    return 1;
}

/* ---- dependencies --------------------------------------------------------------------------- */

static int depend(struct schemas *all, struct object_keys *m)
{
    for (bool again = true; again;) {
        again = false;
        for (uint32_t i = 0; i < m->of->n; i++) {
            struct atom atom = all->atoms[m->of->atoms[i]];
            if (atom.kind != A_DEPENDS)
                continue;
            struct object_key *a = schema_keys_find(m, atom.a), *b = schema_keys_find(m, atom.b);
            if (a->required && !b->required)
                b->required = again = true;
            if (b->forbidden && !a->forbidden)
                a->forbidden = again = true;
            if (a->forbidden && a->required)
                return 0;
        }
        if (schema_work(all, m->of->n) != 0)
            return -1;
    }
    m->n_required = 0;
    for (uint32_t i = 0; i < m->n; i++)
        m->n_required += m->each[i].required;
    return m->n_required <= m->max;
}

/* How many keys there are with this one and all that it needs. */
static uint32_t closure(struct schemas *all, const struct object_keys *m, uint32_t key, bool *in)
{
    uint32_t n = m->n_required + !m->each[key].required;
    for (uint32_t i = 0; i < m->n; i++)
        in[i] = m->each[i].required || i == key;
    for (bool again = true; again;) {
        again = false;
        for (uint32_t i = 0; i < m->of->n; i++) {
            const struct atom *atom = &all->atoms[m->of->atoms[i]];
            if (atom->kind != A_DEPENDS)
                continue;
            size_t a = (size_t)(schema_keys_find(m, atom->a) - m->each);
            size_t b = (size_t)(schema_keys_find(m, atom->b) - m->each);
            if (in[a] && !in[b]) {
                in[b] = again = true;
                n++;
            }
        }
    }
    return n;
}

/* Leaves out keys for which there is no room, with what they need. */
static int make_room(struct schemas *all, struct object_keys *m)
{
    uint32_t offered = 0;
    for (uint32_t i = 0; i < m->n; i++)
        offered += !m->each[i].forbidden;
    if (offered <= m->max)
        return 1;
    bool *in = schema_alloc(all, &all->scratch, m->n, sizeof *in);
    if (in == NULL)
        return -1;
    for (uint32_t i = 0; i < m->n; i++) {
        if (!m->each[i].forbidden && !m->each[i].required && closure(all, m, i, in) > m->max)
            m->each[i].forbidden = true;
        if (schema_work(all, m->of->n + m->n / 4) != 0)
            return -1;
    }
    return depend(all, m);
}

/* ---- the shape ------------------------------------------------------------------------------ */

static int fit(struct object_keys *m)
{
    uint32_t offered = 0, others = m->n_witnesses > 0;
    for (uint32_t i = 0; i < m->n; i++)
        offered += !m->each[i].forbidden;
    if (m->n_classes == 0)
        m->max = offered < m->max ? offered : m->max;
    if (m->n_required + others > m->min)
        m->min = m->n_required + others;
    if (m->min > m->max)
        return 0;
    if (m->max == m->n_required) { /* nothing else fits */
        for (uint32_t i = 0; i < m->n; i++)
            m->each[i].forbidden |= !m->each[i].required;
        m->n_classes = 0;
    }
    return 1;
}

static int compare_keys(const void *a, const void *b)
{
    const struct property *x = a, *y = b;
    size_t n = x->n < y->n ? x->n : y->n;
    int order = n > 0 ? memcmp(x->key, y->key, n) : 0;
    return order != 0 ? order : (x->n > y->n) - (x->n < y->n);
}

static uint32_t index_of(const struct schemas *all, const struct object_shape *shape, uint32_t name)
{
    struct property key = {.key = all->names[name].bytes, .n = all->names[name].n};
    const struct property *found =
        bsearch(&key, shape->properties, shape->n_properties, sizeof key, compare_keys);
    return found == NULL ? UINT32_MAX : (uint32_t)(found - shape->properties);
}

static int add_dependencies(struct schemas *all, struct object_keys *m, struct object_shape *shape)
{
    uint32_t n = 0;
    for (uint32_t i = 0; i < m->of->n; i++)
        n += all->atoms[m->of->atoms[i]].kind == A_DEPENDS;
    shape->dependencies = schema_alloc(all, &all->kept, n, sizeof *shape->dependencies);
    if (shape->dependencies == NULL)
        return -1;
    for (uint32_t i = 0; i < m->of->n; i++) {
        struct atom atom = all->atoms[m->of->atoms[i]];
        if (atom.kind != A_DEPENDS)
            continue;
        struct dependency d = {index_of(all, shape, atom.a), index_of(all, shape, atom.b)};
        if (d.if_has != UINT32_MAX && d.needs != UINT32_MAX && !shape->properties[d.needs].required)
            shape->dependencies[shape->n_dependencies++] = d;
    }
    return 0;
}

static int add_witnesses(struct schemas *all, struct object_keys *m, struct object_shape *shape)
{
    if (m->n_witnesses > SCHEMA_WITNESSES)
        return schema_refuse(all, false,
                             "expected at most %d keys that don't satisfy other "
                             "schemas, found %u",
                             SCHEMA_WITNESSES, m->n_witnesses);
    shape->witnesses = schema_alloc(all, &all->kept, m->n_witnesses, sizeof *shape->witnesses);
    if (shape->witnesses == NULL)
        return -1;
    for (uint32_t i = 0; i < m->of->n; i++) {
        struct atom atom = all->atoms[m->of->atoms[i]];
        for (uint32_t k = 0; atom.kind == A_WITNESSED && k < m->n_classes; k++) {
            regex keys = schema_string_and(all, m->classes[k].keys, atom.r);
            if (keys != REGEX_NONE)
                shape->witnesses[shape->n_witnesses++] = (struct witness){k, keys, atom.e};
            if (keys != REGEX_NONE)
                break;
        }
    }
    return shape->n_witnesses == m->n_witnesses;
}

static int add_shape(struct schemas *all, struct object_keys *m, struct object_shapes *out)
{
    struct object_shape *shape = schema_alloc(all, &all->kept, 1, sizeof *shape);
    struct property *properties = schema_alloc(all, &all->kept, m->n, sizeof *properties);
    struct key_class *classes = schema_alloc(all, &all->kept, m->n_classes, sizeof *classes);
    if (shape == NULL || properties == NULL || classes == NULL)
        return -1;
    uint32_t n = 0;
    for (uint32_t i = 0; i < m->n; i++)
        if (!m->each[i].forbidden)
            properties[n++] =
                (struct property){all->names[m->each[i].name].bytes, all->names[m->each[i].name].n,
                                  m->each[i].value, m->each[i].required};
    if (n > 0)
        qsort(properties, n, sizeof *properties, compare_keys);
    if (m->n_classes > 0)
        memcpy(classes, m->classes, m->n_classes * sizeof *classes);
    *shape = (struct object_shape){
        .properties = properties,
        .n_properties = n,
        .classes = classes,
        .n_classes = m->n_classes,
        .min = m->min,
        .max = m->max,
    };
    if (add_dependencies(all, m, shape) != 0)
        return -1;
    int result = add_witnesses(all, m, shape);
    if (result != 1)
        return result;
    if (schema_grow(all, &out->each, out->n, &out->room, sizeof *out->each) != 0)
        return -1;
    out->each[out->n++] = shape;
    return 1;
}

static int whole(struct schemas *all, struct object_keys *m, struct object_shapes *out)
{
    int result = collect(all, m);
    if (result != 1)
        return result;
    bool full = out != NULL || m->n_witnesses > 0 || m->min > 0;
    if (full && add_covered(all, m) != 0)
        return -1;
    sort_names(m);
    result = fill(all, m);
    if (result == 1)
        result = depend(all, m);
    if (result != 1 || (!full || (out == NULL && m->n_witnesses == 0 && m->min <= m->n_required)))
        return result;
    result = schema_keys_classes(all, m);
    if (result == 1)
        result = make_room(all, m);
    for (uint32_t i = 0; result == 1 && i < m->of->n; i++)
        if (all->atoms[m->of->atoms[i]].kind == A_WITNESS)
            return schema_keys_witness(all, m, i, out);
    if (result == 1 && m->n_witnesses > 1 && m->max - m->n_required < m->n_witnesses)
        return schema_keys_share(all, m, out);
    if (result == 1)
        result = fit(m);
    return result == 1 && out != NULL ? add_shape(all, m, out) : result;
}

int schema_object(struct schemas *all, const struct alternative *alternative,
                  struct object_shapes *out)
{
    struct object_keys m = {.of = alternative};
    struct arena_mark mark = arena_mark(&all->scratch);
    int result = whole(all, &m, out);
    arena_release(all, &all->scratch, mark);
    free(m.each);
    free(m.classes);
    return result == 1 && m.maybe ? 2 : result;
}
