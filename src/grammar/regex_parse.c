/* SPDX-License-Identifier: MIT */
/* regex_parse.c: a pattern's text, by recursive descent over groups. */
#include "base/utf8.h"
#include "grammar/regex_pattern.h"

enum { MAX_GROUPS = 200 /* within each other */ };

static uint32_t either(struct pattern *p);

uint32_t pattern_error(struct pattern *p, size_t at, const char *what)
{
    uint32_t scalar;
    char found[8] = "";
    if (p->failed || p->all->failed)
        return 0;
    p->failed = true;
    int n = at < p->n ? utf8_decode(p->text + at, p->n - at, &scalar) : 0;
    memcpy(found, p->text + (at < p->n ? at : 0), n > 0 ? (size_t)n : 0);
    if (at >= p->n)
        error_input(p->err, "pattern, byte %zu: expected %s, found the end", at + 1, what);
    else if (n <= 0)
        error_input(p->err, "pattern, byte %zu: expected %s, found no UTF-8", at + 1, what);
    else
        error_input(p->err, "pattern, byte %zu: expected %s, found \"%s\"", at + 1, what, found);
    return 0;
}

bool pattern_peek(const struct pattern *p, const char *text)
{
    size_t n = strlen(text);
    return p->n - p->at >= n && memcmp(p->text + p->at, text, n) == 0;
}

bool pattern_skip(struct pattern *p, const char *text)
{
    bool next = pattern_peek(p, text);
    p->at += next ? strlen(text) : 0;
    return next;
}

/* ---- nodes ---------------------------------------------------------------------------------- */

static struct pattern_node *node_at(struct pattern *p, uint32_t i)
{
    return &((struct pattern_node *)p->nodes.items)[i];
}

static uint32_t add_node(struct pattern *p, const struct pattern_node *node)
{
    if (p->failed || !regex_room(p->all, &p->nodes, 1, sizeof *node))
        return 0;
    if (p->nodes.n == UINT32_MAX)
        return pattern_error(p, p->at, "a shorter pattern");
    *node_at(p, (uint32_t)p->nodes.n) = *node;
    return (uint32_t)p->nodes.n++;
}

static uint32_t chars(struct pattern *p, regex r)
{
    return add_node(
        p, &(struct pattern_node){.kind = PATTERN_CHARS, .plain = true, .made = true, .r = r});
}

static uint32_t literal(struct pattern *p, uint32_t scalar)
{
    pattern_add(p, scalar, scalar);
    return chars(p, pattern_take(p, false));
}

static uint32_t assertion(struct pattern *p, enum pattern_kind kind, bool what)
{
    return add_node(p, &(struct pattern_node){.kind = (uint8_t)kind, .what = what});
}

static uint32_t nothing(struct pattern *p)
{
    return add_node(p, &(struct pattern_node){
                           .kind = PATTERN_EMPTY, .plain = true, .made = true, .r = REGEX_EMPTY});
}

/* ---- groups --------------------------------------------------------------------------------- */

static bool *flag_of(struct pattern *p, uint8_t letter)
{
    switch (letter) {
    case 'i':
        return &p->fold;
    case 's':
        return &p->dot_all;
    case 'm':
        return &p->lines;
    case 'x':
        return &p->spaced;
    default:
        return NULL;
    }
}

/* The letters of (?i), (?i: and (?i-s:. */
static void flags(struct pattern *p)
{
    bool on = true;
    for (; p->at < p->n && p->text[p->at] != ')' && p->text[p->at] != ':'; p->at++) {
        uint8_t letter = p->text[p->at];
        bool *flag = flag_of(p, letter);
        if (letter == '-')
            on = false;
        else if (flag != NULL)
            *flag = on;
        else if (letter != 'u') /* Unicode, which it is */
            pattern_error(p, p->at, "one of the flags i, m, s, u and x");
    }
}

/* Behind (?< or (?P<: the name, which nothing refers to. */
static void skip_name(struct pattern *p)
{
    size_t from = p->at;
    while (p->at < p->n && p->text[p->at] != '>' && p->text[p->at] != ')')
        p->at++;
    if (p->at == from || !pattern_skip(p, ">"))
        pattern_error(p, p->at, "the name of a group and >");
}

static uint32_t close(struct pattern *p, uint32_t inside)
{
    if (!pattern_skip(p, ")"))
        return pattern_error(p, p->at, ")");
    return inside;
}

static uint32_t inside(struct pattern *p)
{
    struct pattern before = *p;
    if (++p->depth > MAX_GROUPS)
        return pattern_error(p, p->at, "fewer groups within each other");
    uint32_t node = either(p);
    p->depth--;
    p->fold = before.fold;
    p->dot_all = before.dot_all;
    p->lines = before.lines;
    p->spaced = before.spaced;
    return node;
}

/* Behind the parenthesis. */
static uint32_t group(struct pattern *p)
{
    bool whole = p->syntax == REGEX_WHOLE;
    struct pattern before = *p;
    size_t at = p->at;
    if (!pattern_skip(p, "?") || pattern_skip(p, ":"))
        return close(p, inside(p));
    if (pattern_peek(p, "=") || pattern_peek(p, "!")) {
        bool negative = p->text[p->at++] == '!';
        uint32_t child = close(p, inside(p));
        return add_node(
            p, &(struct pattern_node){.kind = PATTERN_AHEAD, .what = negative, .child = child});
    }
    if (pattern_peek(p, "<=") || pattern_peek(p, "<!"))
        return pattern_error(p, at, "a group without look-behind");
    if (pattern_peek(p, ">"))
        return pattern_error(p, at, "a group that isn't atomic");
    if (pattern_peek(p, "P=") || pattern_peek(p, "P>") || pattern_peek(p, "("))
        return pattern_error(p, at, "a group that doesn't refer to another");
    if (pattern_skip(p, "<") || (whole && pattern_skip(p, "P<"))) {
        skip_name(p);
        return close(p, inside(p));
    }
    if (whole && pattern_skip(p, "#")) {
        while (p->at < p->n && p->text[p->at] != ')')
            p->at++;
        return close(p, nothing(p));
    }
    flags(p);
    if (pattern_skip(p, ")")) /* for the rest of the group around */
        return nothing(p);
    if (!pattern_skip(p, ":"))
        return pattern_error(p, p->at, "a group");
    uint32_t node = close(p, inside(p));
    p->fold = before.fold;
    p->dot_all = before.dot_all;
    p->lines = before.lines;
    p->spaced = before.spaced;
    return node;
}

/* ---- atoms and repetition ------------------------------------------------------------------- */

static uint32_t escape(struct pattern *p)
{
    bool whole = p->syntax == REGEX_WHOLE;
    uint32_t scalar;
    if (pattern_skip(p, "b"))
        return assertion(p, PATTERN_WORD, false);
    if (pattern_skip(p, "B"))
        return assertion(p, PATTERN_WORD, true);
    if (whole && pattern_skip(p, "A"))
        return assertion(p, PATTERN_START, false);
    if (whole && (pattern_skip(p, "z") || pattern_skip(p, "Z")))
        return assertion(p, PATTERN_END, false);
    switch (pattern_escape(p, false, &scalar)) {
    case 1:
        return literal(p, scalar);
    case 2:
        return chars(p, pattern_take(p, false));
    default:
        return 0;
    }
}

static bool digit(const struct pattern *p, size_t at)
{
    return at < p->n && p->text[at] >= '0' && p->text[at] <= '9';
}

static uint32_t number(const struct pattern *p, size_t *at)
{
    uint64_t value = 0;
    for (; digit(p, *at); ++*at)
        value = value < UINT32_MAX ? value * 10 + (p->text[*at] - (uint64_t)'0') : value;
    return value < UINT32_MAX ? (uint32_t)value : UINT32_MAX - 1;
}

/* {2}, {2,}, {2,3}: takes them. What looks otherwise is text, as browsers have it. */
static bool braces(struct pattern *p, uint32_t *min, uint32_t *max)
{
    size_t at = p->at + 1;
    bool first = digit(p, at);
    if (!pattern_peek(p, "{") || (!first && p->syntax == REGEX_ECMA))
        return false;
    *min = first ? number(p, &at) : 0;
    *max = *min;
    if (at < p->n && p->text[at] == ',') {
        at++;
        *max = REGEX_INFINITE;
        if (digit(p, at))
            *max = number(p, &at);
        else if (!first)
            return false;
    } else if (!first) {
        return false;
    }
    if (at >= p->n || p->text[at] != '}')
        return false;
    if (*min > *max)
        pattern_error(p, p->at, "a count whose first number isn't above the second");
    p->at = at + 1;
    return true;
}

static bool quantifier(struct pattern *p, uint32_t *min, uint32_t *max)
{
    *min = 0;
    *max = REGEX_INFINITE;
    if (pattern_skip(p, "*"))
        return true;
    if (pattern_skip(p, "+"))
        *min = 1;
    else if (pattern_skip(p, "?"))
        *max = 1;
    else
        return braces(p, min, max);
    return true;
}

/* Space and comments where (?x) says so. */
static void skip_space(struct pattern *p)
{
    while (p->spaced && p->at < p->n) {
        if (memchr(" \t\n\v\f\r", p->text[p->at], 6) != NULL)
            p->at++;
        else if (p->text[p->at] == '#')
            while (p->at < p->n && p->text[p->at] != '\n')
                p->at++;
        else
            break;
    }
}

static uint32_t atom(struct pattern *p)
{
    uint32_t scalar, min, max;
    size_t at = p->at;
    if (pattern_skip(p, "("))
        return group(p);
    if (pattern_skip(p, "["))
        return chars(p, pattern_class(p));
    if (pattern_skip(p, "."))
        return chars(p, pattern_dot(p));
    if (pattern_skip(p, "^"))
        return assertion(p, PATTERN_START, p->lines);
    if (pattern_skip(p, "$"))
        return assertion(p, PATTERN_END, p->lines);
    if (pattern_skip(p, "\\"))
        return escape(p);
    if (quantifier(p, &min, &max))
        return pattern_error(p, at, "something to repeat");
    int n = utf8_decode(p->text + at, p->n - at, &scalar);
    if (n <= 0)
        return pattern_error(p, at, "UTF-8");
    p->at = at + (size_t)n;
    return literal(p, scalar);
}

static uint32_t repeated(struct pattern *p)
{
    uint32_t min, max, node = atom(p);
    skip_space(p);
    size_t at = p->at;
    if (p->failed || !quantifier(p, &min, &max))
        return node;
    if (pattern_peek(p, "+") && p->syntax == REGEX_WHOLE)
        return pattern_error(p, p->at, "a repetition that isn't possessive");
    pattern_skip(p, "?"); /* a lazy one finds the same texts */
    skip_space(p);
    if (p->all->failed)
        return 0;
    bool plain = node_at(p, node)->plain;
    node = add_node(
        p, &(struct pattern_node){
               .kind = PATTERN_REPEAT, .plain = plain, .min = min, .max = max, .child = node});
    at = p->at;
    if (quantifier(p, &min, &max))
        return pattern_error(p, at, "something to repeat");
    return node;
}

/* Puts a child at the end of a list. */
static void append(struct pattern *p, struct pattern_node *list, uint32_t child)
{
    if (p->failed || p->all->failed)
        return;
    list->plain &= node_at(p, child)->plain;
    node_at(p, child)->before = list->child;
    list->child = child;
}

static uint32_t sequence(struct pattern *p)
{
    struct pattern_node list = {.kind = PATTERN_SEQUENCE, .plain = true};
    skip_space(p);
    while (p->at < p->n && !pattern_peek(p, "|") && !pattern_peek(p, ")") && !p->failed &&
           !p->all->failed) {
        append(p, &list, repeated(p));
        skip_space(p);
    }
    return list.child == 0 ? nothing(p) : add_node(p, &list);
}

static uint32_t either(struct pattern *p)
{
    struct pattern_node list = {.kind = PATTERN_EITHER, .plain = true};
    uint32_t first = sequence(p);
    if (!pattern_peek(p, "|"))
        return first;
    append(p, &list, first);
    while (pattern_skip(p, "|") && !p->failed && !p->all->failed)
        append(p, &list, sequence(p));
    return add_node(p, &list);
}

regex regex_parse(struct regexes *all, const char *pattern, size_t n, enum regex_syntax syntax,
                  struct llama3_error *err)
{
    struct pattern p = {
        .all = all, .err = err, .syntax = syntax, .text = (const uint8_t *)pattern, .n = n};
    regex r = REGEX_NONE;
    nothing(&p);
    uint32_t root = either(&p);
    if (p.at < n)
        pattern_error(&p, p.at, "the end");
    if (!p.failed && !all->failed)
        r = regex_compile(&p, root);
    regex_release(all, p.nodes.items, p.nodes.capacity * sizeof(struct pattern_node));
    regex_release(all, p.ranges.items, p.ranges.capacity * sizeof(uint32_t[2]));
    if (!p.failed)
        regexes_failed(all, err);
    return r;
}
