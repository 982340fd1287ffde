/* SPDX-License-Identifier: MIT */
/* jinja_text_filters.c: the filters of jinja2 that work on text, and are long. */
#include <stdio.h>
#include <string.h>

#include "text/jinja_builtins.h"

static bool is_space(uint32_t c)
{
    return jinja_is_space(jinja_scalar(c));
}

/* Python's \w */
static bool is_word(uint32_t c)
{
    c = jinja_scalar(c);
    return c == '_' || jinja_is_alnum(c);
}

static bool is_one_of(uint32_t c, const char *chars)
{
    c = jinja_scalar(c);
    return c != 0 && c < 0x80 && strchr(chars, (int)c);
}

/* A part of a string: [from..to) of its characters. */
struct text_range {
    const uint32_t *chars;
    size_t from, to;
};

static void put_range(struct jinja_builder *b, struct text_range r)
{
    jinja_put_chars(b, r.chars + r.from, r.to - r.from);
}

static void put_string(struct jinja_builder *b, const struct jinja_string *s)
{
    jinja_put_chars(b, s->chars, s->n);
}

/* ---- indent, truncate, title, wordcount --------------------------------------------------------
 */

static const struct jinja_string *indentation(struct jinja_run *run, struct jinja_value width,
                                              bool markup)
{
    struct jinja_builder b = {.run = run};
    int64_t n = 4;

    if (width.type == JINJA_STRING && !width.string->markup && markup)
        return jinja_markup(run, width.string).string;
    if (width.type == JINJA_STRING)
        return width.string;
    if (width.type != JINJA_ABSENT)
        n = jinja_want_int(run, "indent", width);
    jinja_put_many(&b, ' ' | (uint32_t)JINJA_GIVEN, n > 0 ? (size_t)n : 0);
    return jinja_built(&b).string;
}

struct jinja_value jinja_filter_indent(struct jinja_run *run, struct jinja_value self,
                                       const struct jinja_args *args)
{
    const struct jinja_string *s = jinja_want_string(run, "indent", self);
    struct jinja_builder b = {.run = run};
    struct jinja_value v[3];

    jinja_bind(run, "indent", "width=, first=, blank=", args, v);
    const struct jinja_string *indent = indentation(run, v[0], s->markup);
    bool first = v[1].type != JINJA_ABSENT && jinja_truth(run, v[1]);
    bool blank = v[2].type != JINJA_ABSENT && jinja_truth(run, v[2]);
    size_t from = 0, next = 0, end;
    jinja_work(run, s->n / 4);
    /* A string that ends with the end of a line has an empty line behind it; but jinja2 puts a
     * "\n" there, with which "\r" is one end. */
    for (bool more = true; more; from = next) {
        end = jinja_line(s, from, &next);
        more = end < s->n && !(next == s->n && jinja_scalar(s->chars[next - 1]) == '\r');
        if (from > 0)
            jinja_put_ascii(&b, "\n");
        if (from == 0 ? first : blank || end > from)
            put_string(&b, indent);
        put_range(&b, (struct text_range){s->chars, from, end});
    }
    return jinja_like(run, s, jinja_built(&b));
}

static size_t want_size(struct jinja_run *run, const char *what, struct jinja_value value,
                        int64_t absent, size_t least)
{
    int64_t n = value.type == JINJA_ABSENT ? absent : jinja_want_int(run, what, value);

    if (n < 0 || (uint64_t)n < least)
        jinja_fail(run, "%s: expected at least %zu, found %lld", what, least, (long long)n);
    return (size_t)n;
}

struct jinja_value jinja_filter_truncate(struct jinja_run *run, struct jinja_value self,
                                         const struct jinja_args *args)
{
    struct jinja_value v[4], end = jinja_ascii(run, "...");

    jinja_bind(run, "truncate", "length=, killwords=, end=, leeway=", args, v);
    if (v[2].type != JINJA_ABSENT)
        end = v[2];
    if (v[3].type == JINJA_NONE)
        v[3].type = JINJA_ABSENT;
    size_t n_end = jinja_length(run, end);
    size_t length = want_size(run, "truncate: length", v[0], 255, n_end);
    size_t leeway = want_size(run, "truncate: leeway", v[3], 5, 0);
    if (jinja_length(run, self) <= length + leeway)
        return self;
    const struct jinja_string *s = jinja_want_string(run, "truncate", self);
    size_t n = length - n_end;
    if (v[1].type == JINJA_ABSENT || !jinja_truth(run, v[1])) {
        while (n > 0 && jinja_scalar(s->chars[n - 1]) != ' ')
            n--;
        n = n > 0 ? n - 1 : length - n_end;
    }
    return jinja_arithmetic(run, '+', jinja_like(run, s, jinja_part(run, s, 0, n)), end);
}

/* Words begin behind white space, hyphens and opening brackets; they are not str.title()'s. */
struct jinja_value jinja_filter_title(struct jinja_run *run, struct jinja_value self,
                                      const struct jinja_args *args)
{
    const struct jinja_string *s = jinja_soft_str(run, self);
    struct jinja_builder b = {.run = run};
    size_t at = 0;

    jinja_bind_none(run, "title", args);
    while (at < s->n) {
        bool between = is_space(s->chars[at]) || is_one_of(s->chars[at], "-({[<");
        struct jinja_string first = {.chars = s->chars + at, .n = 1}, rest = first;
        for (at++; at < s->n; at++)
            if ((is_space(s->chars[at]) || is_one_of(s->chars[at], "-({[<")) != between)
                break;
        rest.chars++;
        rest.n = (size_t)(s->chars + at - rest.chars);
        jinja_put_upper(&b, &first);
        jinja_put_lower(&b, &rest);
    }
    return jinja_built(&b);
}

struct jinja_value jinja_filter_wordcount(struct jinja_run *run, struct jinja_value self,
                                          const struct jinja_args *args)
{
    const struct jinja_string *s = jinja_soft_str(run, self);
    int64_t n = 0;

    jinja_bind_none(run, "wordcount", args);
    jinja_work(run, s->n / 4);
    for (size_t i = 0; i < s->n; i++)
        n += is_word(s->chars[i]) && (i == 0 || !is_word(s->chars[i - 1]));
    return jinja_int(n);
}

/* ---- wordwrap: Python's textwrap ----------------------------------------------------------------
 */

struct wrapper {
    struct jinja_run *run;
    struct jinja_builder b;
    const struct jinja_string *newline;
    size_t width;
    bool break_words, at_hyphens;
    size_t n_lines;
};

static bool is_wrap_space(uint32_t c)
{
    return is_one_of(c, "\t\n\v\f\r ");
}

static bool is_letter(struct text_range r, size_t at)
{
    return at < r.to && is_word(r.chars[at]) && !jinja_is_decimal(jinja_scalar(r.chars[at]));
}

static bool is_hyphen(struct text_range r, size_t at)
{
    return at < r.to && jinja_scalar(r.chars[at]) == '-';
}

/* Whether a dash of hyphens at `at` stands between words: how many they are, else 0. */
static size_t dash_at(struct text_range r, size_t at)
{
    size_t end = at;

    if (at == r.from || (!is_word(r.chars[at - 1]) && !is_one_of(r.chars[at - 1], "!\"'&.,?")))
        return 0;
    while (is_hyphen(r, end))
        end++;
    return end - at >= 2 && end < r.to && is_word(r.chars[end]) ? end - at : 0;
}

/* Whether a word may be broken behind the hyphen at `at`. */
static bool is_break(struct text_range r, size_t at)
{
    bool behind =
        (at >= r.from + 2 && is_letter(r, at - 1) && is_letter(r, at - 2)) ||
        (at >= r.from + 3 && is_letter(r, at - 1) && is_hyphen(r, at - 2) && is_letter(r, at - 3));

    return behind && is_hyphen(r, at) && is_letter(r, at + 1) &&
           (is_letter(r, at + 2) || (is_hyphen(r, at + 2) && is_letter(r, at + 3)));
}

/* Where the chunk that begins at `from` ends: white space, a dash, a word or a part of one. */
static size_t chunk_end(struct text_range r, size_t from, bool at_hyphens)
{
    size_t at = from;
    bool space = is_wrap_space(r.chars[from]);
    size_t dash = at_hyphens && !space ? dash_at(r, from) : 0;

    if (dash > 0)
        return from + dash;
    for (at++; at < r.to && is_wrap_space(r.chars[at]) == space; at++) {
        if (space || !at_hyphens)
            continue;
        if (is_break(r, at))
            return at + 1;
        if (dash_at(r, at) > 0)
            return at;
    }
    return at;
}

static bool is_blank(struct text_range r)
{
    for (size_t i = r.from; i < r.to; i++)
        if (!is_space(r.chars[i]))
            return false;
    return true;
}

/* Where to break a word of which `room` characters fit. */
static size_t break_word(const struct wrapper *w, struct text_range word, size_t room)
{
    if (w->at_hyphens && word.to - word.from > room)
        for (size_t at = word.from + room; at-- > word.from + 1;)
            if (is_hyphen(word, at)) {
                for (size_t i = word.from; i < at; i++)
                    if (!is_hyphen(word, i))
                        return at + 1;
                break;
            }
    return word.from + room;
}

static void put_line(struct wrapper *w, struct text_range line)
{
    if (w->n_lines++ > 0)
        put_string(&w->b, w->newline);
    put_range(&w->b, line);
}

/* The chunks of a line are next to each other, so that it is a range as well. */
static void wrap_paragraph(struct wrapper *w, struct text_range text)
{
    size_t at = text.from, n_before = w->n_lines, chunk_to = text.from;
    struct text_range chunk = {text.chars, at, at};

    while (at < text.to) {
        struct text_range line = {text.chars, at, at};
        size_t last = at; /* where the line's last chunk begins */
        if (chunk_to == at)
            chunk_to = chunk_end(text, at, w->at_hyphens);
        chunk = (struct text_range){text.chars, at, chunk_to};
        if (w->n_lines > n_before && is_blank(chunk)) {
            at = line.from = line.to = last = chunk_to;
            chunk_to = at < text.to ? chunk_end(text, at, w->at_hyphens) : at;
        }
        while (at < text.to && chunk_to - line.from <= w->width) {
            last = at;
            at = line.to = chunk_to;
            chunk_to = at < text.to ? chunk_end(text, at, w->at_hyphens) : at;
        }
        chunk = (struct text_range){text.chars, at, chunk_to};
        if (at < text.to && chunk.to - chunk.from > w->width) {
            size_t room = w->width - (line.to - line.from);
            if (w->break_words) { /* where nothing fits, an empty piece keeps what is before it */
                last = at;
                at = line.to = break_word(w, chunk, room);
            } else if (!w->break_words && line.to == line.from) {
                last = at;
                at = line.to = chunk.to;
            }
        }
        if (line.to > line.from && is_blank((struct text_range){text.chars, last, line.to}))
            line.to = last;
        if (line.to > line.from)
            put_line(w, line);
    }
}

struct jinja_value jinja_filter_wordwrap(struct jinja_run *run, struct jinja_value self,
                                         const struct jinja_args *args)
{
    const struct jinja_string *s = jinja_want_string(run, "wordwrap", self);
    struct wrapper w = {.run = run, .b = {.run = run}};
    struct jinja_value v[4];

    jinja_bind(run, "wordwrap", "width=, break_long_words=, wrapstring=, break_on_hyphens=", args,
               v);
    w.break_words = v[1].type == JINJA_ABSENT || jinja_truth(run, v[1]);
    w.newline = jinja_is_absent(v[2]) ? jinja_ascii(run, "\n").string
                                      : jinja_want_string(run, "wordwrap", v[2]);
    w.at_hyphens = v[3].type == JINJA_ABSENT || jinja_truth(run, v[3]);
    w.width = 79;
    if (s->n > 0)
        w.width = want_size(run, "wordwrap: width", v[0], 79, 1);
    jinja_work(run, s->n);
    for (size_t from = 0, next; from < s->n; from = next) {
        size_t end = jinja_line(s, from, &next), before = w.n_lines;
        wrap_paragraph(&w, (struct text_range){s->chars, from, end});
        if (w.n_lines == before)
            put_line(&w, (struct text_range){s->chars, from, from});
    }
    return jinja_built(&w.b);
}

/* ---- urlencode -------------------------------------------------------------------------
 */

static size_t utf8_bytes(uint32_t c, uint8_t bytes[4])
{
    if (c < 0x80) {
        bytes[0] = (uint8_t)c;
        return 1;
    }
    size_t n = c < 0x800 ? 2 : c < 0x10000 ? 3 : 4;
    for (size_t i = n - 1; i > 0; i--, c >>= 6)
        bytes[i] = (uint8_t)(0x80 | (c & 0x3f));
    bytes[0] = (uint8_t)((0xf00 >> n & 0xff) | c);
    return n;
}

/* query: of a query's name or value, where "/" is quoted and a space is "+". */
static void put_quoted(struct jinja_builder *b, struct jinja_value value, bool query)
{
    const struct jinja_string *s = jinja_soft_str(b->run, value);

    jinja_work(b->run, s->n);
    for (size_t i = 0; i < s->n; i++) {
        uint32_t c = jinja_scalar(s->chars[i]);
        uint8_t bytes[4];
        bool plain = ((c | 0x20) >= 'a' && (c | 0x20) <= 'z') || (c >= '0' && c <= '9') ||
                     is_one_of(c, query ? "_.-~" : "_.-~/");
        size_t n = plain || (query && c == ' ') ? 0 : utf8_bytes(c, bytes);
        if (plain)
            jinja_put(b, s->chars[i]);
        else if (n == 0)
            jinja_put_ascii(b, "+");
        for (size_t j = 0; j < n; j++)
            jinja_put_ascii(b, (const char[]){'%', "0123456789ABCDEF"[bytes[j] >> 4],
                                              "0123456789ABCDEF"[bytes[j] & 15], '\0'});
    }
}

static void put_pair(struct jinja_builder *b, struct jinja_value key, struct jinja_value value)
{
    if (b->n > 0)
        jinja_put_ascii(b, "&");
    put_quoted(b, key, true);
    jinja_put_ascii(b, "=");
    put_quoted(b, value, true);
}

struct jinja_value jinja_filter_urlencode(struct jinja_run *run, struct jinja_value self,
                                          const struct jinja_args *args)
{
    struct jinja_builder b = {.run = run};

    jinja_bind_none(run, "urlencode", args);
    if (self.type == JINJA_DICT) {
        for (size_t i = 0; i < self.dict->n; i++)
            put_pair(&b, self.dict->items[i].key, self.dict->items[i].value);
    } else if (self.type == JINJA_STRING || !jinja_is_iterable(self)) {
        put_quoted(&b, self, false);
    } else {
        struct jinja_span items = jinja_iterate(run, self);
        jinja_work(run, items.n);
        for (size_t i = 0; i < items.n; i++) {
            struct jinja_span pair = jinja_iterate(run, items.items[i]);
            if (pair.n != 2)
                jinja_fail(run, "urlencode: expected pairs, found %zu items", pair.n);
            put_pair(&b, pair.items[0], pair.items[1]);
        }
    }
    return jinja_built(&b);
}

/* ---- pprint: Python's, in 80 columns
 * -------------------------------------------------------------- */

enum { PRINT_WIDTH = 80 };

struct printer {
    struct jinja_builder b;
    size_t level; /* how many containers are around */
};

static int type_rank(struct jinja_value value)
{
    return jinja_is_number(value) ? 0 : value.type == JINJA_STRING ? 1 : 2;
}

/* Keys that have no order are ordered by their types' names. */
static bool is_key_less(struct jinja_run *run, const struct jinja_value *a,
                        const struct jinja_value *b)
{
    if (type_rank(*a) == type_rank(*b) && type_rank(*a) < 2)
        return jinja_order(run, *a, *b, "<") < 0;
    if (a->type == b->type && a->type == JINJA_LIST)
        return jinja_order(run, *a, *b, "<") < 0;
    return strcmp(jinja_type_name(*a), jinja_type_name(*b)) < 0;
}

static struct jinja_keyed *sorted_keys(struct jinja_run *run, const struct jinja_dict *dict)
{
    struct jinja_keyed *order = jinja_alloc(run, dict->n, sizeof *order);

    for (size_t i = 0; i < dict->n; i++)
        order[i] = (struct jinja_keyed){.key = &dict->items[i].key, .index = i};
    jinja_sort(run, order, dict->n, is_key_less, false);
    return order;
}

static bool is_sequence(struct jinja_value value)
{
    return value.type == JINJA_LIST &&
           (value.list->kind == JINJA_PLAIN || value.list->kind == JINJA_TUPLE);
}

static const char *opening(struct jinja_value value)
{
    return value.type == JINJA_DICT ? "{" : value.list->kind == JINJA_TUPLE ? "(" : "[";
}

static const char *closing(struct jinja_value value)
{
    if (value.type == JINJA_DICT)
        return "}";
    if (value.list->kind == JINJA_TUPLE)
        return value.list->n == 1 ? ",)" : ")";
    return "]";
}

/* repr(), with the keys of dicts in order. */
static void put_plain(struct jinja_builder *b, struct jinja_value value)
{
    struct jinja_run *run = b->run;
    bool dict = value.type == JINJA_DICT;

    jinja_work(run, 1);
    if (!dict && !is_sequence(value)) {
        jinja_put_repr(b, value);
        return;
    }
    jinja_deeper(run);
    const struct jinja_keyed *order = dict ? sorted_keys(run, value.dict) : NULL;
    size_t n = dict ? value.dict->n : value.list->n;
    jinja_put_ascii(b, opening(value));
    for (size_t i = 0; i < n; i++) {
        if (i > 0)
            jinja_put_ascii(b, ", ");
        if (dict) {
            put_plain(b, value.dict->items[order[i].index].key);
            jinja_put_ascii(b, ": ");
        }
        put_plain(b, dict ? value.dict->items[order[i].index].value : value.list->items[i]);
    }
    jinja_put_ascii(b, closing(value));
    jinja_higher(run);
}

static struct jinja_value plain_text(struct jinja_run *run, struct jinja_value value)
{
    struct jinja_builder b = {.run = run};

    put_plain(&b, value);
    return jinja_built(&b);
}

static void put_new_line(struct jinja_builder *b, const char *before, size_t indent)
{
    jinja_put_ascii(b, before);
    jinja_put_ascii(b, "\n");
    jinja_put_many(b, ' ' | (uint32_t)JINJA_GIVEN, indent);
}

static void print(struct printer *p, struct jinja_value value, size_t indent, size_t allowance);

static void print_dict(struct printer *p, const struct jinja_dict *dict, size_t indent,
                       size_t allowance)
{
    const struct jinja_keyed *order = sorted_keys(p->b.run, dict);

    for (size_t i = 0; i < dict->n; i++) {
        const struct jinja_item *item = &dict->items[order[i].index];
        bool last = i + 1 == dict->n;
        struct jinja_value key = plain_text(p->b.run, item->key);
        put_string(&p->b, key.string);
        jinja_put_ascii(&p->b, ": ");
        print(p, item->value, indent + key.string->n + 2, last ? allowance : 1);
        if (!last)
            put_new_line(&p->b, ",", indent);
    }
}

static void print_list(struct printer *p, const struct jinja_list *list, size_t indent,
                       size_t allowance)
{
    for (size_t i = 0; i < list->n; i++) {
        bool last = i + 1 == list->n;
        print(p, list->items[i], indent, last ? allowance : 1);
        if (!last)
            put_new_line(&p->b, ",", indent);
    }
}

/* A list of reprs, one under the other. */
struct chunks {
    struct jinja_run *run;
    const struct jinja_string *string;
    struct jinja_value list;
};

static struct jinja_value repr_of(struct chunks *c, size_t from, size_t to)
{
    return jinja_repr(c->run, jinja_part(c->run, c->string, from, to));
}

static int64_t repr_length(struct chunks *c, size_t from, size_t to)
{
    return (int64_t)repr_of(c, from, to).string->n;
}

/* A line that is too long, cut behind white space. width: of the last chunk, last_width. */
static void cut_line(struct chunks *c, size_t from, size_t to, int64_t width, int64_t last_width)
{
    size_t current = from, at = from;

    while (at < to) {
        size_t part = at;
        while (at < to && !is_space(c->string->chars[at]))
            at++;
        while (at < to && is_space(c->string->chars[at]))
            at++;
        if (repr_length(c, current, at) > (at == to ? last_width : width)) {
            if (part > current)
                jinja_append(c->run, c->list.list, repr_of(c, current, part));
            current = part;
        }
    }
    if (to > current)
        jinja_append(c->run, c->list.list, repr_of(c, current, to));
}

static void print_string(struct printer *p, struct jinja_value value, size_t indent,
                         size_t allowance)
{
    struct jinja_run *run = p->b.run;
    const struct jinja_string *s = value.string;
    struct chunks c = {run, s, jinja_list(run, JINJA_PLAIN, 0)};
    bool outermost = p->level == 1;

    indent += outermost;
    allowance += outermost;
    int64_t width = PRINT_WIDTH - (int64_t)indent, last_width = width - (int64_t)allowance;
    for (size_t from = 0, next; from < s->n; from = next) {
        jinja_line(s, from, &next);
        if (repr_length(&c, from, next) <= (next == s->n ? last_width : width))
            jinja_append(run, c.list.list, repr_of(&c, from, next));
        else
            cut_line(&c, from, next, width, next == s->n ? last_width : width);
    }
    bool brackets = outermost && c.list.list->n > 1;
    if (brackets)
        jinja_put_ascii(&p->b, "(");
    for (size_t i = 0; i < c.list.list->n; i++) {
        if (i > 0)
            put_new_line(&p->b, "", indent);
        put_string(&p->b, c.list.list->items[i].string);
    }
    if (brackets)
        jinja_put_ascii(&p->b, ")");
}

static void print(struct printer *p, struct jinja_value value, size_t indent, size_t allowance)
{
    struct jinja_value text = plain_text(p->b.run, value);
    bool string = value.type == JINJA_STRING && !value.string->markup && value.string->n > 0;
    bool dict = value.type == JINJA_DICT;

    if (indent + allowance + text.string->n <= PRINT_WIDTH ||
        (!string && !dict && !is_sequence(value))) {
        put_string(&p->b, text.string);
        return;
    }
    jinja_deeper(p->b.run);
    p->level++;
    if (string) {
        print_string(p, value, indent, allowance);
    } else {
        jinja_put_ascii(&p->b, opening(value));
        allowance += strlen(closing(value));
        if (dict)
            print_dict(p, value.dict, indent + 1, allowance);
        else
            print_list(p, value.list, indent + 1, allowance);
        jinja_put_ascii(&p->b, closing(value));
    }
    p->level--;
    jinja_higher(p->b.run);
}

struct jinja_value jinja_filter_pprint(struct jinja_run *run, struct jinja_value self,
                                       const struct jinja_args *args)
{
    struct printer p = {.b = {.run = run}};

    jinja_bind_none(run, "pprint", args);
    print(&p, self, 0, 0);
    return jinja_built(&p.b);
}
