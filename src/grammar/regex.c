/* SPDX-License-Identifier: MIT */
/* regex.c: nodes, each there once, and the memory they take. */
#include "grammar/regex_parts.h"

#include <stdlib.h>
#include <string.h>

#include "base/size.h"

/* ---- failures and memory ------------------------------------------------------------------ */

regex regex_fail(struct regexes *all, enum llama3_code code, const char *what)
{
    if (!all->failed)
        error_set(&all->why, code, "%s", what);
    all->failed = true;
    return REGEX_NONE;
}

/* Whether `more` bytes are within the limit; they count from now on. */
static bool take(struct regexes *all, size_t more)
{
    size_t sum;
    if (all->failed)
        return false;
    if (size_add(all->memory, more, &sum) && sum <= all->limit) {
        all->memory = sum;
        return true;
    }
    all->failed = true;
    error_input(&all->why,
                "regular expression: expected one whose states fit %zu bytes, "
                "found one that needs more",
                all->limit);
    return false;
}

static bool no_memory(struct regexes *all, size_t bytes)
{
    if (!all->failed)
        error_memory(&all->why, "regular expression", bytes);
    all->failed = true;
    return false;
}

void *regex_alloc(struct regexes *all, size_t n, size_t size)
{
    size_t bytes;
    if (!size_mul(n, size, &bytes))
        bytes = SIZE_MAX;
    if (!take(all, bytes))
        return NULL;
    void *memory = size_alloc(n, size);
    if (memory == NULL) {
        all->memory -= bytes;
        no_memory(all, bytes);
    }
    return memory;
}

void regex_release(struct regexes *all, void *memory, size_t bytes)
{
    if (memory != NULL)
        all->memory -= bytes;
    free(memory);
}

/* Twice the room, or less where the limit is near. */
static bool grow(struct regexes *all, void **items, size_t *capacity, size_t need, size_t size)
{
    size_t room = *capacity * 2 > 16 ? *capacity * 2 : 16, bytes;
    if (room < need)
        room = need;
    if (!size_mul(room, size, &bytes) || bytes - *capacity * size > all->limit - all->memory)
        room = need + need / 16;
    if (!size_mul(room, size, &bytes))
        bytes = SIZE_MAX;
    size_t before = *capacity * size;
    if (!take(all, bytes - before))
        return false;
    void *grown = realloc(*items, bytes);
    if (grown == NULL) {
        all->memory -= bytes - before;
        return no_memory(all, bytes);
    }
    *items = grown;
    *capacity = room;
    return true;
}

bool regex_room(struct regexes *all, struct regex_vector *v, size_t more, size_t size)
{
    if (all->failed)
        return false;
    return v->n + more <= v->capacity || grow(all, &v->items, &v->capacity, v->n + more, size);
}

void regex_push(struct regexes *all, regex r)
{
    if (regex_room(all, &all->scratch, 1, sizeof r))
        ((regex *)all->scratch.items)[all->scratch.n++] = r;
}

/* ---- interning ---------------------------------------------------------------------------- */

static uint64_t hash_of(const struct regexes *all, const struct regex_node *n, const regex *list,
                        size_t n_list)
{
    uint64_t h = hash_mix(&all->key, n->kind + 1);
    if (list != NULL) {
        for (size_t i = 0; i < n_list; i++)
            h = hash_mix(&all->key, h ^ list[i]);
        return h;
    }
    h = hash_mix(&all->key, h ^ ((uint64_t)n->a << 32 | n->b));
    return hash_mix(&all->key, h ^ ((uint64_t)n->c << 32 | n->d));
}

static bool equal(const struct regexes *all, const struct regex_node *x,
                  const struct regex_node *like, const regex *list, size_t n)
{
    if (x->kind != like->kind)
        return false;
    if (list != NULL)
        return x->b == n && memcmp(regex_args(all, x), list, n * sizeof *list) == 0;
    return x->a == like->a && x->b == like->b && x->c == like->c && x->d == like->d;
}

static uint64_t hash_of_node(const struct regexes *all, const struct regex_node *n)
{
    bool listed = n->kind == KIND_OR || n->kind == KIND_AND || n->kind == KIND_BYTES;
    return hash_of(all, n, listed ? regex_args(all, n) : NULL, listed ? n->b : 0);
}

/* At most half full. */
static bool room_for_node(struct regexes *all)
{
    if (all->failed)
        return false;
    if (all->n == all->capacity) {
        void *nodes = all->nodes;
        bool grown = grow(all, &nodes, &all->capacity, all->n + 1, sizeof *all->nodes);
        all->nodes = nodes;
        if (!grown)
            return false;
    }
    if (all->n * 2 <= all->slot_mask)
        return true;
    size_t n_slots = (all->slot_mask + 1) * 2;
    uint32_t *slots = regex_alloc(all, n_slots, sizeof *slots);
    if (slots == NULL)
        return false;
    regex_release(all, all->slots, n_slots / 2 * sizeof *slots);
    all->slots = slots;
    all->slot_mask = n_slots - 1;
    for (uint32_t i = 1; i < all->n; i++) {
        size_t at = hash_of_node(all, &all->nodes[i]) & all->slot_mask;
        while (slots[at] != 0)
            at = (at + 1) & all->slot_mask;
        slots[at] = i;
    }
    return true;
}

regex regex_intern(struct regexes *all, const struct regex_node *like, const regex *list, size_t n)
{
    if (!room_for_node(all))
        return REGEX_NONE;
    size_t at = hash_of(all, like, list, n) & all->slot_mask;
    for (; all->slots[at] != 0; at = (at + 1) & all->slot_mask) {
        struct regex_node *found = &all->nodes[all->slots[at]];
        if (equal(all, found, like, list, n)) {
            found->utf8 |= like->utf8;
            return found->life == LIFE_DEAD ? REGEX_NONE : all->slots[at];
        }
    }
    if (like->depth > REGEX_DEPTH)
        return regex_fail(all, LLAMA3_EINPUT,
                          "regular expression: expected one that is nested less deeply");
    if (all->n >= REGEX_UNKNOWN - 1)
        return regex_fail(all, LLAMA3_EINPUT, "regular expression: expected fewer states");
    struct regex_node node = *like;
    if (list != NULL) {
        /* The list may lie in scratch, not in args. */
        if (!regex_room(all, &all->args, n, sizeof *list))
            return REGEX_NONE;
        if (all->args.n + n > UINT32_MAX)
            return regex_fail(all, LLAMA3_EINPUT, "regular expression: expected fewer states");
        node.a = (uint32_t)all->args.n;
        node.b = (uint32_t)n;
        memcpy((regex *)all->args.items + all->args.n, list, n * sizeof *list);
        all->args.n += n;
    }
    if (node.nullable)
        node.life = LIFE_LIVE;
    all->slots[at] = (uint32_t)all->n;
    all->nodes[all->n] = node;
    return (regex)all->n++;
}

regex regex_bytes(struct regexes *all, const struct byte_set *set)
{
    regex words[sizeof *set / sizeof(regex)];
    if (byte_set_empty(set))
        return REGEX_NONE;
    memcpy(words, set, sizeof *set);
    return regex_intern(all,
                        &(struct regex_node){.kind = KIND_BYTES,
                                             .life = LIFE_LIVE,
                                             .utf8 = (set->bits[2] | set->bits[3]) == 0,
                                             .depth = 1},
                        words, sizeof words / sizeof *words);
}

regex regex_open_loop(struct regexes *all, bool nullable)
{
    return regex_intern(all,
                        &(struct regex_node){.kind = KIND_LOOP,
                                             .nullable = nullable,
                                             .utf8 = true,
                                             .depth = 1,
                                             .b = (uint32_t)all->n},
                        NULL, 0);
}

void regex_close_loop(struct regexes *all, regex loop, regex body)
{
    if (all->failed)
        return;
    all->nodes[loop].c = body;
    all->nodes[loop].depth = all->nodes[body].depth + 1;
}

/* ---- all of them -------------------------------------------------------------------------- */

struct regexes *regexes_open(size_t limit, struct llama3_error *err)
{
    struct regexes *all = size_alloc_for(1, sizeof *all, "regular expressions", err);
    if (all == NULL)
        return NULL;
    all->limit = limit;
    hash_key_init(&all->key);
    all->slots = regex_alloc(all, 64, sizeof *all->slots);
    all->slot_mask = 63;
    if (room_for_node(all)) {
        all->nodes[REGEX_NONE] = (struct regex_node){.life = LIFE_DEAD, .utf8 = true};
        all->n = 1;
        regex_intern(all, &(struct regex_node){.kind = KIND_EMPTY, .nullable = true, .utf8 = true},
                     NULL, 0);
    }
    if (all->n > REGEX_EMPTY) { /* what everything else takes to be there */
        all->anything = re_not(all, REGEX_NONE);
        regex_chars_open(all);
    }
    if (regexes_failed(all, err) == 0)
        return all;
    regexes_close(all);
    return NULL;
}

void regexes_close(struct regexes *all)
{
    if (all == NULL)
        return;
    for (size_t i = 0; i < all->rows.n; i++)
        free(((uint32_t **)all->rows.items)[i]);
    for (size_t i = 0; i < all->tables.n; i++)
        regex_strings_close(&((struct regex_table *)all->tables.items)[i]);
    struct regex_vector *vectors[] = {&all->args, &all->rows,   &all->scratch,
                                      &all->raw,  &all->tables, &all->divisors};
    for (size_t i = 0; i < sizeof vectors / sizeof *vectors; i++)
        free(vectors[i]->items);
    free(all->formats);
    free(all->nodes);
    free(all->slots);
    free(all);
}

int regexes_failed(const struct regexes *all, struct llama3_error *err)
{
    return all->failed ? error_copy(err, &all->why) : 0;
}

size_t regexes_memory(const struct regexes *all)
{
    return all->memory;
}

/* ---- what others build -------------------------------------------------------------------- */

regex regex_concat(struct regexes *all, regex a, regex b)
{
    return regex_settle(all, re_concat(all, a, b));
}

regex regex_or(struct regexes *all, regex a, regex b)
{
    return regex_settle(all, re_or(all, a, b));
}

regex regex_and(struct regexes *all, regex a, regex b)
{
    return regex_settle(all, re_and(all, a, b));
}

regex regex_not(struct regexes *all, regex a)
{
    return regex_settle(all, re_not(all, a));
}

regex regex_repeat(struct regexes *all, regex a, uint32_t min, uint32_t max)
{
    return regex_settle(all, re_repeat(all, a, min, max));
}
