/* SPDX-License-Identifier: MIT */
/*
 * grammar_parts.h: the nodes of a grammar, for what reads them (the parser) and what rewrites them
 * (grammar_check.c and the files that it calls).
 *
 * After grammar_check(): terminals, rules and what is repeated never match the empty text, so that
 * `nullable` follows from the node alone; no rule can begin with itself; every rule ends.
 */
#ifndef GRAMMAR_GRAMMAR_PARTS_H
#define GRAMMAR_GRAMMAR_PARTS_H

#include "base/buf.h"
#include "base/hash.h"
#include "grammar/grammar.h"

enum node_kind {
    NODE_NONE,
    NODE_EMPTY,
    NODE_TERMINAL, /* a: the regex; min: 1 where it is lazy */
    NODE_JSON,     /* a: the expr; b: index of the schemas */
    NODE_CONCAT,   /* a, then b */
    NODE_OR,       /* a or b; an optional node is OR(EMPTY, node) */
    NODE_REPEAT,   /* a, min to max times; max UINT32_MAX: no limit */
    NODE_RULE      /* a: its body, GRAMMAR_NONE before it is defined; b: its number */
};

struct node {
    uint8_t kind; /* enum node_kind */
    bool nullable;
    uint16_t depth; /* of the tree below, down to rules */
    uint32_t a, b, min, max;
    uint32_t size; /* of a terminal: about how many positions its regex has */
};

/* Numbers for nodes, which may be made meanwhile. */
struct node_map {
    uint32_t *of; /* [n], NODE_UNSET at first */
    uint32_t n;
};
#define NODE_UNSET UINT32_MAX
static inline uint32_t node_map_get(const struct node_map *map, node id)
{
    return id < map->n ? map->of[id] : NODE_UNSET;
}

struct grammar_nodes {
    struct node *all; /* [n] */
    uint32_t n, room;
    struct hash_table table; /* of all but rules */
    struct grammar_rule_name {
        node rule;
        char *name;
        bool defined;
    } * rules; /* [n_rules] */
    uint32_t n_rules, rules_room;
    struct schemas **schemas; /* [n_schemas] */
    uint32_t n_schemas, schemas_room;
    struct buf literals;        /* the bytes of those terminals that are literals */
    struct node_map literal_at; /* of such a terminal: where they begin; `size` is how many */
    size_t memory, limit;       /* bytes */
    struct llama3_error failed; /* message[0] == '\0': not */
};

/* Valid until the next node is made. */
static inline const struct node *grammar_node(const struct grammar *grammar, node id)
{
    return &grammar->nodes->all[id];
}

/* ---- for grammar_check.c and readers -------------------------------------------------------- */

/* A terminal that ends as soon as its regex matches, although others that may stand here could go
 * on. The regex must have no text that begins with another of its texts. Not merged with others. */
node grammar_terminal_lazy(struct grammar *grammar, regex r);
/* A terminal whose regex has about `size` positions (bytes of a literal). */
node grammar_terminal_sized(struct grammar *grammar, regex r, uint32_t size);
/* A terminal that is these bytes; n > 0. Many of them as alternatives are held as a set. */
node grammar_literal(struct grammar *grammar, const void *bytes, size_t n);
/* One of n strings, in any order, which are sorted and of which *n different ones are left. As
 * alternatives each would have its own states: worth it from GRAMMAR_MIN_STRINGS on. */
enum { GRAMMAR_MIN_STRINGS = 16 };
regex grammar_strings(struct grammar *grammar, struct regex_string *strings, size_t *n);
/* n nodes one after the other, or one of them, as a balanced tree: recursion over nodes is as deep
 * as the tree. Uses list. */
node grammar_concat_all(struct grammar *grammar, node *list, size_t n);
node grammar_or_all(struct grammar *grammar, node *list, size_t n);
const char *grammar_rule_name(const struct grammar *grammar, node rule);
/* Makes the failure stick. Returns GRAMMAR_NONE. */
node grammar_fail(struct grammar *grammar, const struct llama3_error *err);
node grammar_fail_memory(struct grammar *grammar, size_t bytes);
bool grammar_is_failed(const struct grammar *grammar);

void node_map_set(struct grammar *grammar, struct node_map *map, node id, uint32_t value);
void node_map_free(struct node_map *map);

/* Which rules the rules mention, and which of them do so mutually. */
struct rule_graph {
    uint32_t n;       /* rules */
    uint32_t *first;  /* [n + 1] */
    uint32_t *to;     /* [first[n]], rules by number; those of rule i from first[i] on */
    uint32_t *order;  /* [n], rules; what a rule mentions comes before it or in its component */
    uint32_t *starts; /* [n_components + 1], of components in order */
    uint32_t n_components;
};
/* left: only what a rule may begin with. */
int rule_graph_make(struct grammar *grammar, bool left, struct rule_graph *graph);
void rule_graph_free(struct rule_graph *graph);
/* Whether a rule of this component mentions itself, by whatever way. */
bool rule_graph_recursive(const struct rule_graph *graph, uint32_t component);

/* Steps of grammar_check(), on nodes as that leaves them but for what each is there for. */
int grammar_left_recursion(struct grammar *grammar);
void grammar_tail_recursion(struct grammar *grammar);
int grammar_collapse(struct grammar *grammar);
/* A node without the empty text. map: what is known, for reuse. */
node grammar_not_empty(struct grammar *grammar, struct node_map *map, node id);

#endif
