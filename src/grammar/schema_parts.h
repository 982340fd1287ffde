/* SPDX-License-Identifier: MIT */
/*
 * schema_parts.h: the inside of schema.h.
 *
 * schema_document.c finds the schemas of a document and checks them; schema_refs.c finds what a
 * reference means. schema_expr.c interns what the rest speaks of: names, exprs, atoms.
 * schema_value.c evaluates an expr to a `struct raw`: regular languages, and for arrays and objects
 * alternatives, each a set of atoms that must all hold. So a conjunction is a union of sets, and an
 * alternative that has another's atoms and more is left out. schema_leaf.c makes the atoms of one
 * schema; schema_array.c and schema_object.c make shapes of them, and say which have no value.
 *
 * The first failure stays in all->error. Functions return 0, or -1 after a failure.
 */
#ifndef GRAMMAR_SCHEMA_PARTS_H
#define GRAMMAR_SCHEMA_PARTS_H

#include "base/hash.h"
#include "grammar/schema.h"

enum {
    SCHEMA_ALTERNATIVES = 1024,    /* of a value */
    SCHEMA_COMBINATIONS = 1 << 12, /* the same while it is made */
    SCHEMA_EXPANDED_KEYS = 256,    /* a language of at most so many keys becomes properties */
    SCHEMA_PATTERNS = 31,          /* different patterns of one object */
    SCHEMA_WITNESSES = 8,
    SCHEMA_PREFIX = 1 << 16,   /* items of an array that have schemas of their own */
    SCHEMA_DEPTH = 400,        /* required parts within each other */
    SCHEMA_MEMORY = 256 << 20, /* bytes */
    SCHEMA_WORK = 6 << 20      /* steps that one call may take */
};

/* ---- memory --------------------------------------------------------------------------------- */

/* Memory in chunks, freed as a whole or back to a mark. */
struct arena {
    struct arena_chunk *last;
    size_t used; /* of the last chunk */
};
struct arena_mark {
    struct arena_chunk *last;
    size_t used;
};

/* Ids by the hash of what they stand for. */
struct intern_table {
    struct intern_slot {
        uint32_t hash, id; /* UINT32_MAX: free */
    } * slots;             /* [mask + 1] */
    uint32_t mask, n;
};

/* ---- the document --------------------------------------------------------------------------- */

enum { NODE_NONE = UINT32_MAX, NODE_TRUE = UINT32_MAX - 1, NODE_FALSE = UINT32_MAX - 2 };

struct schema_node {
    json_t *json; /* an object */
    uint32_t parent;
    uint32_t index;      /* behind key, or NODE_NONE */
    const char *keyword; /* how the parent has it; "" for the target of a pointer */
    const char *key;     /* behind keyword, or NULL */
    uint32_t resource;   /* whose URI references are relative to */
    uint32_t target;     /* of $ref, or NODE_NONE */
    uint32_t dynamic;    /* of $dynamicRef */
    expr leaf;           /* EXPR_UNKNOWN: not asked for yet */
};
enum { EXPR_UNKNOWN = UINT32_MAX };

struct schema_resource {
    const char *uri; /* without fragment */
    uint32_t node;
};

/* ---- what is interned ----------------------------------------------------------------------- */

struct name {
    const char *bytes;
    size_t n;
};

enum expr_kind {
    X_FALSE,
    X_TRUE,
    X_LEAF,     /* parts[0]: node */
    X_CONSTANT, /* parts[0]: constant */
    X_ATOM,     /* parts[0]: atom of an object; other types are free */
    X_NOT,      /* parts[0]: one of the three above */
    X_AND,
    X_OR
};

struct expr_node {
    enum expr_kind kind;
    uint32_t n;
    const uint32_t *parts; /* [n], sorted */
    const struct raw *raw;
    const struct value *value;
    int8_t satisfiable;     /* -1: not known */
    uint32_t evaluating;    /* 1 + number of sats around it while raw is computed */
    uint32_t asking, level; /* 1 + depth while satisfiability is; evaluations around it then */
};

/* enum, const, or what a parser compares with. */
struct constant {
    json_t *json;
    bool list;
};

enum atom_kind {
    A_COVER,     /* a: cover of an object */
    A_NAMES,     /* every key is in r */
    A_HAS,       /* key a is there, its value satisfies e */
    A_LACKS,     /* key a isn't */
    A_IF_HAS,    /* key a isn't there, or its value satisfies e */
    A_DEPENDS,   /* key a needs key b */
    A_MIN_KEYS,  /* a */
    A_MAX_KEYS,  /* a */
    A_WITNESS,   /* a key of r is there whose value satisfies e */
    A_WITNESSED, /* the same, and it is none that has a name */
    A_ITEMS,     /* a: cover of an array */
    A_ITEM,      /* item a is there and satisfies e */
    A_MIN_ITEMS,
    A_MAX_ITEMS,
    A_UNIQUE,
    A_CONTAINS /* from item r on, a to b items satisfy e */
};

struct atom {
    enum atom_kind kind;
    uint32_t a, b;
    regex r;
    expr e;
};

/* What properties, patternProperties and additionalProperties of one schema say. */
struct object_cover {
    uint32_t n_names, n_patterns;
    const uint32_t *names; /* [n_names], sorted */
    const expr *values;    /* [n_names]: of properties alone */
    const regex *patterns; /* [n_patterns] */
    const expr *matching;  /* [n_patterns] */
    expr other;
};

struct array_cover {
    uint32_t n_prefix;
    const expr *prefix;
    expr rest;
};

/* ---- values --------------------------------------------------------------------------------- */

struct alternative {
    const uint32_t *atoms; /* [n], sorted */
    uint32_t n;
    uint64_t bits; /* bit id % 64 of each, so that most that are no subset are told at once */
};
struct alternatives {
    struct alternative *each;
    uint32_t n, capacity;
};

struct raw {
    bool null, no, yes;
    bool integer; /* all numbers are integers, as far as is known */
    regex number; /* decimals, closed under being equal; number_all for all numbers */
    regex string;
    struct alternatives arrays, objects;
};

struct schemas {
    struct regexes *regexes;
    json_t *root;
    struct llama3_error error;
    bool failed; /* for good: memory, or more than may be held */
    size_t memory, work;
    uint32_t place; /* node that is evaluated, for errors */
    struct arena kept, scratch;
    struct hash_key key;

    struct schema_node *nodes;
    uint32_t n_nodes, nodes_room;
    struct schema_resource *resources;
    uint32_t n_resources, resources_room;
    struct name *uris; /* of targets: a URI, or with an anchor */
    uint32_t *uri_nodes;
    uint32_t n_uris, uris_room, uri_nodes_room;
    struct intern_table by_json, by_uri;
    bool old;           /* a draft up to 7: what stands beside $ref says nothing */
    bool ids;           /* draft 4: `id` */
    uint32_t n_dynamic; /* $dynamicAnchor, $recursiveAnchor */

    struct name *names;
    struct expr_node *exprs;
    struct constant *constants;
    struct name *constant_texts;
    struct atom *atoms;
    struct object_cover *object_covers;
    struct array_cover *array_covers;
    uint64_t *object_keys, *array_keys; /* what they are covers of */
    uint32_t n_names, n_exprs, n_constants, n_atoms, n_object_covers, n_array_covers;
    uint32_t names_room, exprs_room, constants_room, constant_texts_room, atoms_room,
        object_covers_room, array_covers_room, object_keys_room, array_keys_room;
    struct intern_table by_name, by_expr, by_constant, by_atom, by_object_key, by_array_key;

    uint32_t evaluations, sats; /* in progress */
    uint32_t lowest;            /* depth of the outermost sat that an answer was guessed for */

    regex number_all, string_all, integers, integer_text, canonical;
};

/* ---- schema_memory.c ------------------------------------------------------------------------ */

/* Zeroed; NULL after a failure. */
void *schema_alloc(struct schemas *all, struct arena *arena, size_t n, size_t size);
struct arena_mark arena_mark(const struct arena *arena);
void arena_release(struct schemas *all, struct arena *arena, struct arena_mark mark);
void arena_free(struct arena *arena);
/* Room for one more of n items. */
int schema_grow(struct schemas *all, void *items, uint32_t n, uint32_t *capacity, size_t size);
/* The slot of what equals `key`; its id is UINT32_MAX if there is none yet, and the caller sets
 * it. NULL after a failure. */
struct intern_slot *schema_slot(struct schemas *all, struct intern_table *table, uint64_t hash,
                                bool (*equal)(const struct schemas *all, uint32_t id,
                                              const void *key),
                                const void *key);

/* all->error with the place of a node, and behind it keyword and key unless NULL. Returns -1. */
int schema_error(struct schemas *all, uint32_t node, const char *keyword, const char *key,
                 const char *format, ...) __attribute__((format(printf, 5, 6)));
/* The same of the place that is evaluated, for good where `failed`. */
int schema_refuse(struct schemas *all, bool failed, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
/* Counts work; -1 beyond the limit, or after a failure of the regexes. */
int schema_work(struct schemas *all, size_t steps);

/* ---- schema_document.c, schema_refs.c ------------------------------------------------------- */

int schema_document(struct schemas *all);
/* The node of a schema that may be new, NODE_NONE after a failure. */
uint32_t schema_node_add(struct schemas *all, json_t *json, uint32_t parent, const char *keyword,
                         const char *key, uint32_t index);
uint32_t schema_node_find(struct schemas *all, const json_t *json); /* or NODE_NONE */
int schema_identify(struct schemas *all, uint32_t node);            /* $id, $anchor */
int schema_resolve(struct schemas *all, uint32_t node);             /* $ref */
/* Whether a keyword of JSON Schema that says something about validity. */
bool schema_keyword(const char *key);

/* ---- schema_expr.c -------------------------------------------------------------------------- */

uint32_t schema_name(struct schemas *all, const char *bytes, size_t n);
expr schema_leaf(struct schemas *all, json_t *json);
expr schema_target(struct schemas *all, uint32_t node); /* or NODE_TRUE, NODE_FALSE */
expr schema_constant(struct schemas *all, json_t *json, bool list);
expr schema_atom_expr(struct schemas *all, uint32_t atom);
expr schema_all(struct schemas *all, const expr *exprs, uint32_t n);
expr schema_any(struct schemas *all, const expr *exprs, uint32_t n);
uint32_t schema_atom(struct schemas *all, struct atom atom);

/* ---- schema_cover.c ------------------------------------------------------------------------- */

enum cover_of { COVER_SCHEMA, COVER_UNEVALUATED, COVER_CONSTANT };
/* An index, or UINT32_MAX after a failure. */
uint32_t schema_object_cover(struct schemas *all, json_t *json, enum cover_of of);
uint32_t schema_array_cover(struct schemas *all, json_t *json, enum cover_of of);
/* What a cover says of a key, FALSE where it forbids it. */
expr schema_covered(struct schemas *all, uint32_t cover, uint32_t name);
bool schema_matches(struct schemas *all, regex r, uint32_t name);

/* ---- schema_leaf.c, schema_scalar.c --------------------------------------------------------- */

enum {
    T_NULL = 1,
    T_BOOLEAN = 2,
    T_NUMBER = 4,
    T_INTEGER = 8,
    T_STRING = 16,
    T_ARRAY = 32,
    T_OBJECT = 64,
    T_ALL = 127
};
unsigned schema_types(const json_t *type); /* of `type`, or NULL: all */
int schema_scalars(struct schemas *all, uint32_t node, unsigned types, struct raw *out);
int schema_leaf_raw(struct schemas *all, uint32_t node, bool negated, struct raw *out);
int schema_constant_raw(struct schemas *all, const struct constant *constant, bool negated,
                        struct raw *out);
/* Number texts. */
regex schema_number_or(struct schemas *all, regex a, regex b);
regex schema_number_and(struct schemas *all, regex a, regex b);
regex schema_number_not(struct schemas *all, regex a);
regex schema_string_and(struct schemas *all, regex a, regex b);
regex schema_string_or(struct schemas *all, regex a, regex b);
regex schema_string_not(struct schemas *all, regex a);
regex schema_number_said(struct schemas *all, const struct raw *raw);

/* ---- schema_value.c, schema_alternatives.c -------------------------------------------------- */

/* In all the following, 2 stands for "not known", which happens where an evaluation needs its own
 * result; what is asked for to leave something out is then kept. */

/* 0, -1, 2; out: of the expr. */
int schema_raw(struct schemas *all, expr e, const struct raw **out);
int schema_sat(struct schemas *all, expr e); /* 1, 0, -1, 2 */

extern const struct raw raw_none, raw_all;
int raw_and(struct schemas *all, struct raw *a, const struct raw *b);
int raw_or(struct schemas *all, struct raw *a, const struct raw *b);
int raw_overlap(struct schemas *all, const struct raw *a, const struct raw *b); /* 1, 0, -1, 2 */
/* Adds one alternative of n atoms, unless it says no more than others do; sorts atoms. */
int alternatives_add(struct schemas *all, struct alternatives *to, uint32_t *atoms, uint32_t n);
int alternatives_add_all(struct schemas *all, struct alternatives *to);
/* Makes one of those that say "key k isn't there" and "its value satisfies e" and nothing else. */
int alternatives_merge(struct schemas *all, struct alternatives *alternatives);
int alternatives_and(struct schemas *all, struct alternatives *a, const struct alternatives *b,
                     bool objects);
/* Adds what doesn't satisfy an atom. */
int schema_atom_negate(struct schemas *all, uint32_t atom, struct alternatives *to);

/* ---- schema_array.c, schema_object.c -------------------------------------------------------- */

struct array_shapes {
    const struct array_shape **each;
    uint32_t n, room;
};
struct object_shapes {
    const struct object_shape **each;
    uint32_t n, room;
};
/* 1, 0, -1, 2. With out: adds shapes, if there are values. */
int schema_array(struct schemas *all, const struct alternative *alternative,
                 struct array_shapes *out);
int schema_object(struct schemas *all, const struct alternative *alternative,
                  struct object_shapes *out);

#endif
