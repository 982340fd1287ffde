/* SPDX-License-Identifier: MIT */
/* schema_cover.c: what one schema says of each key of an object, and of each item of an array. */
#include <stdlib.h>
#include <string.h>

#include "grammar/schema_parts.h"

/* ---- by what they are covers of ------------------------------------------------------------- */

static bool same_object_key(const struct schemas *all, uint32_t id, const void *key)
{
    return all->object_keys[id] == *(const uint64_t *)key;
}

static bool same_array_key(const struct schemas *all, uint32_t id, const void *key)
{
    return all->array_keys[id] == *(const uint64_t *)key;
}

/* ---- objects -------------------------------------------------------------------------------- */

struct naming {
    uint32_t name;
    expr value;
};

/* An object cover while it is made. */
struct covering {
    struct naming *names;
    uint32_t n_names, names_room;
    regex *patterns;
    expr *matching;
    uint32_t n_patterns, patterns_room, matching_room;
    expr other;
};

static int add_name(struct schemas *all, struct covering *c, const char *key, expr value)
{
    if (schema_grow(all, &c->names, c->n_names, &c->names_room, sizeof *c->names) != 0)
        return -1;
    c->names[c->n_names++] = (struct naming){schema_name(all, key, strlen(key)), value};
    return all->failed ? -1 : 0;
}

static int add_pattern(struct schemas *all, struct covering *c, uint32_t node, const char *pattern,
                       expr value)
{
    struct llama3_error err = {0};
    regex r = regex_parse(all->regexes, pattern, strlen(pattern), REGEX_ECMA, &err);
    if (err.code != 0)
        return schema_error(all, node, "patternProperties", pattern, "%s", err.message);
    if (schema_grow(all, &c->patterns, c->n_patterns, &c->patterns_room, sizeof r) != 0 ||
        schema_grow(all, &c->matching, c->n_patterns, &c->matching_room, sizeof value) != 0)
        return -1;
    c->patterns[c->n_patterns] = r;
    c->matching[c->n_patterns++] = value;
    return 0;
}

static int cover_schema(struct schemas *all, uint32_t node, struct covering *c)
{
    const json_t *json = all->nodes[node].json;
    const char *key;
    json_t *value, *other = json_object_get(json, "additionalProperties");
    json_object_foreach(json_object_get(json, "properties"), key, value)
    {
        if (add_name(all, c, key, schema_leaf(all, value)) != 0)
            return -1;
    }

    json_object_foreach(json_object_get(json, "patternProperties"), key, value)
    {
        if (add_pattern(all, c, node, key, schema_leaf(all, value)) != 0)
            return -1;
    }

    c->other = other != NULL ? schema_leaf(all, other) : EXPR_TRUE;
    return 0;
}

/* A schema inside that evaluates the same instance, if it can be known which keys it evaluates. */
static int evaluated(struct schemas *all, uint32_t node, bool array, struct covering *c,
                     uint32_t *prefix, uint32_t depth);

static int evaluated_by(struct schemas *all, const json_t *json, bool array, struct covering *c,
                        uint32_t *prefix, uint32_t depth)
{
    uint32_t node = json_is_object(json) ? schema_node_find(all, json) : NODE_NONE;
    return node != NODE_NONE ? evaluated(all, node, array, c, prefix, depth + 1) : 0;
}

/* Whether a schema evaluates nothing, so that it doesn't matter whether it holds. */
static int indifferent(struct schemas *all, const json_t *json, bool array, uint32_t depth)
{
    struct covering c = {.other = EXPR_TRUE};
    uint32_t prefix = 0;
    int result = evaluated_by(all, json, array, &c, &prefix, depth);
    bool nothing = c.n_names == 0 && c.n_patterns == 0 && prefix == 0;
    free(c.names);
    free(c.patterns);
    free(c.matching);
    return result != 0 ? -1 : nothing;
}

static int evaluated(struct schemas *all, uint32_t node, bool array, struct covering *c,
                     uint32_t *prefix, uint32_t depth)
{
    static const char *const chosen[] = {"anyOf", "oneOf",           "if", "then", "else",
                                         "not",   "dependentSchemas"};
    const struct schema_node *at = &all->nodes[node];
    const char *what = array ? "unevaluatedItems" : "unevaluatedProperties", *key;
    json_t *value;
    size_t i;
    if (depth > 32)
        return schema_error(all, node, NULL, NULL,
                            "expected %s over at most 32 schemas within "
                            "each other",
                            what);
    for (size_t k = 0; k < sizeof chosen / sizeof *chosen; k++) {
        json_t *part = json_object_get(at->json, chosen[k]);
        bool named = json_is_object(part) && strcmp(chosen[k], "dependentSchemas") == 0;
        size_t n = json_is_array(part) ? json_array_size(part) : part != NULL && !named;
        int same = 1;
        for (i = 0; i < n && same == 1; i++)
            same = indifferent(all, json_is_array(part) ? json_array_get(part, i) : part, array,
                               depth);
        if (named)
            json_object_foreach(part, key, value)
            {
                same = same == 1 ? indifferent(all, value, array, depth) : same;
            }

        if (same < 0)
            return -1;
        if (same == 0 && strcmp(chosen[k], "not") != 0)
            return schema_error(all, node, chosen[k], NULL,
                                "expected no schema that decides what %s speaks of, found one",
                                what);
    }
    json_array_foreach(json_object_get(at->json, "allOf"), i, value)
    {
        if (evaluated_by(all, value, array, c, prefix, depth) != 0)
            return -1;
    }

    uint32_t target = all->nodes[node].target, dynamic = all->nodes[node].dynamic;
    if (target < NODE_FALSE && evaluated(all, target, array, c, prefix, depth + 1) != 0)
        return -1;
    if (dynamic < NODE_FALSE && evaluated(all, dynamic, array, c, prefix, depth + 1) != 0)
        return -1;
    const json_t *json = all->nodes[node].json;
    if (array) {
        const json_t *items = json_object_get(json, "items");
        const json_t *list = json_is_array(items) ? items : json_object_get(json, "prefixItems");
        uint32_t n = (uint32_t)json_array_size(list);
        if (json_object_get(json, "contains") != NULL)
            return schema_error(all, node, "contains", NULL,
                                "expected no schema that decides what %s speaks of, found one",
                                what);
        if ((items != NULL && !json_is_array(items)) ||
            json_object_get(json, json_is_array(items) ? "additionalItems" : "unevaluatedItems"))
            n = depth > 0 || items != NULL ? UINT32_MAX : n;
        *prefix = n > *prefix ? n : *prefix;
        return 0;
    }
    json_object_foreach(json_object_get(json, "properties"), key, value)
    {
        if (add_name(all, c, key, EXPR_TRUE) != 0)
            return -1;
    }

    json_object_foreach(json_object_get(json, "patternProperties"), key, value)
    {
        if (add_pattern(all, c, node, key, EXPR_TRUE) != 0)
            return -1;
    }

    if (json_object_get(json, "additionalProperties") != NULL ||
        (depth > 0 && json_object_get(json, "unevaluatedProperties") != NULL))
        return add_pattern(all, c, node, "", EXPR_TRUE);
    return 0;
}

static int cover_constant(struct schemas *all, json_t *json, struct covering *c)
{
    const char *key;
    json_t *value;
    json_object_foreach(json, key, value)
    {
        if (add_name(all, c, key, schema_constant(all, value, false)) != 0)
            return -1;
    }

    c->other = EXPR_FALSE;
    return 0;
}

static int compare_names(const void *a, const void *b)
{
    const struct naming *x = a, *y = b;
    return x->name != y->name ? (x->name > y->name) - (x->name < y->name)
                              : (x->value > y->value) - (x->value < y->value);
}

static void *keep(struct schemas *all, const void *items, size_t n, size_t size)
{
    void *copy = schema_alloc(all, &all->kept, n, size);
    return copy != NULL && n > 0 ? memcpy(copy, items, n * size) : copy;
}

static int make_object_cover(struct schemas *all, struct covering *c, struct object_cover *out)
{
    uint32_t *names = schema_alloc(all, &all->kept, c->n_names, sizeof *names), n = 0;
    expr *values = schema_alloc(all, &all->kept, c->n_names, sizeof *values);
    if (names == NULL || values == NULL)
        return -1;
    if (c->n_names > 0)
        qsort(c->names, c->n_names, sizeof *c->names, compare_names);
    for (uint32_t i = 0; i < c->n_names; i++)
        if (n == 0 || names[n - 1] != c->names[i].name) {
            names[n] = c->names[i].name;
            values[n++] = c->names[i].value;
        }
    *out = (struct object_cover){
        .n_names = n,
        .n_patterns = c->n_patterns,
        .names = names,
        .values = values,
        .patterns = keep(all, c->patterns, c->n_patterns, sizeof *c->patterns),
        .matching = keep(all, c->matching, c->n_patterns, sizeof *c->matching),
        .other = c->other,
    };
    return all->failed ? -1 : 0;
}

uint32_t schema_object_cover(struct schemas *all, json_t *json, enum cover_of of)
{
    uint64_t key = (uint64_t)(uintptr_t)json << 2 | of;
    struct intern_slot *slot =
        schema_slot(all, &all->by_object_key, hash_mix(&all->key, key), same_object_key, &key);
    if (slot == NULL || slot->id != UINT32_MAX)
        return slot == NULL ? UINT32_MAX : slot->id;
    struct covering c = {.other = EXPR_TRUE};
    struct object_cover cover;
    uint32_t node = of != COVER_CONSTANT ? schema_node_find(all, json) : NODE_NONE, prefix;
    int result = of == COVER_CONSTANT ? cover_constant(all, json, &c)
                 : of == COVER_SCHEMA ? cover_schema(all, node, &c)
                                      : evaluated(all, node, false, &c, &prefix, 0);
    if (result == 0 && of == COVER_UNEVALUATED)
        c.other = schema_leaf(all, json_object_get(json, "unevaluatedProperties"));
    if (result == 0)
        result = make_object_cover(all, &c, &cover);
    free(c.names);
    free(c.patterns);
    free(c.matching);
    if (result != 0 ||
        schema_grow(all, &all->object_covers, all->n_object_covers, &all->object_covers_room,
                    sizeof cover) != 0 ||
        schema_grow(all, &all->object_keys, all->n_object_covers, &all->object_keys_room,
                    sizeof key) != 0)
        return UINT32_MAX;
    all->object_covers[all->n_object_covers] = cover;
    all->object_keys[all->n_object_covers] = key;
    /* Making it may have moved the slots. */
    slot = schema_slot(all, &all->by_object_key, hash_mix(&all->key, key), same_object_key, &key);
    return slot == NULL ? UINT32_MAX : (slot->id = all->n_object_covers++);
}

bool schema_matches(struct schemas *all, regex r, uint32_t name)
{
    const struct name *at = &all->names[name];
    for (size_t i = 0; i < at->n && r != REGEX_NONE; i++)
        r = regex_step(all->regexes, r, (uint8_t)at->bytes[i]);
    return regex_nullable(all->regexes, r);
}

expr schema_covered(struct schemas *all, uint32_t id, uint32_t name)
{
    struct object_cover cover = all->object_covers[id];
    expr found = EXPR_TRUE;
    bool any = false;
    for (uint32_t low = 0, high = cover.n_names; low < high;) {
        uint32_t middle = low + (high - low) / 2;
        if (cover.names[middle] == name) {
            found = cover.values[middle];
            any = true;
            break;
        }
        if (cover.names[middle] < name)
            low = middle + 1;
        else
            high = middle;
    }
    for (uint32_t i = 0; i < cover.n_patterns; i++)
        if (schema_matches(all, cover.patterns[i], name)) {
            found = schema_and(all, found, cover.matching[i]);
            any = true;
        }
    return any ? found : cover.other;
}

/* ---- arrays --------------------------------------------------------------------------------- */

uint32_t schema_array_cover(struct schemas *all, json_t *json, enum cover_of of)
{
    uint64_t key = (uint64_t)(uintptr_t)json << 2 | of;
    struct intern_slot *slot =
        schema_slot(all, &all->by_array_key, hash_mix(&all->key, key), same_array_key, &key);
    if (slot == NULL || slot->id != UINT32_MAX)
        return slot == NULL ? UINT32_MAX : slot->id;
    const json_t *items = json_object_get(json, "items"), *list = json;
    json_t *rest = NULL;
    uint32_t n;
    if (of == COVER_SCHEMA) {
        bool tuple = json_is_array(items) && json_object_get(json, "prefixItems") == NULL;
        list = tuple ? items : json_object_get(json, "prefixItems");
        rest = json_object_get(json, tuple ? "additionalItems" : "items");
    }
    n = (uint32_t)json_array_size(list);
    if (of == COVER_UNEVALUATED) {
        struct covering c = {.other = EXPR_TRUE};
        n = 0;
        if (evaluated(all, schema_node_find(all, json), true, &c, &n, 0) != 0)
            return UINT32_MAX;
        rest = n != UINT32_MAX ? json_object_get(json, "unevaluatedItems") : json_true();
        n = n != UINT32_MAX ? n : 0;
    }
    expr *prefix = schema_alloc(all, &all->kept, n, sizeof *prefix);
    if (prefix == NULL ||
        schema_grow(all, &all->array_covers, all->n_array_covers, &all->array_covers_room,
                    sizeof *all->array_covers) != 0 ||
        schema_grow(all, &all->array_keys, all->n_array_covers, &all->array_keys_room,
                    sizeof key) != 0)
        return UINT32_MAX;
    for (uint32_t i = 0; i < n; i++) {
        json_t *item = json_array_get(list, i);
        prefix[i] = of == COVER_CONSTANT ? schema_constant(all, item, false)
                    : of == COVER_SCHEMA ? schema_leaf(all, item)
                                         : EXPR_TRUE;
    }
    struct array_cover cover = {.n_prefix = n, .prefix = prefix, .rest = EXPR_TRUE};
    if (of == COVER_CONSTANT)
        cover.rest = EXPR_FALSE;
    else if (rest != NULL && !json_is_array(rest))
        cover.rest = schema_leaf(all, rest);
    if (all->failed)
        return UINT32_MAX;
    all->array_covers[all->n_array_covers] = cover;
    all->array_keys[all->n_array_covers] = key;
    slot = schema_slot(all, &all->by_array_key, hash_mix(&all->key, key), same_array_key, &key);
    return slot == NULL ? UINT32_MAX : (slot->id = all->n_array_covers++);
}
