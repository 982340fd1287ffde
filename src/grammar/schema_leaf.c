/* SPDX-License-Identifier: MIT */
/*
 * schema_leaf.c: one schema of the document, or what doesn't satisfy it. Its own keywords restrict
 * one type each; those that hold further schemas for the same value become exprs.
 */
#include <stdlib.h>
#include <string.h>

#include "base/json.h"
#include "grammar/schema_parts.h"

/* ---- lists ---------------------------------------------------------------------------------- */

struct list {
    uint32_t *ids; /* [n], malloc */
    uint32_t n, room;
};

static int push(struct schemas *all, struct list *list, uint32_t id)
{
    if (all->failed || schema_grow(all, &list->ids, list->n, &list->room, sizeof *list->ids) != 0)
        return -1;
    list->ids[list->n++] = id;
    return 0;
}

static int push_atom(struct schemas *all, struct list *list, struct atom atom)
{
    return push(all, list, schema_atom(all, atom));
}

static uint32_t count(const json_t *json, const char *key, uint32_t otherwise)
{
    const json_t *value = json_object_get(json, key);
    double found = json_number_value(value);
    if (value == NULL)
        return otherwise;
    return found >= (double)UINT32_MAX ? UINT32_MAX : (uint32_t)found;
}

/* ---- keywords of arrays and objects --------------------------------------------------------- */

static int array_atoms(struct schemas *all, uint32_t node, struct list *atoms)
{
    json_t *json = all->nodes[node].json;
    const json_t *contains = json_object_get(json, "contains");
    uint32_t min = count(json, "minItems", 0), max = count(json, "maxItems", UINT32_MAX);
    if (json_object_get(json, "items") != NULL || json_object_get(json, "prefixItems") != NULL) {
        uint32_t cover = schema_array_cover(all, json, COVER_SCHEMA);
        if (cover == UINT32_MAX ||
            push_atom(all, atoms, (struct atom){.kind = A_ITEMS, .a = cover}) != 0)
            return -1;
    }
    if (json_object_get(json, "unevaluatedItems") != NULL) {
        uint32_t cover = schema_array_cover(all, json, COVER_UNEVALUATED);
        if (cover == UINT32_MAX ||
            push_atom(all, atoms, (struct atom){.kind = A_ITEMS, .a = cover}) != 0)
            return -1;
    }
    if (min > 0 && push_atom(all, atoms, (struct atom){.kind = A_MIN_ITEMS, .a = min}) != 0)
        return -1;
    if (max != UINT32_MAX &&
        push_atom(all, atoms, (struct atom){.kind = A_MAX_ITEMS, .a = max}) != 0)
        return -1;
    if (json_is_true(json_object_get(json, "uniqueItems")) &&
        push_atom(all, atoms, (struct atom){.kind = A_UNIQUE}) != 0)
        return -1;
    if (contains == NULL)
        return 0;
    struct atom atom = {.kind = A_CONTAINS,
                        .a = count(json, "minContains", 1),
                        .b = count(json, "maxContains", UINT32_MAX)};
    atom.e = schema_leaf(all, json_object_get(json, "contains"));
    return atom.a > 0 || atom.b != UINT32_MAX ? push_atom(all, atoms, atom) : 0;
}

/* The keys that a key needs, of dependentRequired or dependencies. */
static int needs(struct schemas *all, const json_t *map, struct list *atoms)
{
    const char *key;
    json_t *value, *item;
    size_t i;
    json_object_foreach((json_t *)map, key, value)
    {
        struct atom atom = {.kind = A_DEPENDS, .a = schema_name(all, key, strlen(key))};
        if (json_is_string(value)) {
            atom.b = schema_name(all, json_string_value(value), json_string_length(value));
            if (push_atom(all, atoms, atom) != 0)
                return -1;
        }
        json_array_foreach(value, i, item)
        {
            atom.b = schema_name(all, json_string_value(item), json_string_length(item));
            if (atom.a != atom.b && push_atom(all, atoms, atom) != 0)
                return -1;
        }
    }
    return 0;
}

static int object_atoms(struct schemas *all, uint32_t node, struct list *atoms)
{
    json_t *json = all->nodes[node].json, *item;
    const json_t *properties = json_object_get(json, "properties");
    const json_t *patterns = json_object_get(json, "patternProperties");
    const json_t *other = json_object_get(json, "additionalProperties");
    uint32_t min = count(json, "minProperties", 0), max = count(json, "maxProperties", UINT32_MAX);
    size_t i;
    if (json_object_size(properties) > 0 || json_object_size(patterns) > 0 ||
        (other != NULL &&
         schema_leaf(all, json_object_get(json, "additionalProperties")) != EXPR_TRUE)) {
        uint32_t cover = schema_object_cover(all, json, COVER_SCHEMA);
        if (cover == UINT32_MAX ||
            push_atom(all, atoms, (struct atom){.kind = A_COVER, .a = cover}) != 0)
            return -1;
    }
    if (json_object_get(json, "unevaluatedProperties") != NULL) {
        uint32_t cover = schema_object_cover(all, json, COVER_UNEVALUATED);
        if (cover == UINT32_MAX ||
            push_atom(all, atoms, (struct atom){.kind = A_COVER, .a = cover}) != 0)
            return -1;
    }
    if (json_object_get(json, "propertyNames") != NULL) {
        struct atom atom = {.kind = A_NAMES,
                            .e = schema_leaf(all, json_object_get(json, "propertyNames"))};
        if (atom.e != EXPR_TRUE && push_atom(all, atoms, atom) != 0)
            return -1;
    }
    json_array_foreach(json_object_get(json, "required"), i, item)
    {
        uint32_t name = schema_name(all, json_string_value(item), json_string_length(item));
        if (push_atom(all, atoms, (struct atom){.kind = A_HAS, .a = name, .e = EXPR_TRUE}) != 0)
            return -1;
    }
    if (min > 0 && push_atom(all, atoms, (struct atom){.kind = A_MIN_KEYS, .a = min}) != 0)
        return -1;
    if (max != UINT32_MAX &&
        push_atom(all, atoms, (struct atom){.kind = A_MAX_KEYS, .a = max}) != 0)
        return -1;
    return needs(all, json_object_get(json, "dependentRequired"), atoms) != 0 ||
                   needs(all, json_object_get(json, "dependencies"), atoms) != 0
               ? -1
               : 0;
}

/* ---- schemas for the same value ------------------------------------------------------------- */

/* Which pairs of n exprs share values, as far as is known: [n][n]. */
static int overlaps(struct schemas *all, const expr *exprs, uint32_t n, bool *shared)
{
    for (uint32_t i = 0; i < n; i++)
        for (uint32_t k = i + 1; k < n; k++) {
            const struct raw *a, *b;
            int known = schema_raw(all, exprs[i], &a);
            if (known == 0)
                known = schema_raw(all, exprs[k], &b);
            if (known == -1)
                return -1;
            int found = known == 0 ? raw_overlap(all, a, b) : 2;
            if (schema_work(all, 1) != 0)
                return -1;
            shared[i * n + k] = shared[k * n + i] = found != 0;
        }
    return 0;
}

/* oneOf: each schema without the values that others allow. */
static expr just_one(struct schemas *all, const expr *exprs, uint32_t n, const bool *shared)
{
    struct list one = {0}, any = {0};
    for (uint32_t i = 0; i < n; i++) {
        one.n = 0;
        push(all, &one, exprs[i]);
        for (uint32_t k = 0; k < n; k++)
            if (k != i && shared[i * n + k])
                push(all, &one, schema_not(all, exprs[k]));
        push(all, &any, schema_all(all, one.ids, one.n));
    }
    expr result = all->failed ? EXPR_FALSE : schema_any(all, any.ids, any.n);
    free(one.ids);
    free(any.ids);
    return result;
}

/* The complement: none of them, or two. */
static expr none_or_two(struct schemas *all, const expr *exprs, uint32_t n, const bool *shared)
{
    struct list any = {0};
    push(all, &any, schema_not(all, schema_any(all, exprs, n)));
    for (uint32_t i = 0; i < n; i++)
        for (uint32_t k = i + 1; k < n; k++)
            if (shared[i * n + k])
                push(all, &any, schema_and(all, exprs[i], exprs[k]));
    expr result = all->failed ? EXPR_FALSE : schema_any(all, any.ids, any.n);
    free(any.ids);
    return result;
}

static int one_of(struct schemas *all, const json_t *schemas, bool negated, expr *out)
{
    struct list exprs = {0};
    size_t i;
    json_t *schema;
    int result = -1;
    json_array_foreach((json_t *)schemas, i, schema)
    {
        expr e = schema_leaf(all, schema);
        if (e != EXPR_FALSE)
            push(all, &exprs, e);
    }
    size_t cells = (size_t)exprs.n * exprs.n;
    struct arena_mark mark = arena_mark(&all->scratch);
    bool *shared = all->failed || exprs.n > 4096
                       ? NULL
                       : schema_alloc(all, &all->scratch, cells, sizeof *shared);
    if (shared != NULL && overlaps(all, exprs.ids, exprs.n, shared) == 0) {
        *out = (negated ? none_or_two : just_one)(all, exprs.ids, exprs.n, shared);
        result = all->failed ? -1 : 0;
    } else if (exprs.n > 4096) {
        schema_refuse(all, false, "expected at most 4096 schemas in oneOf, found %u", exprs.n);
    }
    arena_release(all, &all->scratch, mark);
    free(exprs.ids);
    return result;
}

static expr conditional(struct schemas *all, json_t *json)
{
    json_t *then = json_object_get(json, "then"), *other = json_object_get(json, "else");
    expr e = schema_leaf(all, json_object_get(json, "if")), no = schema_not(all, e);
    if (then == NULL && other == NULL)
        return EXPR_TRUE;
    if (other == NULL)
        return schema_or(all, no, schema_leaf(all, then));
    if (then == NULL)
        return schema_or(all, e, schema_leaf(all, other));
    return schema_or(all, schema_and(all, e, schema_leaf(all, then)),
                     schema_and(all, no, schema_leaf(all, other)));
}

/* Schemas that hold where a key is there. */
static int dependent(struct schemas *all, const json_t *map, struct list *subs)
{
    const char *key;
    json_t *value;
    json_object_foreach((json_t *)map, key, value)
    {
        if (json_is_array(value) || json_is_string(value))
            continue;
        uint32_t atom = schema_atom(
            all, (struct atom){.kind = A_LACKS, .a = schema_name(all, key, strlen(key))});
        if (push(all, subs, schema_or(all, schema_atom_expr(all, atom), schema_leaf(all, value))) !=
            0)
            return -1;
    }
    return 0;
}

/* The exprs that must hold besides a schema's own keywords; of oneOf `last`, negated if asked. */
static int further(struct schemas *all, uint32_t node, bool negated, struct list *subs,
                   bool *has_last, expr *last)
{
    json_t *json = all->nodes[node].json, *item;
    json_t *constant = json_object_get(json, "const"), *list = json_object_get(json, "enum");
    json_t *any_of = json_object_get(json, "anyOf"), *one = json_object_get(json, "oneOf");
    size_t i;
    *has_last = false;
    if (all->nodes[node].target != NODE_NONE) {
        if (push(all, subs, schema_target(all, all->nodes[node].target)) != 0)
            return -1;
        if (all->old)
            return 0;
    }
    if (all->nodes[node].dynamic != NODE_NONE &&
        push(all, subs, schema_target(all, all->nodes[node].dynamic)) != 0)
        return -1;
    if (constant != NULL && push(all, subs, schema_constant(all, constant, false)) != 0)
        return -1;
    if (list != NULL && push(all, subs, schema_constant(all, list, true)) != 0)
        return -1;
    json_array_foreach(json_object_get(json, "allOf"), i, item)
    {
        if (push(all, subs, schema_leaf(all, item)) != 0)
            return -1;
    }

    if (any_of != NULL) {
        struct list any = {0};
        json_array_foreach(any_of, i, item)
        {
            push(all, &any, schema_leaf(all, item));
        }

        expr e = all->failed ? EXPR_FALSE : schema_any(all, any.ids, any.n);
        free(any.ids);
        if (push(all, subs, e) != 0)
            return -1;
    }
    if (json_object_get(json, "not") != NULL &&
        push(all, subs, schema_not(all, schema_leaf(all, json_object_get(json, "not")))) != 0)
        return -1;
    if (json_object_get(json, "if") != NULL && push(all, subs, conditional(all, json)) != 0)
        return -1;
    if (dependent(all, json_object_get(json, "dependentSchemas"), subs) != 0 ||
        dependent(all, json_object_get(json, "dependencies"), subs) != 0)
        return -1;
    *has_last = one != NULL;
    return one != NULL ? one_of(all, one, negated, last) : 0;
}

/* ---- the whole ------------------------------------------------------------------------------ */

/* What doesn't satisfy a schema's own keywords. */
static int complement(struct schemas *all, struct raw *out, unsigned types,
                      const struct list *arrays, const struct list *objects)
{
    out->null = !out->null;
    out->no = !out->no;
    out->yes = !out->yes;
    out->number = schema_number_not(all, out->number);
    out->integer = false;
    out->string = schema_string_not(all, out->string);
    if ((types & T_ARRAY) == 0 && alternatives_add_all(all, &out->arrays) != 0)
        return -1;
    if ((types & T_OBJECT) == 0 && alternatives_add_all(all, &out->objects) != 0)
        return -1;
    for (uint32_t i = 0; (types & T_ARRAY) != 0 && i < arrays->n; i++)
        if (schema_atom_negate(all, arrays->ids[i], &out->arrays) != 0)
            return -1;
    for (uint32_t i = 0; (types & T_OBJECT) != 0 && i < objects->n; i++)
        if (schema_atom_negate(all, objects->ids[i], &out->objects) != 0)
            return -1;
    return 0;
}

static bool empty(const struct raw *raw)
{
    return !raw->null && !raw->no && !raw->yes && raw->number == REGEX_NONE &&
           raw->string == REGEX_NONE && raw->arrays.n == 0 && raw->objects.n == 0;
}

static int combine(struct schemas *all, struct raw *out, expr e, bool negated)
{
    const struct raw *raw;
    int known = schema_raw(all, e, &raw);
    if (known != 0)
        return known;
    return negated ? raw_or(all, out, raw) : raw_and(all, out, raw);
}

int schema_leaf_raw(struct schemas *all, uint32_t node, bool negated, struct raw *out)
{
    struct list arrays = {0}, objects = {0}, subs = {0};
    unsigned types = schema_types(json_object_get(all->nodes[node].json, "type"));
    bool alone = all->old && all->nodes[node].target != NODE_NONE, has_last = false;
    expr last = EXPR_TRUE;
    uint32_t place = all->place;
    all->place = node;
    if (alone)
        types = T_ALL;
    int result = -1;
    *out = raw_all;
    out->number = all->number_all;
    out->string = all->string_all;
    if ((!alone && schema_scalars(all, node, types, out) != 0) ||
        (!alone && (types & T_ARRAY) != 0 && array_atoms(all, node, &arrays) != 0) ||
        (!alone && (types & T_OBJECT) != 0 && object_atoms(all, node, &objects) != 0) ||
        further(all, node, negated, &subs, &has_last, &last) != 0)
        goto done;
    if (negated) {
        result = complement(all, out, types, &arrays, &objects);
    } else {
        result = 0;
        if ((types & T_ARRAY) != 0)
            result = alternatives_add(all, &out->arrays, arrays.ids, arrays.n);
        if (result == 0 && (types & T_OBJECT) != 0)
            result = alternatives_add(all, &out->objects, objects.ids, objects.n);
    }
    for (uint32_t i = 0; i < subs.n && result == 0 && (negated || !empty(out)); i++)
        result = combine(all, out, negated ? schema_not(all, subs.ids[i]) : subs.ids[i], negated);
    if (has_last && result == 0 && (negated || !empty(out)))
        result = combine(all, out, last, negated);
    if (negated && result == 0)
        result = alternatives_merge(all, &out->objects);
    all->place = node;
done:
    free(arrays.ids);
    free(objects.ids);
    free(subs.ids);
    all->place = place;
    return result;
}
