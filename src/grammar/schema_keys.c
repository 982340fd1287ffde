/* SPDX-License-Identifier: MIT */
/* schema_keys.c: keys without names, in classes about each of which the same is said. */
#include "grammar/schema_keys.h"

#include <stdlib.h>

/* The different patterns of an alternative, and what is chosen of them on the way down. */
struct parting {
    struct schemas *all;
    struct object_keys *keys;
    regex patterns[SCHEMA_PATTERNS];
    uint32_t n;
    regex unnamed; /* allowed keys without names; REGEX_UNKNOWN: not computed yet */
};

static int find_patterns(struct parting *p)
{
    struct schemas *all = p->all;
    for (uint32_t i = 0; i < p->keys->of->n; i++) {
        struct atom atom = all->atoms[p->keys->of->atoms[i]];
        if (atom.kind != A_COVER)
            continue;
        const struct object_cover *cover = &all->object_covers[atom.a];
        for (uint32_t k = 0; k < cover->n_patterns; k++) {
            bool known = cover->patterns[k] == all->string_all || cover->patterns[k] == REGEX_NONE;
            for (uint32_t j = 0; j < p->n && !known; j++)
                known = p->patterns[j] == cover->patterns[k];
            if (known)
                continue;
            if (p->n == SCHEMA_PATTERNS)
                return schema_refuse(all, false,
                                     "expected at most %d different patterns of keys in one object",
                                     SCHEMA_PATTERNS);
            p->patterns[p->n++] = cover->patterns[k];
        }
    }
    return 0;
}

/* The expr of keys that match the patterns of `in` and no others. */
static expr said(struct parting *p, uint32_t in)
{
    struct schemas *all = p->all;
    expr e = EXPR_TRUE;
    for (uint32_t i = 0; i < p->keys->of->n && e != EXPR_FALSE; i++) {
        struct atom atom = all->atoms[p->keys->of->atoms[i]];
        if (atom.kind != A_COVER)
            continue;
        struct object_cover cover = all->object_covers[atom.a];
        bool any = false;
        for (uint32_t k = 0; k < cover.n_patterns; k++) {
            bool matches = cover.patterns[k] == all->string_all;
            for (uint32_t j = 0; j < p->n; j++)
                matches |= p->patterns[j] == cover.patterns[k] && (in >> j & 1) != 0;
            any |= matches;
            if (matches)
                e = schema_and(all, e, cover.matching[k]);
        }
        if (!any)
            e = schema_and(all, e, cover.other);
    }
    return e;
}

static int compare_strings(const void *a, const void *b)
{
    const struct regex_string *x = a, *y = b;
    size_t n = x->n < y->n ? x->n : y->n;
    int order = n > 0 ? __builtin_memcmp(x->bytes, y->bytes, n) : 0;
    return order != 0 ? order : (x->n > y->n) - (x->n < y->n);
}

static int unnamed(struct parting *p)
{
    struct schemas *all = p->all;
    const struct object_keys *keys = p->keys;
    struct regex_string *strings = schema_alloc(all, &all->scratch, keys->n, sizeof *strings);
    if (strings == NULL)
        return -1;
    for (uint32_t i = 0; i < keys->n; i++)
        strings[i] = (struct regex_string){all->names[keys->each[i].name].bytes,
                                           all->names[keys->each[i].name].n};
    p->unnamed = keys->allowed;
    if (keys->n > 0) {
        qsort(strings, keys->n, sizeof *strings, compare_strings);
        regex names = keys->n == 1 ? regex_literal(all->regexes, strings[0].bytes, strings[0].n)
                                   : regex_strings(all->regexes, strings, NULL, keys->n);
        p->unnamed = regex_and(all->regexes, keys->allowed, regex_not(all->regexes, names));
    }
    return 0;
}

static int add_class(struct parting *p, regex keys, expr value)
{
    struct schemas *all = p->all;
    for (uint32_t i = 0; i < p->keys->n_classes; i++)
        if (p->keys->classes[i].value == value) {
            p->keys->classes[i].keys = schema_string_or(all, p->keys->classes[i].keys, keys);
            return 0;
        }
    if (schema_grow(all, &p->keys->classes, p->keys->n_classes, &p->keys->classes_room,
                    sizeof *p->keys->classes) != 0)
        return -1;
    p->keys->classes[p->keys->n_classes++] = (struct key_class){keys, value};
    return 0;
}

/* Goes on with pattern i; inside: the keys that match all of `in`. */
static int part(struct parting *p, uint32_t i, regex inside, uint32_t in)
{
    struct schemas *all = p->all;
    if (schema_work(all, 16) != 0)
        return -1;
    if (i < p->n) {
        regex both = schema_string_and(all, inside, p->patterns[i]);
        if (both != REGEX_NONE && part(p, i + 1, both, in | 1u << i) != 0)
            return -1;
        return part(p, i + 1, inside, in);
    }
    expr value = said(p, in);
    int found = schema_sat(all, value);
    p->keys->maybe |= found == 2;
    if (found <= 0)
        return found;
    if (p->unnamed == REGEX_UNKNOWN && unnamed(p) != 0)
        return -1;
    regex keys = schema_string_and(all, inside, p->unnamed);
    for (uint32_t k = 0; k < p->n && keys != REGEX_NONE; k++)
        if ((in >> k & 1) == 0)
            keys = regex_and(all->regexes, keys, regex_not(all->regexes, p->patterns[k]));
    return keys == REGEX_NONE ? 0 : add_class(p, keys, value);
}

/* ---- few keys ------------------------------------------------------------------------------- */

struct naming_keys {
    struct schemas *all;
    struct object_keys *keys;
    expr value;
};

static int name_key(void *arg, const uint8_t *bytes, size_t n)
{
    struct naming_keys *naming = arg;
    uint32_t name = schema_name(naming->all, (const char *)bytes, n);
    if (naming->all->failed || schema_keys_add(naming->all, naming->keys, name) != 0)
        return -1;
    naming->keys->each[naming->keys->n - 1].value = naming->value;
    return 0;
}

static int compare_names(const void *a, const void *b)
{
    const struct object_key *x = a, *y = b;
    return (x->name > y->name) - (x->name < y->name);
}

int schema_keys_classes(struct schemas *all, struct object_keys *keys)
{
    struct parting p = {.all = all, .keys = keys, .unnamed = REGEX_UNKNOWN};
    if (find_patterns(&p) != 0 || part(&p, 0, all->string_all, 0) != 0)
        return -1;
    uint32_t kept = 0;
    for (uint32_t i = 0; i < keys->n_classes; i++) {
        struct key_class class = keys->classes[i];
        bool few =
            (p.n > 0 || keys->allowed != all->string_all) &&
            regex_count(all->regexes, class.keys, SCHEMA_EXPANDED_KEYS + 1) <= SCHEMA_EXPANDED_KEYS;
        struct naming_keys naming = {all, keys, class.value};
        if (!few)
            keys->classes[kept++] = class;
        else if (regex_list(all->regexes, class.keys, SCHEMA_EXPANDED_KEYS, name_key, &naming) != 0)
            return all->failed ? -1 : schema_refuse(all, false, "expected fewer keys");
    }
    keys->n_classes = kept;
    if (keys->n > 0)
        qsort(keys->each, keys->n, sizeof *keys->each, compare_names);
    return 1;
}
