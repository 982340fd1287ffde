/* SPDX-License-Identifier: MIT */
/*
 * jinja_dict.c: the dicts of a template. Few keys are compared one by one. Many are hashed, with a
 * secret: they may come from strangers.
 */
#include <math.h>
#include <string.h>

#include "text/jinja_value.h"

enum { FEW = 8 };

/* ---- hashes: of equal values, equal ones --------------------------------------------------- */

static uint64_t hash_chars(struct jinja_run *run, const struct jinja_string *string)
{
    const struct hash_key *key = jinja_secret(run);
    uint64_t hash = string->n;
    size_t i = 0;
    jinja_work(run, string->n / 4);
    for (; i + 2 <= string->n; i += 2)
        hash = hash_mix(key, hash ^ jinja_scalar(string->chars[i]) ^
                                 (uint64_t)jinja_scalar(string->chars[i + 1]) << 32);
    if (i < string->n)
        hash ^= jinja_scalar(string->chars[i]);
    return hash_mix(key, hash);
}

static uint64_t hash_real(const struct hash_key *key, double real)
{
    uint64_t bits;
    if (real >= -0x1p63 && real < 0x1p63 && trunc(real) <= real && trunc(real) >= real)
        return hash_mix(key, (uint64_t)(int64_t)real); /* that of the equal int */
    memcpy(&bits, &real, sizeof bits);
    return hash_mix(key, bits);
}

static bool hash_of(struct jinja_run *run, struct jinja_value value, uint64_t *hash);

/* False if an item has none. */
static bool hash_items(struct jinja_run *run, const struct jinja_list *list, uint64_t *hash)
{
    uint64_t all = list->n;
    bool has = true;
    jinja_deeper(run);
    jinja_work(run, list->n);
    for (size_t i = 0; i < list->n && has; i++) {
        uint64_t item = 0;
        has = hash_of(run, list->items[i], &item);
        all = hash_mix(jinja_secret(run), all ^ item);
    }
    jinja_higher(run);
    *hash = all;
    return has;
}

/* False if Python can't hash the value, whose address may count. */
static bool hash_of(struct jinja_run *run, struct jinja_value value, uint64_t *hash)
{
    const struct hash_key *key = jinja_secret(run);
    uint64_t address = (uint64_t)value.type;
    switch (value.type) {
    case JINJA_ABSENT:
    case JINJA_UNDEFINED:
    case JINJA_NONE:
        break;
    case JINJA_BOOL:
        address = value.boolean;
        break;
    case JINJA_INT:
        address = (uint64_t)value.integer;
        break;
    case JINJA_FLOAT:
        *hash = hash_real(key, value.real);
        return true;
    case JINJA_STRING:
        *hash = hash_chars(run, value.string);
        return true;
    case JINJA_LIST:
        if (value.list->kind == JINJA_TUPLE || value.list->kind == JINJA_RANGE)
            return hash_items(run, value.list, hash);
        if (value.list->kind != JINJA_VALUES && value.list->kind != JINJA_ITERATOR)
            return false;
        address = (uintptr_t)value.list;
        break;
    case JINJA_DICT:
        return false;
    case JINJA_NAMESPACE:
        address = (uintptr_t)value.dict;
        break;
    case JINJA_FUNCTION: /* a method is equal to another that was looked up anew */
        address = value.function->builtin != NULL ? (uintptr_t)value.function->builtin
                                                  : (uintptr_t)value.function->macro;
        break;
    case JINJA_LOOP:
        address = (uintptr_t)value.loop;
        break;
    }
    *hash = hash_mix(key, address);
    return true;
}

bool jinja_is_hashable(struct jinja_run *run, struct jinja_value value)
{
    uint64_t hash;
    return hash_of(run, value, &hash);
}

static uint64_t want_hash(struct jinja_run *run, struct jinja_value key)
{
    uint64_t hash;
    if (!hash_of(run, key, &hash))
        jinja_fail(run, "expected a key that can be hashed, found a value of type %s",
                   jinja_type_name(key));
    return hash;
}

/* ---- the table ----------------------------------------------------------------------------- */

struct jinja_value jinja_dict(struct jinja_run *run)
{
    struct jinja_dict *dict = jinja_alloc(run, 1, sizeof *dict);
    return (struct jinja_value){.type = JINJA_DICT, .dict = dict};
}

/* Where the item's index is, or belongs. */
static size_t slot_of(struct jinja_run *run, const struct jinja_dict *dict, struct jinja_value key,
                      uint64_t hash)
{
    size_t slot = hash & (dict->table_size - 1);
    for (; dict->table[slot] != 0; slot = (slot + 1) & (dict->table_size - 1)) {
        const struct jinja_item *item = &dict->items[dict->table[slot] - 1];
        jinja_work(run, 1);
        if (item->hash == hash && jinja_equal(run, item->key, key))
            break;
    }
    return slot;
}

static struct jinja_item *find(struct jinja_run *run, const struct jinja_dict *dict,
                               struct jinja_value key, uint64_t hash)
{
    if (dict->table != NULL) {
        uint32_t index = dict->table[slot_of(run, dict, key, hash)];
        return index != 0 ? &dict->items[index - 1] : NULL;
    }
    for (size_t i = 0; i < dict->n; i++)
        if (dict->items[i].hash == hash && jinja_equal(run, dict->items[i].key, key))
            return &dict->items[i];
    return NULL;
}

/* Different keys only. */
static void put_slot(struct jinja_dict *dict, size_t index)
{
    size_t slot = dict->items[index].hash & (dict->table_size - 1);
    while (dict->table[slot] != 0)
        slot = (slot + 1) & (dict->table_size - 1);
    dict->table[slot] = (uint32_t)index + 1;
}

static void grow(struct jinja_run *run, struct jinja_dict *dict)
{
    size_t capacity = dict->capacity == 0 ? 4 : 2 * dict->capacity;
    if (capacity > UINT32_MAX / 2)
        jinja_fail(run, "expected a dict of fewer keys, found %zu", dict->n);
    struct jinja_item *items = jinja_alloc(run, capacity, sizeof *items);
    if (dict->n > 0)
        memcpy(items, dict->items, dict->n * sizeof *items);
    dict->items = items;
    dict->capacity = capacity;
    if (capacity <= FEW)
        return;
    dict->table_size = 2 * capacity;
    dict->table = jinja_alloc(run, dict->table_size, sizeof *dict->table);
    jinja_work(run, dict->n);
    for (size_t i = 0; i < dict->n; i++)
        put_slot(dict, i);
}

void jinja_dict_set(struct jinja_run *run, struct jinja_dict *dict, struct jinja_value key,
                    struct jinja_value value)
{
    uint64_t hash = want_hash(run, key);
    struct jinja_item *item = find(run, dict, key, hash);
    if (item != NULL) {
        item->value = value;
        return;
    }
    if (dict->n == dict->capacity)
        grow(run, dict);
    dict->items[dict->n++] = (struct jinja_item){.key = key, .value = value, .hash = hash};
    if (dict->table != NULL)
        put_slot(dict, dict->n - 1);
}

const struct jinja_value *jinja_dict_get(struct jinja_run *run, const struct jinja_dict *dict,
                                         struct jinja_value key)
{
    const struct jinja_item *item = find(run, dict, key, want_hash(run, key));
    return item != NULL ? &item->value : NULL;
}

/* Most dicts have few keys, and most keys are looked up by a name: without its hash. */
const struct jinja_value *jinja_dict_name(struct jinja_run *run, const struct jinja_dict *dict,
                                          const char *name)
{
    if (dict->table != NULL)
        return jinja_dict_get(run, dict, jinja_ascii(run, name));
    for (size_t i = 0; i < dict->n; i++)
        if (dict->items[i].key.type == JINJA_STRING && jinja_is(dict->items[i].key.string, name))
            return &dict->items[i].value;
    return NULL;
}
