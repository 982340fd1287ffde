/* SPDX-License-Identifier: MIT */
/*
 * jinja_methods.c: Python's methods of strings, lists, dicts and numbers. Those of Markup give
 * Markup, and escape the strings that they put in.
 */
#include <string.h>

#include "text/jinja_builtins.h"

#define METHOD(type, name)                                                                  \
    static struct jinja_value type##_##name(struct jinja_run *run, struct jinja_value self, \
                                            const struct jinja_args *args)

/* ---- what builtins share -------------------------------------------------------------------- */

static int compare_name(const char *name, const struct jinja_string *other)
{
    size_t i = 0;

    for (; i < other->n && name[i]; i++)
        if ((unsigned char)name[i] != jinja_scalar(other->chars[i]))
            return (unsigned char)name[i] < jinja_scalar(other->chars[i]) ? -1 : 1;
    return name[i] ? 1 : i < other->n ? -1 : 0;
}

const struct jinja_entry *jinja_entry(const struct jinja_entry *entries, size_t n, size_t skip,
                                      const struct jinja_string *name)
{
    size_t low = 0, high = n;

    while (low < high) {
        size_t middle = (low + high) / 2;
        int order = compare_name(entries[middle].name + skip, name);
        if (order == 0)
            return &entries[middle];
        if (order < 0)
            low = middle + 1;
        else
            high = middle;
    }
    return NULL;
}

void jinja_bind_places(struct jinja_run *run, const char *what, const char *parameters,
                       const struct jinja_args *args, struct jinja_value *values)
{
    if (args->n_named > 0)
        jinja_fail(run, "%s: expected arguments without names, found a named one", what);
    jinja_bind(run, what, parameters, args, values);
}

const struct jinja_string *jinja_soft_str(struct jinja_run *run, struct jinja_value value)
{
    return value.type == JINJA_STRING ? value.string : jinja_str(run, value).string;
}

struct jinja_value jinja_like(struct jinja_run *run, const struct jinja_string *self,
                              struct jinja_value string)
{
    return self->markup && !string.string->markup ? jinja_markup(run, string.string) : string;
}

struct jinja_value jinja_part(struct jinja_run *run, const struct jinja_string *string, size_t from,
                              size_t to)
{
    return jinja_string(run, string->chars + from, to - from);
}

const struct jinja_string *jinja_escape(struct jinja_run *run, struct jinja_value value)
{
    const struct jinja_string *string = jinja_soft_str(run, value);
    struct jinja_builder b = {.run = run};

    if (string->markup)
        return string;
    jinja_put_escaped(&b, string);
    return jinja_markup(run, jinja_built(&b).string).string;
}

void jinja_put_many(struct jinja_builder *b, uint32_t c, size_t n)
{
    jinja_work(b->run, n / 4);
    for (size_t i = 0; i < n; i++)
        jinja_put(b, c);
}

/* ---- finding -------------------------------------------------------------------------------- */

bool jinja_is_at(struct jinja_run *run, const struct jinja_string *whole, size_t at,
                 const struct jinja_string *part)
{
    size_t i = 0;

    if (part->n > whole->n - at)
        return false;
    while (i < part->n && jinja_scalar(whole->chars[at + i]) == jinja_scalar(part->chars[i]))
        i++;
    if (i > 8)
        jinja_work(run, i);
    return i == part->n;
}

/* The first place in whole[from..to) that `part` fits, or SIZE_MAX. */
static size_t find(struct jinja_run *run, const struct jinja_string *whole, size_t from, size_t to,
                   const struct jinja_string *part)
{
    size_t at = from;

    if (to < from || part->n > to - from)
        return SIZE_MAX;
    while (at <= to - part->n && !jinja_is_at(run, whole, at, part))
        at++;
    jinja_work(run, (at - from) / 4 + 1);
    return at <= to - part->n ? at : SIZE_MAX;
}

static size_t find_last(struct jinja_run *run, const struct jinja_string *whole, size_t from,
                        size_t to, const struct jinja_string *part)
{
    if (to < from || part->n > to - from)
        return SIZE_MAX;
    size_t last = to - part->n, at = last;
    while (at > from && !jinja_is_at(run, whole, at, part))
        at--;
    jinja_work(run, (last - at) / 4 + 1);
    return jinja_is_at(run, whole, at, part) ? at : SIZE_MAX;
}

/* Where an index of a slice is in n items. */
static size_t clamp(struct jinja_run *run, const char *what, struct jinja_value index, size_t n,
                    size_t absent, bool below)
{
    if (jinja_is_absent(index))
        return absent;
    int64_t i = jinja_want_int(run, what, index);
    if (i < 0)
        i = i + (int64_t)n < 0 ? 0 : i + (int64_t)n;
    /* A beginning may lie beyond the end, where not even an empty string is found. */
    return (uint64_t)i <= n ? (size_t)i : below ? n : n + 1;
}

struct sought {
    const struct jinja_string *part;
    size_t from, to;
};

static struct sought bind_sought(struct jinja_run *run, const char *what,
                                 const struct jinja_string *self, const struct jinja_args *args)
{
    struct jinja_value v[3];

    jinja_bind_places(run, what, "sub, start=, end=", args, v);
    return (struct sought){.part = jinja_want_string(run, what, v[0]),
                           .from = clamp(run, what, v[1], self->n, 0, false),
                           .to = clamp(run, what, v[2], self->n, self->n, true)};
}

static struct jinja_value place(struct jinja_run *run, const char *what, size_t at, bool must)
{
    if (at == SIZE_MAX && must)
        jinja_fail(run, "%s: expected a string that is there, found none", what);
    return jinja_int(at == SIZE_MAX ? -1 : (int64_t)at);
}

#define FIND_METHOD(name, how, must)                                                 \
    METHOD(str, name)                                                                \
    {                                                                                \
        struct sought s = bind_sought(run, #name, self.string, args);                \
        return place(run, #name, how(run, self.string, s.from, s.to, s.part), must); \
    }

FIND_METHOD(find, find, false)
FIND_METHOD(index, find, true)
FIND_METHOD(rfind, find_last, false)
FIND_METHOD(rindex, find_last, true)

METHOD(str, count)
{
    struct sought s = bind_sought(run, "count", self.string, args);
    int64_t n = 0;

    if (s.part->n == 0)
        return jinja_int(s.from <= s.to ? (int64_t)(s.to - s.from + 1) : 0);
    for (size_t at = s.from;; at += s.part->n, n++) {
        at = find(run, self.string, at, s.to, s.part);
        if (at == SIZE_MAX)
            return jinja_int(n);
    }
}

static bool is_edge(struct jinja_run *run, const struct jinja_string *self, size_t from, size_t to,
                    const struct jinja_string *part, bool end)
{
    if (to < from || part->n > to - from)
        return false;
    return jinja_is_at(run, self, end ? to - part->n : from, part);
}

/* startswith() and endswith(): of a string, or one of a tuple. */
static struct jinja_value has_edge(struct jinja_run *run, const char *what,
                                   const struct jinja_string *self, const struct jinja_args *args,
                                   bool end)
{
    struct jinja_value v[3];

    jinja_bind_places(run, what, "part, start=, end=", args, v);
    size_t from = clamp(run, what, v[1], self->n, 0, false);
    size_t to = clamp(run, what, v[2], self->n, self->n, true);
    if (v[0].type != JINJA_LIST || v[0].list->kind != JINJA_TUPLE)
        return jinja_bool(is_edge(run, self, from, to, jinja_want_string(run, what, v[0]), end));
    jinja_work(run, v[0].list->n);
    for (size_t i = 0; i < v[0].list->n; i++) {
        const struct jinja_string *part = jinja_want_string(run, what, v[0].list->items[i]);
        if (is_edge(run, self, from, to, part, end))
            return jinja_bool(true);
    }
    return jinja_bool(false);
}

METHOD(str, startswith)
{
    return has_edge(run, "startswith", self.string, args, false);
}

METHOD(str, endswith)
{
    return has_edge(run, "endswith", self.string, args, true);
}

static struct jinja_value without_edge(struct jinja_run *run, const char *what,
                                       const struct jinja_string *self,
                                       const struct jinja_args *args, bool end)
{
    struct jinja_value v;

    jinja_bind_places(run, what, "part", args, &v);
    const struct jinja_string *part = jinja_want_string(run, what, v);
    if (!is_edge(run, self, 0, self->n, part, end))
        return jinja_of_string(self);
    return jinja_like(run, self,
                      end ? jinja_part(run, self, 0, self->n - part->n)
                          : jinja_part(run, self, part->n, self->n));
}

METHOD(str, removeprefix)
{
    return without_edge(run, "removeprefix", self.string, args, false);
}

METHOD(str, removesuffix)
{
    return without_edge(run, "removesuffix", self.string, args, true);
}

/* ---- replacing and cutting off ----------------------------------------------------------------
 */

/* With an empty `old`, `new` is before each character and at the end. */
static struct jinja_value put_between(struct jinja_run *run, const struct jinja_string *string,
                                      const struct jinja_string *new, size_t most)
{
    struct jinja_builder b = {.run = run};

    jinja_work(run, string->n);
    for (size_t i = 0; i <= string->n; i++) {
        if (i < most)
            jinja_put_chars(&b, new->chars, new->n);
        if (i < string->n)
            jinja_put(&b, string->chars[i]);
    }
    return jinja_built(&b);
}

struct jinja_value jinja_replace(struct jinja_run *run, const struct jinja_string *string,
                                 const struct jinja_string *old, const struct jinja_string *new,
                                 int64_t count)
{
    struct jinja_builder b = {.run = run};
    size_t most = count < 0 ? SIZE_MAX : (size_t)count, done = 0;

    if (old->n == 0)
        return put_between(run, string, new, most);
    for (; most > 0; most--) {
        size_t at = find(run, string, done, string->n, old);
        if (at == SIZE_MAX)
            break;
        jinja_put_chars(&b, string->chars + done, at - done);
        jinja_put_chars(&b, new->chars, new->n);
        done = at + old->n;
    }
    if (done == 0)
        return jinja_string(run, string->chars, string->n);
    jinja_put_chars(&b, string->chars + done, string->n - done);
    return jinja_built(&b);
}

METHOD(str, replace)
{
    struct jinja_value v[3];

    jinja_bind_places(run, "replace", "old, new, count=", args, v);
    const struct jinja_string *old = jinja_want_string(run, "replace", v[0]);
    const struct jinja_string *new =
        self.string->markup ? jinja_escape(run, v[1]) : jinja_want_string(run, "replace", v[1]);
    int64_t count = v[2].type == JINJA_ABSENT ? -1 : jinja_want_int(run, "replace", v[2]);
    return jinja_like(run, self.string, jinja_replace(run, self.string, old, new, count));
}

static bool is_among(struct jinja_run *run, const struct jinja_string *chars, uint32_t c)
{
    if (!chars)
        return jinja_is_space(jinja_scalar(c));
    jinja_work(run, chars->n);
    for (size_t i = 0; i < chars->n; i++)
        if (jinja_scalar(chars->chars[i]) == jinja_scalar(c))
            return true;
    return false;
}

struct jinja_value jinja_strip(struct jinja_run *run, const struct jinja_string *string,
                               const struct jinja_string *chars, char side)
{
    size_t from = 0, to = string->n;

    while (side != 'r' && from < to && is_among(run, chars, string->chars[from]))
        from++;
    while (side != 'l' && from < to && is_among(run, chars, string->chars[to - 1]))
        to--;
    jinja_work(run, (from + string->n - to) / 4);
    return jinja_like(run, string, jinja_part(run, string, from, to));
}

#define STRIP_METHOD(name, side)                                                                 \
    METHOD(str, name)                                                                            \
    {                                                                                            \
        struct jinja_value chars;                                                                \
                                                                                                 \
        jinja_bind_places(run, #name, "chars=", args, &chars);                                   \
        return jinja_strip(run, self.string,                                                     \
                           jinja_is_absent(chars) ? NULL : jinja_want_string(run, #name, chars), \
                           side);                                                                \
    }

STRIP_METHOD(lstrip, 'l')
STRIP_METHOD(rstrip, 'r')
STRIP_METHOD(strip, 'b')

/* ---- splitting and joining --------------------------------------------------------------------
 */

struct pieces {
    struct jinja_run *run;
    const struct jinja_string *self;
    struct jinja_value list;
};

static void add_piece(struct pieces *p, size_t from, size_t to)
{
    jinja_append(p->run, p->list.list,
                 jinja_like(p->run, p->self, jinja_part(p->run, p->self, from, to)));
}

static bool is_space_at(const struct jinja_string *s, size_t at)
{
    return jinja_is_space(jinja_scalar(s->chars[at]));
}

static void split_at_spaces(struct pieces *p, size_t most)
{
    const struct jinja_string *s = p->self;
    size_t at = 0;

    for (;; most--) {
        while (at < s->n && is_space_at(s, at))
            at++;
        if (at == s->n)
            return;
        size_t from = at;
        while (at < s->n && (most == 0 || !is_space_at(s, at)))
            at++;
        add_piece(p, from, at);
    }
}

static void split_at(struct pieces *p, const struct jinja_string *sep, size_t most)
{
    size_t from = 0;

    for (; most > 0; most--) {
        size_t at = find(p->run, p->self, from, p->self->n, sep);
        if (at == SIZE_MAX)
            break;
        add_piece(p, from, at);
        from = at + sep->n;
    }
    add_piece(p, from, p->self->n);
}

static void split_last_spaces(struct pieces *p, size_t most)
{
    const struct jinja_string *s = p->self;
    size_t at = s->n;

    for (;; most--) {
        while (at > 0 && is_space_at(s, at - 1))
            at--;
        if (at == 0)
            return;
        size_t to = at;
        while (at > 0 && (most == 0 || !is_space_at(s, at - 1)))
            at--;
        add_piece(p, at, to);
    }
}

static void split_last(struct pieces *p, const struct jinja_string *sep, size_t most)
{
    size_t to = p->self->n;

    for (; most > 0; most--) {
        size_t at = find_last(p->run, p->self, 0, to, sep);
        if (at == SIZE_MAX)
            break;
        add_piece(p, at + sep->n, to);
        to = at;
    }
    add_piece(p, 0, to);
}

static void turn_around(struct jinja_list *list)
{
    for (size_t i = 0; i < list->n / 2; i++) {
        struct jinja_value item = list->items[i];
        list->items[i] = list->items[list->n - 1 - i];
        list->items[list->n - 1 - i] = item;
    }
}

static struct jinja_value split(struct jinja_run *run, const char *what,
                                const struct jinja_string *self, const struct jinja_args *args,
                                bool last)
{
    struct pieces p = {run, self, jinja_list(run, JINJA_PLAIN, 0)};
    struct jinja_value v[2];

    jinja_bind(run, what, "sep=, maxsplit=", args, v);
    int64_t count = v[1].type == JINJA_ABSENT ? -1 : jinja_want_int(run, what, v[1]);
    size_t most = count < 0 ? SIZE_MAX : (size_t)count;
    jinja_work(run, self->n / 4);
    if (jinja_is_absent(v[0])) {
        (last ? split_last_spaces : split_at_spaces)(&p, most);
    } else {
        const struct jinja_string *sep = jinja_want_string(run, what, v[0]);
        if (sep->n == 0)
            jinja_fail(run, "%s: expected a separator, found an empty one", what);
        (last ? split_last : split_at)(&p, sep, most);
    }
    if (last)
        turn_around(p.list.list);
    return p.list;
}

METHOD(str, split)
{
    return split(run, "split", self.string, args, false);
}

METHOD(str, rsplit)
{
    return split(run, "rsplit", self.string, args, true);
}

static struct jinja_value partition(struct jinja_run *run, const char *what,
                                    const struct jinja_string *self, const struct jinja_args *args,
                                    bool last)
{
    struct pieces p = {run, self, jinja_list(run, JINJA_TUPLE, 3)};
    struct jinja_value v;

    jinja_bind_places(run, what, "sep", args, &v);
    const struct jinja_string *sep = jinja_want_string(run, what, v);
    if (sep->n == 0)
        jinja_fail(run, "%s: expected a separator, found an empty one", what);
    size_t at = (last ? find_last : find)(run, self, 0, self->n, sep), end = at + sep->n;
    if (at == SIZE_MAX)
        at = end = last ? 0 : self->n;
    add_piece(&p, 0, at);
    add_piece(&p, at, end);
    add_piece(&p, end, self->n);
    return p.list;
}

METHOD(str, partition)
{
    return partition(run, "partition", self.string, args, false);
}

METHOD(str, rpartition)
{
    return partition(run, "rpartition", self.string, args, true);
}

static bool ends_line(uint32_t c)
{
    return (c >= '\n' && c <= '\r') || (c >= 0x1c && c <= 0x1e) || c == 0x85 || c == 0x2028 ||
           c == 0x2029;
}

size_t jinja_line(const struct jinja_string *string, size_t from, size_t *next)
{
    size_t at = from;

    while (at < string->n && !ends_line(jinja_scalar(string->chars[at])))
        at++;
    *next = at < string->n ? at + 1 : at;
    if (*next < string->n && jinja_scalar(string->chars[at]) == '\r' &&
        jinja_scalar(string->chars[*next]) == '\n')
        ++*next;
    return at;
}

struct jinja_value jinja_split_lines(struct jinja_run *run, const struct jinja_string *string,
                                     bool keep_ends)
{
    struct pieces p = {run, string, jinja_list(run, JINJA_PLAIN, 0)};

    jinja_work(run, string->n / 4);
    for (size_t from = 0, next; from < string->n; from = next) {
        size_t end = jinja_line(string, from, &next);
        add_piece(&p, from, keep_ends ? next : end);
    }
    return p.list;
}

METHOD(str, splitlines)
{
    struct jinja_value keep;

    jinja_bind(run, "splitlines", "keepends=", args, &keep);
    return jinja_split_lines(run, self.string,
                             keep.type != JINJA_ABSENT &&
                                 jinja_want_int(run, "splitlines", keep) != 0);
}

METHOD(str, join)
{
    struct jinja_builder b = {.run = run};
    struct jinja_value v;

    jinja_bind_places(run, "join", "iterable", args, &v);
    struct jinja_span items = jinja_iterate(run, v);
    jinja_work(run, items.n);
    for (size_t i = 0; i < items.n; i++) {
        const struct jinja_string *item = self.string->markup
                                              ? jinja_escape(run, items.items[i])
                                              : jinja_want_string(run, "join", items.items[i]);
        if (i > 0)
            jinja_put_chars(&b, self.string->chars, self.string->n);
        jinja_put_chars(&b, item->chars, item->n);
    }
    return jinja_like(run, self.string, jinja_built(&b));
}

/* ---- padding ----------------------------------------------------------------------------------
 */

struct jinja_value jinja_justify(struct jinja_run *run, const struct jinja_string *string,
                                 int64_t width, uint32_t fill, char side)
{
    struct jinja_builder b = {.run = run};
    size_t pad = width > 0 && (uint64_t)width > string->n ? (size_t)width - string->n : 0;
    size_t left = pad / 2 + (pad & (size_t)width & 1);

    if (pad == 0)
        return jinja_of_string(string);
    if (side != 'c')
        left = side == 'r' ? pad : 0;
    jinja_put_many(&b, fill, left);
    jinja_put_chars(&b, string->chars, string->n);
    jinja_put_many(&b, fill, pad - left);
    return jinja_like(run, string, jinja_built(&b));
}

static struct jinja_value justify(struct jinja_run *run, const char *what,
                                  const struct jinja_string *self, const struct jinja_args *args,
                                  char side)
{
    struct jinja_value v[2];
    uint32_t fill = ' ' | (uint32_t)JINJA_GIVEN;

    jinja_bind_places(run, what, "width, fillchar=", args, v);
    int64_t width = jinja_want_int(run, what, v[0]);
    if (v[1].type != JINJA_ABSENT) {
        const struct jinja_string *s =
            self->markup ? jinja_escape(run, v[1]) : jinja_want_string(run, what, v[1]);
        if (s->n != 1)
            jinja_fail(run, "%s: expected one character to fill with, found %zu", what, s->n);
        fill = s->chars[0];
    }
    return jinja_justify(run, self, width, fill, side);
}

METHOD(str, center)
{
    return justify(run, "center", self.string, args, 'c');
}

METHOD(str, ljust)
{
    return justify(run, "ljust", self.string, args, 'l');
}

METHOD(str, rjust)
{
    return justify(run, "rjust", self.string, args, 'r');
}

METHOD(str, zfill)
{
    const struct jinja_string *s = self.string;
    struct jinja_builder b = {.run = run};
    struct jinja_value v;

    jinja_bind_places(run, "zfill", "width", args, &v);
    int64_t width = jinja_want_int(run, "zfill", v);
    if (width <= 0 || (uint64_t)width <= s->n)
        return self;
    size_t sign =
        s->n > 0 && (jinja_scalar(s->chars[0]) == '-' || jinja_scalar(s->chars[0]) == '+');
    jinja_put_chars(&b, s->chars, sign);
    jinja_put_many(&b, '0' | (uint32_t)JINJA_GIVEN, (size_t)width - s->n);
    jinja_put_chars(&b, s->chars + sign, s->n - sign);
    return jinja_like(run, s, jinja_built(&b));
}

METHOD(str, expandtabs)
{
    const struct jinja_string *s = self.string;
    struct jinja_builder b = {.run = run};
    struct jinja_value v;
    size_t column = 0;

    jinja_bind(run, "expandtabs", "tabsize=", args, &v);
    int64_t size = v.type == JINJA_ABSENT ? 8 : jinja_want_int(run, "expandtabs", v);
    if (size > INT32_MAX || size < INT32_MIN)
        jinja_fail(run, "expandtabs: expected a width of 32 bits, found a larger one");
    jinja_work(run, s->n / 4);
    for (size_t i = 0; i < s->n; i++) {
        uint32_t c = jinja_scalar(s->chars[i]);
        size_t width = size > 0 ? (size_t)size - column % (size_t)size : 0;
        if (c == '\t')
            jinja_put_many(&b, ' ' | (uint32_t)JINJA_GIVEN, width);
        else
            jinja_put(&b, s->chars[i]);
        column = c == '\n' || c == '\r' ? 0 : column + (c == '\t' ? width : 1);
    }
    return jinja_like(run, s, jinja_built(&b));
}

/* ---- case -------------------------------------------------------------------------------------
 */

#define CASE_METHOD(name, put)                                              \
    struct jinja_value name(struct jinja_run *run, struct jinja_value self, \
                            const struct jinja_args *args)                  \
    {                                                                       \
        struct jinja_builder b = {.run = run};                              \
                                                                            \
        jinja_bind_none(run, &#name[sizeof "jinja_str_" - 1], args);        \
        put(&b, self.string);                                               \
        return jinja_like(run, self.string, jinja_built(&b));               \
    }

static jinja_builtin jinja_str_casefold, jinja_str_swapcase, jinja_str_title;

CASE_METHOD(jinja_str_capitalize, jinja_put_capitalize)
static CASE_METHOD(jinja_str_casefold, jinja_put_casefold)
    CASE_METHOD(jinja_str_lower, jinja_put_lower) static CASE_METHOD(
        jinja_str_swapcase, jinja_put_swapcase) static CASE_METHOD(jinja_str_title, jinja_put_title)
        CASE_METHOD(jinja_str_upper, jinja_put_upper)

    /* ---- kinds of characters
       ---------------------------------------------------------------------- */

    static bool are_all(struct jinja_run *run, const struct jinja_string *s, bool (*is)(uint32_t))
{
    jinja_work(run, s->n / 4);
    for (size_t i = 0; i < s->n; i++)
        if (!is(jinja_scalar(s->chars[i])))
            return false;
    return true;
}

static bool is_ascii(uint32_t c)
{
    return c < 0x80;
}

#define KIND_METHOD(name, is, empty)                                                    \
    METHOD(str, name)                                                                   \
    {                                                                                   \
        jinja_bind_none(run, #name, args);                                              \
        return jinja_bool(self.string->n == 0 ? empty : are_all(run, self.string, is)); \
    }

KIND_METHOD(isalnum, jinja_is_alnum, false)
KIND_METHOD(isalpha, jinja_is_alpha, false)
KIND_METHOD(isascii, is_ascii, true)
KIND_METHOD(isdecimal, jinja_is_decimal, false)
KIND_METHOD(isdigit, jinja_is_digit, false)
KIND_METHOD(isnumeric, jinja_is_numeric, false)
KIND_METHOD(isprintable, jinja_is_printable, true)
KIND_METHOD(isspace, jinja_is_space, false)

/* Whether there are characters that `is` holds for, and no others that have a case. */
static bool is_cased(struct jinja_run *run, const struct jinja_string *s, bool (*is)(uint32_t),
                     bool (*is_not)(uint32_t))
{
    bool any = false;

    jinja_work(run, s->n / 4);
    for (size_t i = 0; i < s->n; i++) {
        uint32_t c = jinja_scalar(s->chars[i]);
        if (is_not(c) || jinja_is_title(c))
            return false;
        any = any || is(c);
    }
    return any;
}

bool jinja_is_lowered(struct jinja_run *run, const struct jinja_string *string)
{
    return is_cased(run, string, jinja_is_lower, jinja_is_upper);
}

bool jinja_is_raised(struct jinja_run *run, const struct jinja_string *string)
{
    return is_cased(run, string, jinja_is_upper, jinja_is_lower);
}

METHOD(str, islower)
{
    jinja_bind_none(run, "islower", args);
    return jinja_bool(jinja_is_lowered(run, self.string));
}

METHOD(str, isupper)
{
    jinja_bind_none(run, "isupper", args);
    return jinja_bool(jinja_is_raised(run, self.string));
}

METHOD(str, istitle)
{
    const struct jinja_string *s = self.string;
    bool any = false, within = false;

    jinja_bind_none(run, "istitle", args);
    jinja_work(run, s->n / 4);
    for (size_t i = 0; i < s->n; i++) {
        uint32_t c = jinja_scalar(s->chars[i]);
        bool first = jinja_is_upper(c) || jinja_is_title(c), cased = first || jinja_is_lower(c);
        if (cased && first == within)
            return jinja_bool(false);
        any = any || cased;
        within = cased;
    }
    return jinja_bool(any);
}

/* Marks continue an identifier outside of ASCII, and have no table here. */
METHOD(str, isidentifier)
{
    const struct jinja_string *s = self.string;

    jinja_bind_none(run, "isidentifier", args);
    jinja_work(run, s->n / 4);
    for (size_t i = 0; i < s->n; i++) {
        uint32_t c = jinja_scalar(s->chars[i]);
        bool letter = c == '_' || jinja_is_alpha(c);
        if (i == 0 && !letter && !jinja_is_numeric(c))
            return jinja_bool(false);
        if (!letter && !jinja_is_decimal(c) && c > 0x7f)
            jinja_fail(run, "isidentifier: expected letters and digits, found U+%04X", (unsigned)c);
        if (!letter && (i == 0 || !jinja_is_decimal(c)))
            return jinja_bool(false);
    }
    return jinja_bool(s->n > 0);
}

/* ---- formatting, and what is not here ---------------------------------------------------------
 */

METHOD(str, format)
{
    struct jinja_value names = jinja_dict(run);

    for (size_t i = 0; i < args->n_named; i++)
        jinja_dict_set(run, names.dict, jinja_of_string(args->named[i].name), args->named[i].value);
    return jinja_str_format(run, self.string, args->items, args->n, names);
}

METHOD(str, format_map)
{
    struct jinja_value mapping;

    jinja_bind_places(run, "format_map", "mapping", args, &mapping);
    return jinja_str_format(run, self.string, NULL, 0, mapping);
}

#define NO_METHOD(name)                                                                  \
    METHOD(str, name)                                                                    \
    {                                                                                    \
        (void)self, (void)args;                                                          \
        jinja_fail(run, "expected a method that templates have, found str." #name "()"); \
    }

NO_METHOD(encode)
NO_METHOD(maketrans)
NO_METHOD(translate)

/* ---- lists and dicts --------------------------------------------------------------------------
 */

METHOD(list, copy)
{
    struct jinja_value copy = jinja_list(run, JINJA_PLAIN, self.list->n);

    jinja_bind_none(run, "copy", args);
    jinja_work(run, self.list->n / 4);
    for (size_t i = 0; i < self.list->n; i++)
        jinja_append(run, copy.list, self.list->items[i]);
    return copy;
}

METHOD(list, count)
{
    struct jinja_value v;
    int64_t n = 0;

    jinja_bind_places(run, "count", "value", args, &v);
    jinja_work(run, self.list->n);
    for (size_t i = 0; i < self.list->n; i++)
        n += jinja_equal(run, self.list->items[i], v);
    return jinja_int(n);
}

METHOD(list, index)
{
    struct jinja_value v[3];

    jinja_bind_places(run, "index", "value, start=, stop=", args, v);
    for (size_t i = 1; i < 3; i++)
        if (v[i].type == JINJA_NONE)
            jinja_fail(run, "index: expected an integer, found None");
    size_t from = clamp(run, "index", v[1], self.list->n, 0, true);
    size_t to = clamp(run, "index", v[2], self.list->n, self.list->n, true);
    jinja_work(run, self.list->n);
    for (size_t i = from; i < to; i++)
        if (jinja_equal(run, self.list->items[i], v[0]))
            return jinja_int((int64_t)i);
    jinja_fail(run, "index: expected an item that is there, found none");
}

METHOD(dict, copy)
{
    struct jinja_value copy = jinja_dict(run);

    jinja_bind_none(run, "copy", args);
    jinja_work(run, self.dict->n);
    for (size_t i = 0; i < self.dict->n; i++)
        jinja_dict_set(run, copy.dict, self.dict->items[i].key, self.dict->items[i].value);
    return copy;
}

METHOD(dict, get)
{
    struct jinja_value v[2];

    jinja_bind_places(run, "get", "key, default=", args, v);
    const struct jinja_value *found = jinja_dict_get(run, self.dict, v[0]);
    if (found)
        return *found;
    return v[1].type == JINJA_ABSENT ? jinja_none() : v[1];
}

static struct jinja_value view(struct jinja_run *run, const char *what, struct jinja_value self,
                               const struct jinja_args *args, enum jinja_list_kind kind)
{
    struct jinja_value list = jinja_list(run, kind, self.dict->n);

    jinja_bind_none(run, what, args);
    jinja_work(run, self.dict->n);
    for (size_t i = 0; i < self.dict->n; i++) {
        struct jinja_item *item = &self.dict->items[i];
        jinja_append(run, list.list,
                     kind == JINJA_KEYS     ? item->key
                     : kind == JINJA_VALUES ? item->value
                                            : jinja_tuple2(run, item->key, item->value));
    }
    return list;
}

METHOD(dict, items)
{
    return view(run, "items", self, args, JINJA_ITEMS);
}

METHOD(dict, keys)
{
    return view(run, "keys", self, args, JINJA_KEYS);
}

METHOD(dict, values)
{
    return view(run, "values", self, args, JINJA_VALUES);
}

/* ---- tables -----------------------------------------------------------------------------------
 */

static const struct jinja_entry of_str[] = {
    {"str.capitalize", jinja_str_capitalize},
    {"str.casefold", jinja_str_casefold},
    {"str.center", str_center},
    {"str.count", str_count},
    {"str.encode", str_encode},
    {"str.endswith", str_endswith},
    {"str.expandtabs", str_expandtabs},
    {"str.find", str_find},
    {"str.format", str_format},
    {"str.format_map", str_format_map},
    {"str.index", str_index},
    {"str.isalnum", str_isalnum},
    {"str.isalpha", str_isalpha},
    {"str.isascii", str_isascii},
    {"str.isdecimal", str_isdecimal},
    {"str.isdigit", str_isdigit},
    {"str.isidentifier", str_isidentifier},
    {"str.islower", str_islower},
    {"str.isnumeric", str_isnumeric},
    {"str.isprintable", str_isprintable},
    {"str.isspace", str_isspace},
    {"str.istitle", str_istitle},
    {"str.isupper", str_isupper},
    {"str.join", str_join},
    {"str.ljust", str_ljust},
    {"str.lower", jinja_str_lower},
    {"str.lstrip", str_lstrip},
    {"str.maketrans", str_maketrans},
    {"str.partition", str_partition},
    {"str.removeprefix", str_removeprefix},
    {"str.removesuffix", str_removesuffix},
    {"str.replace", str_replace},
    {"str.rfind", str_rfind},
    {"str.rindex", str_rindex},
    {"str.rjust", str_rjust},
    {"str.rpartition", str_rpartition},
    {"str.rsplit", str_rsplit},
    {"str.rstrip", str_rstrip},
    {"str.split", str_split},
    {"str.splitlines", str_splitlines},
    {"str.startswith", str_startswith},
    {"str.strip", str_strip},
    {"str.swapcase", jinja_str_swapcase},
    {"str.title", jinja_str_title},
    {"str.translate", str_translate},
    {"str.upper", jinja_str_upper},
    {"str.zfill", str_zfill},
};

/* The sandbox forbids those without a function. */
static const struct jinja_entry of_list[] = {
    {"list.append", NULL},      {"list.clear", NULL},  {"list.copy", list_copy},
    {"list.count", list_count}, {"list.extend", NULL}, {"list.index", list_index},
    {"list.insert", NULL},      {"list.pop", NULL},    {"list.remove", NULL},
    {"list.reverse", NULL},     {"list.sort", NULL},
};

static const struct jinja_entry of_tuple[] = {
    {"tuple.count", list_count},
    {"tuple.index", list_index},
};

static const struct jinja_entry of_range[] = {
    {"range.count", list_count},
    {"range.index", list_index},
};

static const struct jinja_entry of_dict[] = {
    {"dict.clear", NULL},         {"dict.copy", dict_copy},  {"dict.get", dict_get},
    {"dict.items", dict_items},   {"dict.keys", dict_keys},  {"dict.pop", NULL},
    {"dict.popitem", NULL},       {"dict.setdefault", NULL}, {"dict.update", NULL},
    {"dict.values", dict_values},
};

struct table {
    const struct jinja_entry *entries;
    size_t n, skip; /* of a name: the type and a dot */
};

#define TABLE(entries, type)                                      \
    {                                                             \
        entries, sizeof(entries) / sizeof *(entries), sizeof type \
    }

enum { OF_STR, OF_LIST, OF_TUPLE, OF_RANGE, OF_DICT, N_TABLES };

static const struct table tables[N_TABLES] = {
    TABLE(of_str, "str"),     TABLE(of_list, "list"), TABLE(of_tuple, "tuple"),
    TABLE(of_range, "range"), TABLE(of_dict, "dict"),
};

static const struct table *table_of(struct jinja_value object)
{
    switch (object.type) {
    case JINJA_STRING:
        return &tables[OF_STR];
    case JINJA_DICT:
        return &tables[OF_DICT];
    case JINJA_LIST:
        return object.list->kind == JINJA_PLAIN   ? &tables[OF_LIST]
               : object.list->kind == JINJA_TUPLE ? &tables[OF_TUPLE]
               : object.list->kind == JINJA_RANGE ? &tables[OF_RANGE]
                                                  : NULL;
    default:
        return NULL;
    }
}

jinja_builtin *jinja_method(struct jinja_value object, const struct jinja_string *name,
                            bool *unsafe)
{
    const struct table *table = table_of(object);
    const struct jinja_entry *entry =
        table ? jinja_entry(table->entries, table->n, table->skip, name) : NULL;

    *unsafe = entry && !entry->builtin;
    return entry ? entry->builtin : NULL;
}

const char *jinja_builtin_name(jinja_builtin *builtin)
{
    for (size_t i = 0; i < N_TABLES; i++)
        for (size_t j = 0; j < tables[i].n; j++)
            if (tables[i].entries[j].builtin == builtin)
                return tables[i].entries[j].name;
    return "a function";
}
