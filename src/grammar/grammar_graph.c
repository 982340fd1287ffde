/* SPDX-License-Identifier: MIT */
/* grammar_graph.c: which rules mention which, and their strongly connected components (Tarjan
 * 1972), without recursion over rules: a grammar may have a chain of a hundred thousand. */
#include <stdlib.h>
#include <string.h>

#include "base/size.h"
#include "grammar/grammar_parts.h"

/* ---- maps ----------------------------------------------------------------------------------- */

void node_map_set(struct grammar *grammar, struct node_map *map, node id, uint32_t value)
{
    if (id >= map->n) {
        uint32_t n = grammar->nodes->n + grammar->nodes->n / 2 + 16;
        uint32_t *of = realloc(map->of, n * sizeof *of);
        if (!of) {
            grammar_fail_memory(grammar, n * sizeof *of);
            return;
        }
        memset(of + map->n, 0xff, (n - map->n) * sizeof *of); /* NODE_UNSET */
        map->of = of;
        map->n = n;
    }
    map->of[id] = value;
}

void node_map_free(struct node_map *map)
{
    free(map->of);
    *map = (struct node_map){0};
}

/* ---- edges ---------------------------------------------------------------------------------- */

struct edge_list {
    struct grammar *grammar;
    uint32_t *to; /* [n] */
    size_t n, room;
    struct node_map seen; /* the last rule whose body had the node */
    uint32_t rule;
    bool left;
};

static void add_edge(struct edge_list *edges, uint32_t rule)
{
    if (edges->n == edges->room) {
        size_t room = edges->room * 2 + 64;
        uint32_t *to = realloc(edges->to, room * sizeof *to);
        if (!to) {
            grammar_fail_memory(edges->grammar, room * sizeof *to);
            return;
        }
        edges->to = to;
        edges->room = room;
    }
    edges->to[edges->n++] = rule;
}

static void find_edges(struct edge_list *edges, node id)
{
    if (grammar_is_failed(edges->grammar) || node_map_get(&edges->seen, id) == edges->rule)
        return;
    node_map_set(edges->grammar, &edges->seen, id, edges->rule);
    const struct node *x = grammar_node(edges->grammar, id);
    switch (x->kind) {
    case NODE_RULE:
        add_edge(edges, x->b);
        break;
    case NODE_CONCAT:
        find_edges(edges, x->a);
        if (!edges->left || grammar_node(edges->grammar, x->a)->nullable)
            find_edges(edges, x->b);
        break;
    case NODE_OR:
        find_edges(edges, x->a);
        find_edges(edges, x->b);
        break;
    case NODE_REPEAT:
        find_edges(edges, x->a);
        break;
    }
}

/* ---- components ----------------------------------------------------------------------------- */

/* An index: the rule is in a component already. No other is higher. */
static const uint32_t DONE = UINT32_MAX;

struct tarjan {
    uint32_t *index;        /* [n], when the rule was met, from 1 on */
    uint32_t *low;          /* [n], the least index that it leads back to */
    uint32_t *next;         /* [n], the edge to follow */
    uint32_t *stack, *path; /* [n] */
    uint32_t count, n_stack, n_path;
};

static void enter(const struct rule_graph *graph, struct tarjan *t, uint32_t rule)
{
    t->index[rule] = t->low[rule] = ++t->count;
    t->next[rule] = graph->first[rule];
    t->stack[t->n_stack++] = t->path[t->n_path++] = rule;
}

static void leave(struct rule_graph *graph, struct tarjan *t, uint32_t rule, uint32_t *n_order)
{
    t->n_path--;
    if (t->n_path > 0) {
        uint32_t before = t->path[t->n_path - 1];
        if (t->low[rule] < t->low[before])
            t->low[before] = t->low[rule];
    }
    if (t->low[rule] != t->index[rule])
        return;
    uint32_t one;
    do {
        one = t->stack[--t->n_stack];
        t->index[one] = DONE;
        graph->order[(*n_order)++] = one;
    } while (one != rule);
    graph->starts[++graph->n_components] = *n_order;
}

/* work: [5 * n], zeros. */
static void find_components(struct rule_graph *graph, uint32_t *work)
{
    size_t n = graph->n;
    uint32_t n_order = 0;
    struct tarjan t = {work, work + n, work + 2 * n, work + 3 * n, work + 4 * n, 0, 0, 0};
    for (uint32_t root = 0; root < n; root++) {
        if (t.index[root] == 0)
            enter(graph, &t, root);
        while (t.n_path > 0) {
            uint32_t rule = t.path[t.n_path - 1];
            if (t.next[rule] == graph->first[rule + 1]) {
                leave(graph, &t, rule, &n_order);
                continue;
            }
            uint32_t to = graph->to[t.next[rule]++];
            if (t.index[to] == 0)
                enter(graph, &t, to);
            else if (t.index[to] < t.low[rule])
                t.low[rule] = t.index[to];
        }
    }
}

int rule_graph_make(struct grammar *grammar, bool left, struct rule_graph *graph)
{
    size_t n = grammar->nodes->n_rules;
    *graph = (struct rule_graph){.n = (uint32_t)n};
    graph->first = size_alloc(n + 1, sizeof *graph->first);
    graph->order = size_alloc(n, sizeof *graph->order);
    graph->starts = size_alloc(n + 1, sizeof *graph->starts);
    uint32_t *work = size_alloc(5 * n, sizeof *work);
    struct edge_list edges = {.grammar = grammar, .left = left};
    if (!graph->first || !graph->order || !graph->starts || !work)
        grammar_fail_memory(grammar, 5 * n * sizeof *work);
    for (size_t i = 0; i < n && !grammar_is_failed(grammar); i++) {
        graph->first[i] = (uint32_t)edges.n;
        edges.rule = (uint32_t)i;
        find_edges(&edges, grammar_node(grammar, grammar->nodes->rules[i].rule)->a);
        if (edges.n > UINT32_MAX / 2)
            grammar_fail_memory(grammar, edges.n * sizeof *edges.to);
    }
    graph->to = edges.to;
    if (!grammar_is_failed(grammar)) {
        graph->first[n] = (uint32_t)edges.n;
        find_components(graph, work);
    }
    node_map_free(&edges.seen);
    free(work);
    if (!grammar_is_failed(grammar))
        return 0;
    rule_graph_free(graph);
    return -1;
}

void rule_graph_free(struct rule_graph *graph)
{
    free(graph->first);
    free(graph->to);
    free(graph->order);
    free(graph->starts);
    *graph = (struct rule_graph){0};
}

bool rule_graph_recursive(const struct rule_graph *graph, uint32_t component)
{
    uint32_t at = graph->starts[component];
    if (graph->starts[component + 1] - at > 1)
        return true;
    uint32_t rule = graph->order[at];
    for (uint32_t i = graph->first[rule]; i < graph->first[rule + 1]; i++)
        if (graph->to[i] == rule)
            return true;
    return false;
}
