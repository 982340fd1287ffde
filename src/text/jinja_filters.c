/* SPDX-License-Identifier: MIT */
/*
 * jinja_filters.c: the filters of jinja2, and transformers' tojson. Where jinja2 gives a generator
 * they give an iterator whose items are made at once.
 */
#include <math.h>
#include <string.h>

#include "text/jinja_builtins.h"

#define FILTER(name)                                                                        \
    static struct jinja_value filter_##name(struct jinja_run *run, struct jinja_value self, \
                                            const struct jinja_args *args)

/* A flag that was not passed is false. */
static bool flag(struct jinja_run *run, struct jinja_value value)
{
    return value.type != JINJA_ABSENT && jinja_truth(run, value);
}

static bool is_sized(struct jinja_value value) /* a list that is no iterator */
{
    return value.type == JINJA_LIST && value.list->kind != JINJA_ITERATOR;
}

/* ---- sorting ------------------------------------------------------------------------------------
 */

bool jinja_is_less(struct jinja_run *run, const struct jinja_value *a, const struct jinja_value *b)
{
    return jinja_order(run, *a, *b, "<") < 0;
}

/* Merges from[0..half) and from[half..n). */
static void merge(struct jinja_run *run, const struct jinja_keyed *from, size_t half, size_t n,
                  struct jinja_keyed *to, jinja_before *before, bool reverse)
{
    size_t a = 0, b = half;

    jinja_work(run, n);
    for (size_t i = 0; i < n; i++) {
        bool second = a == half;
        if (a < half && b < n)
            second = reverse ? before(run, from[a].key, from[b].key)
                             : before(run, from[b].key, from[a].key);
        to[i] = second ? from[b++] : from[a++];
    }
}

void jinja_sort(struct jinja_run *run, struct jinja_keyed *items, size_t n, jinja_before *before,
                bool reverse)
{
    struct jinja_keyed *from = items, *to = jinja_alloc(run, n, sizeof *to);

    for (size_t length = 1; length < n; length *= 2) {
        for (size_t at = 0; at < n; at += 2 * length) {
            size_t left = n - at < 2 * length ? n - at : 2 * length;
            merge(run, from + at, length < left ? length : left, left, to + at, before, reverse);
        }
        struct jinja_keyed *swap = from;
        from = to;
        to = swap;
    }
    if (from != items && n > 0)
        memcpy(items, from, n * sizeof *items);
}

/* ---- attributes of items
 * ------------------------------------------------------------------------- */

/* "user.name" or 0: what is looked up in an item, one in the other. */
struct path {
    struct jinja_value *parts; /* [n] */
    size_t n;
};

static struct jinja_value path_part(struct jinja_run *run, const struct jinja_string *s,
                                    size_t from, size_t to)
{
    struct jinja_value part = jinja_part(run, s, from, to);
    bool number = to > from;
    int64_t index;

    for (size_t i = from; i < to; i++)
        number = number && jinja_is_digit(jinja_scalar(s->chars[i]));
    if (!number)
        return part;
    if (!jinja_read_int(run, part.string, 10, &index))
        jinja_fail(run, "attribute: expected decimal digits, found others");
    return jinja_int(index);
}

static size_t next_char(const struct jinja_string *s, size_t from, size_t to, uint32_t c)
{
    while (from < to && jinja_scalar(s->chars[from]) != c)
        from++;
    return from;
}

static struct path path_of_text(struct jinja_run *run, const struct jinja_string *s, size_t from,
                                size_t to)
{
    struct path path = {.parts = jinja_alloc(run, to - from + 1, sizeof *path.parts)};

    for (size_t at = from;; at++) {
        size_t end = next_char(s, at, to, '.');
        path.parts[path.n++] = path_part(run, s, at, end);
        at = end;
        if (at == to)
            return path;
    }
}

static struct path path_of(struct jinja_run *run, struct jinja_value attribute)
{
    struct path path = {.n = 0};

    if (jinja_is_absent(attribute))
        return path;
    if (attribute.type == JINJA_STRING)
        return path_of_text(run, attribute.string, 0, attribute.string->n);
    path.parts = jinja_alloc(run, 1, sizeof *path.parts);
    path.parts[path.n++] = attribute;
    return path;
}

static struct jinja_value follow(struct jinja_run *run, const struct path *path,
                                 struct jinja_value item, struct jinja_value otherwise)
{
    jinja_work(run, path->n);
    for (size_t i = 0; i < path->n; i++) {
        item = jinja_subscript(run, item, path->parts[i]);
        if (item.type == JINJA_UNDEFINED && !jinja_is_absent(otherwise))
            item = otherwise;
    }
    return item;
}

/* Strings are compared in lower case, unless the case counts. */
static struct jinja_value fold(struct jinja_run *run, struct jinja_value value, bool case_sensitive)
{
    struct jinja_builder b = {.run = run};

    if (case_sensitive || value.type != JINJA_STRING)
        return value;
    jinja_put_lower(&b, value.string);
    return jinja_built(&b);
}

/* The keys of items by one path: what jinja2 sorts, groups, and finds the least by. */
static struct jinja_keyed *keys_of(struct jinja_run *run, struct jinja_span items,
                                   const struct path *path, struct jinja_value otherwise,
                                   bool case_sensitive)
{
    struct jinja_keyed *keyed = jinja_alloc(run, items.n, sizeof *keyed);
    struct jinja_value *keys = jinja_alloc(run, items.n, sizeof *keys);

    jinja_work(run, items.n);
    for (size_t i = 0; i < items.n; i++) {
        keys[i] = fold(run, follow(run, path, items.items[i], otherwise), case_sensitive);
        keyed[i] = (struct jinja_keyed){.key = &keys[i], .index = i};
    }
    return keyed;
}

/* The parts of "age,name". */
static struct path *paths_of(struct jinja_run *run, struct jinja_value attribute, size_t *n)
{
    const struct jinja_string *s = attribute.string;
    struct path *paths;

    *n = 0;
    if (attribute.type != JINJA_STRING) {
        paths = jinja_alloc(run, 1, sizeof *paths);
        paths[(*n)++] = path_of(run, attribute);
        return paths;
    }
    size_t commas = 0;
    for (size_t i = 0; i < s->n; i++)
        commas += jinja_scalar(s->chars[i]) == ',';
    paths = jinja_alloc(run, commas + 1, sizeof *paths);
    for (size_t at = 0; *n <= commas; at++) {
        size_t end = next_char(s, at, s->n, ',');
        paths[(*n)++] = path_of_text(run, s, at, end);
        at = end;
    }
    return paths;
}

/* Keys that are lists of the values of several paths. What is equal in them need have no order. */
static struct jinja_keyed *list_keys_of(struct jinja_run *run, struct jinja_span items,
                                        struct jinja_value attribute, bool case_sensitive)
{
    size_t n;
    const struct path *paths = paths_of(run, attribute, &n);
    struct jinja_keyed *keyed = jinja_alloc(run, items.n, sizeof *keyed);
    struct jinja_value *keys = jinja_alloc(run, items.n, sizeof *keys);

    jinja_work(run, items.n * n);
    for (size_t i = 0; i < items.n; i++) {
        keys[i] = jinja_list(run, JINJA_PLAIN, n);
        for (size_t j = 0; j < n; j++) {
            struct jinja_value key = follow(run, &paths[j], items.items[i], jinja_none());
            jinja_append(run, keys[i].list, fold(run, key, case_sensitive));
        }
        keyed[i] = (struct jinja_keyed){.key = &keys[i], .index = i};
    }
    return keyed;
}

FILTER(sort)
{
    struct jinja_value v[3], list;

    jinja_bind(run, "sort", "reverse=, case_sensitive=, attribute=", args, v);
    bool reverse = v[0].type != JINJA_ABSENT && jinja_want_int(run, "sort: reverse", v[0]) != 0;
    struct jinja_span items = jinja_iterate(run, self);
    struct jinja_keyed *order = list_keys_of(run, items, v[2], flag(run, v[1]));
    jinja_sort(run, order, items.n, jinja_is_less, reverse);
    list = jinja_list(run, JINJA_PLAIN, items.n);
    for (size_t i = 0; i < items.n; i++)
        jinja_append(run, list.list, items.items[order[i].index]);
    return list;
}

FILTER(dictsort)
{
    struct jinja_value v[3], list, *keys;
    bool by_value = false;

    jinja_bind(run, "dictsort", "case_sensitive=, by=, reverse=", args, v);
    bool reverse = v[2].type != JINJA_ABSENT && jinja_want_int(run, "dictsort: reverse", v[2]) != 0;
    if (v[1].type == JINJA_STRING && jinja_is(v[1].string, "value"))
        by_value = true;
    else if (v[1].type != JINJA_ABSENT &&
             !(v[1].type == JINJA_STRING && jinja_is(v[1].string, "key")))
        jinja_fail(run, "dictsort: expected by=\"key\" or \"value\", found another value");
    if (self.type != JINJA_DICT)
        jinja_fail(run, "dictsort: expected a dict, found %s", jinja_type_name(self));
    size_t n = self.dict->n;
    struct jinja_keyed *order = jinja_alloc(run, n, sizeof *order);
    keys = jinja_alloc(run, n, sizeof *keys);
    jinja_work(run, n);
    for (size_t i = 0; i < n; i++) {
        const struct jinja_item *item = &self.dict->items[i];
        keys[i] = fold(run, by_value ? item->value : item->key, flag(run, v[0]));
        order[i] = (struct jinja_keyed){.key = &keys[i], .index = i};
    }
    jinja_sort(run, order, n, jinja_is_less, reverse);
    list = jinja_list(run, JINJA_PLAIN, n);
    for (size_t i = 0; i < n; i++) {
        const struct jinja_item *item = &self.dict->items[order[i].index];
        jinja_append(run, list.list, jinja_tuple2(run, item->key, item->value));
    }
    return list;
}

static struct jinja_value group(struct jinja_run *run, struct jinja_value key)
{
    struct jinja_value tuple = jinja_tuple2(run, key, jinja_list(run, JINJA_PLAIN, 0));

    tuple.list->group = true;
    return tuple;
}

FILTER(groupby)
{
    struct jinja_value v[3], groups = jinja_list(run, JINJA_PLAIN, 0);

    jinja_bind(run, "groupby", "attribute, default=, case_sensitive=", args, v);
    bool case_sensitive = flag(run, v[2]);
    struct path path = path_of(run, v[0]);
    struct jinja_span items = jinja_iterate(run, self);
    struct jinja_keyed *order = keys_of(run, items, &path, v[1], case_sensitive);
    jinja_sort(run, order, items.n, jinja_is_less, false);
    for (size_t i = 0; i < items.n; i++) {
        struct jinja_value item = items.items[order[i].index];
        if (i == 0 || !jinja_equal(run, *order[i - 1].key, *order[i].key))
            jinja_append(run, groups.list, group(run, follow(run, &path, item, v[1])));
        jinja_append(run, groups.list->items[groups.list->n - 1].list->items[1].list, item);
    }
    return groups;
}

FILTER(unique)
{
    struct jinja_value v[2], seen = jinja_dict(run), list;

    jinja_bind(run, "unique", "case_sensitive=, attribute=", args, v);
    struct path path = path_of(run, v[1]);
    struct jinja_span items = jinja_iterate(run, self);
    const struct jinja_keyed *keyed = keys_of(run, items, &path, jinja_none(), flag(run, v[0]));
    list = jinja_list(run, JINJA_ITERATOR, 0);
    for (size_t i = 0; i < items.n; i++) {
        if (jinja_dict_get(run, seen.dict, *keyed[i].key))
            continue;
        jinja_dict_set(run, seen.dict, *keyed[i].key, jinja_none());
        jinja_append(run, list.list, items.items[i]);
    }
    return list;
}

static struct jinja_value extreme(struct jinja_run *run, const char *what, struct jinja_value self,
                                  const struct jinja_args *args, bool most)
{
    struct jinja_value v[2];
    size_t best = 0;

    jinja_bind(run, what, "case_sensitive=, attribute=", args, v);
    struct path path = path_of(run, v[1]);
    struct jinja_span items = jinja_iterate(run, self);
    if (items.n == 0)
        return jinja_undefined(NULL);
    const struct jinja_keyed *keyed = keys_of(run, items, &path, jinja_none(), flag(run, v[0]));
    for (size_t i = 1; i < items.n; i++) {
        const struct jinja_value *key = keyed[i].key, *other = keyed[best].key;
        if (most ? jinja_order(run, *key, *other, ">") > 0
                 : jinja_order(run, *key, *other, "<") < 0)
            best = i;
    }
    return items.items[best];
}

FILTER(max)
{
    return extreme(run, "max", self, args, true);
}

FILTER(min)
{
    return extreme(run, "min", self, args, false);
}

FILTER(sum)
{
    struct jinja_value v[2];

    jinja_bind(run, "sum", "attribute=, start=", args, v);
    struct path path = path_of(run, v[0]);
    struct jinja_value sum = v[1].type == JINJA_ABSENT ? jinja_int(0) : v[1];
    struct jinja_span items = jinja_iterate(run, self);
    if (sum.type == JINJA_STRING)
        jinja_fail(run, "sum: expected a start that is no string, found one");
    jinja_work(run, items.n);
    for (size_t i = 0; i < items.n; i++)
        sum = jinja_arithmetic(run, '+', sum, follow(run, &path, items.items[i], jinja_none()));
    return sum;
}

/* ---- map, select, reject
 * ------------------------------------------------------------------------- */

/* The arguments behind the first `n`. */
static struct jinja_args arguments_from(const struct jinja_args *args, size_t n)
{
    struct jinja_args rest = *args;

    if (n > 0)
        rest.items += n;
    rest.n -= n;
    return rest;
}

static const struct jinja_value *argument_named(const struct jinja_args *args, const char *name)
{
    for (size_t i = 0; i < args->n_named; i++)
        if (jinja_is(args->named[i].name, name))
            return &args->named[i].value;
    return NULL;
}

static void map_attribute(struct jinja_run *run, struct jinja_span items,
                          const struct jinja_args *args, struct jinja_list *list)
{
    struct jinja_value v[2];

    jinja_bind(run, "map", "attribute, default=", args, v);
    struct path path = path_of(run, v[0]);
    for (size_t i = 0; i < items.n; i++)
        jinja_append(run, list, follow(run, &path, items.items[i], v[1]));
}

/* What an argument names; `kind` for the error. */
static jinja_builtin *want_builtin(struct jinja_run *run, const char *kind, struct jinja_value name,
                                   jinja_builtin *(*find)(const struct jinja_string *name))
{
    jinja_builtin *found = name.type == JINJA_STRING ? find(name.string) : NULL;

    if (!found)
        jinja_fail(run, "expected the name of a %s, found %s", kind,
                   name.type == JINJA_STRING ? jinja_quoted(run, name.string)
                                             : jinja_type_name(name));
    return found;
}

FILTER(map)
{
    struct jinja_value list = jinja_list(run, JINJA_ITERATOR, 0);

    if (!jinja_truth(run, self))
        return list;
    bool attribute = args->n == 0 && argument_named(args, "attribute");
    if (!attribute && args->n == 0)
        jinja_fail(run, "map: expected a filter or an attribute, found none");
    struct jinja_span items = jinja_iterate(run, self);
    jinja_work(run, items.n * 8);
    if (attribute) {
        map_attribute(run, items, args, list.list);
        return list;
    }
    struct jinja_args rest = arguments_from(args, 1);
    for (size_t i = 0; i < items.n; i++)
        jinja_append(
            run, list.list,
            want_builtin(run, "filter", args->items[0], jinja_filter)(run, items.items[i], &rest));
    return list;
}

/* select, reject, selectattr and rejectattr. */
static struct jinja_value choose(struct jinja_run *run, struct jinja_value self,
                                 const struct jinja_args *args, bool wanted, bool by_attribute)
{
    struct jinja_value list = jinja_list(run, JINJA_ITERATOR, 0);
    struct path path = {.n = 0};

    if (!jinja_truth(run, self))
        return list;
    if (by_attribute && args->n == 0)
        jinja_fail(run, "expected the name of an attribute, found none");
    if (by_attribute)
        path = path_of(run, args->items[0]);
    struct jinja_span items = jinja_iterate(run, self);
    bool tested = args->n > by_attribute;
    struct jinja_args rest = arguments_from(args, tested ? (size_t)by_attribute + 1 : 0);
    jinja_builtin *test = NULL;
    if (tested && items.n > 0)
        test = want_builtin(run, "test", args->items[by_attribute], jinja_test);
    jinja_work(run, items.n * 8);
    for (size_t i = 0; i < items.n; i++) {
        struct jinja_value value = follow(run, &path, items.items[i], jinja_none());
        if (test)
            value = test(run, value, &rest);
        if (jinja_truth(run, value) == wanted)
            jinja_append(run, list.list, items.items[i]);
    }
    return list;
}

FILTER(reject)
{
    return choose(run, self, args, false, false);
}

FILTER(rejectattr)
{
    return choose(run, self, args, false, true);
}

FILTER(select)
{
    return choose(run, self, args, true, false);
}

FILTER(selectattr)
{
    return choose(run, self, args, true, true);
}

/* ---- other filters of sequences
 * ------------------------------------------------------------------- */

FILTER(attr)
{
    struct jinja_value v;
    bool unsafe;

    jinja_bind(run, "attr", "name", args, &v);
    const struct jinja_string *name = jinja_want_string(run, "attr", v);
    /* An item of a dict is no attribute, which jinja_attribute() gives as well. */
    if (self.type == JINJA_DICT && !jinja_method(self, name, &unsafe))
        return jinja_undefined(NULL);
    return jinja_attribute(run, self, name);
}

FILTER(batch)
{
    struct jinja_value v[2], batches = jinja_list(run, JINJA_ITERATOR, 0), batch = {0};

    jinja_bind(run, "batch", "linecount, fill_with=", args, v);
    struct jinja_span items = jinja_iterate(run, self);
    /* A size that no list has makes one batch of all. */
    double size = jinja_is_number(v[0]) ? jinja_real(v[0]) : -1;
    jinja_work(run, items.n);
    batch = jinja_list(run, JINJA_PLAIN, 0);
    for (size_t i = 0; i < items.n; i++) {
        if ((double)batch.list->n == size) {
            jinja_append(run, batches.list, batch);
            batch = jinja_list(run, JINJA_PLAIN, 0);
        }
        jinja_append(run, batch.list, items.items[i]);
    }
    if (batch.list->n == 0)
        return batches;
    if (!jinja_is_absent(v[1]) && (!jinja_is_number(v[0]) || size > (double)batch.list->n))
        for (int64_t n = jinja_want_int(run, "batch", v[0]) - (int64_t)batch.list->n; n > 0; n--) {
            jinja_work(run, 1);
            jinja_append(run, batch.list, v[1]);
        }
    jinja_append(run, batches.list, batch);
    return batches;
}

FILTER(slice)
{
    struct jinja_value v[2], slices = jinja_list(run, JINJA_ITERATOR, 0);

    jinja_bind(run, "slice", "slices, fill_with=", args, v);
    struct jinja_span items = jinja_iterate(run, self);
    int64_t n = jinja_want_int(run, "slice", v[0]);
    if (n == 0)
        jinja_fail(run, "slice: expected a number of slices, found 0");
    size_t each = n > 0 ? items.n / (size_t)n : 0, longer = n > 0 ? items.n % (size_t)n : 0, at = 0;
    for (int64_t i = 0; i < n; i++) {
        struct jinja_value slice = jinja_list(run, JINJA_PLAIN, each + 1);
        jinja_work(run, 1 + each);
        for (size_t end = at + each + ((size_t)i < longer); at < end; at++)
            jinja_append(run, slice.list, items.items[at]);
        if (!jinja_is_absent(v[1]) && (size_t)i >= longer)
            jinja_append(run, slice.list, v[1]);
        jinja_append(run, slices.list, slice);
    }
    return slices;
}

FILTER(default)
{
    struct jinja_value v[2];

    jinja_bind(run, "default", "default_value=, boolean=", args, v);
    if (self.type != JINJA_UNDEFINED && (!flag(run, v[1]) || jinja_truth(run, self)))
        return self;
    return v[0].type == JINJA_ABSENT ? jinja_string(run, NULL, 0) : v[0];
}

static struct jinja_value char_at(struct jinja_run *run, const struct jinja_string *s, size_t at)
{
    return jinja_part(run, s, at, at + 1);
}

FILTER(first)
{
    jinja_bind_none(run, "first", args);
    if (self.type == JINJA_STRING && self.string->n > 0)
        return char_at(run, self.string, 0);
    if (self.type == JINJA_DICT && self.dict->n > 0)
        return self.dict->items[0].key;
    if (self.type == JINJA_LIST && self.list->next < self.list->n) {
        size_t at = self.list->next;
        self.list->next += self.list->kind == JINJA_ITERATOR;
        return self.list->items[at];
    }
    jinja_iterate(run, self); /* fails for what can't be iterated */
    return jinja_undefined(NULL);
}

FILTER(last)
{
    jinja_bind_none(run, "last", args);
    if (self.type == JINJA_STRING && self.string->n > 0)
        return jinja_like(run, self.string, char_at(run, self.string, self.string->n - 1));
    if (self.type == JINJA_DICT && self.dict->n > 0)
        return self.dict->items[self.dict->n - 1].key;
    if (is_sized(self) && self.list->n > 0)
        return self.list->items[self.list->n - 1];
    if (self.type != JINJA_STRING && self.type != JINJA_DICT && self.type != JINJA_UNDEFINED &&
        !is_sized(self))
        jinja_fail(run, "last: expected what has an end, found %s", jinja_type_name(self));
    return jinja_undefined(NULL);
}

FILTER(random)
{
    jinja_bind_none(run, "random", args);
    if (jinja_length(run, self) == 0)
        return jinja_undefined(NULL);
    jinja_fail(run, "expected a template that always gives the same, found the filter random");
}

FILTER(items)
{
    struct jinja_value list = jinja_list(run, JINJA_ITERATOR, 0);

    jinja_bind_none(run, "items", args);
    if (self.type == JINJA_UNDEFINED)
        return list;
    if (self.type != JINJA_DICT)
        jinja_fail(run, "items: expected a dict, found %s", jinja_type_name(self));
    jinja_work(run, self.dict->n);
    for (size_t i = 0; i < self.dict->n; i++)
        jinja_append(run, list.list,
                     jinja_tuple2(run, self.dict->items[i].key, self.dict->items[i].value));
    return list;
}

FILTER(join)
{
    struct jinja_builder b = {.run = run};
    struct jinja_value v[2];

    jinja_bind(run, "join", "d=, attribute=", args, v);
    struct path path = path_of(run, v[1]);
    struct jinja_span items = jinja_iterate(run, self);
    jinja_work(run, items.n);
    for (size_t i = 0; i < items.n; i++) {
        if (i > 0 && v[0].type != JINJA_ABSENT)
            jinja_put_value(&b, v[0]);
        jinja_put_value(&b, follow(run, &path, items.items[i], jinja_none()));
    }
    return jinja_built(&b);
}

FILTER(length)
{
    jinja_bind_places(run, "length", "", args, NULL);
    return jinja_int((int64_t)jinja_length(run, self));
}

static struct jinja_value list_of(struct jinja_run *run, struct jinja_span items)
{
    struct jinja_value list = jinja_list(run, JINJA_PLAIN, items.n);

    jinja_work(run, items.n / 4);
    for (size_t i = 0; i < items.n; i++)
        jinja_append(run, list.list, items.items[i]);
    return list;
}

FILTER(list)
{
    jinja_bind_none(run, "list", args);
    return list_of(run, jinja_iterate(run, self));
}

static struct jinja_value reversed_string(struct jinja_run *run, const struct jinja_string *s)
{
    uint32_t *chars = jinja_alloc(run, s->n, sizeof *chars);

    jinja_work(run, s->n / 4);
    for (size_t i = 0; i < s->n; i++)
        chars[i] = s->chars[s->n - 1 - i];
    return jinja_like(run, s, jinja_string(run, chars, s->n));
}

FILTER(reverse)
{
    jinja_bind_none(run, "reverse", args);
    if (self.type == JINJA_STRING)
        return reversed_string(run, self.string);
    bool list = self.type == JINJA_LIST && self.list->kind == JINJA_ITERATOR;
    struct jinja_span items = jinja_iterate(run, self);
    struct jinja_value reversed = jinja_list(run, list ? JINJA_PLAIN : JINJA_ITERATOR, items.n);
    jinja_work(run, items.n / 4);
    for (size_t i = items.n; i-- > 0;)
        jinja_append(run, reversed.list, items.items[i]);
    return reversed;
}

/* ---- numbers
 * --------------------------------------------------------------------------------------- */

FILTER(abs)
{
    jinja_bind_places(run, "abs", "", args, NULL);
    if (self.type == JINJA_FLOAT)
        return jinja_float(fabs(self.real));
    int64_t value = jinja_want_int(run, "abs", self);
    if (value == INT64_MIN)
        jinja_fail(run, "expected an integer of 64 bits, found a larger one");
    return jinja_int(value < 0 ? -value : value);
}

/* float(value); false where Python has a ValueError or TypeError. */
static bool read_float(struct jinja_run *run, struct jinja_value value, double *real)
{
    if (value.type == JINJA_UNDEFINED)
        jinja_fail_undefined(run, "a value", value);
    if (value.type == JINJA_STRING)
        return jinja_read_float(run, value.string, real);
    if (!jinja_is_number(value))
        return false;
    *real = jinja_real(value);
    return true;
}

FILTER(float)
{
    struct jinja_value v;
    double real;

    jinja_bind(run, "float", "default=", args, &v);
    if (read_float(run, self, &real))
        return jinja_float(real);
    return v.type == JINJA_ABSENT ? jinja_float(0) : v;
}

FILTER(int)
{
    struct jinja_value v[2];
    int64_t base = 10, value;
    double real;

    jinja_bind(run, "int", "default=, base=", args, v);
    bool based = v[1].type == JINJA_INT || v[1].type == JINJA_BOOL || v[1].type == JINJA_ABSENT;
    if (based && v[1].type != JINJA_ABSENT)
        base = jinja_want_int(run, "int", v[1]);
    if (self.type == JINJA_INT || self.type == JINJA_BOOL)
        return jinja_int(jinja_want_int(run, "int", self));
    if (self.type == JINJA_FLOAT && !isnan(self.real))
        return jinja_int(jinja_truncate(run, self.real));
    if (self.type == JINJA_STRING && based && jinja_read_int(run, self.string, base, &value))
        return jinja_int(value);
    if (read_float(run, self, &real) && isfinite(real))
        return jinja_int(jinja_truncate(run, real));
    return v[0].type == JINJA_ABSENT ? jinja_int(0) : v[0];
}

FILTER(round)
{
    struct jinja_value v[2], value = self, unit;

    jinja_bind(run, "round", "precision=, method=", args, v);
    if (v[0].type == JINJA_ABSENT)
        v[0] = jinja_int(0);
    if (v[1].type == JINJA_ABSENT || (v[1].type == JINJA_STRING && jinja_is(v[1].string, "common")))
        return jinja_round(run, self, v[0]);
    bool up = v[1].type == JINJA_STRING && jinja_is(v[1].string, "ceil");
    if (!up && !(v[1].type == JINJA_STRING && jinja_is(v[1].string, "floor")))
        jinja_fail(run, "round: expected the method common, ceil or floor, found another");
    bool whole = self.type == JINJA_INT || self.type == JINJA_BOOL;
    if (whole && (v[0].type == JINJA_BOOL || (v[0].type == JINJA_INT && v[0].integer >= 0)))
        return jinja_float(jinja_real(self));
    unit = jinja_arithmetic(run, 'p', jinja_int(10), v[0]);
    value = jinja_arithmetic(run, '*', self, unit);
    if (!jinja_is_number(value) || !isfinite(jinja_real(value)))
        jinja_fail(run, "round: expected a finite number, found another value");
    if (value.type == JINJA_FLOAT)
        value = jinja_float((up ? ceil(value.real) : floor(value.real)) + 0.0); /* no -0.0 */
    return jinja_arithmetic(run, '/', value, unit);
}

FILTER(filesizeformat)
{
    static const char prefixes[] = "kMGTPEZY";
    struct jinja_value v;
    double bytes, unit;

    jinja_bind(run, "filesizeformat", "binary=", args, &v);
    if (!read_float(run, self, &bytes))
        jinja_fail(run, "filesizeformat: expected a number, found another value");
    bool binary = flag(run, v);
    double base = binary ? 1024 : 1000;
    if (bytes == 1)
        return jinja_ascii(run, "1 Byte");
    if (bytes < base && isinf(bytes))
        jinja_fail(run, "filesizeformat: expected a finite number, found another");
    if (bytes < base) {
        double whole = trunc(bytes);
        return jinja_format(run, "%s Bytes",
                            jinja_double_text(run, "%.*f", 0, whole == 0 ? 0 : whole));
    }
    size_t i = 0;
    for (unit = base * base; !(bytes < unit) && prefixes[i + 1]; i++) {
        if (unit == 1e24 && bytes == unit) /* which is less than 10 to the 24th */
            break;
        unit *= base;
    }
    char prefix = !binary || i > 0 ? prefixes[i] : 'K';
    return jinja_format(run, "%s %c%s", jinja_float_format(run, 'f', 1, false, base * bytes / unit),
                        prefix, binary ? "iB" : "B");
}

/* ---- text
 * ------------------------------------------------------------------------------------------ */

FILTER(capitalize)
{
    jinja_bind_none(run, "capitalize", args);
    return jinja_str_capitalize(run, jinja_of_string(jinja_soft_str(run, self)), args);
}

FILTER(lower)
{
    jinja_bind_none(run, "lower", args);
    return jinja_str_lower(run, jinja_of_string(jinja_soft_str(run, self)), args);
}

FILTER(upper)
{
    jinja_bind_none(run, "upper", args);
    return jinja_str_upper(run, jinja_of_string(jinja_soft_str(run, self)), args);
}

FILTER(center)
{
    struct jinja_value v;

    jinja_bind(run, "center", "width=", args, &v);
    int64_t width = v.type == JINJA_ABSENT ? 80 : jinja_want_int(run, "center", v);
    return jinja_justify(run, jinja_soft_str(run, self), width, ' ' | (uint32_t)JINJA_GIVEN, 'c');
}

FILTER(escape)
{
    jinja_bind_places(run, "escape", "", args, NULL);
    return jinja_of_string(jinja_escape(run, self));
}

FILTER(forceescape)
{
    struct jinja_builder b = {.run = run};

    jinja_bind_none(run, "forceescape", args);
    jinja_put_escaped(&b, jinja_soft_str(run, self));
    return jinja_markup(run, jinja_built(&b).string);
}

FILTER(format)
{
    struct jinja_value values;

    if (args->n > 0 && args->n_named > 0)
        jinja_fail(run, "format: expected arguments with names or without, found both");
    if (args->n_named > 0) {
        values = jinja_dict(run);
        for (size_t i = 0; i < args->n_named; i++)
            jinja_dict_set(run, values.dict, jinja_of_string(args->named[i].name),
                           args->named[i].value);
    } else {
        values = jinja_list(run, JINJA_TUPLE, args->n);
        for (size_t i = 0; i < args->n; i++)
            jinja_append(run, values.list, args->items[i]);
    }
    return jinja_percent(run, jinja_soft_str(run, self), values);
}

/* str(), which is never Markup. */
static const struct jinja_string *plain_string(struct jinja_run *run, struct jinja_value value)
{
    const struct jinja_string *s = jinja_soft_str(run, value);

    return s->markup ? jinja_string(run, s->chars, s->n).string : s;
}

FILTER(replace)
{
    struct jinja_value v[3];

    jinja_bind(run, "replace", "old, new, count=", args, v);
    int64_t count = jinja_is_absent(v[2]) ? -1 : jinja_want_int(run, "replace", v[2]);
    return jinja_replace(run, plain_string(run, self), plain_string(run, v[0]),
                         plain_string(run, v[1]), count);
}

FILTER(safe)
{
    jinja_bind_none(run, "safe", args);
    return jinja_markup(run, jinja_soft_str(run, self));
}

FILTER(string)
{
    jinja_bind_places(run, "string", "", args, NULL);
    return jinja_of_string(jinja_soft_str(run, self));
}

FILTER(trim)
{
    struct jinja_value v;

    jinja_bind(run, "trim", "chars=", args, &v);
    return jinja_strip(run, jinja_soft_str(run, self),
                       jinja_is_absent(v) ? NULL : jinja_want_string(run, "trim", v), 'b');
}

/* ---- tojson
 * ----------------------------------------------------------------------------------------- */

/* NULL: all on one line. */
static const struct jinja_string *json_indent(struct jinja_run *run, struct jinja_value indent)
{
    struct jinja_builder b = {.run = run};

    if (jinja_is_absent(indent))
        return NULL;
    if (indent.type == JINJA_STRING)
        return indent.string;
    int64_t n = jinja_want_int(run, "tojson: indent", indent);
    jinja_put_many(&b, ' ' | (uint32_t)JINJA_GIVEN, n > 0 ? (size_t)n : 0);
    return jinja_built(&b).string;
}

FILTER(tojson)
{
    struct jinja_builder b = {.run = run};
    struct jinja_value v[4], separators[2] = {jinja_none(), jinja_none()};
    const struct jinja_string *indent = NULL, *item = NULL, *key = NULL;

    jinja_bind(run, "tojson", "ensure_ascii=, indent=, separators=, sort_keys=", args, v);
    if (!jinja_is_absent(v[2])) {
        struct jinja_span both = jinja_iterate(run, v[2]);
        if (both.n != 2)
            jinja_fail(run, "tojson: expected two separators, found %zu", both.n);
        memcpy(separators, both.items, sizeof separators);
    }
    /* A string has no use for these, and Python doesn't look at them. */
    if (self.type != JINJA_STRING) {
        bool given = !jinja_is_absent(v[2]);
        indent = json_indent(run, v[1]);
        item = given ? jinja_want_string(run, "tojson: a separator", separators[0])
                     : jinja_ascii(run, indent ? "," : ", ").string;
        key = given ? jinja_want_string(run, "tojson: a separator", separators[1])
                    : jinja_ascii(run, ": ").string;
    }
    jinja_put_json(&b, self, flag(run, v[0]), indent, item, key, flag(run, v[3]));
    return jinja_built(&b);
}

/* ---- the table
 * --------------------------------------------------------------------------------------- */

static const struct jinja_entry filters[] = {
    {"abs", filter_abs},
    {"attr", filter_attr},
    {"batch", filter_batch},
    {"capitalize", filter_capitalize},
    {"center", filter_center},
    {"count", filter_length},
    {"d", filter_default},
    {"default", filter_default},
    {"dictsort", filter_dictsort},
    {"e", filter_escape},
    {"escape", filter_escape},
    {"filesizeformat", filter_filesizeformat},
    {"first", filter_first},
    {"float", filter_float},
    {"forceescape", filter_forceescape},
    {"format", filter_format},
    {"groupby", filter_groupby},
    {"indent", jinja_filter_indent},
    {"int", filter_int},
    {"items", filter_items},
    {"join", filter_join},
    {"last", filter_last},
    {"length", filter_length},
    {"list", filter_list},
    {"lower", filter_lower},
    {"map", filter_map},
    {"max", filter_max},
    {"min", filter_min},
    {"pprint", jinja_filter_pprint},
    {"random", filter_random},
    {"reject", filter_reject},
    {"rejectattr", filter_rejectattr},
    {"replace", filter_replace},
    {"reverse", filter_reverse},
    {"round", filter_round},
    {"safe", filter_safe},
    {"select", filter_select},
    {"selectattr", filter_selectattr},
    {"slice", filter_slice},
    {"sort", filter_sort},
    {"string", filter_string},
    {"sum", filter_sum},
    {"title", jinja_filter_title},
    {"tojson", filter_tojson},
    {"trim", filter_trim},
    {"truncate", jinja_filter_truncate},
    {"unique", filter_unique},
    {"upper", filter_upper},
    {"urlencode", jinja_filter_urlencode},
    {"wordcount", jinja_filter_wordcount},
    {"wordwrap", jinja_filter_wordwrap},
};

jinja_builtin *jinja_filter(const struct jinja_string *name)
{
    const struct jinja_entry *entry =
        jinja_entry(filters, sizeof filters / sizeof *filters, 0, name);

    return entry ? entry->builtin : NULL;
}
