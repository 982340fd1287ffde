/* SPDX-License-Identifier: MIT */
/* regex_ask.c: what a language contains. */
#include "grammar/regex_parts.h"

#include <stdlib.h>

#include "base/size.h"

bool regex_includes(struct regexes *all, regex outer, regex inner)
{
    if (outer == inner || inner == REGEX_NONE || outer == all->anything)
        return !all->failed;
    return regex_and(all, inner, re_not(all, outer)) == REGEX_NONE && !all->failed;
}

/* ---- how many ------------------------------------------------------------------------------ */

/* A state, and how many strings lead to it; those of one length. */
struct reached {
    regex r;
    size_t ways;
};

static int by_state(const void *a, const void *b)
{
    const struct reached *x = a, *y = b;
    return (x->r > y->r) - (x->r < y->r);
}

static size_t times(size_t a, size_t b, size_t limit)
{
    size_t product;
    return size_mul(a, b, &product) && product < limit ? product : limit;
}

static size_t plus(size_t a, size_t b, size_t limit)
{
    size_t sum;
    return size_add(a, b, &sum) && sum < limit ? sum : limit;
}

static struct reached *add_reached(struct regexes *all, struct regex_vector *v, regex r,
                                   size_t ways)
{
    if (!regex_room(all, v, 1, sizeof(struct reached)))
        return NULL;
    struct reached *added = (struct reached *)v->items + v->n++;
    *added = (struct reached){r, ways};
    return added;
}

/* The states behind one more byte, each once. */
static void one_longer(struct regexes *all, const struct regex_vector *from,
                       struct regex_vector *to, size_t limit)
{
    to->n = 0;
    for (size_t i = 0; i < from->n && !all->failed; i++) {
        struct reached at = ((const struct reached *)from->items)[i];
        struct byte_set tried = {0};
        for (unsigned byte = 0; byte < 256; byte++) {
            struct byte_set same;
            size_t bytes = 0;
            if (byte_set_has(&tried, (uint8_t)byte))
                continue;
            regex next = regex_step_class(all, at.r, (uint8_t)byte, &same);
            for (int word = 0; word < 4; word++) {
                bytes += (size_t)__builtin_popcountll(same.bits[word] & ~tried.bits[word]);
                tried.bits[word] |= same.bits[word];
            }
            if (next != REGEX_NONE &&
                add_reached(all, to, next, times(at.ways, bytes, limit)) == NULL)
                return;
        }
    }
    struct reached *list = to->items;
    size_t kept = 0;
    if (to->n > 0)
        qsort(list, to->n, sizeof *list, by_state);
    for (size_t i = 0; i < to->n; i++)
        if (kept > 0 && list[kept - 1].r == list[i].r)
            list[kept - 1].ways = plus(list[kept - 1].ways, list[i].ways, limit);
        else
            list[kept++] = list[i];
    to->n = kept;
}

/* By length: strings of an endless language are counted until there are enough. */
size_t regex_count(struct regexes *all, regex r, size_t limit)
{
    struct regex_vector now = {0}, next = {0};
    size_t count = 0;
    if (r != REGEX_NONE)
        add_reached(all, &now, r, 1);
    while (now.n > 0 && count < limit && !all->failed) {
        for (size_t i = 0; i < now.n; i++) {
            struct reached at = ((struct reached *)now.items)[i];
            if (regex_node(all, at.r)->nullable)
                count = plus(count, at.ways, limit);
        }
        /* Every state leads to a string, and those of different prefixes are different. */
        one_longer(all, &now, &next, limit);
        struct regex_vector other = now;
        now = next;
        next = other;
        size_t open = 0;
        for (size_t i = 0; i < now.n; i++)
            open = plus(open, ((struct reached *)now.items)[i].ways, limit);
        if (plus(count, open, limit) == limit)
            count = limit;
    }
    regex_release(all, now.items, now.capacity * sizeof(struct reached));
    regex_release(all, next.items, next.capacity * sizeof(struct reached));
    return all->failed ? 0 : count;
}

/* ---- which --------------------------------------------------------------------------------- */

struct listed {
    regex r;
    unsigned byte; /* the next one to try */
};

/* Depth first, bytes ascending: the order of strings. */
static int list_all(struct regexes *all, regex r, struct regex_vector *path,
                    struct regex_vector *text,
                    int (*on_string)(void *arg, const uint8_t *bytes, size_t n), void *arg)
{
    for (bool down = true;;) {
        if (down) {
            if (!regex_room(all, path, 1, sizeof(struct listed)) || !regex_room(all, text, 1, 1))
                return -1;
            ((struct listed *)path->items)[path->n++] = (struct listed){.r = r};
            if (regex_node(all, r)->nullable && on_string(arg, text->items, text->n) != 0)
                return -1;
        }
        struct listed *top = (struct listed *)path->items + path->n - 1;
        while (top->byte < 256 && regex_step(all, top->r, (uint8_t)top->byte) == REGEX_NONE)
            top->byte++;
        if (all->failed)
            return -1;
        down = top->byte < 256;
        if (down) {
            r = regex_step(all, top->r, (uint8_t)top->byte);
            ((uint8_t *)text->items)[text->n++] = (uint8_t)top->byte++;
        } else if (--path->n == 0) {
            return 0;
        } else {
            text->n--;
        }
    }
}

int regex_list(struct regexes *all, regex r, size_t limit,
               int (*on_string)(void *arg, const uint8_t *bytes, size_t n), void *arg)
{
    struct regex_vector path = {0}, text = {0};
    if (limit < SIZE_MAX && regex_count(all, r, limit + 1) > limit)
        return -1;
    if (all->failed || r == REGEX_NONE)
        return all->failed ? -1 : 0;
    int status = list_all(all, r, &path, &text, on_string, arg);
    regex_release(all, path.items, path.capacity * sizeof(struct listed));
    regex_release(all, text.items, text.capacity);
    return status;
}

/* ---- how far any text may go ---------------------------------------------------------------- */

static uint32_t sum(uint32_t a, uint32_t b)
{
    return a > REGEX_INFINITE - b ? REGEX_INFINITE : a + b;
}

static uint32_t product(uint32_t a, uint32_t b)
{
    uint64_t p = (uint64_t)a * b;
    return a == 0 || b == 0 ? 0 : p > REGEX_INFINITE ? REGEX_INFINITE : (uint32_t)p;
}

enum { MAX_STEPS = 2000 /* nodes that are looked at */ };

struct length_span {
    uint32_t shortest, longest;
};
static const struct length_span unknown_span = {REGEX_INFINITE, REGEX_INFINITE};

/* Bounds of the length in bytes, from the structure alone: no string is longer than `longest`, and
 * there is one of at most `shortest`. REGEX_INFINITE: not known. *steps is what may be spent. */
static struct length_span span_of(const struct regexes *all, regex r, uint32_t *steps)
{
    struct length_span chain = {0, 0}, own = unknown_span;
    for (; regex_node(all, r)->kind == KIND_CONCAT && *steps > 0; r = regex_node(all, r)->b) {
        struct length_span head = span_of(all, regex_node(all, r)->a, steps);
        chain.shortest = sum(chain.shortest, head.shortest);
        chain.longest = sum(chain.longest, head.longest);
        --*steps;
    }
    const struct regex_node *n = regex_node(all, r);
    if (*steps == 0)
        return unknown_span;
    --*steps;
    switch ((enum regex_kind)n->kind) {
    case KIND_EMPTY:
        own = (struct length_span){0, 0};
        break;
    case KIND_BYTES:
        own = (struct length_span){1, 1};
        break;
    case KIND_REPEAT:
        own = span_of(all, n->a, steps);
        own.shortest = product(own.shortest, n->b);
        own.longest = product(own.longest, n->c);
        break;
    case KIND_OR:
        own.longest = 0;
        for (uint32_t i = 0; i < n->b; i++) {
            struct length_span one = span_of(all, regex_args(all, n)[i], steps);
            own.shortest = one.shortest < own.shortest ? one.shortest : own.shortest;
            own.longest = one.longest > own.longest ? one.longest : own.longest;
        }
        break;
    case KIND_STRINGS: {
        const struct regex_table *t = regex_table(all, n->a);
        own = (struct length_span){t->lengths[n->b] - n->d, t->longest - n->d};
        break;
    }
    case KIND_NONE:
        own.longest = 0;
        break;
    case KIND_CONCAT:
    case KIND_AND:
    case KIND_NOT:
    case KIND_MULTIPLE:
    case KIND_LOOP:
        break;
    }
    if (n->nullable)
        own.shortest = 0;
    return (struct length_span){sum(chain.shortest, own.shortest), sum(chain.longest, own.longest)};
}

static bool is_text(const struct regexes *all, const struct regex_node *n)
{
    return n->kind == KIND_REPEAT && n->a == all->character;
}

/* The bytes that end a string after any text: of "any text, then ...", or of an alternative that is
 * like this. REGEX_INFINITE: it isn't. */
static uint32_t ending(const struct regexes *all, regex r, uint32_t *steps)
{
    const struct regex_node *n = regex_node(all, r);
    uint32_t least = REGEX_INFINITE;
    if (n->kind == KIND_CONCAT && n->a == all->text)
        return span_of(all, n->b, steps).shortest;
    for (uint32_t i = 0; n->kind == KIND_OR && i < n->b; i++) {
        const struct regex_node *one = regex_node(all, regex_args(all, n)[i]);
        if (one->kind != KIND_CONCAT || one->a != all->text)
            continue;
        uint32_t shortest = span_of(all, one->b, steps).shortest;
        least = shortest < least ? shortest : least;
    }
    return least;
}

/* What a conjunction leaves free, if it is of a count of characters, strings that it must not be,
 * and a way to end. Any text is filled up to the most characters, so that it is longer than the
 * strings, and the ending is put behind it. */
static uint32_t free_of_all(const struct regexes *all, const struct regex_node *n)
{
    uint32_t most = REGEX_INFINITE, others = 0, ends = 0, steps = MAX_STEPS;
    for (uint32_t i = 0; i < n->b; i++) {
        regex r = regex_args(all, n)[i];
        const struct regex_node *x = regex_node(all, r);
        if (is_text(all, x)) {
            most = x->c < most ? x->c : most;
        } else if (x->kind == KIND_NOT) {
            uint32_t longest = span_of(all, x->a, &steps).longest;
            others = longest > others ? longest : others;
        } else if (ends == 0) {
            ends = ending(all, r, &steps);
            if (ends == 0)
                ends = 1;
        } else {
            return 0;
        }
    }
    if (others == REGEX_INFINITE || ends == REGEX_INFINITE)
        return 0;
    return most == REGEX_INFINITE ? most : most > others && most >= ends ? most - ends : 0;
}

uint32_t regex_free_chars(struct regexes *all, regex r)
{
    uint32_t most = 0, steps = MAX_STEPS;
    if (regex_settle(all, r) == REGEX_NONE)
        return 0;
    struct regex_node n = *regex_node(all, r);
    if (is_text(all, &n))
        return n.c;
    switch ((enum regex_kind)n.kind) {
    case KIND_CONCAT:
        if (!is_text(all, regex_node(all, n.a)))
            return 0;
        most = regex_node(all, n.a)->c;
        return most == REGEX_INFINITE ? most : sum(most, regex_free_chars(all, n.b));
    case KIND_OR:
        for (uint32_t i = 0; i < n.b && most < REGEX_INFINITE; i++) {
            uint32_t one = regex_free_chars(all, regex_args(all, &n)[i]);
            most = one > most ? one : most;
        }
        return most;
    case KIND_AND:
        return free_of_all(all, &n);
    case KIND_NOT:
        return span_of(all, n.a, &steps).longest < REGEX_INFINITE ? REGEX_INFINITE : 0;
    default:
        return 0;
    }
}
