/* SPDX-License-Identifier: MIT */
/* grammar.c: nodes: made bottom up, interned, and simplified where that costs nothing. */
#include "grammar/grammar_parts.h"

#include <stdlib.h>
#include <string.h>

#include "base/size.h"

enum {
    MAX_DEPTH = 4000,  /* of nodes in nodes, since they are walked by recursion */
    MAX_RULE_NAME = 60 /* bytes of a name in errors */
};

/* ---- failures ------------------------------------------------------------------------------- */

bool grammar_is_failed(const struct grammar *grammar)
{
    return grammar->nodes->failed.message[0] != '\0';
}

node grammar_fail(struct grammar *grammar, const struct llama3_error *err)
{
    if (!grammar_is_failed(grammar)) {
        struct llama3_error *failed = &grammar->nodes->failed;
        *failed = (struct llama3_error){.size = sizeof *failed};
        error_copy(failed, err);
    }
    return GRAMMAR_NONE;
}

node grammar_fail_memory(struct grammar *grammar, size_t bytes)
{
    struct llama3_error err = {.size = sizeof err};
    error_memory(&err, "a grammar", bytes);
    return grammar_fail(grammar, &err);
}

int grammar_failed(const struct grammar *grammar, struct llama3_error *err)
{
    if (grammar_is_failed(grammar))
        return error_copy(err, &grammar->nodes->failed);
    return regexes_failed(grammar->regexes, err);
}

/* Takes bytes from the limit. */
static bool take(struct grammar *grammar, size_t bytes)
{
    struct grammar_nodes *nodes = grammar->nodes;
    if (grammar_is_failed(grammar))
        return false;
    if (bytes > nodes->limit - nodes->memory) {
        struct llama3_error err = {.size = sizeof err};
        error_input(&err, "expected a grammar that takes at most %zu bytes of memory, found more",
                    nodes->limit);
        grammar_fail(grammar, &err);
        return false;
    }
    nodes->memory += bytes;
    return true;
}

size_t grammar_memory(const struct grammar *grammar)
{
    return grammar->nodes->memory;
}

/* Room for n things in *array; *room of them are there. */
static bool grow(struct grammar *grammar, void **array, uint32_t *room, uint32_t n, size_t size)
{
    if (n <= *room)
        return true;
    uint32_t more = *room < 16 ? 16 : *room;
    if (*room + (uint64_t)more > UINT32_MAX / 2 || !take(grammar, more * size))
        return false;
    void *larger = realloc(*array, ((size_t)*room + more) * size);
    if (!larger) {
        grammar_fail_memory(grammar, ((size_t)*room + more) * size);
        return false;
    }
    *array = larger;
    *room += more;
    return true;
}

/* ---- open and close ------------------------------------------------------------------------- */

int grammar_open(struct grammar *grammar, size_t limit, struct llama3_error *err)
{
    *grammar = (struct grammar){0};
    grammar->nodes = size_alloc_for(1, sizeof *grammar->nodes, "a grammar", err);
    if (!grammar->nodes)
        return -1;
    grammar->nodes->limit = limit;
    grammar->regexes = regexes_open(limit, err);
    if (!grammar->regexes)
        goto fail;
    struct grammar_nodes *nodes = grammar->nodes;
    if (!hash_table_open(&nodes->table, 64) ||
        !grow(grammar, (void **)&nodes->all, &nodes->room, 2, sizeof *nodes->all)) {
        error_memory(err, "a grammar", 64 * sizeof *nodes->all);
        goto fail;
    }
    nodes->all[GRAMMAR_NONE] = (struct node){.kind = NODE_NONE};
    nodes->all[GRAMMAR_EMPTY] = (struct node){.kind = NODE_EMPTY, .nullable = true};
    nodes->n = 2;
    return 0;
fail:
    grammar_close(grammar);
    return -1;
}

void grammar_close(struct grammar *grammar)
{
    struct grammar_nodes *nodes = grammar->nodes;
    if (nodes) {
        for (uint32_t i = 0; i < nodes->n_rules; i++)
            free(nodes->rules[i].name);
        for (uint32_t i = 0; i < nodes->n_schemas; i++)
            schemas_close(nodes->schemas[i]);
        free(nodes->schemas);
        hash_table_close(&nodes->table);
        node_map_free(&nodes->literal_at);
        buf_free(&nodes->literals);
        free(nodes->rules);
        free(nodes->all);
        free(nodes);
    }
    regexes_close(grammar->regexes);
    *grammar = (struct grammar){0};
}

/* ---- interning ------------------------------------------------------------------------------ */

static uint64_t hash_of(const struct grammar_nodes *nodes, const struct node *made)
{
    const uint32_t key[] = {made->kind, made->a, made->b, made->min, made->max};
    return hash_bytes(&nodes->table.key, key, sizeof key, NULL, 0);
}

struct wanted {
    const struct grammar_nodes *nodes;
    const struct node *made;
};

static bool same_node(const void *arg, int32_t id)
{
    const struct wanted *wanted = arg;
    const struct node *x = &wanted->nodes->all[id], *y = wanted->made;
    return x->kind == y->kind && x->a == y->a && x->b == y->b && x->min == y->min &&
           x->max == y->max;
}

/* A table for twice as many nodes. */
static bool grow_table(struct grammar *grammar)
{
    struct grammar_nodes *nodes = grammar->nodes;
    size_t slots = nodes->table.mask + 1;
    struct hash_table larger;
    if (!take(grammar, slots * 2 * sizeof *larger.slots))
        return false;
    if (!hash_table_open(&larger, slots)) {
        grammar_fail_memory(grammar, slots * 2 * sizeof *larger.slots);
        return false;
    }
    hash_table_close(&nodes->table);
    nodes->table = larger;
    for (uint32_t i = 2; i < nodes->n; i++) {
        if (nodes->all[i].kind == NODE_RULE)
            continue;
        uint64_t hash = hash_of(nodes, &nodes->all[i]);
        *hash_table_slot(&nodes->table, hash, same_node, &(struct wanted){nodes, &nodes->all[i]}) =
            (struct hash_slot){.hash = (uint32_t)hash, .id = (int32_t)i};
    }
    return true;
}

static node add_node(struct grammar *grammar, const struct node *made)
{
    struct grammar_nodes *nodes = grammar->nodes;
    if (!grow(grammar, (void **)&nodes->all, &nodes->room, nodes->n + 1, sizeof *nodes->all))
        return GRAMMAR_NONE;
    nodes->all[nodes->n] = *made;
    return nodes->n++;
}

static node intern(struct grammar *grammar, const struct node *made)
{
    struct grammar_nodes *nodes = grammar->nodes;
    if (grammar_is_failed(grammar))
        return GRAMMAR_NONE;
    if (made->depth > MAX_DEPTH) {
        struct llama3_error err = {.size = sizeof err};
        error_input(&err, "expected a grammar of parts in parts at most %d deep, found more",
                    MAX_DEPTH);
        return grammar_fail(grammar, &err);
    }
    if (2 * (size_t)nodes->n > nodes->table.mask && !grow_table(grammar))
        return GRAMMAR_NONE;
    uint64_t hash = hash_of(nodes, made);
    struct hash_slot *slot =
        hash_table_slot(&nodes->table, hash, same_node, &(struct wanted){nodes, made});
    if (slot->id >= 0)
        return (node)slot->id;
    node id = add_node(grammar, made);
    if (id != GRAMMAR_NONE)
        *slot = (struct hash_slot){.hash = (uint32_t)hash, .id = (int32_t)id};
    return id;
}

/* ---- making nodes --------------------------------------------------------------------------- */

static node terminal(struct grammar *grammar, regex r, uint32_t size, bool lazy)
{
    if (r == REGEX_NONE)
        return GRAMMAR_NONE;
    if (r == REGEX_EMPTY)
        return GRAMMAR_EMPTY;
    return intern(grammar, &(struct node){.kind = NODE_TERMINAL,
                                          .nullable = regex_nullable(grammar->regexes, r),
                                          .depth = 1,
                                          .a = r,
                                          .min = lazy,
                                          .size = size});
}

node grammar_terminal_sized(struct grammar *grammar, regex r, uint32_t size)
{
    return terminal(grammar, r, size, false);
}

node grammar_literal(struct grammar *grammar, const void *bytes, size_t n)
{
    struct grammar_nodes *nodes = grammar->nodes;
    size_t at = nodes->literals.size;
    node id = grammar_terminal_sized(grammar, regex_literal(grammar->regexes, bytes, n),
                                     n < UINT32_MAX ? (uint32_t)n : UINT32_MAX);
    if (id == GRAMMAR_NONE || node_map_get(&nodes->literal_at, id) != NODE_UNSET ||
        nodes->all[id].size != n || at > UINT32_MAX / 2 || !take(grammar, n))
        return id;
    buf_add(&nodes->literals, bytes, n);
    if (nodes->literals.failed)
        return grammar_fail_memory(grammar, n);
    node_map_set(grammar, &nodes->literal_at, id, (uint32_t)at);
    return id;
}

node grammar_terminal_lazy(struct grammar *grammar, regex r)
{
    return terminal(grammar, r, 0, true);
}

node grammar_terminal(struct grammar *grammar, regex r)
{
    return grammar_terminal_sized(grammar, r, 16);
}

node grammar_json(struct grammar *grammar, struct schemas *schemas, expr e)
{
    struct grammar_nodes *nodes = grammar->nodes;
    uint32_t i = 0;
    while (i < nodes->n_schemas && nodes->schemas[i] != schemas)
        i++;
    if (i == nodes->n_schemas) {
        if (!grow(grammar, (void **)&nodes->schemas, &nodes->schemas_room, i + 1,
                  sizeof *nodes->schemas)) {
            schemas_close(schemas);
            return GRAMMAR_NONE;
        }
        nodes->schemas[nodes->n_schemas++] = schemas;
    }
    return intern(grammar, &(struct node){.kind = NODE_JSON, .depth = 1, .a = e, .b = i});
}

static uint16_t deeper(const struct node *x, const struct node *y)
{
    return (uint16_t)((x->depth > y->depth ? x->depth : y->depth) + 1);
}

node grammar_concat(struct grammar *grammar, node a, node b)
{
    if (a == GRAMMAR_NONE || b == GRAMMAR_NONE)
        return GRAMMAR_NONE;
    if (a == GRAMMAR_EMPTY || b == GRAMMAR_EMPTY)
        return a == GRAMMAR_EMPTY ? b : a;
    const struct node *x = grammar_node(grammar, a), *y = grammar_node(grammar, b);
    return intern(grammar, &(struct node){.kind = NODE_CONCAT,
                                          .nullable = x->nullable && y->nullable,
                                          .depth = deeper(x, y),
                                          .a = a,
                                          .b = b});
}

node grammar_or(struct grammar *grammar, node a, node b)
{
    if (b == GRAMMAR_EMPTY) {
        b = a;
        a = GRAMMAR_EMPTY;
    }
    const struct node *x = grammar_node(grammar, a), *y = grammar_node(grammar, b);
    if (a == GRAMMAR_NONE || a == b || (a == GRAMMAR_EMPTY && y->nullable))
        return b;
    if (b == GRAMMAR_NONE)
        return a;
    return intern(grammar, &(struct node){.kind = NODE_OR,
                                          .nullable = x->nullable || y->nullable,
                                          .depth = deeper(x, y),
                                          .a = a,
                                          .b = b});
}

node grammar_repeat(struct grammar *grammar, node a, uint32_t min, uint32_t max)
{
    if (min > max)
        return GRAMMAR_NONE;
    if (max == 0 || a == GRAMMAR_EMPTY)
        return GRAMMAR_EMPTY;
    if (a == GRAMMAR_NONE)
        return min == 0 ? GRAMMAR_EMPTY : GRAMMAR_NONE;
    if (max == 1)
        return min == 0 ? grammar_or(grammar, GRAMMAR_EMPTY, a) : a;
    const struct node *x = grammar_node(grammar, a);
    return intern(grammar, &(struct node){.kind = NODE_REPEAT,
                                          .nullable = min == 0 || x->nullable,
                                          .depth = (uint16_t)(x->depth + 1),
                                          .a = a,
                                          .min = min,
                                          .max = max});
}

static node join_all(struct grammar *grammar, node *list, size_t n,
                     node (*join)(struct grammar *grammar, node a, node b))
{
    for (; n > 1; n = (n + 1) / 2)
        for (size_t i = 0; i < n; i += 2)
            list[i / 2] = i + 1 < n ? join(grammar, list[i], list[i + 1]) : list[i];
    return list[0];
}

node grammar_concat_all(struct grammar *grammar, node *list, size_t n)
{
    return n == 0 ? GRAMMAR_EMPTY : join_all(grammar, list, n, grammar_concat);
}

node grammar_or_all(struct grammar *grammar, node *list, size_t n)
{
    return n == 0 ? GRAMMAR_NONE : join_all(grammar, list, n, grammar_or);
}

/* ---- rules ---------------------------------------------------------------------------------- */

node grammar_rule(struct grammar *grammar, const char *name)
{
    struct grammar_nodes *nodes = grammar->nodes;
    size_t n = strnlen(name, MAX_RULE_NAME);
    if (!grow(grammar, (void **)&nodes->rules, &nodes->rules_room, nodes->n_rules + 1,
              sizeof *nodes->rules) ||
        !take(grammar, n + 32)) /* 32: about what malloc() takes */
        return GRAMMAR_NONE;
    char *copy = strndup(name, n);
    if (!copy)
        return grammar_fail_memory(grammar, n + 1);
    node id = add_node(grammar, &(struct node){.kind = NODE_RULE, .depth = 1, .b = nodes->n_rules});
    if (id == GRAMMAR_NONE) {
        free(copy);
        return id;
    }
    nodes->rules[nodes->n_rules++] = (struct grammar_rule_name){.rule = id, .name = copy};
    return id;
}

void grammar_define(struct grammar *grammar, node rule, node body)
{
    if (rule == GRAMMAR_NONE) /* it failed */
        return;
    struct grammar_nodes *nodes = grammar->nodes;
    nodes->all[rule].a = body;
    nodes->rules[nodes->all[rule].b].defined = true;
}

const char *grammar_rule_name(const struct grammar *grammar, node rule)
{
    return grammar->nodes->rules[grammar_node(grammar, rule)->b].name;
}
