/* SPDX-License-Identifier: MIT */
/*
 * grammar_check.c: what a grammar is before a parser runs it: first its rules are written anew
 * without parts that never end and without the empty text in rules; then recursion is rewritten
 * (grammar_recursion.c), and what is regular collapses (grammar_collapse.c).
 */
#include <stdlib.h>
#include <string.h>

#include "base/size.h"
#include "grammar/grammar_parts.h"

/* ---- what is true of nodes ------------------------------------------------------------------ */

/* Facts about nodes and rules, of the n nodes that there are at first. */
struct facts {
    struct grammar *grammar;
    uint32_t n;
    bool *ends;     /* [n], some text matches */
    bool *nullable; /* [n], the empty text does */
    bool *filled;   /* [n], some other text does */
    /* The nodes that a node is part of: those of node i from first[i] on. */
    uint32_t *first, *users; /* [n + 1], [first[n]] */
    uint32_t *queue;         /* [n] */
};

/* The parts of a node. */
static int parts_of(const struct node *x, node parts[2])
{
    parts[0] = x->a;
    parts[1] = x->b;
    switch (x->kind) {
    case NODE_CONCAT:
    case NODE_OR:
        return 2;
    case NODE_REPEAT:
    case NODE_RULE:
        return 1;
    default:
        return 0;
    }
}

static bool find_users(struct facts *facts)
{
    const struct node *all = facts->grammar->nodes->all;
    size_t edges = 0;
    node parts[2];
    for (uint32_t i = 0; i < facts->n; i++)
        for (int p = parts_of(&all[i], parts); p-- > 0; edges++)
            facts->first[parts[p] + 1]++;
    for (uint32_t i = 0; i < facts->n; i++)
        facts->first[i + 1] += facts->first[i];
    facts->users = size_alloc(edges, sizeof *facts->users);
    if (!facts->users)
        return false;
    for (uint32_t i = facts->n; i-- > 0;)
        for (int p = parts_of(&all[i], parts); p-- > 0;)
            facts->users[--facts->first[parts[p] + 1]] = i;
    /* Each first[] but the last has moved to the beginning of its own: shift them back. */
    memmove(facts->first, facts->first + 1, facts->n * sizeof *facts->first);
    facts->first[facts->n] = (uint32_t)edges;
    return true;
}

static bool leaf_fact(struct facts *facts, const struct node *x, const bool *fact)
{
    struct grammar *grammar = facts->grammar;
    if (x->kind == NODE_EMPTY)
        return fact != facts->filled;
    if (x->kind == NODE_JSON)
        return fact != facts->nullable;
    if (x->kind != NODE_TERMINAL)
        return false;
    return fact == facts->nullable ? x->nullable
           : fact == facts->filled ? !x->nullable || regex_count(grammar->regexes, x->a, 2) > 1
                                   : true;
}

/* Whether a fact holds for a node, as far as it is known of its parts. */
static bool holds(struct facts *facts, const struct node *x, const bool *fact)
{
    switch (x->kind) {
    case NODE_CONCAT:
        if (fact == facts->filled)
            return facts->ends[x->a] && facts->ends[x->b] && (fact[x->a] || fact[x->b]);
        return fact[x->a] && fact[x->b];
    case NODE_OR:
        return fact[x->a] || fact[x->b];
    case NODE_REPEAT:
        return fact[x->a] || (x->min == 0 && fact != facts->filled);
    case NODE_RULE:
        return fact[x->a];
    default:
        return leaf_fact(facts, x, fact);
    }
}

/* The least fixed point. */
static void find_fact(struct facts *facts, bool *fact)
{
    const struct node *all = facts->grammar->nodes->all;
    uint32_t n_queue = 0;
    for (uint32_t i = 0; i < facts->n; i++)
        if ((fact[i] = holds(facts, &all[i], fact)))
            facts->queue[n_queue++] = i;
    while (n_queue > 0) {
        uint32_t id = facts->queue[--n_queue];
        for (uint32_t u = facts->first[id]; u < facts->first[id + 1]; u++) {
            uint32_t user = facts->users[u];
            if (!fact[user] && (fact[user] = holds(facts, &all[user], fact)))
                facts->queue[n_queue++] = user;
        }
    }
}

static void facts_free(struct facts *facts)
{
    free(facts->ends);
    free(facts->nullable);
    free(facts->filled);
    free(facts->first);
    free(facts->users);
    free(facts->queue);
}

static int facts_find(struct grammar *grammar, struct facts *facts)
{
    size_t n = grammar->nodes->n;
    *facts = (struct facts){.grammar = grammar,
                            .n = (uint32_t)n,
                            .ends = size_alloc(n, 1),
                            .nullable = size_alloc(n, 1),
                            .filled = size_alloc(n, 1),
                            .first = size_alloc(n + 1, sizeof *facts->first),
                            .queue = size_alloc(n, sizeof *facts->queue)};
    if (!facts->ends || !facts->nullable || !facts->filled || !facts->first || !facts->queue ||
        !find_users(facts)) {
        grammar_fail_memory(grammar, n * sizeof *facts->queue);
        return -1;
    }
    find_fact(facts, facts->ends);
    find_fact(facts, facts->nullable);
    find_fact(facts, facts->filled);
    return grammar_is_failed(grammar) ? -1 : 0;
}

/* ---- writing anew --------------------------------------------------------------------------- */

struct cleaning {
    struct grammar *grammar;
    const struct facts *facts;
    struct node_map clean, filled; /* of old nodes: what they become, and that without "" */
    uint32_t done;                 /* new rules whose bodies are written */
    struct {
        node old, new;
    } * rules; /* [n_rules] */
    uint32_t n_rules;
};

static node clean(struct cleaning *c, node id);
static node filled(struct cleaning *c, node id);

/* The new rule of an old one. */
static node new_rule(struct cleaning *c, node id)
{
    uint32_t known = node_map_get(&c->filled, id);
    if (known != NODE_UNSET)
        return known;
    node made = grammar_rule(c->grammar, grammar_rule_name(c->grammar, id));
    if (made == GRAMMAR_NONE)
        return made;
    c->rules[c->n_rules].old = id;
    c->rules[c->n_rules++].new = made;
    node_map_set(c->grammar, &c->filled, id, made);
    return made;
}

static node terminal_filled(struct grammar *grammar, const struct node *x)
{
    struct regexes *all = grammar->regexes;
    regex r = regex_and(all, x->a, regex_not(all, REGEX_EMPTY));
    return grammar_terminal_sized(grammar, r, x->size);
}

static node make_filled(struct cleaning *c, node id)
{
    struct grammar *grammar = c->grammar;
    const struct facts *facts = c->facts;
    struct node x = *grammar_node(grammar, id);
    if (!facts->filled[id])
        return GRAMMAR_NONE;
    switch (x.kind) {
    case NODE_TERMINAL:
        return x.nullable ? terminal_filled(grammar, &x) : id;
    case NODE_CONCAT:
        if (!facts->nullable[id])
            return clean(c, id);
        return grammar_or(grammar, grammar_concat(grammar, filled(c, x.a), clean(c, x.b)),
                          filled(c, x.b));
    case NODE_OR:
        return grammar_or(grammar, filled(c, x.a), filled(c, x.b));
    case NODE_REPEAT:
        return grammar_repeat(grammar, filled(c, x.a),
                              facts->nullable[id] || x.min == 0 ? 1 : x.min, x.max);
    case NODE_RULE:
        return new_rule(c, id);
    default:
        return id;
    }
}

static node filled(struct cleaning *c, node id)
{
    uint32_t known = node_map_get(&c->filled, id);
    if (known != NODE_UNSET || grammar_is_failed(c->grammar))
        return known == NODE_UNSET ? GRAMMAR_NONE : known;
    node made = make_filled(c, id);
    node_map_set(c->grammar, &c->filled, id, made);
    return made;
}

static node make_clean(struct cleaning *c, node id)
{
    struct grammar *grammar = c->grammar;
    const struct facts *facts = c->facts;
    struct node x = *grammar_node(grammar, id);
    if (!facts->filled[id])
        return facts->ends[id] ? GRAMMAR_EMPTY : GRAMMAR_NONE;
    switch (x.kind) {
    case NODE_CONCAT:
        return grammar_concat(grammar, clean(c, x.a), clean(c, x.b));
    case NODE_OR:
        return grammar_or(grammar, clean(c, x.a), clean(c, x.b));
    case NODE_REPEAT:
        return grammar_repeat(grammar, filled(c, x.a), facts->nullable[x.a] ? 0 : x.min, x.max);
    default:
        return facts->nullable[id] ? grammar_or(grammar, GRAMMAR_EMPTY, filled(c, id))
                                   : filled(c, id);
    }
}

static node clean(struct cleaning *c, node id)
{
    uint32_t known = node_map_get(&c->clean, id);
    if (known != NODE_UNSET || grammar_is_failed(c->grammar))
        return known == NODE_UNSET ? GRAMMAR_NONE : known;
    node made = make_clean(c, id);
    node_map_set(c->grammar, &c->clean, id, made);
    return made;
}

/* The rules that can be reached, anew, in the place of the old ones. */
static void write_anew(struct grammar *grammar, const struct facts *facts)
{
    struct grammar_nodes *nodes = grammar->nodes;
    uint32_t old = nodes->n_rules;
    struct cleaning c = {.grammar = grammar, .facts = facts};
    c.rules = size_alloc(old, sizeof *c.rules);
    if (!c.rules) {
        grammar_fail_memory(grammar, old * sizeof *c.rules);
        return;
    }
    node start = clean(&c, grammar->start);
    for (; c.done < c.n_rules; c.done++) {
        node body = filled(&c, grammar_node(grammar, c.rules[c.done].old)->a);
        grammar_define(grammar, c.rules[c.done].new, body);
    }
    grammar->start = start;
    /* The old rules' names go; nodes that were made of them stay, and are never met again. */
    for (uint32_t i = 0; i < old; i++)
        free(nodes->rules[i].name);
    nodes->n_rules -= old;
    if (nodes->n_rules > 0)
        memmove(nodes->rules, nodes->rules + old, nodes->n_rules * sizeof *nodes->rules);
    for (uint32_t i = 0; i < nodes->n_rules; i++)
        nodes->all[nodes->rules[i].rule].b = i;
    node_map_free(&c.clean);
    node_map_free(&c.filled);
    free(c.rules);
}

/* The same for nodes that are clean already. */
node grammar_not_empty(struct grammar *grammar, struct node_map *map, node id)
{
    struct node x = *grammar_node(grammar, id);
    if (!x.nullable)
        return id;
    uint32_t known = node_map_get(map, id);
    if (known != NODE_UNSET)
        return known;
    node made = GRAMMAR_NONE; /* of NODE_EMPTY */
    if (x.kind == NODE_CONCAT) {
        made = grammar_concat(grammar, grammar_not_empty(grammar, map, x.a), x.b);
        made = grammar_or(grammar, made, grammar_not_empty(grammar, map, x.b));
    } else if (x.kind == NODE_OR) {
        made = grammar_or(grammar, grammar_not_empty(grammar, map, x.a),
                          grammar_not_empty(grammar, map, x.b));
    } else if (x.kind == NODE_REPEAT) {
        made = grammar_repeat(grammar, grammar_not_empty(grammar, map, x.a), 1, x.max);
    }
    node_map_set(grammar, map, id, made);
    return made;
}

/* ---- grammar_check() ------------------------------------------------------------------------ */

static int all_defined(const struct grammar *grammar, struct llama3_error *err)
{
    const struct grammar_nodes *nodes = grammar->nodes;
    for (uint32_t i = 0; i < nodes->n_rules; i++)
        if (!nodes->rules[i].defined)
            return error_input(err, "expected a definition of the rule %s, found none",
                               nodes->rules[i].name);
    return 0;
}

int grammar_check(struct grammar *grammar, struct llama3_error *err)
{
    struct facts facts = {0};
    if (grammar_failed(grammar, err) || all_defined(grammar, err))
        return -1;
    if (facts_find(grammar, &facts))
        goto done;
    if (!facts.ends[grammar->start]) {
        const struct node *start = grammar_node(grammar, grammar->start);
        facts_free(&facts);
        return error_input(err, "expected a text that ends from %s%s, found none",
                           start->kind == NODE_RULE ? "the rule " : "the start",
                           start->kind == NODE_RULE ? grammar_rule_name(grammar, grammar->start)
                                                    : "");
    }
    write_anew(grammar, &facts);
    if (grammar_is_failed(grammar) || grammar_left_recursion(grammar))
        goto done;
    grammar_tail_recursion(grammar);
    if (!grammar->greedy)
        grammar_collapse(grammar);
done:
    facts_free(&facts);
    return grammar_failed(grammar, err);
}
