/* SPDX-License-Identifier: MIT */
/*
 * regex_build.c: operations on expressions, and the laws that keep the number of different ones
 * small: the states of a DFA are expressions, and two that are equal but look different are two.
 */
#include "grammar/regex_parts.h"

#include <stdlib.h>

regex re_bytes(struct regexes *all, unsigned first, unsigned last)
{
    struct byte_set set = {0};
    byte_set_add(&set, first, last);
    return regex_bytes(all, &set);
}

static regex alive(const struct regexes *all, regex r)
{
    return all->nodes[r].life == LIFE_DEAD ? REGEX_NONE : r;
}

static uint32_t add(uint32_t a, uint32_t b) /* of counts, where REGEX_INFINITE is no limit */
{
    return a > REGEX_INFINITE - b ? REGEX_INFINITE : a + b;
}

static uint32_t larger(uint32_t a, uint32_t b)
{
    return a > b ? a : b;
}

/* ---- one after the other ------------------------------------------------------------------- */

static regex head_of(const struct regexes *all, regex r)
{
    const struct regex_node *n = regex_node(all, r);
    return n->kind == KIND_CONCAT ? n->a : r;
}

static regex tail_of(const struct regexes *all, regex r)
{
    const struct regex_node *n = regex_node(all, r);
    return n->kind == KIND_CONCAT ? n->b : REGEX_EMPTY;
}

/* a is no concatenation. x{m,n} x{p,q} is x{m+p,n+q}. */
static regex concat_one(struct regexes *all, regex a, regex b)
{
    if (a == REGEX_EMPTY)
        return b;
    if (b == REGEX_EMPTY)
        return a;
    struct regex_node x = *regex_node(all, a), y = *regex_node(all, head_of(all, b));
    if (x.kind == KIND_REPEAT && y.kind == KIND_REPEAT && x.a == y.a) {
        uint32_t min = add(x.b, y.b), max = add(x.c, y.c);
        if (min != REGEX_INFINITE &&
            (max != REGEX_INFINITE || x.c == REGEX_INFINITE || y.c == REGEX_INFINITE))
            return concat_one(all, re_repeat(all, x.a, min, max), tail_of(all, b));
    }
    y = *regex_node(all, b);
    return regex_intern(all,
                        &(struct regex_node){.kind = KIND_CONCAT,
                                             .life = x.life == y.life ? x.life : LIFE_UNKNOWN,
                                             .nullable = x.nullable && y.nullable,
                                             .utf8 = x.utf8 && y.utf8,
                                             .depth = larger(x.depth + 1, y.depth),
                                             .a = a,
                                             .b = b},
                        NULL, 0);
}

regex re_concat(struct regexes *all, regex a, regex b)
{
    a = alive(all, a);
    b = alive(all, b);
    if (a == REGEX_NONE || b == REGEX_NONE)
        return REGEX_NONE;
    bool utf8 = regex_node(all, a)->utf8 && regex_node(all, b)->utf8;
    size_t base = all->scratch.n;
    for (; regex_node(all, a)->kind == KIND_CONCAT; a = regex_node(all, a)->b)
        regex_push(all, regex_node(all, a)->a);
    b = concat_one(all, a, b);
    while (all->scratch.n > base)
        b = concat_one(all, ((regex *)all->scratch.items)[--all->scratch.n], b);
    if (all->failed)
        return REGEX_NONE;
    all->nodes[b].utf8 |= utf8; /* where a part ends within a character, but the whole doesn't */
    return b;
}

/* ---- counted ------------------------------------------------------------------------------- */

regex re_repeat(struct regexes *all, regex a, uint32_t min, uint32_t max)
{
    a = alive(all, a);
    if (a == REGEX_NONE || a == REGEX_EMPTY || max == 0)
        return min == 0 || a == REGEX_EMPTY ? REGEX_EMPTY : REGEX_NONE;
    struct regex_node x = *regex_node(all, a);
    if (min > max)
        return REGEX_NONE;
    if (x.nullable)
        min = 0;
    if (min == 1 && max == 1)
        return a;
    if (x.kind == KIND_REPEAT) {
        /* (y{0,q}){0,n} is y{0,qn}; (y{1,}){m,n} is y{m,}. */
        uint64_t most =
            x.c == REGEX_INFINITE || max == REGEX_INFINITE ? REGEX_INFINITE : (uint64_t)x.c * max;
        if (x.b == 0 && (most < REGEX_INFINITE || x.c == REGEX_INFINITE || max == REGEX_INFINITE))
            return re_repeat(all, x.a, 0, (uint32_t)most);
        if (x.b == 1 && x.c == REGEX_INFINITE)
            return re_repeat(all, x.a, min, REGEX_INFINITE);
    }
    if (x.nullable && max == 1)
        return a;
    return regex_intern(all,
                        &(struct regex_node){.kind = KIND_REPEAT,
                                             .life = min == 0 ? LIFE_LIVE : x.life,
                                             .nullable = min == 0,
                                             .utf8 = x.utf8,
                                             .depth = x.depth + 1,
                                             .a = a,
                                             .b = min,
                                             .c = max},
                        NULL, 0);
}

regex re_optional(struct regexes *all, regex a)
{
    return re_or(all, a, REGEX_EMPTY);
}

/* ---- lists --------------------------------------------------------------------------------- */

static int by_number(const void *a, const void *b)
{
    regex x = *(const regex *)a, y = *(const regex *)b;
    return (x > y) - (x < y);
}

static void sort(regex *list, size_t n)
{
    if (n > 24) {
        qsort(list, n, sizeof *list, by_number);
        return;
    }
    for (size_t i = 1; i < n; i++) {
        regex x = list[i];
        size_t at = i;
        for (; at > 0 && list[at - 1] > x; at--)
            list[at] = list[at - 1];
        list[at] = x;
    }
}

static size_t unique(regex *list, size_t n)
{
    size_t kept = 0;
    sort(list, n);
    for (size_t i = 0; i < n; i++)
        if (kept == 0 || list[kept - 1] != list[i])
            list[kept++] = list[i];
    return kept;
}

static regex *list_at(struct regexes *all, size_t base)
{
    return (regex *)all->scratch.items + base;
}

/* Replaces lists of this kind within scratch[base ..) by what they are of, and drops what is
 * neutral. False: `absorbing` is among them. */
static bool flatten(struct regexes *all, size_t base, enum regex_kind kind, regex neutral,
                    regex absorbing)
{
    size_t n = all->scratch.n - base, kept = 0;
    for (size_t i = 0; i < n; i++) {
        regex r = alive(all, list_at(all, base)[i]);
        if (r == absorbing)
            return false;
        struct regex_node x = *regex_node(all, r);
        if (r == neutral)
            continue;
        if (x.kind != kind) {
            list_at(all, base)[kept++] = r;
            continue;
        }
        for (uint32_t k = 0; k < x.b; k++)
            regex_push(all, regex_args(all, &x)[k]);
    }
    if (all->failed)
        return false;
    size_t more = all->scratch.n - base - n;
    memmove(list_at(all, base) + kept, list_at(all, base) + n, more * sizeof(regex));
    all->scratch.n = base + unique(list_at(all, base), kept + more);
    return true;
}

/* Ends a list: its node, or its only member. */
static regex finish(struct regexes *all, size_t base, const struct regex_node *like, regex of_none)
{
    regex result;
    if (all->failed || all->scratch.n - base == 0)
        result = all->failed ? REGEX_NONE : of_none;
    else if (all->scratch.n - base == 1)
        result = list_at(all, base)[0];
    else
        result = regex_intern(all, like, list_at(all, base), all->scratch.n - base);
    all->scratch.n = base;
    return result;
}

static regex answer(struct regexes *all, size_t base, regex result)
{
    all->scratch.n = base;
    return all->failed ? REGEX_NONE : result;
}

static bool listed(const regex *list, size_t n, regex r)
{
    return bsearch(&r, list, n, sizeof *list, by_number) != NULL;
}

/* Whether a member's complement is a member. */
static bool contradicts(struct regexes *all, const regex *list, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (regex_node(all, list[i])->kind == KIND_NOT &&
            listed(list, n, regex_node(all, list[i])->a))
            return true;
    return false;
}

/* ---- or ------------------------------------------------------------------------------------ */

/* One for two that have one tail and heads that become one: byte sets, and repetitions of one
 * expression whose counts touch. REGEX_NONE: they can't. */
static regex merged(struct regexes *all, regex r, regex s)
{
    struct regex_node x = *regex_node(all, head_of(all, r)), y = *regex_node(all, head_of(all, s));
    regex head = REGEX_NONE;
    if (x.kind == KIND_BYTES && y.kind == KIND_BYTES) {
        struct byte_set a = regex_set(all, &x), b = regex_set(all, &y);
        for (int i = 0; i < 4; i++)
            a.bits[i] |= b.bits[i];
        head = regex_bytes(all, &a);
    } else if (x.kind == KIND_REPEAT && y.kind == KIND_REPEAT && x.a == y.a && x.b <= add(y.c, 1) &&
               y.b <= add(x.c, 1)) {
        head = re_repeat(all, x.a, x.b < y.b ? x.b : y.b, larger(x.c, y.c));
    }
    if (head == REGEX_NONE)
        return REGEX_NONE;
    bool utf8 = regex_node(all, r)->utf8 && regex_node(all, s)->utf8;
    regex both = re_concat(all, head, tail_of(all, r));
    if (!all->failed)
        all->nodes[both].utf8 |= utf8;
    return both;
}

struct by_tail {
    regex tail, kind, r; /* kind: of the head, and what it repeats */
};

static int compare_tails(const void *a, const void *b)
{
    const struct by_tail *x = a, *y = b;
    if (x->tail != y->tail)
        return x->tail < y->tail ? -1 : 1;
    if (x->kind != y->kind)
        return x->kind < y->kind ? -1 : 1;
    return (x->r > y->r) - (x->r < y->r);
}

/* Merges in a long list: those that may be merged stand together. */
static bool merge_many(struct regexes *all, size_t base)
{
    size_t n = all->scratch.n - base, kept = 0;
    struct by_tail *sorted = regex_alloc(all, n, sizeof *sorted);
    if (sorted == NULL)
        return false;
    for (size_t i = 0; i < n; i++) {
        regex r = list_at(all, base)[i];
        const struct regex_node *head = regex_node(all, head_of(all, r));
        sorted[i] = (struct by_tail){.tail = tail_of(all, r),
                                     .kind = head->kind == KIND_REPEAT ? head->a : REGEX_NONE,
                                     .r = r};
    }
    qsort(sorted, n, sizeof *sorted, compare_tails);
    for (size_t i = 0; i < n; i++) {
        regex both =
            kept > 0 && sorted[i - 1].tail == sorted[i].tail && sorted[i - 1].kind == sorted[i].kind
                ? merged(all, list_at(all, base)[kept - 1], sorted[i].r)
                : REGEX_NONE;
        if (both != REGEX_NONE)
            list_at(all, base)[kept - 1] = both;
        else
            list_at(all, base)[kept++] = sorted[i].r;
    }
    regex_release(all, sorted, n * sizeof *sorted);
    all->scratch.n = base + kept;
    return kept < n;
}

static bool merge_few(struct regexes *all, size_t base)
{
    size_t n = all->scratch.n - base, before = n;
    for (size_t i = 0; i < n; i++)
        for (size_t k = i + 1; k < n; k++) {
            regex r = list_at(all, base)[i], s = list_at(all, base)[k];
            if (tail_of(all, r) != tail_of(all, s))
                continue;
            regex both = merged(all, r, s);
            if (both == REGEX_NONE)
                continue;
            list_at(all, base)[i] = both;
            list_at(all, base)[k--] = list_at(all, base)[--n];
        }
    all->scratch.n = base + n;
    return n < before;
}

/* x|y where y's strings are among x's: any text, and the empty one. */
static void absorb(struct regexes *all, size_t base)
{
    regex *list = list_at(all, base);
    size_t n = all->scratch.n - base, kept = 0;
    bool nullable = false, text = listed(list, n, all->text);
    for (size_t i = 0; i < n; i++)
        nullable |= list[i] != REGEX_EMPTY && regex_node(all, list[i])->nullable;
    for (size_t i = 0; i < n; i++) {
        bool absorbed = text ? list[i] != all->text && regex_node(all, list[i])->utf8
                             : list[i] == REGEX_EMPTY && nullable;
        if (!absorbed)
            list[kept++] = list[i];
    }
    all->scratch.n = base + kept;
}

regex re_or_list(struct regexes *all, size_t base)
{
    if (!flatten(all, base, KIND_OR, REGEX_NONE, all->anything))
        return answer(all, base, all->anything);
    absorb(all, base);
    while (all->scratch.n - base > 1 && !all->failed &&
           (all->scratch.n - base > 24 ? merge_many(all, base) : merge_few(all, base))) {
        if (!flatten(all, base, KIND_OR, REGEX_NONE, all->anything))
            return answer(all, base, all->anything);
        absorb(all, base);
    }
    if (all->failed)
        return answer(all, base, REGEX_NONE);
    struct regex_node like = {.kind = KIND_OR, .life = LIFE_DEAD, .utf8 = true};
    const regex *list = list_at(all, base);
    size_t n = all->scratch.n - base;
    if (contradicts(all, list, n))
        return answer(all, base, all->anything);
    for (size_t i = 0; i < n; i++) {
        const struct regex_node *x = regex_node(all, list[i]);
        like.nullable |= x->nullable;
        like.utf8 &= x->utf8;
        like.depth = larger(like.depth, x->depth + 1);
        like.life = x->life == LIFE_LIVE     ? LIFE_LIVE
                    : like.life == LIFE_DEAD ? LIFE_UNKNOWN
                                             : like.life;
    }
    return finish(all, base, &like, REGEX_NONE);
}

regex re_or(struct regexes *all, regex a, regex b)
{
    size_t base = all->scratch.n;
    regex_push(all, a);
    regex_push(all, b);
    return re_or_list(all, base);
}

/* ---- and, not ------------------------------------------------------------------------------ */

/* Whether it is x{m,n} of characters or of single bytes, which has one way to be counted. */
static bool counts_bytes(const struct regexes *all, const struct regex_node *n)
{
    return n->kind == KIND_REPEAT &&
           (n->a == all->character || regex_node(all, n->a)->kind == KIND_BYTES);
}

/* One member for two: sets of bytes, counts of the same thing. REGEX_NONE with *none where nothing
 * is in both; else REGEX_NONE is that they stay two. */
static regex intersection(struct regexes *all, regex r, regex s, bool *none)
{
    struct regex_node x = *regex_node(all, r), y = *regex_node(all, s);
    regex both;
    if (x.kind == KIND_BYTES && y.kind == KIND_BYTES) {
        struct byte_set a = regex_set(all, &x), b = regex_set(all, &y);
        byte_set_narrow(&a, &b, 0);
        both = regex_bytes(all, &a);
    } else if (counts_bytes(all, &x) && counts_bytes(all, &y) && x.a == y.a) {
        both = re_repeat(all, x.a, larger(x.b, y.b), x.c < y.c ? x.c : y.c);
    } else {
        return REGEX_NONE;
    }
    *none = both == REGEX_NONE;
    return both;
}

/* Those of a list that can be one become one. False: nothing is in all. */
static bool intersect(struct regexes *all, size_t base)
{
    bool none = false;
    for (size_t i = 0; i < all->scratch.n - base; i++)
        for (size_t k = i + 1; k < all->scratch.n - base; k++) {
            regex both = intersection(all, list_at(all, base)[i], list_at(all, base)[k], &none);
            if (none)
                return false;
            if (both == REGEX_NONE)
                continue;
            list_at(all, base)[i] = both;
            list_at(all, base)[k--] = list_at(all, base)[--all->scratch.n - base];
        }
    return true;
}

/* Complements become the complement of an alternative: not a and not b is not (a or b). */
static void join_complements(struct regexes *all, size_t base)
{
    size_t n = all->scratch.n - base, kept = 0;
    for (size_t i = 0; i < n; i++) {
        regex r = list_at(all, base)[i];
        if (regex_node(all, r)->kind == KIND_NOT)
            regex_push(all, regex_node(all, r)->a);
        else
            list_at(all, base)[kept++] = r;
    }
    regex outside = re_not(all, re_or_list(all, base + n));
    if (kept < n)
        list_at(all, base)[kept++] = outside;
    all->scratch.n = base + kept;
}

regex re_and_list(struct regexes *all, size_t base)
{
    if (!flatten(all, base, KIND_AND, all->anything, REGEX_NONE))
        return answer(all, base, REGEX_NONE);
    size_t complements = 0;
    for (size_t i = 0; i < all->scratch.n - base; i++)
        complements += regex_node(all, list_at(all, base)[i])->kind == KIND_NOT;
    if (all->scratch.n - base > 1 && !intersect(all, base))
        return answer(all, base, REGEX_NONE);
    if (complements > 1) {
        all->scratch.n = base + unique(list_at(all, base), all->scratch.n - base);
        if (contradicts(all, list_at(all, base), all->scratch.n - base))
            return answer(all, base, REGEX_NONE);
        join_complements(all, base);
    }
    if (!flatten(all, base, KIND_AND, all->anything, REGEX_NONE))
        return answer(all, base, REGEX_NONE);

    regex *list = list_at(all, base);
    size_t n = all->scratch.n - base, kept = 0;
    if (contradicts(all, list, n))
        return answer(all, base, REGEX_NONE);
    struct regex_node like = {.kind = KIND_AND, .nullable = true};
    for (size_t i = 0; i < n; i++) {
        const struct regex_node *x = regex_node(all, list[i]);
        like.nullable &= x->nullable;
        like.utf8 |= x->utf8 && list[i] != all->text;
        like.depth = larger(like.depth, x->depth + 1);
    }
    if (listed(list, n, REGEX_EMPTY))
        return answer(all, base, like.nullable ? REGEX_EMPTY : REGEX_NONE);
    /* Any text says nothing beside an expression whose strings all are text. */
    for (size_t i = 0; i < n; i++)
        if (list[i] != all->text || !like.utf8)
            list[kept++] = list[i];
    all->scratch.n = base + kept;
    like.utf8 |= listed(list, kept, all->text);
    return finish(all, base, &like, all->anything);
}

regex re_and(struct regexes *all, regex a, regex b)
{
    size_t base = all->scratch.n;
    regex_push(all, a);
    regex_push(all, b);
    return re_and_list(all, base);
}

regex re_not(struct regexes *all, regex a)
{
    a = alive(all, a);
    struct regex_node x = *regex_node(all, a);
    if (x.kind == KIND_NOT)
        return x.a;
    if (all->failed)
        return REGEX_NONE;
    return regex_intern(
        all,
        &(struct regex_node){
            .kind = KIND_NOT, .nullable = !x.nullable, .depth = x.depth + 1, .a = a},
        NULL, 0);
}
