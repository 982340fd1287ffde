/* SPDX-License-Identifier: MIT */
/*
 * schema_value.c: exprs evaluated, each once, and what callers see of them.
 *
 * Whether an expr has a value is the least fixed point over recursion: one that is asked for while
 * it is looked into has none on that way. What was found by such a guess is only kept where the
 * guess was about itself.
 */
#include <stdlib.h>
#include <string.h>

#include "grammar/schema_parts.h"

const struct raw raw_none = {.integer = true};
const struct raw raw_all = {.null = true, .no = true, .yes = true};

int raw_and(struct schemas *all, struct raw *a, const struct raw *b)
{
    a->null &= b->null;
    a->no &= b->no;
    a->yes &= b->yes;
    a->integer |= b->integer;
    a->number = schema_number_and(all, a->number, b->number);
    a->string = schema_string_and(all, a->string, b->string);
    return alternatives_and(all, &a->arrays, &b->arrays, false) != 0 ||
                   alternatives_and(all, &a->objects, &b->objects, true) != 0
               ? -1
               : 0;
}

static int add_alternatives(struct schemas *all, struct alternatives *a,
                            const struct alternatives *b)
{
    for (uint32_t i = 0; i < b->n; i++) {
        uint32_t *atoms = schema_alloc(all, &all->scratch, b->each[i].n, sizeof *atoms);
        if (atoms == NULL)
            return -1;
        if (b->each[i].n > 0)
            memcpy(atoms, b->each[i].atoms, b->each[i].n * sizeof *atoms);
        if (alternatives_add(all, a, atoms, b->each[i].n) != 0)
            return -1;
    }
    return 0;
}

int raw_or(struct schemas *all, struct raw *a, const struct raw *b)
{
    a->null |= b->null;
    a->no |= b->no;
    a->yes |= b->yes;
    a->integer = (a->integer || a->number == REGEX_NONE) && (b->integer || b->number == REGEX_NONE);
    a->number = schema_number_or(all, a->number, b->number);
    a->string = schema_string_or(all, a->string, b->string);
    return add_alternatives(all, &a->arrays, &b->arrays) != 0 ||
                   add_alternatives(all, &a->objects, &b->objects) != 0
               ? -1
               : 0;
}

static int any_overlap(struct schemas *all, const struct alternatives *a,
                       const struct alternatives *b, bool objects)
{
    int result = 0;
    for (uint32_t i = 0; i < a->n && result == 0; i++)
        for (uint32_t k = 0; k < b->n && result == 0; k++) {
            const struct alternative *x = &a->each[i], *y = &b->each[k];
            struct arena_mark mark = arena_mark(&all->scratch);
            uint32_t *atoms = schema_alloc(all, &all->scratch, (size_t)x->n + y->n, sizeof *atoms);
            if (atoms == NULL)
                return -1;
            if (x->n > 0)
                memcpy(atoms, x->atoms, x->n * sizeof *atoms);
            if (y->n > 0)
                memcpy(atoms + x->n, y->atoms, y->n * sizeof *atoms);
            struct alternative both = {.atoms = atoms, .n = x->n + y->n};
            result = objects ? schema_object(all, &both, NULL) : schema_array(all, &both, NULL);
            if (result == -1 && !all->failed)
                result = 2;
            arena_release(all, &all->scratch, mark);
        }
    return result;
}

int raw_overlap(struct schemas *all, const struct raw *a, const struct raw *b)
{
    if ((a->null && b->null) || (a->no && b->no) || (a->yes && b->yes) ||
        schema_number_and(all, a->number, b->number) != REGEX_NONE ||
        schema_string_and(all, a->string, b->string) != REGEX_NONE)
        return 1;
    int arrays = any_overlap(all, &a->arrays, &b->arrays, false);
    return arrays != 0 ? arrays : any_overlap(all, &a->objects, &b->objects, true);
}

/* ---- evaluating ----------------------------------------------------------------------------- */

static int evaluate_atom(struct schemas *all, uint32_t atom, bool negated, struct raw *out)
{
    *out = negated ? raw_none : raw_all;
    if (negated)
        return schema_atom_negate(all, atom, &out->objects);
    out->number = all->number_all;
    out->string = all->string_all;
    return alternatives_add_all(all, &out->arrays) != 0 ||
                   alternatives_add(all, &out->objects, &atom, 1) != 0
               ? -1
               : 0;
}

static int evaluate(struct schemas *all, expr e, struct raw *out)
{
    struct expr_node node = all->exprs[e];
    const struct raw *part;
    bool negated = node.kind == X_NOT;
    if (negated)
        node = all->exprs[node.parts[0]];
    *out = raw_none;
    switch (node.kind) {
    case X_LEAF:
        return schema_leaf_raw(all, node.parts[0], negated, out);
    case X_CONSTANT:
        return schema_constant_raw(all, &all->constants[node.parts[0]], negated, out);
    case X_ATOM:
        return evaluate_atom(all, node.parts[0], negated, out);
    case X_TRUE:
        *out = raw_all;
        out->number = all->number_all;
        out->string = all->string_all;
        return alternatives_add_all(all, &out->arrays) != 0 ||
                       alternatives_add_all(all, &out->objects) != 0
                   ? -1
                   : 0;
    case X_FALSE:
    case X_NOT:
        return 0;
    case X_AND:
    case X_OR:
        break;
    }
    for (uint32_t i = 0; i < node.n; i++) {
        int known = schema_raw(all, node.parts[i], &part);
        if (known != 0)
            return known;
        if (i == 0)
            *out = *part;
        if (i == 0)
            out->arrays.capacity = out->objects.capacity = 0; /* the part's own are not written */
        if (i == 0 && node.kind == X_OR) {
            out->arrays.n = out->objects.n = 0;
            if (raw_or(all, out, part) != 0)
                return -1;
        }
        if (i > 0 && (node.kind == X_AND ? raw_and : raw_or)(all, out, part) != 0)
            return -1;
    }
    if (node.kind == X_OR)
        return alternatives_merge(all, &out->objects);
    return 0;
}

static int keep(struct schemas *all, struct alternatives *to)
{
    struct alternative *each = schema_alloc(all, &all->kept, to->n, sizeof *each);
    for (uint32_t i = 0; each != NULL && i < to->n; i++) {
        uint32_t *atoms = schema_alloc(all, &all->kept, to->each[i].n, sizeof *atoms);
        if (atoms == NULL)
            return -1;
        if (to->each[i].n > 0)
            memcpy(atoms, to->each[i].atoms, to->each[i].n * sizeof *atoms);
        each[i] = to->each[i];
        each[i].atoms = atoms;
    }
    to->each = each;
    to->capacity = to->n;
    return each == NULL ? -1 : 0;
}

int schema_raw(struct schemas *all, expr e, const struct raw **out)
{
    enum { DEEPEST = 500 };
    *out = all->exprs[e].raw;
    if (*out != NULL)
        return 0;
    if (all->exprs[e].evaluating == all->sats + 1)
        return schema_refuse(all, false,
                             "expected a schema that says something, found one that refers to "
                             "itself for the same value");
    if (all->exprs[e].evaluating != 0)
        return 2;
    if (all->evaluations >= DEEPEST)
        return schema_refuse(all, false, "expected schemas at most %d deep in each other", DEEPEST);
    struct arena_mark mark = arena_mark(&all->scratch);
    struct raw found, *kept = NULL;
    all->exprs[e].evaluating = all->sats + 1;
    all->evaluations++;
    int result = evaluate(all, e, &found);
    all->evaluations--;
    all->exprs[e].evaluating = 0;
    if (result == 0 && schema_work(all, 1) != 0)
        result = -1;
    if (result == 0) {
        kept = schema_alloc(all, &all->kept, 1, sizeof *kept);
        if (kept == NULL || keep(all, &found.arrays) != 0 || keep(all, &found.objects) != 0)
            result = -1;
    }
    arena_release(all, &all->scratch, mark);
    if (result == 0) {
        *kept = found;
        *out = all->exprs[e].raw = kept;
    }
    return result;
}

/* ---- satisfiability ------------------------------------------------------------------------- */

static int any_sat(struct schemas *all, const struct alternatives *alternatives, bool objects)
{
    bool maybe = false;
    for (uint32_t i = 0; i < alternatives->n; i++) {
        const struct alternative *at = &alternatives->each[i];
        int found = objects ? schema_object(all, at, NULL) : schema_array(all, at, NULL);
        if (found == 1 || found == -1)
            return found;
        maybe |= found == 2;
    }
    return maybe ? 2 : 0;
}

static int look(struct schemas *all, expr e)
{
    const struct raw *raw;
    int known = schema_raw(all, e, &raw);
    if (known != 0)
        return known;
    if (raw->null || raw->no || raw->yes || raw->number != REGEX_NONE || raw->string != REGEX_NONE)
        return 1;
    int arrays = any_sat(all, &raw->arrays, false);
    if (arrays == 1 || arrays == -1)
        return arrays;
    int objects = any_sat(all, &raw->objects, true);
    return objects == 0 ? arrays : objects;
}

int schema_sat(struct schemas *all, expr e)
{
    if (e <= EXPR_TRUE)
        return e == EXPR_TRUE;
    struct expr_node *node = &all->exprs[e];
    if (node->satisfiable >= 0)
        return node->satisfiable;
    if (node->asking > 0 && node->level != all->evaluations)
        return 2;
    if (node->asking > 0) {
        all->lowest = node->asking - 1 < all->lowest ? node->asking - 1 : all->lowest;
        return 0;
    }
    if (all->sats >= SCHEMA_DEPTH)
        return schema_refuse(all, false,
                             "expected at most %d required parts in each other, found "
                             "more",
                             SCHEMA_DEPTH);
    if (schema_work(all, 1) != 0)
        return -1;
    uint32_t depth = all->sats++, before = all->lowest;
    node->asking = depth + 1;
    node->level = all->evaluations;
    all->lowest = UINT32_MAX;
    int result = look(all, e);
    all->sats--;
    node = &all->exprs[e]; /* they may have moved */
    node->asking = 0;
    if (result == 1 || all->lowest >= depth) {
        all->lowest = UINT32_MAX;
        if (result == 0 || result == 1)
            node->satisfiable = (int8_t)result;
    }
    all->lowest = before < all->lowest ? before : all->lowest;
    return result;
}

/* ---- what callers see ----------------------------------------------------------------------- */

int schema_satisfiable(struct schemas *all, expr e, struct llama3_error *err)
{
    all->work = 0;
    all->place = 0;
    int result = schema_sat(all, e);
    return result == -1 ? error_copy(err, &all->error) : result != 0;
}

static int shapes(struct schemas *all, const struct raw *raw, struct value *out)
{
    struct array_shapes arrays = {0};
    struct object_shapes objects = {0};
    int result = 0;
    for (uint32_t i = 0; i < raw->arrays.n && result >= 0; i++)
        result = schema_array(all, &raw->arrays.each[i], &arrays);
    for (uint32_t i = 0; i < raw->objects.n && result >= 0; i++)
        result = schema_object(all, &raw->objects.each[i], &objects);
    if (result >= 0 && (arrays.n > SCHEMA_ALTERNATIVES || objects.n > SCHEMA_ALTERNATIVES))
        result = schema_refuse(all, false, "expected at most %d alternatives, found %u",
                               SCHEMA_ALTERNATIVES, arrays.n > objects.n ? arrays.n : objects.n);
    const void **copy =
        result < 0 ? NULL
                   : schema_alloc(all, &all->kept, (size_t)arrays.n + objects.n, sizeof *copy);
    if (copy != NULL) {
        if (arrays.n > 0)
            memcpy(copy, arrays.each, arrays.n * sizeof *copy);
        if (objects.n > 0)
            memcpy(copy + arrays.n, objects.each, objects.n * sizeof *copy);
        out->arrays = (const struct array_shape *const *)copy;
        out->objects = (const struct object_shape *const *)(copy + arrays.n);
        out->n_arrays = arrays.n;
        out->n_objects = objects.n;
    }
    free(arrays.each);
    free(objects.each);
    return copy == NULL ? -1 : 0;
}

/* A node that an expr is made of. */
static uint32_t place_of(const struct schemas *all, expr e)
{
    const struct expr_node *node = &all->exprs[e];
    if (node->kind == X_LEAF)
        return node->parts[0];
    for (uint32_t i = 0; i < node->n && node->kind >= X_NOT; i++) {
        uint32_t place = place_of(all, node->parts[i]);
        if (place != 0)
            return place;
    }
    return 0;
}

const struct value *schema_value(struct schemas *all, expr e, struct llama3_error *err)
{
    const struct raw *raw;
    if (all->exprs[e].value != NULL)
        return all->exprs[e].value;
    all->work = 0;
    all->place = place_of(all, e);
    struct arena_mark mark = arena_mark(&all->scratch);
    struct value *value = schema_alloc(all, &all->kept, 1, sizeof *value);
    int result = value == NULL ? -1 : schema_raw(all, e, &raw);
    if (result == 0) {
        value->null = raw->null;
        value->no = raw->no;
        value->yes = raw->yes;
        value->string = raw->string;
        value->number = schema_number_said(all, raw);
        result = shapes(all, raw, value);
    }
    arena_release(all, &all->scratch, mark);
    if (result != 0 || schema_work(all, 1) != 0) {
        error_copy(err, &all->error);
        return NULL;
    }
    return all->exprs[e].value = value;
}
