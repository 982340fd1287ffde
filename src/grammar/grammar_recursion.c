/* SPDX-License-Identifier: MIT */
/*
 * grammar_recursion.c: rules that begin or end with themselves, as repetitions.
 *
 * Of rules A_1 ... A_m that begin with each other, each is A_i = A_1 X_i1 | ... | A_m X_im | Y_i,
 * where no Y begins with one of them: a linear system over languages. Its solution is
 *
 *     A_i = Y_1 Z_1i | ... | Y_m Z_mi,   Z_ki = X_1k Z_1i | ... | X_mk Z_mi | (k = i: "")
 *
 * Z_ki is what leads from an A_k, once that was read, to an A_i. It takes m * m rules at most,
 * where Paull's algorithm may take 2^m; with m = 1 it is A = Y X*. No Y and no X is empty after
 * "unit" steps A_i = A_j are taken out, so that nothing can begin with a Z, and no new left
 * recursion comes about.
 */
#include <stdlib.h>
#include <string.h>

#include "base/size.h"
#include "grammar/grammar_parts.h"

enum { MAX_MUTUAL = 128 }; /* rules that begin with each other */

/* ---- cutting a node at its beginning -------------------------------------------------------- */

/* Some of the rules of the component, each followed by something; and what begins otherwise. */
struct left_cut {
    node y;
    uint32_t first, n; /* in pool */
};

struct cutting {
    struct grammar *grammar;
    struct node_map *not_empty;
    struct node_map index; /* of a rule's node: its number in the component */
    struct node_map known; /* of a node: its cut */
    struct left_cut *cuts; /* [n_cuts] */
    size_t n_cuts, cuts_room;
    struct cut_item {
        uint32_t rule; /* ascending in a cut */
        node x;
    } * pool; /* [n_pool] */
    size_t n_pool, pool_room;
};

static bool room_for(struct grammar *grammar, void **array, size_t *room, size_t n, size_t size)
{
    if (grammar_is_failed(grammar))
        return false;
    if (n <= *room)
        return true;
    size_t more = n + n / 2 + 64;
    void *larger = more * size < (size_t)1 << 31 ? realloc(*array, more * size) : NULL;
    if (!larger) {
        grammar_fail_memory(grammar, more * size);
        return false;
    }
    *array = larger;
    *room = more;
    return true;
}

static void add_item(struct cutting *c, struct left_cut *cut, uint32_t rule, node x)
{
    if (x == GRAMMAR_NONE ||
        !room_for(c->grammar, (void **)&c->pool, &c->pool_room, c->n_pool + 1, sizeof *c->pool))
        return;
    c->pool[c->n_pool++] = (struct cut_item){rule, x};
    cut->n++;
}

/* The items of two cuts, of which those with the same rule become one. then: what follows those of
 * a, or GRAMMAR_EMPTY. */
static void merge(struct cutting *c, struct left_cut *out, struct left_cut a, node then,
                  struct left_cut b)
{
    struct grammar *grammar = c->grammar;
    out->first = (uint32_t)c->n_pool;
    for (uint32_t i = 0, k = 0; (i < a.n || k < b.n) && !grammar_is_failed(grammar);) {
        uint32_t of_a = i < a.n ? c->pool[a.first + i].rule : UINT32_MAX;
        uint32_t of_b = k < b.n ? c->pool[b.first + k].rule : UINT32_MAX;
        node x = GRAMMAR_NONE;
        if (of_a <= of_b)
            x = grammar_concat(grammar, c->pool[a.first + i++].x, then);
        if (of_b <= of_a)
            x = grammar_or(grammar, x, c->pool[b.first + k++].x);
        add_item(c, out, of_a < of_b ? of_a : of_b, x);
    }
}

static struct left_cut cut_node(struct cutting *c, node id);

static struct left_cut make_cut(struct cutting *c, node id)
{
    struct grammar *grammar = c->grammar;
    struct node x = *grammar_node(grammar, id);
    struct left_cut cut = {.y = id};
    switch (x.kind) {
    case NODE_RULE: {
        uint32_t index = node_map_get(&c->index, id);
        if (index != NODE_UNSET) {
            cut = (struct left_cut){.y = GRAMMAR_NONE, .first = (uint32_t)c->n_pool};
            add_item(c, &cut, index, GRAMMAR_EMPTY);
        }
        break;
    }
    case NODE_OR: {
        struct left_cut a = cut_node(c, x.a), b = cut_node(c, x.b);
        if (a.n + b.n > 0) {
            cut.y = grammar_or(grammar, a.y, b.y);
            merge(c, &cut, a, GRAMMAR_EMPTY, b);
        }
        break;
    }
    case NODE_CONCAT: {
        bool skip = grammar_node(grammar, x.a)->nullable;
        struct left_cut a = cut_node(c, x.a), b = {0};
        if (skip)
            b = cut_node(c, x.b);
        if (a.n + b.n > 0) {
            node y = skip ? grammar_not_empty(grammar, c->not_empty, a.y) : a.y;
            cut.y = grammar_concat(grammar, y, x.b);
            if (skip)
                cut.y = grammar_or(grammar, cut.y, b.y);
            merge(c, &cut, a, x.b, b);
        }
        break;
    }
    case NODE_REPEAT: {
        struct left_cut a = cut_node(c, x.a);
        if (a.n > 0) {
            uint32_t max = x.max == UINT32_MAX ? x.max : x.max - 1;
            node rest = grammar_repeat(grammar, x.a, x.min > 0 ? x.min - 1 : 0, max);
            cut.y = grammar_concat(grammar, a.y, rest);
            if (x.min == 0)
                cut.y = grammar_or(grammar, GRAMMAR_EMPTY, cut.y);
            merge(c, &cut, a, rest, (struct left_cut){0});
        }
        break;
    }
    }
    return cut;
}

static struct left_cut cut_node(struct cutting *c, node id)
{
    struct grammar *grammar = c->grammar;
    uint32_t known = node_map_get(&c->known, id);
    if (known != NODE_UNSET)
        return c->cuts[known];
    if (grammar_is_failed(grammar))
        return (struct left_cut){.y = GRAMMAR_NONE};
    struct left_cut cut = make_cut(c, id);
    if (room_for(grammar, (void **)&c->cuts, &c->cuts_room, c->n_cuts + 1, sizeof *c->cuts)) {
        c->cuts[c->n_cuts] = cut;
        node_map_set(grammar, &c->known, id, (uint32_t)c->n_cuts++);
    }
    return cut;
}

/* ---- solving the system --------------------------------------------------------------------- */

struct mutual {
    struct grammar *grammar;
    size_t m;
    const node *rules; /* [m] */
    node *y;           /* [m] */
    node *x;           /* [m][m], x[i][j]: A_i = A_j x | ... */
    node *z;           /* [m][m], without "" */
    bool *unit;        /* [m][m], A_i = A_j | ..., and by several steps */
    bool *leads;       /* [m][m], an A_k may become an A_i by at least one x */
};

/* Which pairs are connected by one step or more (Warshall 1962). */
static void close_over(bool *pairs, size_t m)
{
    for (size_t k = 0; k < m; k++)
        for (size_t i = 0; i < m; i++)
            if (pairs[i * m + k])
                for (size_t j = 0; j < m; j++)
                    pairs[i * m + j] |= pairs[k * m + j];
}

/* Each rule takes the x and y of those that it may be by unit steps. */
static void take_units(struct mutual *s)
{
    size_t m = s->m;
    node *x = size_alloc(m * m + m, sizeof *x), *y = x + m * m;
    if (!x) {
        grammar_fail_memory(s->grammar, (m * m + m) * sizeof *x);
        return;
    }
    close_over(s->unit, m);
    for (size_t i = 0; i < m; i++) {
        s->unit[i * m + i] = true;
        for (size_t k = 0; k < m; k++) {
            if (!s->unit[i * m + k])
                continue;
            y[i] = grammar_or(s->grammar, y[i], s->y[k]);
            for (size_t j = 0; j < m; j++)
                x[i * m + j] = grammar_or(s->grammar, x[i * m + j], s->x[k * m + j]);
        }
    }
    memcpy(s->x, x, m * m * sizeof *x);
    memcpy(s->y, y, m * sizeof *y);
    free(x);
}

/* Z_ki with "" where k = i. */
static node z_of(const struct mutual *s, size_t k, size_t i)
{
    node z = s->z[k * s->m + i];
    return k == i ? grammar_or(s->grammar, GRAMMAR_EMPTY, z) : z;
}

static void write_rules(struct mutual *s)
{
    size_t m = s->m;
    struct grammar *grammar = s->grammar;
    for (size_t i = 0; i < m * m; i++)
        s->leads[i % m * m + i / m] = s->x[i] != GRAMMAR_NONE;
    close_over(s->leads, m);
    for (size_t k = 0; k < m; k++)
        for (size_t i = 0; i < m; i++)
            if (s->leads[k * m + i])
                s->z[k * m + i] = grammar_rule(grammar, grammar_rule_name(grammar, s->rules[i]));
    for (size_t k = 0; k < m; k++)
        for (size_t i = 0; i < m && !grammar_is_failed(grammar); i++) {
            if (!s->leads[k * m + i])
                continue;
            node body = GRAMMAR_NONE;
            for (size_t j = 0; j < m; j++)
                body = grammar_or(grammar, body,
                                  grammar_concat(grammar, s->x[j * m + k], z_of(s, j, i)));
            grammar_define(grammar, s->z[k * m + i], body);
        }
    for (size_t i = 0; i < m && !grammar_is_failed(grammar); i++) {
        node body = GRAMMAR_NONE;
        for (size_t k = 0; k < m; k++)
            body = grammar_or(grammar, body, grammar_concat(grammar, s->y[k], z_of(s, k, i)));
        grammar_define(grammar, s->rules[i], body);
    }
}

/* Reads the system of the component's rules. */
static void read_rules(struct mutual *s, struct node_map *not_empty)
{
    size_t m = s->m;
    struct grammar *grammar = s->grammar;
    struct cutting c = {.grammar = grammar, .not_empty = not_empty};
    for (size_t i = 0; i < m; i++)
        node_map_set(grammar, &c.index, s->rules[i], (uint32_t)i);
    for (size_t i = 0; i < m && !grammar_is_failed(grammar); i++) {
        struct left_cut cut = cut_node(&c, grammar_node(grammar, s->rules[i])->a);
        s->y[i] = cut.y;
        for (uint32_t n = 0; n < cut.n; n++) {
            struct cut_item item = c.pool[cut.first + n];
            s->unit[i * m + item.rule] = grammar_node(grammar, item.x)->nullable;
            s->x[i * m + item.rule] = grammar_not_empty(grammar, not_empty, item.x);
        }
    }
    node_map_free(&c.index);
    node_map_free(&c.known);
    free(c.cuts);
    free(c.pool);
}

static void solve(struct grammar *grammar, const node *rules, size_t m, struct node_map *not_empty)
{
    struct mutual s = {.grammar = grammar,
                       .m = m,
                       .rules = rules,
                       .y = size_alloc(m, sizeof(node)),
                       .x = size_alloc(m * m, sizeof(node)),
                       .z = size_alloc(m * m, sizeof(node)),
                       .unit = size_alloc(m * m, 1),
                       .leads = size_alloc(m * m, 1)};
    if (!s.y || !s.x || !s.z || !s.unit || !s.leads) {
        grammar_fail_memory(grammar, m * m * sizeof *s.x);
    } else {
        read_rules(&s, not_empty);
        take_units(&s);
        if (m == 1)
            grammar_define(
                grammar, rules[0],
                grammar_concat(grammar, s.y[0], grammar_repeat(grammar, s.x[0], 0, UINT32_MAX)));
        else
            write_rules(&s);
    }
    free(s.y);
    free(s.x);
    free(s.z);
    free(s.unit);
    free(s.leads);
}

int grammar_left_recursion(struct grammar *grammar)
{
    struct rule_graph graph;
    struct node_map not_empty = {0};
    if (rule_graph_make(grammar, true, &graph))
        return -1;
    for (uint32_t i = 0; i < graph.n_components && !grammar_is_failed(grammar); i++) {
        if (!rule_graph_recursive(&graph, i))
            continue;
        uint32_t m = graph.starts[i + 1] - graph.starts[i];
        node rules[MAX_MUTUAL];
        for (uint32_t k = 0; k < m && k < MAX_MUTUAL; k++)
            rules[k] = grammar->nodes->rules[graph.order[graph.starts[i] + k]].rule;
        if (m <= MAX_MUTUAL) {
            solve(grammar, rules, m, &not_empty);
        } else {
            struct llama3_error err = {.size = sizeof err};
            error_input(&err,
                        "rule %s: expected at most %d rules that begin with each other, found %u",
                        grammar_rule_name(grammar, rules[0]), MAX_MUTUAL, (unsigned)m);
            grammar_fail(grammar, &err);
        }
    }
    node_map_free(&not_empty);
    rule_graph_free(&graph);
    return grammar_is_failed(grammar) ? -1 : 0;
}

/* ---- rules that end with themselves --------------------------------------------------------- */

/* What a node is besides ending with the rule: x, then the rule; or y. */
struct tail {
    node x, y;
};

struct tails {
    struct grammar *grammar;
    node rule;
    struct node_map known; /* of a node: the place of its tail */
    struct tail *all;      /* [n] */
    size_t n, room;
};

static struct tail tail_of(struct tails *t, node id)
{
    struct grammar *grammar = t->grammar;
    struct tail tail = {GRAMMAR_NONE, id};
    uint32_t known = node_map_get(&t->known, id);
    if (known != NODE_UNSET)
        return t->all[known];
    if (id == t->rule)
        return (struct tail){GRAMMAR_EMPTY, GRAMMAR_NONE};
    struct node x = *grammar_node(grammar, id);
    if (x.kind == NODE_OR) {
        struct tail a = tail_of(t, x.a), b = tail_of(t, x.b);
        if (a.x != GRAMMAR_NONE || b.x != GRAMMAR_NONE)
            tail = (struct tail){grammar_or(grammar, a.x, b.x), grammar_or(grammar, a.y, b.y)};
    } else if (x.kind == NODE_CONCAT) {
        struct tail b = tail_of(t, x.b);
        if (b.x != GRAMMAR_NONE)
            tail =
                (struct tail){grammar_concat(grammar, x.a, b.x), grammar_concat(grammar, x.a, b.y)};
    } else {
        return tail;
    }
    if (room_for(grammar, (void **)&t->all, &t->room, t->n + 1, sizeof *t->all)) {
        t->all[t->n] = tail;
        node_map_set(grammar, &t->known, id, (uint32_t)t->n++);
    }
    return tail;
}

/* A = X A | Y is X* Y. */
void grammar_tail_recursion(struct grammar *grammar)
{
    struct rule_graph graph;
    struct node_map not_empty = {0};
    if (rule_graph_make(grammar, false, &graph))
        return;
    for (uint32_t i = 0; i < graph.n && !grammar_is_failed(grammar); i++) {
        bool self = false;
        for (uint32_t e = graph.first[i]; e < graph.first[i + 1]; e++)
            self |= graph.to[e] == i;
        if (!self)
            continue;
        struct tails t = {.grammar = grammar, .rule = grammar->nodes->rules[i].rule};
        struct tail tail = tail_of(&t, grammar_node(grammar, t.rule)->a);
        if (tail.x != GRAMMAR_NONE) {
            node x = grammar_not_empty(grammar, &not_empty, tail.x);
            node body =
                x == tail.y
                    ? grammar_repeat(grammar, x, 1, UINT32_MAX)
                    : grammar_concat(grammar, grammar_repeat(grammar, x, 0, UINT32_MAX), tail.y);
            grammar_define(grammar, t.rule, body);
        }
        node_map_free(&t.known);
        free(t.all);
    }
    node_map_free(&not_empty);
    rule_graph_free(&graph);
}
