/* SPDX-License-Identifier: MIT */
/*
 * schema_document.c: the schemas of a document, each a node that knows its place; and one pass over
 * them that checks what every keyword is given, so that nothing of the wrong type is found later.
 */
#include <stdlib.h>
#include <string.h>

#include "base/json.h"
#include "grammar/schema_parts.h"

/* What a keyword takes. */
enum takes {
    SCHEMA,
    SCHEMAS,         /* an array of them */
    SCHEMA_OR_LIST,  /* `items` */
    SCHEMA_MAP,      /* by name */
    DEPENDENCIES,    /* by name, schemas or arrays of names */
    STRINGS,         /* an array, all different */
    STRINGS_BY_NAME, /* dependentRequired */
    COUNT,           /* an integer from 0 on */
    NUMBER,
    POSITIVE,
    NUMBER_OR_BOOLEAN, /* draft 4 has a boolean beside the bound */
    BOOLEAN,
    STRING,
    TYPES,
    VALUES,
    ANYTHING
};

static const struct keyword {
    const char *name;
    enum takes takes;
    bool says; /* something about validity */
} keywords[] = {
    {"$anchor", STRING, false},
    {"$defs", SCHEMA_MAP, false},
    {"$dynamicAnchor", STRING, false},
    {"$dynamicRef", STRING, true},
    {"$id", STRING, false},
    {"$recursiveRef", STRING, true},
    {"$ref", STRING, true},
    {"additionalItems", SCHEMA, true},
    {"additionalProperties", SCHEMA, true},
    {"allOf", SCHEMAS, true},
    {"anyOf", SCHEMAS, true},
    {"const", ANYTHING, true},
    {"contains", SCHEMA, true},
    {"definitions", SCHEMA_MAP, false},
    {"dependencies", DEPENDENCIES, true},
    {"dependentRequired", STRINGS_BY_NAME, true},
    {"dependentSchemas", SCHEMA_MAP, true},
    {"else", SCHEMA, true},
    {"enum", VALUES, true},
    {"exclusiveMaximum", NUMBER_OR_BOOLEAN, true},
    {"exclusiveMinimum", NUMBER_OR_BOOLEAN, true},
    {"format", STRING, true},
    {"if", SCHEMA, true},
    {"items", SCHEMA_OR_LIST, true},
    {"maxContains", COUNT, true},
    {"maxItems", COUNT, true},
    {"maxLength", COUNT, true},
    {"maxProperties", COUNT, true},
    {"maximum", NUMBER, true},
    {"minContains", COUNT, true},
    {"minItems", COUNT, true},
    {"minLength", COUNT, true},
    {"minProperties", COUNT, true},
    {"minimum", NUMBER, true},
    {"multipleOf", POSITIVE, true},
    {"not", SCHEMA, true},
    {"oneOf", SCHEMAS, true},
    {"pattern", STRING, true},
    {"patternProperties", SCHEMA_MAP, true},
    {"prefixItems", SCHEMAS, true},
    {"properties", SCHEMA_MAP, true},
    {"propertyNames", SCHEMA, true},
    {"required", STRINGS, true},
    {"then", SCHEMA, true},
    {"type", TYPES, true},
    {"unevaluatedItems", SCHEMA, true},
    {"unevaluatedProperties", SCHEMA, true},
    {"uniqueItems", BOOLEAN, true},
};

static int compare_keyword(const void *name, const void *keyword)
{
    return strcmp(name, ((const struct keyword *)keyword)->name);
}

static const struct keyword *find_keyword(const char *name)
{
    return bsearch(name, keywords, sizeof keywords / sizeof *keywords, sizeof *keywords,
                   compare_keyword);
}

bool schema_keyword(const char *key)
{
    const struct keyword *keyword = find_keyword(key);
    return keyword != NULL && keyword->says;
}

/* ---- nodes ---------------------------------------------------------------------------------- */

static bool same_json(const struct schemas *all, uint32_t id, const void *key)
{
    return all->nodes[id].json == key;
}

static struct intern_slot *node_slot(struct schemas *all, const json_t *json)
{
    return schema_slot(all, &all->by_json, hash_mix(&all->key, (uintptr_t)json), same_json, json);
}

uint32_t schema_node_find(struct schemas *all, const json_t *json)
{
    const struct intern_table *table = &all->by_json;
    uint32_t hash = (uint32_t)hash_mix(&all->key, (uintptr_t)json), at = hash & table->mask;
    for (; table->slots != NULL && table->slots[at].id != UINT32_MAX; at = (at + 1) & table->mask)
        if (all->nodes[table->slots[at].id].json == json)
            return table->slots[at].id;
    return NODE_NONE;
}

uint32_t schema_node_add(struct schemas *all, json_t *json, uint32_t parent, const char *keyword,
                         const char *key, uint32_t index)
{
    struct intern_slot *slot = node_slot(all, json);
    if (slot == NULL)
        return NODE_NONE;
    if (slot->id != UINT32_MAX)
        return slot->id;
    if (schema_grow(all, &all->nodes, all->n_nodes, &all->nodes_room, sizeof *all->nodes) != 0)
        return NODE_NONE;
    all->nodes[all->n_nodes] = (struct schema_node){
        .json = json,
        .parent = parent,
        .index = index,
        .keyword = keyword,
        .key = key,
        .resource = parent == NODE_NONE ? 0 : all->nodes[parent].resource,
        .target = NODE_NONE,
        .dynamic = NODE_NONE,
        .leaf = EXPR_UNKNOWN,
    };
    return slot->id = all->n_nodes++;
}

/* ---- what keywords are given ---------------------------------------------------------------- */

static int wrong(struct schemas *all, uint32_t node, const char *keyword, const char *key,
                 const char *expected, const json_t *found)
{
    return schema_error(all, node, keyword, key, "expected %s, found %s", expected,
                        json_kind(found));
}

static int take_schema(struct schemas *all, uint32_t node, const char *keyword, const char *key,
                       uint32_t index, json_t *value)
{
    if (json_is_boolean(value))
        return 0;
    if (!json_is_object(value))
        return wrong(all, node, keyword, key, "a schema", value);
    return schema_node_add(all, value, node, keyword, key, index) == NODE_NONE ? -1 : 0;
}

static int take_list(struct schemas *all, uint32_t node, const char *keyword, json_t *value)
{
    size_t i;
    json_t *item;
    if (!json_is_array(value))
        return wrong(all, node, keyword, NULL, "an array of schemas", value);
    json_array_foreach(value, i, item)
    {
        if (take_schema(all, node, keyword, NULL, (uint32_t)i, item) != 0)
            return -1;
    }
    return 0;
}

static int take_strings(struct schemas *all, uint32_t node, const char *keyword, const char *key,
                        const json_t *value)
{
    size_t i;
    json_t *item;
    if (!json_is_array(value))
        return wrong(all, node, keyword, key, "an array of strings", value);
    json_array_foreach(value, i, item)
    {
        if (!json_is_string(item))
            return wrong(all, node, keyword, key, "strings", item);
    }
    return 0;
}

static int take_map(struct schemas *all, uint32_t node, const char *keyword, enum takes takes,
                    json_t *value)
{
    const char *key;
    json_t *item;
    if (!json_is_object(value))
        return wrong(all, node, keyword, NULL, "an object", value);
    json_object_foreach(value, key, item)
    {
        bool names = takes == STRINGS_BY_NAME || (takes == DEPENDENCIES && json_is_array(item));
        /* draft 3 had a single name */
        if (takes == DEPENDENCIES && json_is_string(item))
            continue;
        if ((names ? take_strings(all, node, keyword, key, item)
                   : take_schema(all, node, keyword, key, NODE_NONE, item)) != 0)
            return -1;
    }
    return 0;
}

static int take_count(struct schemas *all, uint32_t node, const char *keyword, const json_t *value)
{
    double found = json_number_value(value);
    if (!json_is_number(value))
        return wrong(all, node, keyword, NULL, "an integer", value);
    if (found < 0 || (json_is_real(value) && (found > 1e15 || found != (double)(int64_t)found)))
        return schema_error(all, node, keyword, NULL, "expected an integer from 0 on, found %g",
                            found);
    return 0;
}

static int take_type(struct schemas *all, uint32_t node, json_t *value)
{
    size_t i;
    json_t *item;
    if (!json_is_string(value) && !json_is_array(value))
        return wrong(all, node, "type", NULL, "a type's name or an array of them", value);
    if (json_is_string(value) && schema_types(value) == 0)
        return schema_error(all, node, "type", NULL,
                            "expected null, boolean, number, integer, string, array or object, "
                            "found %.40s",
                            json_string_value(value));
    json_array_foreach(value, i, item)
    {
        if (!json_is_string(item))
            return wrong(all, node, "type", NULL, "types' names", item);
        if (take_type(all, node, item) != 0)
            return -1;
    }
    return 0;
}

static int take(struct schemas *all, uint32_t node, const struct keyword *keyword, json_t *value)
{
    const char *name = keyword->name;
    switch (keyword->takes) {
    case SCHEMA:
        return take_schema(all, node, name, NULL, NODE_NONE, value);
    case SCHEMA_OR_LIST:
        if (!json_is_array(value))
            return take_schema(all, node, name, NULL, NODE_NONE, value);
        return take_list(all, node, name, value);
    case SCHEMAS:
        return take_list(all, node, name, value);
    case SCHEMA_MAP:
    case DEPENDENCIES:
    case STRINGS_BY_NAME:
        return take_map(all, node, name, keyword->takes, value);
    case STRINGS:
        return take_strings(all, node, name, NULL, value);
    case COUNT:
        return take_count(all, node, name, value);
    case POSITIVE:
        if (json_is_number(value) && !(json_number_value(value) > 0))
            return schema_error(all, node, name, NULL, "expected a number above 0, found %g",
                                json_number_value(value));
        break;
    case NUMBER:
        break;
    case NUMBER_OR_BOOLEAN:
        if (json_is_boolean(value))
            return 0;
        break;
    case BOOLEAN:
        return json_is_boolean(value) ? 0 : wrong(all, node, name, NULL, "true or false", value);
    case STRING:
        return json_is_string(value) ? 0 : wrong(all, node, name, NULL, "a string", value);
    case TYPES:
        return take_type(all, node, value);
    case VALUES:
        return json_is_array(value) ? 0 : wrong(all, node, name, NULL, "an array", value);
    case ANYTHING:
        return 0;
    }
    return json_is_number(value) ? 0 : wrong(all, node, name, NULL, "a number", value);
}

static int check(struct schemas *all, uint32_t node)
{
    const char *key;
    json_t *value;
    if (schema_identify(all, node) != 0)
        return -1;
    bool alone = all->old && json_object_get(all->nodes[node].json, "$ref") != NULL;
    json_object_foreach(all->nodes[node].json, key, value)
    {
        const struct keyword *keyword = find_keyword(key);
        if (keyword == NULL || (alone && keyword->says && strcmp(key, "$ref") != 0))
            continue;
        if (take(all, node, keyword, value) != 0)
            return -1;
    }
    return 0;
}

int schema_document(struct schemas *all)
{
    const char *draft =
        json_string_value(json_is_object(all->root) ? json_object_get(all->root, "$schema") : NULL);
    all->ids = draft != NULL && (strstr(draft, "draft-03") != NULL || strstr(draft, "draft-04"));
    all->old = all->ids || (draft != NULL && (strstr(draft, "draft-05") != NULL ||
                                              strstr(draft, "draft-06") != NULL ||
                                              strstr(draft, "draft-07") != NULL));
    if (json_is_boolean(all->root))
        return 0;
    if (!json_is_object(all->root))
        return wrong(all, NODE_NONE, NULL, NULL, "a schema", all->root);
    if (schema_node_add(all, all->root, NODE_NONE, "", NULL, NODE_NONE) == NODE_NONE)
        return -1;
    /* References may lead to places that no keyword leads to; those are schemas as well. */
    for (uint32_t checked = 0, resolved = 0; resolved < all->n_nodes;) {
        for (; checked < all->n_nodes; checked++)
            if (check(all, checked) != 0)
                return -1;
        for (; resolved < checked; resolved++)
            if (schema_resolve(all, resolved) != 0)
                return -1;
    }
    return 0;
}
