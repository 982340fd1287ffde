/* SPDX-License-Identifier: MIT */
/*
 * grammar_gbnf.c: llama.cpp's grammars.
 *
 *     rule     = name "::=" choices newline
 *     choices  = sequence ("|" sequence)*           a newline may follow or precede "|"
 *     sequence = (item ("*" | "+" | "?" | "{" m [","] [n] "}")*)*
 *     item     = string | [class] | "." | name | "(" choices ")"
 *
 * Characters are Unicode scalars: \xE9 is the letter, not the byte. Newlines are spaces in
 * parentheses.
 */
#include <stdlib.h>
#include <string.h>

#include "base/utf8.h"
#include "grammar/grammar_read.h"

/* ---- spaces and characters ------------------------------------------------------------------ */

static bool at_char(const struct grammar_reader *r, char c)
{
    return r->at < r->n && r->text[r->at] == c;
}

static bool at_newline(const struct grammar_reader *r)
{
    return at_char(r, '\n') || at_char(r, '\r');
}

static bool skip(struct grammar_reader *r, char c)
{
    bool there = at_char(r, c);
    r->at += there;
    return there;
}

static void skip_space(struct grammar_reader *r, bool newlines)
{
    while (at_char(r, ' ') || at_char(r, '\t') || at_char(r, '#') || (newlines && at_newline(r))) {
        if (!at_char(r, '#'))
            r->at++;
        else
            while (r->at < r->n && !at_newline(r))
                r->at++;
    }
}

static bool name_char(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '-' ||
           c == '_';
}

/* The number of the name here. */
static uint32_t want_name(struct grammar_reader *r)
{
    uint32_t begin = r->at;
    while (r->at < r->n && name_char(r->text[r->at]))
        r->at++;
    if (r->at == begin) {
        read_expected(r, begin, "the name of a rule");
        return READ_NO_PLACE;
    }
    uint32_t known = r->n_names, id = read_name(r, begin, r->at - begin, GRAMMAR_NONE);
    if (id == known && !r->failed) {
        char name[64];
        size_t n = r->at - begin < sizeof name ? r->at - begin : sizeof name - 1;
        memcpy(name, r->text + begin, n);
        name[n] = '\0';
        r->names[id].value = grammar_rule(r->grammar, name);
    }
    return id;
}

/* The character here, or the one that an escape stands for; it may be a surrogate. */
static uint32_t want_char(struct grammar_reader *r)
{
    uint32_t begin = r->at, value;
    if (!skip(r, '\\'))
        return read_scalar(r);
    char c = r->at < r->n ? r->text[r->at++] : '\0';
    switch (c) {
    case 'x':
        return read_hex(r, 2);
    case 'u':
        return read_hex(r, 4);
    case 'U':
        value = read_hex(r, 8);
        return value <= 0x10ffff
                   ? value
                   : read_error(r, begin, "expected a character of Unicode, found \\U%08X", value);
    case 't':
        return '\t';
    case 'r':
        return '\r';
    case 'n':
        return '\n';
    case '\\':
    case '"':
    case '[':
    case ']':
    case '-':
        return (unsigned char)c;
    default:
        return read_expected(r, begin + 1, "one of xuUtrn\\\"[]- after '\\'");
    }
}

/* ---- items ---------------------------------------------------------------------------------- */

static node string(struct grammar_reader *r)
{
    struct buf bytes = {0};
    uint32_t begin = r->at++;
    uint8_t utf8[4];
    while (!r->failed && !skip(r, '"')) {
        uint32_t at = r->at;
        if (at == r->n) {
            read_error(r, begin, "expected '\"' at the end of the string, found none");
            break;
        }
        uint32_t scalar = want_char(r);
        if (scalar >= 0xd800 && scalar <= 0xdfff)
            read_error(r, at, "expected a character of Unicode, found the surrogate \\u%04X",
                       scalar);
        else
            buf_add(&bytes, utf8, (size_t)utf8_encode(scalar, utf8));
    }
    node id = GRAMMAR_NONE;
    if (bytes.failed)
        read_memory(r, bytes.size);
    else if (!r->failed)
        id = bytes.size == 0 ? (node)GRAMMAR_EMPTY
                             : grammar_literal(r->grammar, bytes.data, bytes.size);
    buf_free(&bytes);
    return id;
}

static node characters(struct grammar_reader *r, const uint32_t (*ranges)[2], size_t n)
{
    uint32_t size = n < 64 ? (uint32_t)n + 1 : 64;
    return grammar_terminal_sized(r->grammar, regex_chars(r->grammar->regexes, ranges, n), size);
}

static int by_first(const void *a, const void *b)
{
    const uint32_t *x = a, *y = b;
    return (x[0] > y[0]) - (x[0] < y[0]);
}

/* All characters but those of ranges, in their place. Returns how many ranges they are; there is
 * room for n + 1. */
static size_t negate(uint32_t (*ranges)[2], size_t n)
{
    size_t kept = 0;
    uint32_t next = 0; /* the first that isn't decided yet */
    qsort(ranges, n, sizeof *ranges, by_first);
    for (size_t i = 0; i < n; i++) {
        uint32_t first = ranges[i][0], last = ranges[i][1];
        if (first > next) {
            ranges[kept][0] = next;
            ranges[kept++][1] = first - 1;
        }
        if (last >= next)
            next = last + 1;
    }
    if (next <= 0x10ffff) {
        ranges[kept][0] = next;
        ranges[kept++][1] = 0x10ffff;
    }
    return kept;
}

static node class(struct grammar_reader *r)
{
    struct buf pairs = {0};
    uint32_t begin = r->at++;
    bool negated = skip(r, '^');
    while (!r->failed && !skip(r, ']')) {
        uint32_t at = r->at;
        if (at == r->n) {
            read_error(r, begin, "expected ']' at the end of the class, found none");
            break;
        }
        uint32_t pair[2] = {want_char(r)};
        pair[1] = pair[0];
        if (at_char(r, '-') && r->at + 1 < r->n && r->text[r->at + 1] != ']') {
            r->at++;
            pair[1] = want_char(r);
        }
        if (!r->failed && pair[0] > pair[1])
            read_error(r, at,
                       "expected a range from a lower character to a higher one, found '%.*s'",
                       (int)(r->at - at), r->text + at);
        buf_add(&pairs, pair, sizeof pair);
    }
    buf_add(&pairs, (uint32_t[2]){0}, 2 * sizeof(uint32_t)); /* room for negate() */
    node id = GRAMMAR_NONE;
    if (pairs.failed) {
        read_memory(r, pairs.size);
    } else if (!r->failed) {
        uint32_t(*ranges)[2] = (uint32_t(*)[2])(void *)pairs.data;
        size_t n = pairs.size / sizeof *ranges - 1;
        if (n == 0)
            read_error(r, begin, "expected a character, found an empty class");
        else
            id = characters(r, (const uint32_t(*)[2])ranges, negated ? negate(ranges, n) : n);
    }
    buf_free(&pairs);
    return id;
}

static node choices(struct grammar_reader *r, bool nested);

static node group(struct grammar_reader *r)
{
    uint32_t begin = r->at++;
    if (r->nesting == READ_MAX_NESTING)
        return read_error(r, begin, "expected at most %d groups in groups, found more",
                          READ_MAX_NESTING);
    r->nesting++;
    skip_space(r, true);
    node id = choices(r, true);
    r->nesting--;
    if (!r->failed && !skip(r, ')'))
        read_expected(r, r->at, "')'");
    return id;
}

/* Tokens are no text: a mask of bytes can't hold them. */
static node token(struct grammar_reader *r)
{
    uint32_t begin = r->at, end = begin;
    while (end < r->n && end < begin + 40 && r->text[end] != '>' && r->text[end] != '\n')
        end++;
    return read_error(r, begin,
                      "expected text or the name of a rule, found the token %.*s, which "
                      "isn't supported",
                      (int)(end - begin + (end < r->n && r->text[end] == '>')), r->text + begin);
}

/* An item, or false where none begins. */
static bool item(struct grammar_reader *r, node *id)
{
    static const uint32_t any[][2] = {{0, 0x10ffff}};
    char c = r->at < r->n ? r->text[r->at] : '\0';
    if (c == '"') {
        *id = string(r);
    } else if (c == '[') {
        *id = class(r);
    } else if (c == '(') {
        *id = group(r);
    } else if (c == '.') {
        r->at++;
        *id = characters(r, any, 1);
    } else if (c == '<' || c == '!') {
        *id = token(r);
    } else if (name_char(c)) {
        uint32_t at = r->at, name = want_name(r);
        if (r->failed)
            return false;
        if (r->names[name].used == READ_NO_PLACE)
            r->names[name].used = at;
        *id = r->names[name].value;
    } else {
        return false;
    }
    return !r->failed;
}

/* What may follow an item, as often as it likes. */
static node repetitions(struct grammar_reader *r, node id, bool nested)
{
    for (;;) {
        skip_space(r, nested);
        uint32_t min = 0, max = UINT32_MAX, begin = r->at;
        if (skip(r, '+')) {
            min = 1;
        } else if (skip(r, '?')) {
            max = 1;
        } else if (skip(r, '{')) {
            skip_space(r, nested);
            min = max = read_count(r);
            skip_space(r, nested);
            if (!r->failed && skip(r, ',')) {
                skip_space(r, nested);
                max = at_char(r, '}') ? UINT32_MAX : read_count(r);
                skip_space(r, nested);
            }
            if (!r->failed && !skip(r, '}'))
                read_expected(r, r->at, "'}'");
            if (!r->failed && max < min)
                read_error(r, begin, "expected at least as many as %u, found %u", (unsigned)min,
                           (unsigned)max);
        } else if (!skip(r, '*')) {
            return id;
        }
        if (r->failed)
            return GRAMMAR_NONE;
        id = grammar_repeat(r->grammar, id, min, max);
    }
}

static node sequence(struct grammar_reader *r, bool nested)
{
    size_t base = r->n_all;
    node id;
    while (item(r, &id))
        read_push(r, repetitions(r, id, nested));
    if (r->failed)
        return GRAMMAR_NONE;
    id = grammar_concat_all(r->grammar, r->all + base, r->n_all - base);
    r->n_all = base;
    return id;
}

/* A "|", which may begin a line. */
static bool bar(struct grammar_reader *r)
{
    uint32_t at = r->at;
    skip_space(r, true);
    if (skip(r, '|')) {
        skip_space(r, true);
        return true;
    }
    r->at = at;
    return false;
}

static node choices(struct grammar_reader *r, bool nested)
{
    size_t base = r->n_all;
    do
        read_push(r, sequence(r, nested));
    while (!r->failed && bar(r));
    if (r->failed)
        return GRAMMAR_NONE;
    node id = grammar_or_all(r->grammar, r->all + base, r->n_all - base);
    r->n_all = base;
    return id;
}

/* ---- rules ---------------------------------------------------------------------------------- */

static void rule(struct grammar_reader *r)
{
    uint32_t begin = r->at, name = want_name(r);
    if (r->failed)
        return;
    if (r->names[name].defined_at != READ_NO_PLACE) {
        read_error(r, begin, "expected one definition of the rule %.*s, found another",
                   (int)(r->at - begin < 60 ? r->at - begin : 60), r->text + begin);
        return;
    }
    r->names[name].defined_at = begin;
    skip_space(r, false);
    if (r->n - r->at < 3 || memcmp(r->text + r->at, "::=", 3) != 0) {
        read_expected(r, r->at, "'::='");
        return;
    }
    r->at += 3;
    skip_space(r, true);
    node body = choices(r, false);
    if (r->failed)
        return;
    if (r->at < r->n && !at_newline(r)) {
        read_expected(r, r->at, "text, a rule or the end of the line");
        return;
    }
    grammar_define(r->grammar, r->names[name].value, body);
}

static void find_root(struct grammar_reader *r)
{
    for (uint32_t i = 0; i < r->n_names && !r->failed; i++) {
        const struct read_name *name = &r->names[i];
        if (name->defined_at == READ_NO_PLACE)
            read_error(r, name->used, "expected a definition of the rule %.*s, found none",
                       (int)(name->n < 60 ? name->n : 60), r->text + name->at);
        else if (name->n == 4 && memcmp(r->text + name->at, "root", 4) == 0)
            r->grammar->start = name->value;
    }
    if (!r->failed && r->grammar->start == GRAMMAR_NONE && !grammar_is_failed(r->grammar)) {
        error_input(r->err, "%s: expected a rule with the name root, found none", r->where);
        r->failed = true;
    }
}

int grammar_gbnf(struct grammar *grammar, const char *text, size_t n, const char *where,
                 struct llama3_error *err)
{
    struct grammar_reader r = {.grammar = grammar, .text = text, .where = where, .err = err};
    if (n > READ_MAX_TEXT)
        return error_input(err, "%s: expected at most %d bytes, found %zu", where, READ_MAX_TEXT,
                           n);
    r.n = (uint32_t)n;
    grammar->greedy = false;
    if (read_open(&r))
        for (skip_space(&r, true); !r.failed && r.at < r.n; skip_space(&r, true))
            rule(&r);
    if (!r.failed)
        find_root(&r);
    uint32_t root = 0;
    for (uint32_t i = 0; i < r.n_names; i++)
        if (r.names[i].value == grammar->start)
            root = r.names[i].defined_at;
    int status = read_check(&r, root);
    read_close(&r);
    return status;
}
