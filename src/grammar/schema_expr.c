/* SPDX-License-Identifier: MIT */
/* schema_expr.c: names, constants, atoms and exprs, each with one id for what is equal. */
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "base/json.h"
#include "grammar/schema_parts.h"

/* ---- names ---------------------------------------------------------------------------------- */

static bool same_name(const struct schemas *all, uint32_t id, const void *key)
{
    const struct name *name = key;
    return all->names[id].n == name->n && memcmp(all->names[id].bytes, name->bytes, name->n) == 0;
}

uint32_t schema_name(struct schemas *all, const char *bytes, size_t n)
{
    struct name name = {bytes, n};
    struct intern_slot *slot =
        schema_slot(all, &all->by_name, hash_bytes(&all->key, bytes, n, NULL, 0), same_name, &name);
    if (slot == NULL)
        return UINT32_MAX;
    if (slot->id != UINT32_MAX)
        return slot->id;
    char *copy = schema_alloc(all, &all->kept, n + 1, 1);
    if (copy == NULL ||
        schema_grow(all, &all->names, all->n_names, &all->names_room, sizeof *all->names) != 0)
        return UINT32_MAX;
    memcpy(copy, bytes, n);
    all->names[all->n_names] = (struct name){copy, n};
    return slot->id = all->n_names++;
}

/* ---- atoms ---------------------------------------------------------------------------------- */

static bool same_atom(const struct schemas *all, uint32_t id, const void *key)
{
    const struct atom *a = &all->atoms[id], *b = key;
    return a->kind == b->kind && a->a == b->a && a->b == b->b && a->r == b->r && a->e == b->e;
}

uint32_t schema_atom(struct schemas *all, struct atom atom)
{
    uint32_t words[5] = {atom.kind, atom.a, atom.b, atom.r, atom.e};
    struct intern_slot *slot = schema_slot(
        all, &all->by_atom, hash_bytes(&all->key, words, sizeof words, NULL, 0), same_atom, &atom);
    if (slot == NULL)
        return UINT32_MAX;
    if (slot->id != UINT32_MAX)
        return slot->id;
    if (schema_grow(all, &all->atoms, all->n_atoms, &all->atoms_room, sizeof *all->atoms) != 0)
        return UINT32_MAX;
    all->atoms[all->n_atoms] = atom;
    return slot->id = all->n_atoms++;
}

/* ---- exprs ---------------------------------------------------------------------------------- */

static bool same_expr(const struct schemas *all, uint32_t id, const void *key)
{
    const struct expr_node *a = &all->exprs[id], *b = key;
    return a->kind == b->kind && a->n == b->n && memcmp(a->parts, b->parts, a->n * 4) == 0;
}

static expr intern(struct schemas *all, enum expr_kind kind, const uint32_t *parts, uint32_t n)
{
    struct expr_node node = {.kind = kind, .n = n, .parts = parts, .satisfiable = -1};
    uint32_t head[2] = {kind, n};
    struct intern_slot *slot = schema_slot(
        all, &all->by_expr, hash_bytes(&all->key, head, sizeof head, parts, (size_t)n * 4),
        same_expr, &node);
    if (slot == NULL)
        return EXPR_FALSE;
    if (slot->id != UINT32_MAX)
        return slot->id;
    uint32_t *copy = schema_alloc(all, &all->kept, n, sizeof *copy);
    if (copy == NULL ||
        schema_grow(all, &all->exprs, all->n_exprs, &all->exprs_room, sizeof *all->exprs) != 0)
        return EXPR_FALSE;
    memcpy(copy, parts, (size_t)n * 4);
    node.parts = copy;
    all->exprs[all->n_exprs] = node;
    return slot->id = all->n_exprs++;
}

expr schema_atom_expr(struct schemas *all, uint32_t atom)
{
    return intern(all, X_ATOM, &atom, 1);
}

/* Schemas without further schemas inside are equal if their texts are, but for annotations. */
static bool flat(const json_t *json)
{
    const char *key;
    json_t *value;
    size_t n = 0;
    json_object_foreach((json_t *)json, key, value)
    {
        if (!schema_keyword(key))
            continue;
        if (json_is_object(value) || ++n > 6 ||
            (json_is_array(value) &&
             (json_array_size(value) > 64 || json_is_object(json_array_get(value, 0)) ||
              json_is_array(json_array_get(value, 0)))))
            return false;
        if (key[0] == '$')
            return false;
    }
    return true;
}

static bool same_text(const struct schemas *all, uint32_t id, const void *key)
{
    const struct buf *text = key;
    return all->constant_texts[id].n == text->size &&
           memcmp(all->constant_texts[id].bytes, text->data, text->size) == 0;
}

/* A constant's id by its text; what it stands for, where it is new. */
static uint32_t intern_text(struct schemas *all, struct buf *text, json_t *json, bool list)
{
    uint32_t result = UINT32_MAX;
    struct intern_slot *slot =
        text->failed
            ? NULL
            : schema_slot(all, &all->by_constant,
                          hash_bytes(&all->key, text->data, text->size, NULL, 0), same_text, text);
    if (slot != NULL && slot->id != UINT32_MAX)
        return slot->id;
    char *copy = slot != NULL ? schema_alloc(all, &all->kept, text->size + 1, 1) : NULL;
    if (copy != NULL &&
        schema_grow(all, &all->constants, all->n_constants, &all->constants_room,
                    sizeof *all->constants) == 0 &&
        schema_grow(all, &all->constant_texts, all->n_constants, &all->constant_texts_room,
                    sizeof *all->constant_texts) == 0) {
        memcpy(copy, text->data, text->size);
        all->constants[all->n_constants] = (struct constant){json_incref(json), list};
        all->constant_texts[all->n_constants] = (struct name){copy, text->size};
        result = slot->id = all->n_constants++;
    }
    if (text->failed && !all->failed) {
        all->failed = true;
        error_memory(&all->error, "a schema", 0);
    }
    return result;
}

static void print(struct buf *text, json_t *json)
{
    if (json_is_number(json)) {
        char number[32];
        json_number_text(json, number);
        buf_add_str(text, number);
    } else {
        json_print(json, JSON_ENCODE_ANY | JSON_COMPACT | JSON_SORT_KEYS, text);
    }
}

expr schema_constant(struct schemas *all, json_t *json, bool list)
{
    if (list && json_array_size(json) == 1)
        return schema_constant(all, json_array_get(json, 0), false);
    struct buf text = {0};
    buf_add_str(&text, list ? "l" : "c");
    print(&text, json);
    uint32_t id = intern_text(all, &text, json, list);
    buf_free(&text);
    return id == UINT32_MAX ? EXPR_FALSE : intern(all, X_CONSTANT, &id, 1);
}

/* The node whose expr stands for that of this one. */
static uint32_t representative(struct schemas *all, uint32_t node)
{
    json_t *json = all->nodes[node].json, *value;
    if (!flat(json))
        return node;
    struct buf text = {0};
    const char *key;
    buf_add_str(&text, "s");
    json_t *said = json_object();
    json_object_foreach(json, key, value)
    {
        if (schema_keyword(key))
            json_object_set(said, key, value);
    }

    print(&text, said);
    uint32_t id = intern_text(all, &text, json, false);
    json_decref(said);
    buf_free(&text);
    if (id == UINT32_MAX)
        return node;
    uint32_t first = schema_node_find(all, all->constants[id].json);
    return first == NODE_NONE ? node : first;
}

expr schema_leaf(struct schemas *all, json_t *json)
{
    if (json_is_boolean(json))
        return json_is_true(json) ? EXPR_TRUE : EXPR_FALSE;
    uint32_t id = schema_node_find(all, json);
    if (id == NODE_NONE) {
        schema_refuse(all, false, "expected a schema, found %s", json_kind(json));
        return EXPR_FALSE;
    }
    /* A schema that is no more than a reference stands for what that means. */
    for (uint32_t round = 0;; round++) {
        if (all->nodes[id].leaf != EXPR_UNKNOWN)
            return all->nodes[id].leaf;
        const char *key;
        json_t *value;
        uint32_t n = 0;
        json_object_foreach(all->nodes[id].json, key, value)
        {
            n += schema_keyword(key);
        }

        uint32_t target = all->nodes[id].target;
        if (n == 0)
            return all->nodes[id].leaf = EXPR_TRUE;
        if (target == NODE_NONE || (n > 1 && !all->old) || round > all->n_nodes)
            break;
        if (target >= NODE_FALSE)
            return schema_target(all, target);
        id = target;
    }
    uint32_t first = representative(all, id);
    expr e = intern(all, X_LEAF, &first, 1);
    if (!all->failed)
        all->nodes[id].leaf = e;
    return e;
}

expr schema_target(struct schemas *all, uint32_t node)
{
    if (node >= NODE_FALSE)
        return node == NODE_TRUE ? EXPR_TRUE : EXPR_FALSE;
    return schema_leaf(all, all->nodes[node].json);
}

static int compare_ids(const void *a, const void *b)
{
    uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
    return (x > y) - (x < y);
}

static expr negate(struct schemas *all, expr e);

/* AND, or OR, of exprs: without those that say nothing, and what one of them decides. */
static expr combine(struct schemas *all, enum expr_kind kind, const expr *exprs, uint32_t n)
{
    expr neutral = kind == X_AND ? EXPR_TRUE : EXPR_FALSE;
    expr zero = kind == X_AND ? EXPR_FALSE : EXPR_TRUE;
    struct arena_mark mark = arena_mark(&all->scratch);
    size_t total = 0;
    for (uint32_t i = 0; i < n; i++)
        total += all->exprs[exprs[i]].kind == kind ? all->exprs[exprs[i]].n : 1;
    expr result = neutral, *flat_list = schema_alloc(all, &all->scratch, total, sizeof *flat_list);
    uint32_t m = 0;
    for (uint32_t i = 0; flat_list != NULL && i < n; i++) {
        const struct expr_node *part = &all->exprs[exprs[i]];
        for (uint32_t k = 0; part->kind == kind && k < part->n; k++)
            flat_list[m++] = part->parts[k];
        if (part->kind != kind && exprs[i] != neutral)
            flat_list[m++] = exprs[i];
    }
    if (m > 0) {
        qsort(flat_list, m, sizeof *flat_list, compare_ids);
        uint32_t kept = 0;
        for (uint32_t i = 0; i < m; i++)
            if (kept == 0 || flat_list[kept - 1] != flat_list[i])
                flat_list[kept++] = flat_list[i];
        bool decided = flat_list[0] == zero || (kept > 1 && flat_list[1] == zero);
        for (uint32_t i = 0; i < kept && !decided; i++) {
            const struct expr_node *part = &all->exprs[flat_list[i]];
            if (part->kind != X_NOT)
                continue;
            expr of = part->parts[0];
            decided = bsearch(&of, flat_list, kept, sizeof of, compare_ids) != NULL;
        }
        result = decided ? zero : kept == 1 ? flat_list[0] : intern(all, kind, flat_list, kept);
    }
    arena_release(all, &all->scratch, mark);
    return flat_list == NULL ? EXPR_FALSE : result;
}

static expr negate(struct schemas *all, expr e)
{
    struct expr_node node = all->exprs[e];
    switch (node.kind) {
    case X_FALSE:
        return EXPR_TRUE;
    case X_TRUE:
        return EXPR_FALSE;
    case X_NOT:
        return node.parts[0];
    case X_LEAF:
    case X_CONSTANT:
    case X_ATOM:
        return intern(all, X_NOT, &e, 1);
    case X_AND:
    case X_OR:
        break;
    }
    struct arena_mark mark = arena_mark(&all->scratch);
    expr *parts = schema_alloc(all, &all->scratch, node.n, sizeof *parts), result = EXPR_FALSE;
    if (parts != NULL) {
        for (uint32_t i = 0; i < node.n; i++)
            parts[i] = negate(all, node.parts[i]);
        result = combine(all, node.kind == X_AND ? X_OR : X_AND, parts, node.n);
    }
    arena_release(all, &all->scratch, mark);
    return result;
}

expr schema_all(struct schemas *all, const expr *exprs, uint32_t n)
{
    return combine(all, X_AND, exprs, n);
}

expr schema_any(struct schemas *all, const expr *exprs, uint32_t n)
{
    return combine(all, X_OR, exprs, n);
}

expr schema_and(struct schemas *all, expr a, expr b)
{
    return combine(all, X_AND, (expr[]){a, b}, 2);
}

expr schema_or(struct schemas *all, expr a, expr b)
{
    return combine(all, X_OR, (expr[]){a, b}, 2);
}

expr schema_not(struct schemas *all, expr e)
{
    return negate(all, e);
}

expr schema_const(struct schemas *all, json_t *value)
{
    return schema_constant(all, value, false);
}
