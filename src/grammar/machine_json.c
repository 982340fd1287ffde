/* SPDX-License-Identifier: MIT */
/*
 * machine_json.c: frames of JSON values. A frame of an array or an object holds which shape it has
 * and what was seen of it so far; the order of keys is free, and no key comes twice.
 */
#include "config.h"

#include <stdlib.h>
#include <string.h>

#include "base/json.h"
#include "grammar/machine.h"

enum list_kind { LIST_SHAPE = 8, LIST_SEEN, LIST_PROPERTIES, LIST_KEYS };

enum array_stage {
    ARRAY_OPENED, /* behind the bracket */
    ARRAY_FIRST,  /* an item or the end */
    ARRAY_COMMA,  /* behind a comma */
    ARRAY_ITEM,   /* an item */
    ARRAY_VALUE,  /* behind an item */
    ARRAY_NEXT    /* a comma or the end */
};

enum object_stage {
    OBJECT_OPENED,   /* behind the brace */
    OBJECT_FIRST,    /* a key or the end */
    OBJECT_COMMA,    /* behind a comma */
    OBJECT_KEY,      /* a key */
    OBJECT_PROPERTY, /* behind the key of a property */
    OBJECT_OTHER,    /* behind another key */
    OBJECT_COLON,    /* a colon */
    OBJECT_COLONED,  /* behind it */
    OBJECT_VALUE,    /* behind a value */
    OBJECT_NEXT      /* a comma or the end */
};

static uint32_t shape_id(struct machine *m, const void *shape)
{
    uint64_t at = (uintptr_t)shape;
    return interner_add(&m->interner, LIST_SHAPE, (uint32_t[]){(uint32_t)at, (uint32_t)(at >> 32)},
                        2);
}

static const void *shape_of(const struct machine *m, uint32_t id)
{
    size_t n;
    const uint32_t *words = interner_list(&m->interner, id, &n);
    return (const void *)(uintptr_t)(words[0] | (uint64_t)words[1] << 32);
}

static bool satisfiable(struct machine *m, uint32_t schemas, expr e)
{
    struct llama3_error err = {.size = sizeof err};
    int is = e == EXPR_FALSE ? 0 : schema_satisfiable(m->schemas[schemas], e, &err);
    if (is < 0)
        machine_fail(m, err.code, "%s", err.message);
    return is > 0;
}

static void offer_byte(struct machine *m, char byte, const struct parse_frame *next,
                       continuation below, struct items *out)
{
    continuation after = next != NULL ? frame_push(m, next, below) : below;
    regex *r = &m->bytes[(uint8_t)byte];
    if (*r == REGEX_NONE)
        *r = regex_literal(m->regexes, &byte, 1);
    items_add(m, out, term_text(*r), 0, after);
}

void value_start(struct machine *m, uint32_t schemas, expr e, bool capture, continuation after,
                 struct items *out)
{
    struct llama3_error err = {.size = sizeof err};
    if (m->failed)
        return;
    const struct value *v = schema_value(m->schemas[schemas], e, &err);
    if (v == NULL) {
        machine_fail(m, err.code, "%s", err.message);
        return;
    }
    unsigned literals = (unsigned)v->null | (unsigned)v->no << 1 | (unsigned)v->yes << 2;
    items_add(m, out, term_text(regex_or(m->regexes, v->number, m->literals[literals])),
              capture ? capture_begin(m, false) : 0, after);
    items_add(m, out, term_string(v->string), capture ? capture_begin(m, true) : 0, after);
    for (uint32_t i = 0; i < v->n_arrays; i++) {
        const struct array_shape *shape = v->arrays[i];
        uint32_t seen[2 + 8] = {0, EXPR_FALSE};
        if (shape->n_contains > 8) {
            machine_fail(m, LLAMA3_EINPUT, "constraint: expected at most 8 `contains`, found %u",
                         (unsigned)shape->n_contains);
            return;
        }
        const struct parse_frame frame = {
            .kind = FRAME_ARRAY,
            .stage = ARRAY_OPENED,
            .schemas = schemas,
            .a = shape_id(m, shape),
            .b = interner_add(&m->interner, LIST_SEEN, seen, 2 + shape->n_contains)};
        offer_byte(m, '[', &frame, after, out);
    }
    for (uint32_t i = 0; i < v->n_objects; i++) {
        const struct object_shape *shape = v->objects[i];
        size_t n = 3 + (shape->n_properties + 31) / 32;
        uint32_t *seen = calloc(n, sizeof *seen);
        if (seen == NULL) {
            machine_fail(m, LLAMA3_ENOMEM, "constraint: no memory for an object's keys");
            return;
        }
        const struct parse_frame frame = {.kind = FRAME_OBJECT,
                                          .stage = OBJECT_OPENED,
                                          .schemas = schemas,
                                          .a = shape_id(m, shape),
                                          .b = interner_add(&m->interner, LIST_SEEN, seen, n)};
        free(seen);
        offer_byte(m, '{', &frame, after, out);
    }
}

/* ---- arrays --------------------------------------------------------------------------------- */

/* What was seen of an array. */
struct items_seen {
    uint32_t index;     /* of the next item */
    expr excluded;      /* of unlike items: those that were there */
    uint32_t counts[8]; /* of each `contains` */
};

static struct items_seen read_items(const struct machine *m, uint32_t id)
{
    struct items_seen seen = {0};
    size_t n;
    const uint32_t *words = interner_list(&m->interner, id, &n);
    seen.index = words[0];
    seen.excluded = words[1];
    memcpy(seen.counts, words + 2, (n - 2) * sizeof *words);
    return seen;
}

static uint32_t write_items(struct machine *m, const struct array_shape *shape,
                            const struct items_seen *seen)
{
    uint32_t words[2 + 8] = {seen->index, seen->excluded};
    memcpy(words + 2, seen->counts, sizeof seen->counts);
    return interner_add(&m->interner, LIST_SEEN, words, 2 + shape->n_contains);
}

static expr item_expr(const struct array_shape *shape, uint32_t index)
{
    return index < shape->n_prefix ? shape->prefix[index] : shape->rest;
}

/* How many items from `index` on can satisfy `e` as well, up to `enough`. */
static uint32_t capable(struct machine *m, uint32_t schemas, const struct array_shape *shape,
                        uint32_t index, expr e, uint32_t enough)
{
    struct schemas *all = m->schemas[schemas];
    uint32_t n = 0;
    for (; index < shape->n_prefix && index < shape->max && n < enough; index++)
        n += satisfiable(m, schemas, schema_and(all, shape->prefix[index], e));
    if (n >= enough || index >= shape->max ||
        !satisfiable(m, schemas, schema_and(all, shape->rest, e)))
        return n;
    return shape->max == SCHEMA_NO_MAX || shape->max - index >= enough - n ? enough
                                                                           : n + shape->max - index;
}

/* Whether the array can still be completed. */
static bool can_finish(struct machine *m, uint32_t schemas, const struct array_shape *shape,
                       const struct items_seen *seen)
{
    for (uint32_t i = 0; i < shape->n_contains; i++) {
        const struct contained *c = &shape->contains[i];
        uint32_t from = seen->index > c->from ? seen->index : c->from;
        if (seen->counts[i] < c->min &&
            capable(m, schemas, shape, from, c->yes, c->min - seen->counts[i]) <
                c->min - seen->counts[i])
            return false;
        if (seen->counts[i] == c->max && seen->index < shape->min &&
            capable(m, schemas, shape, seen->index, c->no, shape->min - seen->index) <
                shape->min - seen->index)
            return false;
    }
    return true;
}

/* Offers the next item for each choice of which `contains` it counts for, from the i-th on. True if
 * there is one; out may be NULL. */
static bool offer_choice(struct machine *m, const struct parse_frame *frame, continuation below,
                         const struct array_shape *shape, struct items_seen *seen, uint32_t i,
                         expr e, struct items *out)
{
    struct schemas *all = m->schemas[frame->schemas];
    if (i < shape->n_contains) {
        const struct contained *c = &shape->contains[i];
        bool any = false;
        if (seen->index < c->from || (c->max == SCHEMA_NO_MAX && seen->counts[i] >= c->min))
            return offer_choice(m, frame, below, shape, seen, i + 1, e, out);
        if (seen->counts[i] < c->max) {
            seen->counts[i]++;
            any =
                offer_choice(m, frame, below, shape, seen, i + 1, schema_and(all, e, c->yes), out);
            seen->counts[i]--;
        }
        return offer_choice(m, frame, below, shape, seen, i + 1, schema_and(all, e, c->no), out) ||
               any;
    }
    if (m->failed || !satisfiable(m, frame->schemas, e))
        return false;
    seen->index++;
    bool can = can_finish(m, frame->schemas, shape, seen);
    if (can && out != NULL) {
        struct parse_frame next = *frame;
        next.stage = ARRAY_VALUE;
        next.b = write_items(m, shape, seen);
        value_start(m, frame->schemas, e, shape->unique, frame_push(m, &next, below), out);
    }
    seen->index--;
    return can;
}

static bool offer_item(struct machine *m, const struct parse_frame *frame, continuation below,
                       struct items *out)
{
    const struct array_shape *shape = shape_of(m, frame->a);
    struct items_seen seen = read_items(m, frame->b);
    struct schemas *all = m->schemas[frame->schemas];
    expr e = item_expr(shape, seen.index);
    if (seen.index >= shape->max)
        return false;
    if (seen.excluded != EXPR_FALSE)
        e = schema_and(all, e, schema_not(all, seen.excluded));
    return offer_choice(m, frame, below, shape, &seen, 0, e, out);
}

static bool array_may_end(const struct machine *m, const struct parse_frame *frame)
{
    const struct array_shape *shape = shape_of(m, frame->a);
    struct items_seen seen = read_items(m, frame->b);
    for (uint32_t i = 0; i < shape->n_contains; i++)
        if (seen.counts[i] < shape->contains[i].min)
            return false;
    return seen.index >= shape->min;
}

/* Adds the item that was read to those that may not come again. */
static uint32_t exclude(struct machine *m, const struct parse_frame *frame, uint32_t text)
{
    const struct array_shape *shape = shape_of(m, frame->a);
    struct items_seen seen = read_items(m, frame->b);
    struct schemas *all = m->schemas[frame->schemas];
    struct buf buf = {0};
    bool string = capture_read(m, text, &buf);
    struct llama3_error err = {.size = sizeof err};
    json_t *value = buf.failed ? NULL
                    : string   ? json_stringn_nocheck(buf.data != NULL ? buf.data : "", buf.size)
                               : json_parse_value(buf.data, buf.size, "constraint", &err);
    buf_free(&buf);
    if (value == NULL) {
        machine_fail(m, LLAMA3_ENOMEM, "constraint: no memory for an item");
        return frame->b;
    }
    seen.excluded = schema_or(all, seen.excluded, schema_const(all, value));
    json_decref(value);
    return write_items(m, shape, &seen);
}

void array_resume(struct machine *m, const struct parse_frame *frame, continuation below,
                  uint32_t text, struct items *out)
{
    struct parse_frame next = *frame;
    switch ((enum array_stage)frame->stage) {
    case ARRAY_OPENED:
        next.stage = ARRAY_FIRST;
        frame_after_blank(m, &next, below, out);
        break;
    case ARRAY_FIRST:
        offer_item(m, frame, below, out);
        if (array_may_end(m, frame))
            offer_byte(m, ']', NULL, below, out);
        break;
    case ARRAY_COMMA:
        next.stage = ARRAY_ITEM;
        frame_after_blank(m, &next, below, out);
        break;
    case ARRAY_ITEM:
        offer_item(m, frame, below, out);
        break;
    case ARRAY_VALUE:
        next.stage = ARRAY_NEXT;
        if (text != 0)
            next.b = exclude(m, frame, text);
        frame_after_blank(m, &next, below, out);
        break;
    case ARRAY_NEXT:
        next.stage = ARRAY_COMMA;
        if (offer_item(m, frame, below, NULL))
            offer_byte(m, ',', &next, below, out);
        if (array_may_end(m, frame))
            offer_byte(m, ']', NULL, below, out);
        break;
    }
}

/* ---- objects -------------------------------------------------------------------------------- */

/* What was seen of an object, as words: the value that comes next, or the class of the key that is
 * read; which witnesses were there; how many other keys; a bit for each property; the texts of the
 * other keys in order. */
enum { SEEN_NEXT, SEEN_WITNESSES, SEEN_N_OTHER, SEEN_BITS };

struct keys_seen {
    const struct object_shape *shape;
    uint32_t *words; /* [n], with room for one more key */
    size_t n, n_bits;
};

static bool read_keys(struct machine *m, const struct parse_frame *frame, struct keys_seen *seen)
{
    size_t n;
    const uint32_t *words = interner_list(&m->interner, frame->b, &n);
    seen->shape = shape_of(m, frame->a);
    seen->n = n;
    seen->n_bits = (seen->shape->n_properties + 31) / 32;
    seen->words = malloc((n + 1) * sizeof *words);
    if (seen->words == NULL) {
        machine_fail(m, LLAMA3_ENOMEM, "constraint: no memory for an object's keys");
        return false;
    }
    memcpy(seen->words, words, n * sizeof *words);
    return true;
}

static bool has_bit(const uint32_t *bits, uint32_t i)
{
    return (bits[i / 32] >> i % 32 & 1) != 0;
}

static uint32_t count_bits(const uint32_t *bits, size_t n)
{
    uint32_t count = 0;
    for (size_t i = 0; i < n; i++)
        count += (uint32_t)__builtin_popcount(bits[i]);
    return count;
}

/* How many keys must still come after those of `bits`, dependencies included. */
static uint32_t count_missing(const struct keys_seen *seen, const uint32_t *bits)
{
    const struct object_shape *shape = seen->shape;
    uint32_t missing = 0;
    if (shape->n_dependencies == 0) {
        for (uint32_t i = 0; i < shape->n_properties; i++)
            missing += shape->properties[i].required && !has_bit(bits, i);
        return missing;
    }
    uint32_t *needed = calloc(seen->n_bits + 1, sizeof *needed);
    if (needed == NULL)
        return UINT32_MAX / 4; /* none may come, and none may end: the failure is found later */
    for (uint32_t i = 0; i < shape->n_properties; i++)
        if (shape->properties[i].required || has_bit(bits, i))
            needed[i / 32] |= UINT32_C(1) << i % 32;
    for (bool more = true; more;) {
        more = false;
        for (uint32_t i = 0; i < shape->n_dependencies; i++) {
            const struct dependency *d = &shape->dependencies[i];
            if (has_bit(needed, d->if_has) && !has_bit(needed, d->needs)) {
                needed[d->needs / 32] |= UINT32_C(1) << d->needs % 32;
                more = true;
            }
        }
    }
    missing = count_bits(needed, seen->n_bits) - count_bits(bits, seen->n_bits);
    free(needed);
    return missing;
}

static uint32_t pending(const struct keys_seen *seen)
{
    return seen->shape->n_witnesses - (uint32_t)__builtin_popcount(seen->words[SEEN_WITNESSES]);
}

static uint64_t count_keys(const struct keys_seen *seen)
{
    return (uint64_t)count_bits(seen->words + SEEN_BITS, seen->n_bits) + seen->words[SEEN_N_OTHER];
}

static bool object_may_end(const struct keys_seen *seen)
{
    return pending(seen) == 0 && count_keys(seen) >= seen->shape->min &&
           count_missing(seen, seen->words + SEEN_BITS) == 0;
}

/* The properties that may come next, as a set of strings with their indices. */
static regex property_keys(struct machine *m, const struct parse_frame *frame,
                           struct keys_seen *seen)
{
    const struct object_shape *shape = seen->shape;
    uint32_t *bits = seen->words + SEEN_BITS;
    bool bounded = shape->max != SCHEMA_NO_MAX;
    uint64_t room = bounded ? shape->max - count_keys(seen) : 0; /* never below 0 */
    if (shape->n_properties == 0)
        return REGEX_NONE;

    struct regex_string *strings = malloc(shape->n_properties * sizeof *strings);
    uint32_t *tags = malloc(shape->n_properties * sizeof *tags), n = 0;
    regex keys = REGEX_NONE;
    for (uint32_t i = 0; strings != NULL && tags != NULL && i < shape->n_properties; i++) {
        if (has_bit(bits, i))
            continue;
        bits[i / 32] ^= UINT32_C(1) << i % 32;
        bool fits = !bounded || (uint64_t)1 + count_missing(seen, bits) + pending(seen) <= room;
        bits[i / 32] ^= UINT32_C(1) << i % 32;
        if (!fits)
            continue;
        strings[n] = (struct regex_string){shape->properties[i].key, shape->properties[i].n};
        tags[n++] = i;
    }
    if (strings == NULL || tags == NULL) {
        machine_fail(m, LLAMA3_ENOMEM, "constraint: no memory for an object's keys");
    } else if (n > 0) { /* the same set for all that have seen the same */
        uint32_t id = interner_add(&m->interner, LIST_PROPERTIES, tags, n);
        uint32_t known = interner_step(&m->interner, id, frame->a);
        keys = known != UINT32_MAX ? known : regex_strings(m->regexes, strings, tags, n);
        if (known == UINT32_MAX)
            interner_set_step(&m->interner, id, frame->a, keys);
    }
    free(strings);
    free(tags);
    return keys;
}

static int by_bytes(const void *a, const void *b)
{
    const struct regex_string *x = a, *y = b;
    int order = memcmp(x->bytes, y->bytes, x->n < y->n ? x->n : y->n);
    return order != 0 ? order : x->n < y->n ? -1 : x->n > y->n;
}

/* Any key but the other keys that were there. */
static regex make_fresh(struct machine *m, const uint32_t *texts, uint32_t n)
{
    struct buf buf = {0};
    struct regex_string *strings = malloc(n * sizeof *strings);
    size_t at = 0;
    for (uint32_t i = 0; i < n && strings != NULL; i++) {
        capture_read(m, texts[i], &buf);
        strings[i].n = buf.size - at;
        at = buf.size;
    }
    regex keys = REGEX_NONE;
    if (strings == NULL || buf.failed) {
        machine_fail(m, LLAMA3_ENOMEM, "constraint: no memory for an object's keys");
    } else {
        at = 0;
        for (uint32_t i = 0; i < n; at += strings[i++].n)
            strings[i].bytes = buf.data != NULL ? buf.data + at : "";
        qsort(strings, n, sizeof *strings, by_bytes);
        keys = regex_not(m->regexes, regex_strings(m->regexes, strings, NULL, n));
    }
    free(strings);
    buf_free(&buf);
    return keys;
}

static regex fresh_keys(struct machine *m, const struct keys_seen *seen)
{
    const uint32_t *texts = seen->words + SEEN_BITS + seen->n_bits;
    uint32_t n = seen->words[SEEN_N_OTHER];
    uint32_t id = interner_add(&m->interner, LIST_KEYS, texts, n);
    uint32_t known = interner_step(&m->interner, id, 0);
    if (known == UINT32_MAX) {
        known = make_fresh(m, texts, n);
        interner_set_step(&m->interner, id, 0, known);
    }
    return known;
}

/* Offers a key of these with this value; returns whether there is one. */
static bool offer_other(struct machine *m, const struct parse_frame *frame, continuation below,
                        struct keys_seen *seen, regex keys, expr value, uint32_t witnesses,
                        struct items *out)
{
    if (keys == REGEX_NONE)
        return false;
    if (out != NULL) {
        uint32_t was = seen->words[SEEN_WITNESSES];
        struct parse_frame next = *frame;
        seen->words[SEEN_NEXT] = value;
        seen->words[SEEN_WITNESSES] = witnesses;
        next.stage = OBJECT_OTHER;
        next.b = interner_add(&m->interner, LIST_SEEN, seen->words, seen->n);
        seen->words[SEEN_WITNESSES] = was;
        items_add(m, out, term_string(keys), capture_begin(m, true), frame_push(m, &next, below));
    }
    return true;
}

static bool offer_others(struct machine *m, const struct parse_frame *frame, continuation below,
                         struct keys_seen *seen, struct items *out)
{
    const struct object_shape *shape = seen->shape;
    struct schemas *all = m->schemas[frame->schemas];
    uint32_t mask = seen->words[SEEN_WITNESSES];
    bool bounded = shape->max != SCHEMA_NO_MAX, any = false;
    uint64_t room = bounded ? shape->max - count_keys(seen) : 0;
    uint64_t missing = bounded ? count_missing(seen, seen->words + SEEN_BITS) + pending(seen) : 0;
    regex fresh = REGEX_NONE; /* any key but those seen */
    if (shape->n_classes == 0)
        return false;
    if (seen->words[SEEN_N_OTHER] > 0)
        fresh = fresh_keys(m, seen);

    for (uint32_t i = 0; i < shape->n_classes; i++) {
        regex keys = shape->classes[i].keys;
        if (seen->words[SEEN_N_OTHER] > 0)
            keys = regex_and(m->regexes, keys, fresh);
        if (!bounded || missing + 1 <= room)
            any |= offer_other(m, frame, below, seen, keys, shape->classes[i].value, mask, out);
    }
    for (uint32_t i = 0; i < shape->n_witnesses; i++) {
        const struct witness *w = &shape->witnesses[i];
        regex keys = w->keys;
        if ((mask >> i & 1) != 0)
            continue;
        if (seen->words[SEEN_N_OTHER] > 0)
            keys = regex_and(m->regexes, keys, fresh);
        expr value = schema_and(all, shape->classes[w->key_class].value, w->value);
        if (!bounded || missing <= room)
            any |= offer_other(m, frame, below, seen, keys, value, mask | UINT32_C(1) << i, out);
    }
    return any;
}

/* Offers keys; returns whether there is one. out may be NULL. */
static bool offer_keys(struct machine *m, const struct parse_frame *frame, continuation below,
                       struct keys_seen *seen, struct items *out)
{
    if (count_keys(seen) >= seen->shape->max)
        return false;
    regex keys = property_keys(m, frame, seen);
    bool any = offer_others(m, frame, below, seen, out);
    if (keys == REGEX_NONE)
        return any;
    if (out != NULL) {
        struct parse_frame next = *frame;
        seen->words[SEEN_NEXT] = 0;
        next.stage = OBJECT_PROPERTY;
        next.b = interner_add(&m->interner, LIST_SEEN, seen->words, seen->n);
        items_add(m, out, term_string(keys), 0, frame_push(m, &next, below));
    }
    return true;
}

/* Takes a key that was read: what was seen with it, and its value next. */
static uint32_t take_key(struct machine *m, struct keys_seen *seen, uint32_t tag, uint32_t text)
{
    if (text == 0 && tag < seen->shape->n_properties) {
        seen->words[SEEN_NEXT] = seen->shape->properties[tag].value;
        seen->words[SEEN_BITS + tag / 32] |= UINT32_C(1) << tag % 32;
    } else {
        size_t first = SEEN_BITS + seen->n_bits, at = seen->n++;
        for (; at > first && seen->words[at - 1] > text; at--)
            seen->words[at] = seen->words[at - 1];
        seen->words[at] = text;
        seen->words[SEEN_N_OTHER]++;
    }
    return interner_add(&m->interner, LIST_SEEN, seen->words, seen->n);
}

void object_resume(struct machine *m, const struct parse_frame *frame, continuation below,
                   uint32_t tag, uint32_t text, struct items *out)
{
    struct parse_frame next = *frame;
    struct keys_seen seen;
    if (!read_keys(m, frame, &seen))
        return;
    switch ((enum object_stage)frame->stage) {
    case OBJECT_OPENED:
        next.stage = OBJECT_FIRST;
        frame_after_blank(m, &next, below, out);
        break;
    case OBJECT_FIRST:
        if (object_may_end(&seen))
            offer_byte(m, '}', NULL, below, out);
        offer_keys(m, frame, below, &seen, out);
        break;
    case OBJECT_COMMA:
        next.stage = OBJECT_KEY;
        frame_after_blank(m, &next, below, out);
        break;
    case OBJECT_KEY:
        offer_keys(m, frame, below, &seen, out);
        break;
    case OBJECT_PROPERTY:
    case OBJECT_OTHER:
        next.stage = OBJECT_COLON;
        next.b = take_key(m, &seen, tag, text);
        frame_after_blank(m, &next, below, out);
        break;
    case OBJECT_COLON:
        next.stage = OBJECT_COLONED;
        offer_byte(m, ':', &next, below, out);
        break;
    case OBJECT_COLONED: {
        const struct parse_frame value = {
            .kind = FRAME_VALUE, .schemas = frame->schemas, .a = seen.words[SEEN_NEXT]};
        next.stage = OBJECT_VALUE;
        seen.words[SEEN_NEXT] = 0;
        next.b = interner_add(&m->interner, LIST_SEEN, seen.words, seen.n);
        frame_after_blank(m, &value, frame_push(m, &next, below), out);
        break;
    }
    case OBJECT_VALUE:
        next.stage = OBJECT_NEXT;
        frame_after_blank(m, &next, below, out);
        break;
    case OBJECT_NEXT:
        next.stage = OBJECT_COMMA;
        if (object_may_end(&seen))
            offer_byte(m, '}', NULL, below, out);
        if (offer_keys(m, frame, below, &seen, NULL))
            offer_byte(m, ',', &next, below, out);
        break;
    }
    free(seen.words);
}
