/* SPDX-License-Identifier: MIT */
/* schema_keys.h: the keys of an object while its shape is made. */
#ifndef GRAMMAR_SCHEMA_KEYS_H
#define GRAMMAR_SCHEMA_KEYS_H

#include "grammar/schema_parts.h"

struct object_key {
    uint32_t name;
    expr value;
    bool required, forbidden;
};

struct object_keys {
    const struct alternative *of;
    struct object_key *each; /* [n], malloc; sorted by name */
    uint32_t n, room;
    struct key_class *classes; /* [n_classes], malloc: all other keys that may be there */
    uint32_t n_classes, classes_room;
    regex allowed; /* by propertyNames */
    uint32_t min, max, n_required, n_witnesses;
    bool maybe;
};

int schema_keys_add(struct schemas *all, struct object_keys *keys, uint32_t name);
struct object_key *schema_keys_find(const struct object_keys *keys, uint32_t name); /* or NULL */
/* 1, 0, -1: whether an expr has values; what isn't known counts as 1 and is noted. */
int schema_keys_sat(struct schemas *all, struct object_keys *keys, expr e);
/* Parts the keys without names by which patterns they match. Languages of few keys become names. 1,
 * or -1. */
int schema_keys_classes(struct schemas *all, struct object_keys *keys);
/* Takes witness `at` out of the alternative: it is a key that has a name, or one of a class. As
 * schema_object(). */
int schema_keys_witness(struct schemas *all, struct object_keys *keys, uint32_t at,
                        struct object_shapes *out);
/* With less room than witnesses, two of them are one key: any two. */
int schema_keys_share(struct schemas *all, struct object_keys *keys, struct object_shapes *out);

#endif
