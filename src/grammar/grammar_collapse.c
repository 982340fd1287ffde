/* SPDX-License-Identifier: MIT */
/*
 * grammar_collapse.c: what is regular becomes one terminal: neighbours in a sequence, alternatives,
 * repetitions, and rules that aren't recursive.
 *
 * A regular part is kept as a regex that doesn't match the empty text, and whether that belongs to
 * it too; so nothing here needs conjunctions or complements. The sizes of all terminals that are
 * made add up to less than MAX_MADE: a rule that is used many times, in rules that are used many
 * times, would take exponential memory. Beyond it parts stay as they are, which is as good a
 * grammar.
 */
#include <stdlib.h>
#include <string.h>

#include "grammar/grammar_parts.h"

enum {
    MAX_TERMINAL = 1 << 16, /* positions of a terminal that is made */
    MAX_MADE = 1 << 20,     /* and of all of them */
    MAX_LIST = 4096         /* parts of a sequence that are looked at together */
};

struct collapse {
    struct grammar *grammar;
    struct node_map known;
    uint32_t made; /* positions */
};

struct regular {
    regex r;   /* without the empty text; REGEX_NONE: nothing else */
    bool null; /* and the empty text */
    uint32_t size;
};

static bool is_regular(const struct grammar *grammar, node id, struct regular *out)
{
    const struct node *x = grammar_node(grammar, id);
    *out = (struct regular){.r = REGEX_NONE, .null = id == GRAMMAR_EMPTY};
    if (x->kind == NODE_OR && x->a == GRAMMAR_EMPTY) {
        out->null = true;
        x = grammar_node(grammar, x->b);
    }
    if (x->kind != NODE_TERMINAL)
        return id == GRAMMAR_EMPTY;
    out->r = x->a;
    out->size = x->size;
    return true;
}

static node of_regular(struct grammar *grammar, struct regular x)
{
    node id = grammar_terminal_sized(grammar, x.r, x.size);
    return x.null ? grammar_or(grammar, GRAMMAR_EMPTY, id) : id;
}

static regex whole(struct grammar *grammar, struct regular x)
{
    return x.null ? regex_or(grammar->regexes, REGEX_EMPTY, x.r) : x.r;
}

static struct regular join_concat(struct grammar *grammar, struct regular a, struct regular b)
{
    struct regexes *all = grammar->regexes;
    regex r = regex_concat(all, a.r, whole(grammar, b));
    if (a.null)
        r = regex_or(all, r, b.r);
    return (struct regular){r, a.null && b.null, a.size + b.size};
}

static struct regular join_or(struct grammar *grammar, struct regular a, struct regular b)
{
    return (struct regular){regex_or(grammar->regexes, a.r, b.r), a.null || b.null,
                            a.size + b.size};
}

/* Whether a terminal of this size may be made. */
static bool afford(struct collapse *c, uint32_t size)
{
    if (size > MAX_TERMINAL || size > MAX_MADE - c->made)
        return false;
    c->made += size;
    return true;
}

/* ---- lists ---------------------------------------------------------------------------------- */

static node collapse_node(struct collapse *c, node id);

/* The parts of nested sequences, or alternatives, in order. */
struct part_list {
    enum node_kind kind;
    node *all; /* [MAX_LIST] */
    uint32_t n;
};

static void gather(struct collapse *c, struct part_list *list, node id, uint32_t reserve)
{
    const struct node *x = grammar_node(c->grammar, id);
    if (x->kind == list->kind && list->n + reserve + 2 <= MAX_LIST) {
        node a = x->a, b = x->b;
        gather(c, list, a, reserve + 1);
        gather(c, list, b, reserve);
    } else {
        list->all[list->n++] = id;
    }
}

/* The run of regular parts from list[from] on that may become one terminal: where it ends. */
static uint32_t run_end(struct collapse *c, const struct part_list *list, uint32_t from)
{
    uint32_t to = from, size = 0;
    struct regular x;
    while (to < list->n && is_regular(c->grammar, list->all[to], &x) &&
           x.size <= MAX_TERMINAL - size) {
        size += x.size;
        to++;
    }
    return to - from > 1 && afford(c, size) ? to : from + 1;
}

/* Neighbours that are regular become one, from the right: a regex of a sequence is made of its end.
 */
static void join_runs(struct collapse *c, struct part_list *list,
                      struct regular (*join)(struct grammar *grammar, struct regular a,
                                             struct regular b))
{
    uint32_t kept = 0;
    for (uint32_t from = 0, to; from < list->n; from = to) {
        to = run_end(c, list, from);
        if (to - from > 1) {
            struct regular sum, x;
            is_regular(c->grammar, list->all[to - 1], &sum);
            for (uint32_t i = to - 1; i-- > from;) {
                is_regular(c->grammar, list->all[i], &x);
                sum = join(c->grammar, x, sum);
            }
            list->all[kept++] = of_regular(c->grammar, sum);
        } else {
            list->all[kept++] = list->all[from];
        }
    }
    list->n = kept;
}

static int by_bytes(const void *a, const void *b)
{
    const struct regex_string *x = a, *y = b;
    size_t n = x->n < y->n ? x->n : y->n;
    int order = memcmp(x->bytes, y->bytes, n);
    return order ? order : (x->n > y->n) - (x->n < y->n);
}

regex grammar_strings(struct grammar *grammar, struct regex_string *strings, size_t *n)
{
    size_t different = 0;
    qsort(strings, *n, sizeof *strings, by_bytes);
    for (size_t i = 0; i < *n; i++)
        if (i == 0 || by_bytes(&strings[different - 1], &strings[i]) != 0)
            strings[different++] = strings[i];
    *n = different;
    return regex_strings(grammar->regexes, strings, NULL, different);
}

/* Literals become a set of strings, where there are many. */
static void gather_literals(struct collapse *c, struct part_list *list)
{
    struct grammar_nodes *nodes = c->grammar->nodes;
    struct regex_string *strings = malloc(list->n * sizeof *strings);
    size_t n = 0;
    uint32_t kept = 0;
    if (!strings) {
        grammar_fail_memory(c->grammar, list->n * sizeof *strings);
        return;
    }
    for (uint32_t i = 0; i < list->n; i++) {
        uint32_t at = node_map_get(&nodes->literal_at, list->all[i]);
        if (at != NODE_UNSET)
            strings[n++] =
                (struct regex_string){nodes->literals.data + at, nodes->all[list->all[i]].size};
    }
    if (n >= GRAMMAR_MIN_STRINGS) {
        for (uint32_t i = 0; i < list->n; i++)
            if (node_map_get(&nodes->literal_at, list->all[i]) == NODE_UNSET)
                list->all[kept++] = list->all[i];
        regex r = grammar_strings(c->grammar, strings, &n);
        list->all[kept++] = grammar_terminal_sized(c->grammar, r, (uint32_t)n);
        list->n = kept;
    }
    free(strings);
}

/* Puts regular alternatives first: their order says nothing. */
static void regular_first(struct collapse *c, struct part_list *list, node *room)
{
    uint32_t n = 0, n_others = 0;
    struct regular x;
    for (uint32_t i = 0; i < list->n; i++)
        if (is_regular(c->grammar, list->all[i], &x))
            list->all[n++] = list->all[i];
        else
            room[n_others++] = list->all[i];
    for (uint32_t i = 0; i < n_others; i++)
        list->all[n + i] = room[i];
}

/* Alternatives with "" among them as OR(EMPTY, others): is_regular() knows it by that. */
static node alternatives(struct grammar *grammar, struct part_list *list)
{
    bool null = false;
    for (uint32_t i = 0; i < list->n; i++) {
        struct node x = *grammar_node(grammar, list->all[i]);
        if (list->all[i] == GRAMMAR_EMPTY || (x.kind == NODE_OR && x.a == GRAMMAR_EMPTY)) {
            null = true;
            list->all[i] = list->all[i] == GRAMMAR_EMPTY ? GRAMMAR_NONE : x.b;
        }
    }
    node all = grammar_or_all(grammar, list->all, list->n);
    return null ? all == GRAMMAR_NONE ? GRAMMAR_EMPTY : grammar_or(grammar, GRAMMAR_EMPTY, all)
                : all;
}

static node collapse_list(struct collapse *c, node id, enum node_kind kind)
{
    struct grammar *grammar = c->grammar;
    struct part_list list = {.kind = kind, .all = malloc(MAX_LIST * 2 * sizeof(node))};
    if (!list.all)
        return grammar_fail_memory(grammar, MAX_LIST * 2 * sizeof(node));
    gather(c, &list, id, 0);
    /* Parts of the same kind are left where there are more than MAX_LIST: they are their own. */
    for (uint32_t i = 0; i < list.n; i++)
        list.all[i] = collapse_node(c, list.all[i]);
    node made;
    if (kind == NODE_OR) {
        gather_literals(c, &list);
        regular_first(c, &list, list.all + MAX_LIST);
        join_runs(c, &list, join_or);
        made = alternatives(grammar, &list);
    } else {
        join_runs(c, &list, join_concat);
        made = grammar_concat_all(grammar, list.all, list.n);
    }
    free(list.all);
    return made;
}

/* ---- nodes and rules ------------------------------------------------------------------------ */

static node collapse_repeat(struct collapse *c, const struct node *x)
{
    struct grammar *grammar = c->grammar;
    node a = collapse_node(c, x->a);
    struct regular body;
    if (!is_regular(grammar, a, &body) || !afford(c, body.size + 1))
        return grammar_repeat(grammar, a, x->min, x->max);
    uint32_t min = x->min > 0 ? x->min : 1;
    regex r = regex_repeat(grammar->regexes, body.r, min, x->max);
    return of_regular(grammar, (struct regular){r, x->min == 0, body.size + 1});
}

static node collapse_node(struct collapse *c, node id)
{
    struct grammar *grammar = c->grammar;
    uint32_t known = node_map_get(&c->known, id);
    if (known != NODE_UNSET || grammar_is_failed(grammar))
        return known == NODE_UNSET ? GRAMMAR_NONE : known;
    struct node x = *grammar_node(grammar, id);
    node made = id;
    if (x.kind == NODE_CONCAT || x.kind == NODE_OR)
        made = collapse_list(c, id, (enum node_kind)x.kind);
    else if (x.kind == NODE_REPEAT)
        made = collapse_repeat(c, &x);
    node_map_set(grammar, &c->known, id, made);
    return made;
}

int grammar_collapse(struct grammar *grammar)
{
    struct rule_graph graph;
    if (rule_graph_make(grammar, false, &graph))
        return -1;
    struct collapse c = {.grammar = grammar};
    for (uint32_t i = 0; i < graph.n_components; i++) {
        for (uint32_t k = graph.starts[i]; k < graph.starts[i + 1]; k++) {
            node rule = grammar->nodes->rules[graph.order[k]].rule;
            node body = collapse_node(&c, grammar_node(grammar, rule)->a);
            grammar_define(grammar, rule, body);
            uint8_t kind = grammar_node(grammar, body)->kind;
            if (kind == NODE_TERMINAL || kind == NODE_RULE)
                node_map_set(grammar, &c.known, rule, body);
        }
    }
    grammar->start = collapse_node(&c, grammar->start);
    node_map_free(&c.known);
    rule_graph_free(&graph);
    return grammar_is_failed(grammar) ? -1 : 0;
}
