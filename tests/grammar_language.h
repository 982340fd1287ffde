/* SPDX-License-Identifier: MIT */
/*
 * grammar_language.h: which texts a grammar's nodes match, by the definition: of each node and each
 * place of the text, the places where the node may end, as the least fixed point. It takes any
 * grammar, checked or not: left recursion, empty repetitions, rules that never end.
 */
#ifndef TESTS_GRAMMAR_LANGUAGE_H
#define TESTS_GRAMMAR_LANGUAGE_H

#include <check.h>
#include <stdlib.h>
#include <string.h>

#include "grammar/grammar_parts.h"
#include "run.h"

enum { LANGUAGE_WORDS = 8, LANGUAGE_MAX_TEXT = 64 * LANGUAGE_WORDS - 1 };

/* Places of a text. */
struct places {
    uint64_t bits[LANGUAGE_WORDS];
};

struct language {
    struct grammar *grammar;
    const char *text; /* [n] */
    size_t n;
    node *nodes; /* [n_nodes], what can be reached, parts before wholes where that is possible */
    size_t n_nodes;
    uint32_t *index;     /* [grammar's nodes], in `nodes` */
    struct places *ends; /* [n_nodes][n + 1] */
};

static inline bool places_or(struct places *to, const struct places *from)
{
    bool more = false;
    for (int i = 0; i < LANGUAGE_WORDS; i++) {
        more |= (from->bits[i] & ~to->bits[i]) != 0;
        to->bits[i] |= from->bits[i];
    }
    return more;
}

static inline bool places_has(const struct places *places, size_t at)
{
    return places->bits[at / 64] >> at % 64 & 1;
}

static inline void places_add(struct places *places, size_t at)
{
    places->bits[at / 64] |= (uint64_t)1 << at % 64;
}

static inline struct places *language_ends(const struct language *l, node id, size_t at)
{
    return &l->ends[l->index[id] * (l->n + 1) + at];
}

/* Where `id` may end if it begins at one of the places. */
static inline struct places language_after(const struct language *l, node id,
                                           const struct places *from)
{
    struct places all = {0};
    for (size_t at = 0; at <= l->n; at++)
        if (places_has(from, at))
            places_or(&all, language_ends(l, id, at));
    return all;
}

static inline void language_collect(struct language *l, node id)
{
    if (l->index[id] != UINT32_MAX)
        return;
    struct node x = *grammar_node(l->grammar, id);
    l->index[id] = 0;
    if (x.kind >= NODE_CONCAT)
        language_collect(l, x.a);
    if (x.kind == NODE_CONCAT || x.kind == NODE_OR)
        language_collect(l, x.b);
    l->index[id] = (uint32_t)l->n_nodes;
    l->nodes[l->n_nodes++] = id;
}

static inline struct places language_terminal(const struct language *l, regex r, size_t at)
{
    struct places ends = {0};
    for (; r != REGEX_NONE; at++) {
        if (regex_nullable(l->grammar->regexes, r))
            places_add(&ends, at);
        if (at == l->n)
            break;
        r = regex_step(l->grammar->regexes, r, (uint8_t)l->text[at]);
    }
    return ends;
}

static inline struct places language_repeat(const struct language *l, const struct node *x,
                                            size_t at)
{
    struct places now = {0}, ends = {0};
    places_add(&now, at);
    /* A round that changes nothing changes nothing any more: with "" in it places are only added,
     * without it they move towards the end. */
    for (uint32_t times = 0;; times++) {
        if (times >= x->min)
            places_or(&ends, &now);
        struct places next = language_after(l, x->a, &now);
        bool same = memcmp(&next, &now, sizeof now) == 0;
        if (times == x->max || (same && times >= x->min))
            return ends;
        if (same)
            times = x->min - 1;
        now = next;
    }
}

static inline struct places language_round(const struct language *l, node id, size_t at)
{
    struct node x = *grammar_node(l->grammar, id);
    struct places ends = {0};
    switch (x.kind) {
    case NODE_NONE:
        break;
    case NODE_EMPTY:
        places_add(&ends, at);
        break;
    case NODE_TERMINAL:
        ends = language_terminal(l, x.a, at);
        break;
    case NODE_CONCAT:
        ends = language_after(l, x.b, language_ends(l, x.a, at));
        break;
    case NODE_OR:
        ends = *language_ends(l, x.a, at);
        places_or(&ends, language_ends(l, x.b, at));
        break;
    case NODE_REPEAT:
        ends = language_repeat(l, &x, at);
        break;
    case NODE_RULE:
        ends = *language_ends(l, x.a, at);
        break;
    default:
        ck_abort_msg("a node of kind %d", x.kind);
    }
    return ends;
}

/* Whether the grammar's start matches the text. */
static inline bool language_matches(struct grammar *grammar, const char *text, size_t n)
{
    struct language l = {.grammar = grammar, .text = text, .n = n};
    size_t all = grammar->nodes->n;
    require(n <= LANGUAGE_MAX_TEXT, "a text of %zu bytes", n);
    l.nodes = malloc(all * sizeof *l.nodes);
    l.index = malloc(all * sizeof *l.index);
    memset(l.index, 0xff, all * sizeof *l.index);
    language_collect(&l, grammar->start);
    l.ends = calloc(l.n_nodes * (n + 1), sizeof *l.ends);
    for (bool more = true; more;) {
        more = false;
        for (size_t i = 0; i < l.n_nodes; i++)
            for (size_t at = 0; at <= n; at++) {
                struct places ends = language_round(&l, l.nodes[i], at);
                more |= places_or(&l.ends[i * (n + 1) + at], &ends);
            }
    }
    bool matches = places_has(language_ends(&l, grammar->start, 0), n);
    free(l.nodes);
    free(l.index);
    free(l.ends);
    return matches;
}

/* What grammar_check() promises about nodes, below the start. */
static inline void language_promises(struct grammar *grammar)
{
    size_t all = grammar->nodes->n;
    struct language l = {.grammar = grammar};
    l.nodes = malloc(all * sizeof *l.nodes);
    l.index = malloc(all * sizeof *l.index);
    memset(l.index, 0xff, all * sizeof *l.index);
    language_collect(&l, grammar->start);
    for (size_t i = 0; i < l.n_nodes; i++) {
        const struct node *x = grammar_node(grammar, l.nodes[i]);
        bool null = x->nullable;
        require(x->kind != NODE_NONE, "a node that never ends is left");
        require(x->kind != NODE_TERMINAL || !regex_nullable(grammar->regexes, x->a),
                "a terminal matches the empty text");
        require(!null || x->kind == NODE_EMPTY || x->kind >= NODE_CONCAT, "kind %d", x->kind);
        if (x->kind == NODE_REPEAT || x->kind == NODE_RULE)
            require(!grammar_node(grammar, x->a)->nullable, "%s matches the empty text",
                    x->kind == NODE_RULE ? "a rule" : "what is repeated");
        require(x->kind != NODE_RULE || !null, "a rule counts as empty");
    }
    struct rule_graph graph;
    require(rule_graph_make(grammar, true, &graph) == 0, "no graph");
    for (uint32_t i = 0; i < graph.n_components; i++)
        require(!rule_graph_recursive(&graph, i), "the rule %s begins with itself",
                grammar->nodes->rules[graph.order[graph.starts[i]]].name);
    rule_graph_free(&graph);
    free(l.nodes);
    free(l.index);
}

#endif
