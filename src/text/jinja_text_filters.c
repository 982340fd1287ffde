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

/* Whether ASCII text is at chars[at..to). */
static bool is_at(const uint32_t *chars, size_t at, size_t to, const char *text)
{
    for (; *text; at++, text++)
        if (at == to || jinja_scalar(chars[at]) != (unsigned char)*text)
            return false;
    return true;
}

static bool is_ended_by(struct text_range r, const char *text)
{
    size_t n = strlen(text);

    return r.to - r.from >= n && is_at(r.chars, r.to - n, r.to, text);
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

    jinja_bind(run, "title", "", args, NULL);
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

    jinja_bind(run, "wordcount", "", args, NULL);
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

/* ---- urlize
 * -------------------------------------------------------------------------------------- */

struct urlizer {
    struct jinja_run *run;
    struct jinja_builder b;
    struct jinja_value limit;                /* of what is shown of a URL */
    const struct jinja_string *rel, *target; /* escaped; NULL: none */
    struct jinja_span schemes;
};

static uint32_t lower(uint32_t c)
{
    c = jinja_scalar(c);
    return c >= 'A' && c <= 'Z' ? c + 32 : c;
}

static bool is_prefix(struct text_range r, const char *prefix) /* of any case */
{
    for (; *prefix; prefix++, r.from++)
        if (r.from == r.to || lower(r.chars[r.from]) != (unsigned char)*prefix)
            return false;
    return true;
}

static bool is_hostname(uint32_t c)
{
    return is_word(c) || is_one_of(c, "%-");
}

/* What may follow a host: a port, and a path, query or fragment, which is all the rest. */
static bool is_url_tail(struct text_range r)
{
    size_t at = r.from;

    if (at < r.to && jinja_scalar(r.chars[at]) == ':') {
        for (at++; at < r.to && at < r.from + 6 && jinja_is_decimal(jinja_scalar(r.chars[at]));
             at++)
            ;
        if (at == r.from + 1)
            return false;
    }
    return at == r.to || is_one_of(r.chars[at], "/?#");
}

static bool is_top_level(struct text_range r, bool known_only)
{
    static const char *const known[] = {"com", "net", "int", "edu", "gov", "org", "info", "mil"};
    size_t n = r.to - r.from, letters = 0;

    for (size_t i = 0; i < sizeof known / sizeof *known; i++)
        if (n == strlen(known[i]) && is_prefix(r, known[i]))
            return true;
    if (known_only)
        return false;
    while (letters < n && lower(r.chars[r.from + letters]) >= 'a' &&
           lower(r.chars[r.from + letters]) <= 'z')
        letters++;
    if (letters == n)
        return n >= 2 && n <= 63;
    if (!is_prefix(r, "xn--") || n < 6 || n > 63)
        return false;
    for (size_t i = r.from + 4; i < r.to; i++)
        if (!is_word(r.chars[i]) && !is_one_of(r.chars[i], "%"))
            return false;
    return true;
}

/* Labels with dots between them, the last a top-level domain; after a scheme, one does. */
static bool is_domain(struct text_range r, bool scheme)
{
    size_t end = r.from, label = r.from, n_labels = 0;

    for (; end < r.to && (is_hostname(r.chars[end]) || is_one_of(r.chars[end], ".")); end++) {
        if (jinja_scalar(r.chars[end]) != '.')
            continue;
        if (end - label < (scheme ? 1 : 2) || (!scheme && end - label > 63))
            return false;
        label = end + 1;
        n_labels++;
    }
    return (scheme || n_labels > 0) &&
           is_top_level((struct text_range){r.chars, label, end}, !scheme) &&
           is_url_tail((struct text_range){r.chars, end, r.to});
}

static bool is_ipv4(struct text_range r)
{
    size_t at = r.from;

    for (int i = 0; i < 4; i++) {
        if (i > 0 && (at == r.to || jinja_scalar(r.chars[at++]) != '.'))
            return false;
        size_t from = at;
        while (at < r.to && at < from + 3 && jinja_is_decimal(jinja_scalar(r.chars[at])))
            at++;
        if (at == from)
            return false;
    }
    return is_url_tail((struct text_range){r.chars, at, r.to});
}

static bool is_ipv6(struct text_range r)
{
    size_t at = r.from;

    if (at == r.to || jinja_scalar(r.chars[at++]) != '[')
        return false;
    for (int groups = 0;; groups++) {
        for (size_t from = at; at < r.to && at < from + 4; at++)
            if (!jinja_is_decimal(jinja_scalar(r.chars[at])) &&
                !(lower(r.chars[at]) >= 'a' && lower(r.chars[at]) <= 'f'))
                break;
        bool colon = at < r.to && jinja_scalar(r.chars[at]) == ':';
        at += colon;
        if ((groups < 2 && !colon) || groups == 8)
            return false;
        if (groups >= 1 && at < r.to && jinja_scalar(r.chars[at]) == ']')
            return is_url_tail((struct text_range){r.chars, at + 1, r.to});
        if (at == r.to)
            return false;
    }
}

static bool is_url(struct text_range r)
{
    size_t scheme = is_prefix(r, "https://") ? 8 : is_prefix(r, "http://") ? 7 : 0;
    struct text_range host = {r.chars, r.from + scheme, r.to};

    if (scheme > 0 && (is_domain(host, true) || is_ipv4(host) || is_ipv6(host)))
        return true;
    if (is_prefix(r, "www.") && is_domain((struct text_range){r.chars, r.from + 4, r.to}, true))
        return true;
    return is_domain(r, false);
}

/* Something, a last '@', and a domain whose last part is a word. */
static bool is_email(struct text_range r)
{
    size_t at = r.to, dot = 0;

    while (at > r.from && jinja_scalar(r.chars[at - 1]) != '@')
        at--;
    if (at <= r.from + 1 || at == r.to || !is_word(r.chars[at]))
        return false;
    for (size_t i = at + 1; i < r.to; i++) {
        if (!is_word(r.chars[i]) && !is_one_of(r.chars[i], ".-"))
            return false;
        if (jinja_scalar(r.chars[i]) == '.')
            dot = i;
    }
    if (dot == 0 || dot + 1 == r.to)
        return false;
    for (size_t i = dot + 1; i < r.to; i++)
        if (!is_word(r.chars[i]))
            return false;
    return true;
}

static size_t count(struct text_range r, const char *part)
{
    size_t n = 0;

    for (size_t at = r.from; at < r.to;) {
        bool there = is_at(r.chars, at, r.to, part);
        n += there;
        at += there ? strlen(part) : 1;
    }
    return n;
}

/* Brackets and punctuation around a word are no part of it, unless it has the bracket's other. */
static struct text_range middle_of(struct jinja_run *run, struct text_range word)
{
    static const char *const opening[] = {"(", "<", "&lt;"}, *const closing[] = {")", ">", "&gt;"};
    struct text_range m = word;

    while (m.from < m.to) {
        size_t n = is_one_of(m.chars[m.from], "(<")       ? 1
                   : is_at(m.chars, m.from, m.to, "&lt;") ? 4
                                                          : 0;
        if (n == 0)
            break;
        m.from += n;
    }
    while (m.to > m.from) {
        size_t n = is_one_of(m.chars[m.to - 1], ")>.,\n") ? 1 : is_ended_by(m, "&gt;") ? 4 : 0;
        if (n == 0)
            break;
        m.to -= n;
    }
    for (size_t i = 0; i < 3; i++) {
        struct text_range tail = {word.chars, m.to, word.to};
        size_t opened = count(m, opening[i]), in_tail = count(tail, closing[i]);
        jinja_work(run, (word.to - word.from) / 2);
        if (opened <= count(m, closing[i]))
            continue;
        for (size_t moves = opened < in_tail ? opened : in_tail; moves > 0; moves--) {
            while (!is_at(word.chars, m.to, word.to, closing[i]))
                m.to++;
            m.to += strlen(closing[i]);
        }
    }
    return m;
}

static void put_link(struct urlizer *u, const char *scheme, struct text_range address,
                     bool attributes, struct text_range shown)
{
    struct jinja_builder *b = &u->b;

    jinja_put_ascii(b, "<a href=\"");
    jinja_put_ascii(b, scheme);
    put_range(b, address);
    jinja_put_ascii(b, "\"");
    if (attributes && u->rel) {
        jinja_put_ascii(b, " rel=\"");
        put_string(b, u->rel);
        jinja_put_ascii(b, "\"");
    }
    if (attributes && u->target) {
        jinja_put_ascii(b, " target=\"");
        put_string(b, u->target);
        jinja_put_ascii(b, "\"");
    }
    jinja_put_ascii(b, ">");
    put_range(b, shown);
    if (shown.to < address.to)
        jinja_put_ascii(b, "...");
    jinja_put_ascii(b, "</a>");
}

static void put_url(struct urlizer *u, struct text_range m)
{
    bool scheme =
        is_at(m.chars, m.from, m.to, "https://") || is_at(m.chars, m.from, m.to, "http://");
    int64_t n = (int64_t)(m.to - m.from);
    struct text_range shown = m;
    int64_t limit = jinja_is_absent(u->limit) ? n : jinja_want_int(u->run, "urlize", u->limit);

    if (n > limit) {
        int64_t keep = limit < 0 ? limit + n : limit;
        shown.to = m.from + (size_t)(keep > 0 ? keep : 0);
    }
    put_link(u, scheme ? "" : "https://", m, true, shown);
}

static bool is_of_scheme(struct urlizer *u, struct text_range m)
{
    jinja_work(u->run, u->schemes.n);
    for (size_t i = 0; i < u->schemes.n; i++) {
        const struct jinja_string *s = u->schemes.items[i].string;
        const struct jinja_string word = {.chars = m.chars + m.from, .n = m.to - m.from};
        if (word.n > s->n && jinja_is_at(u->run, &word, 0, s))
            return true;
    }
    return false;
}

static void put_middle(struct urlizer *u, struct text_range m)
{
    struct text_range address = {m.chars, m.from + 7, m.to};
    bool at_sign = count(m, "@") > 0 && !is_at(m.chars, m.from, m.to, "@");

    if (is_url(m))
        put_url(u, m);
    else if (is_at(m.chars, m.from, m.to, "mailto:") && is_email(address))
        put_link(u, "", m, false, address);
    else if (at_sign && !is_at(m.chars, m.from, m.to, "www.") && count(m, ":") == 0 && is_email(m))
        put_link(u, "mailto:", m, false, m);
    else if (is_of_scheme(u, m))
        put_link(u, "", m, true, m);
    else
        put_range(&u->b, m);
}

static const struct jinja_string *attribute_text(struct jinja_run *run, struct jinja_value value)
{
    return jinja_is_absent(value) || !jinja_truth(run, value) ? NULL : jinja_escape(run, value);
}

/* The words of rel, with what is always in it, sorted, each once. */
static const struct jinja_string *rel_text(struct jinja_run *run, struct jinja_value rel,
                                           bool nofollow)
{
    struct jinja_value words = jinja_list(run, JINJA_PLAIN, 4);
    struct jinja_builder b = {.run = run};

    if (attribute_text(run, rel)) {
        const struct jinja_string *s = jinja_want_string(run, "urlize: rel", rel);
        for (size_t at = 0, from; at < s->n;) {
            while (at < s->n && is_space(s->chars[at]))
                at++;
            for (from = at; at < s->n && !is_space(s->chars[at]);)
                at++;
            if (at > from)
                jinja_append(run, words.list, jinja_part(run, s, from, at));
        }
    }
    if (nofollow)
        jinja_append(run, words.list, jinja_ascii(run, "nofollow"));
    jinja_append(run, words.list, jinja_ascii(run, "noopener"));
    size_t n = words.list->n;
    struct jinja_value *items = words.list->items;
    struct jinja_keyed *order = jinja_alloc(run, n, sizeof *order);
    for (size_t i = 0; i < n; i++)
        order[i] = (struct jinja_keyed){.key = &items[i], .index = i};
    jinja_sort(run, order, n, jinja_is_less, false);
    for (size_t i = 0; i < n; i++) {
        if (i > 0 && jinja_same(order[i].key->string, order[i - 1].key->string))
            continue;
        if (b.n > 0)
            jinja_put_ascii(&b, " ");
        put_string(&b, order[i].key->string);
    }
    return jinja_escape(run, jinja_built(&b));
}

/* A name of two characters at least, a colon, and up to two slashes. */
static void check_scheme(struct jinja_run *run, struct jinja_value value)
{
    const struct jinja_string *s = jinja_want_string(run, "urlize: a scheme", value);
    size_t n = s->n;

    for (int i = 0; i < 2 && n > 0 && jinja_scalar(s->chars[n - 1]) == '/'; i++)
        n--;
    bool good = n >= 3 && jinja_scalar(s->chars[n - 1]) == ':';
    for (size_t i = 0; good && i < n - 1; i++)
        good = is_word(s->chars[i]) || is_one_of(s->chars[i], ".+-");
    if (!good)
        jinja_fail(run, "urlize: expected a URI's scheme, found another string");
}

static void bind_urlize(struct urlizer *u, const struct jinja_args *args)
{
    struct jinja_value v[5];

    jinja_bind(u->run, "urlize", "trim_url_limit=, nofollow=, target=, rel=, extra_schemes=", args,
               v);
    u->limit = v[0];
    u->rel = rel_text(u->run, v[3], v[1].type != JINJA_ABSENT && jinja_truth(u->run, v[1]));
    u->target = attribute_text(u->run, v[2]);
    if (jinja_is_absent(v[4]))
        return;
    u->schemes = jinja_iterate(u->run, v[4]);
    jinja_work(u->run, u->schemes.n);
    for (size_t i = 0; i < u->schemes.n; i++)
        check_scheme(u->run, u->schemes.items[i]);
}

struct jinja_value jinja_filter_urlize(struct jinja_run *run, struct jinja_value self,
                                       const struct jinja_args *args)
{
    struct urlizer u = {.run = run, .b = {.run = run}};

    bind_urlize(&u, args);
    const struct jinja_string *s = jinja_escape(run, self);
    jinja_work(run, s->n);
    for (size_t at = 0; at < s->n;) {
        size_t from = at;
        bool space = is_space(s->chars[at]);
        while (at < s->n && is_space(s->chars[at]) == space)
            at++;
        struct text_range word = {s->chars, from, at};
        struct text_range m = space ? word : middle_of(run, word);
        put_range(&u.b, (struct text_range){s->chars, from, m.from});
        if (space)
            put_range(&u.b, m);
        else
            put_middle(&u, m);
        put_range(&u.b, (struct text_range){s->chars, m.to, at});
    }
    return jinja_built(&u.b);
}

/* ---- striptags, with the entities of HTML
 * -------------------------------------------------------- */

/* Those that HTML knows without a semicolon as well: Latin-1 from U+00A0. */
static const char latin[] =
    "nbsp iexcl cent pound curren yen brvbar sect uml copy ordf laquo not shy reg macr deg plusmn "
    "sup2 sup3 acute micro para middot cedil sup1 ordm raquo frac14 frac12 frac34 iquest Agrave "
    "Aacute Acirc Atilde Auml Aring AElig Ccedil Egrave Eacute Ecirc Euml Igrave Iacute Icirc Iuml "
    "ETH Ntilde Ograve Oacute Ocirc Otilde Ouml times Oslash Ugrave Uacute Ucirc Uuml Yacute THORN "
    "szlig agrave aacute acirc atilde auml aring aelig ccedil egrave eacute ecirc euml igrave "
    "iacute icirc iuml eth ntilde ograve oacute ocirc otilde ouml divide oslash ugrave uacute "
    "ucirc uuml yacute thorn yuml ";

/* What bytes 0x80 to 0x9f stand for where a number means Windows-1252; 0: that control itself. */
static const uint16_t windows[32] = {
    0x20ac, 0,      0x201a, 0x0192, 0x201e, 0x2026, 0x2020, 0x2021, 0x02c6, 0x2030, 0x0160,
    0x2039, 0x0152, 0,      0x017d, 0,      0,      0x2018, 0x2019, 0x201c, 0x201d, 0x2022,
    0x2013, 0x2014, 0x02dc, 0x2122, 0x0161, 0x203a, 0x0153, 0,      0x017e, 0x0178};

/* The character of a name that needs no semicolon; 0 if there is none. */
static uint32_t named(struct text_range name)
{
    static const struct {
        const char *name;
        uint32_t scalar;
    } others[] = {{"amp", '&'}, {"AMP", '&'},  {"lt", '<'},   {"LT", '<'},   {"gt", '>'},
                  {"GT", '>'},  {"quot", '"'}, {"QUOT", '"'}, {"COPY", 169}, {"REG", 174}};
    size_t n = name.to - name.from;
    uint32_t scalar = 0xa0;

    for (size_t i = 0; i < sizeof others / sizeof *others; i++)
        if (n == strlen(others[i].name) && is_at(name.chars, name.from, name.to, others[i].name))
            return others[i].scalar;
    for (const char *l = latin; *l; l = strchr(l, ' ') + 1, scalar++) {
        size_t i = 0;
        while (i < n && l[i] != ' ' &&
               jinja_scalar(name.chars[name.from + i]) == (unsigned char)l[i])
            i++;
        if (i == n && l[i] == ' ')
            return scalar;
    }
    return 0;
}

/* Of names that need a semicolon, the few that are met. */
static uint32_t named_ended(struct text_range name)
{
    static const struct {
        const char *name;
        uint32_t scalar;
    } names[] = {{"apos;", '\''},    {"hellip;", 0x2026}, {"ndash;", 0x2013}, {"mdash;", 0x2014},
                 {"lsquo;", 0x2018}, {"rsquo;", 0x2019},  {"ldquo;", 0x201c}, {"rdquo;", 0x201d},
                 {"bull;", 0x2022},  {"trade;", 0x2122},  {"euro;", 0x20ac},  {"larr;", 0x2190},
                 {"rarr;", 0x2192},  {"le;", 0x2264},     {"ge;", 0x2265},    {"ne;", 0x2260},
                 {"infin;", 0x221e}};

    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (name.to - name.from == strlen(names[i].name) &&
            is_at(name.chars, name.from, name.to, names[i].name))
            return names[i].scalar;
    return 0;
}

static bool is_dropped(uint32_t c)
{
    return (c < 0x20 && !is_one_of(c, "\t\n\f\r")) || (c >= 0x7f && c < 0xa0) ||
           (c >= 0xfdd0 && c <= 0xfdef) || (c & 0xfffe) == 0xfffe;
}

static void put_numbered(struct jinja_builder *b, uint64_t c)
{
    if (c >= 0x80 && c < 0xa0)
        c = windows[c - 0x80] ? windows[c - 0x80] : c;
    else if (c == 0 || c > 0x10ffff || (c & ~UINT64_C(0x7ff)) == 0xd800)
        c = 0xfffd;
    else if (is_dropped((uint32_t)c))
        return;
    jinja_put(b, (uint32_t)c | (uint32_t)JINJA_GIVEN);
}

/* "#123;" or "#x7b;" behind an ampersand. How long it is; 0 if it is none. */
static size_t put_number_reference(struct jinja_builder *b, struct text_range r)
{
    size_t at = r.from + 1, base = 10, n = 0;
    uint64_t value = 0;

    if (at < r.to && lower(r.chars[at]) == 'x') {
        base = 16;
        at++;
    }
    for (; at < r.to; at++, n++) {
        uint32_t c = lower(r.chars[at]);
        size_t digit = c >= '0' && c <= '9' ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 : 16;
        if (digit >= base)
            break;
        value = value > 0x10ffff ? value : value * base + digit;
    }
    if (n == 0)
        return 0;
    at += at < r.to && jinja_scalar(r.chars[at]) == ';';
    put_numbered(b, value);
    return at - r.from;
}

/* A name behind an ampersand, or the longest beginning of it that is one. */
static size_t put_name_reference(struct jinja_builder *b, struct text_range r)
{
    enum { LONGEST = 32 };
    size_t end = r.from;

    jinja_work(b->run, LONGEST);
    while (end < r.to && end < r.from + LONGEST && !is_one_of(r.chars[end], "\t\n\f <&#;"))
        end++;
    bool ended = end > r.from && end < r.to && jinja_scalar(r.chars[end]) == ';';
    if (ended && named_ended((struct text_range){r.chars, r.from, end + 1})) {
        jinja_put(b, named_ended((struct text_range){r.chars, r.from, end + 1}) |
                         (uint32_t)JINJA_GIVEN);
        return end + 1 - r.from;
    }
    for (size_t to = end; to > r.from + 1; to--) {
        uint32_t c = named((struct text_range){r.chars, r.from, to});
        if (c != 0) {
            jinja_put(b, c | (uint32_t)JINJA_GIVEN);
            return to - r.from + (ended && to == end);
        }
    }
    for (size_t i = r.from; ended && i < end; i++)
        ended = lower(r.chars[i]) < 0x80 && is_word(r.chars[i]) && jinja_scalar(r.chars[i]) != '_';
    if (ended)
        jinja_fail(b->run, "striptags: expected an entity of Latin-1, found another name");
    return 0;
}

static struct jinja_value unescape(struct jinja_run *run, const struct jinja_string *s)
{
    struct jinja_builder b = {.run = run};

    for (size_t at = 0; at < s->n; at++) {
        struct text_range rest = {s->chars, at + 1, s->n};
        size_t n = 0;
        if (jinja_scalar(s->chars[at]) == '&' && rest.from < rest.to)
            n = jinja_scalar(s->chars[at + 1]) == '#' ? put_number_reference(&b, rest)
                                                      : put_name_reference(&b, rest);
        /* A number that stands for nothing is gone as well. */
        if (n == 0)
            jinja_put(&b, s->chars[at]);
        at += n;
    }
    return jinja_built(&b);
}

/* Where the tag or comment that begins at `at` ends; 0 if it doesn't. */
static size_t tag_end(const struct jinja_string *s, size_t at)
{
    bool comment = is_at(s->chars, at, s->n, "<!--");

    for (at += comment ? 4 : 1; at < s->n; at++) {
        if (comment && is_at(s->chars, at, s->n, "-->"))
            return at + 3;
        if (!comment && jinja_scalar(s->chars[at]) == '>')
            return at + 1;
    }
    return 0;
}

/* Appends with each run of white space as one space, and none at the beginning. */
static void put_collapsed(struct jinja_builder *b, const struct jinja_string *s)
{
    for (size_t i = 0; i < s->n; i++) {
        if (is_space(s->chars[i]))
            continue;
        if (i > 0 && is_space(s->chars[i - 1]) && b->n > 0)
            jinja_put_ascii(b, " ");
        jinja_put(b, s->chars[i]);
    }
}

struct jinja_value jinja_filter_striptags(struct jinja_run *run, struct jinja_value self,
                                          const struct jinja_args *args)
{
    const struct jinja_string *s = jinja_soft_str(run, self);
    struct jinja_builder plain = {.run = run}, b = {.run = run};

    jinja_bind(run, "striptags", "", args, NULL);
    jinja_work(run, s->n);
    for (size_t at = 0; at < s->n;) {
        size_t from = at, end = 0;
        while (at < s->n && jinja_scalar(s->chars[at]) != '<')
            at++;
        if (at < s->n)
            end = tag_end(s, at);
        if (at < s->n && end == 0)
            at = s->n; /* what has no end is text, with all that follows */
        put_range(&plain, (struct text_range){s->chars, from, at});
        at = end > 0 ? end : at;
    }
    put_collapsed(&b, jinja_built(&plain).string);
    return unescape(run, jinja_built(&b).string);
}

/* ---- urlencode, xmlattr -------------------------------------------------------------------------
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
        bool plain = (lower(c) >= 'a' && lower(c) <= 'z') || (c >= '0' && c <= '9') ||
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

    jinja_bind(run, "urlencode", "", args, NULL);
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

static void check_key(struct jinja_run *run, struct jinja_value key)
{
    const struct jinja_string *s = jinja_want_string(run, "xmlattr: a key", key);

    jinja_work(run, s->n / 4);
    for (size_t i = 0; i < s->n; i++)
        if (is_one_of(s->chars[i], " \t\n\r\f\v/>="))
            jinja_fail(run, "xmlattr: expected an attribute's name, found U+%04X in it",
                       (unsigned)jinja_scalar(s->chars[i]));
}

struct jinja_value jinja_filter_xmlattr(struct jinja_run *run, struct jinja_value self,
                                        const struct jinja_args *args)
{
    struct jinja_builder b = {.run = run};
    struct jinja_value autospace;

    jinja_bind(run, "xmlattr", "autospace=", args, &autospace);
    bool space = autospace.type == JINJA_ABSENT || jinja_truth(run, autospace);
    if (self.type != JINJA_DICT)
        jinja_fail(run, "xmlattr: expected a dict, found %s", jinja_type_name(self));
    jinja_work(run, self.dict->n);
    for (size_t i = 0; i < self.dict->n; i++) {
        const struct jinja_item *item = &self.dict->items[i];
        if (item->value.type == JINJA_NONE || item->value.type == JINJA_UNDEFINED)
            continue;
        check_key(run, item->key);
        if (space || b.n > 0)
            jinja_put_ascii(&b, " ");
        put_string(&b, jinja_escape(run, item->key));
        jinja_put_ascii(&b, "=\"");
        put_string(&b, jinja_escape(run, item->value));
        jinja_put_ascii(&b, "\"");
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

    jinja_bind(run, "pprint", "", args, NULL);
    print(&p, self, 0, 0);
    return jinja_built(&p.b);
}
