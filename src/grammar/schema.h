/* SPDX-License-Identifier: MIT */
/*
 * schema.h: a JSON Schema (drafts 7 and 2020-12; 4, 6 and 2019-09 where they agree) as sets of
 * values that a parser can follow.
 *
 * An `expr` is a boolean combination of schemas of the document. schema_value() says which values
 * it allows, by type, as alternatives without and, or, not: numbers and strings as regular
 * languages, arrays and objects as lists of shapes whose parts are expr again. It is computed when
 * asked for, so that a megabyte of schemas costs what is used of it; only a check of all keywords
 * runs over the whole document at once.
 *
 * What can't be held is an error that names its place: "#/properties/a/pattern: ...". Annotations
 * (title, default, examples, contentEncoding, ...; a `format` that JSON Schema doesn't define) say
 * nothing about validity, by the standard.
 *
 * Alternatives that no value satisfies are left out, so an expr without any is `false`; a part that
 * may be left out and can't be satisfied (a property, an item) isn't offered.
 */
#ifndef GRAMMAR_SCHEMA_H
#define GRAMMAR_SCHEMA_H

#include <jansson.h>

#include "grammar/regex.h"

typedef uint32_t expr;
enum { EXPR_FALSE, EXPR_TRUE };
enum { SCHEMA_NO_MAX = UINT32_MAX };

struct schemas;

/* Keeps a reference to root, an object or a boolean. */
struct schemas *schemas_open(struct regexes *regexes, json_t *root, struct llama3_error *err);
void schemas_close(struct schemas *all);
expr schemas_root(const struct schemas *all);
/* The expr of the values that both, or one of two, or none allow. */
expr schema_and(struct schemas *all, expr a, expr b);
expr schema_or(struct schemas *all, expr a, expr b);
expr schema_not(struct schemas *all, expr a);
/* Exactly these scalars: for values that must be unlike. value: no array or object. */
expr schema_const(struct schemas *all, json_t *value);

/* Items of an array: prefix[0], prefix[1], ..., rest, rest, ... */
struct array_shape {
    expr *prefix; /* [n_prefix] */
    uint32_t n_prefix;
    expr rest;
    uint32_t min, max; /* items; no more than the exprs can fill */
    bool unique;       /* then all items are scalars */
    /* `contains`: of the items from `from` on, min to max satisfy yes; no is its complement. */
    struct contained {
        expr yes, no;
        uint32_t from, min, max;
    } * contains; /* [n_contains] */
    uint32_t n_contains;
};

struct object_shape {
    /* Sorted by the key's bytes. */
    struct property {
        const char *key; /* [n], any bytes but invalid UTF-8; decoded, without quotes */
        size_t n;
        expr value;
        bool required;
    } * properties; /* [n_properties] */
    uint32_t n_properties;
    /* Other keys. The languages are disjoint, and without the properties' keys and those that are
     * forbidden; each has more strings than an object may hold. */
    struct key_class {
        regex keys;
        expr value;
    } * classes; /* [n_classes] */
    uint32_t n_classes;
    uint32_t min, max; /* keys in all */
    /* If `if_has` is there, `needs` must be too: indices of properties. */
    struct dependency {
        uint32_t if_has, needs;
    } * dependencies; /* [n_dependencies] */
    uint32_t n_dependencies;
    /* Each must hold for at least one other key: one of `keys`, a part of the class, whose value
     * satisfies `value` (and the class's). For complements. */
    struct witness {
        uint32_t key_class;
        regex keys;
        expr value;
    } * witnesses; /* [n_witnesses], at most 8 */
    uint32_t n_witnesses;
};

struct value {
    bool null, no, yes;                        /* null, false, true */
    regex number;                              /* JSON text */
    regex string;                              /* decoded UTF-8, without quotes and escapes */
    const struct array_shape *const *arrays;   /* [n_arrays], any of them */
    const struct object_shape *const *objects; /* [n_objects], any of them */
    uint32_t n_arrays, n_objects;
};

/* The same pointer for the same expr, until schemas_close(). NULL: LLAMA3_EINPUT names the place
 * and the limit, LLAMA3_ENOMEM. */
const struct value *schema_value(struct schemas *all, expr e, struct llama3_error *err);
/* 1, 0: whether some value satisfies it; -1 as above. */
int schema_satisfiable(struct schemas *all, expr e, struct llama3_error *err);
/* Computes what values of e may contain, and what those may, up to so many exprs: 0, or -1 as
 * schema_value() for the first that can't be held. */
int schema_reach(struct schemas *all, expr e, size_t most, struct llama3_error *err);

#endif
