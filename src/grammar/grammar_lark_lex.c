/* SPDX-License-Identifier: MIT */
/* grammar_lark_lex.c: the tokens of a Lark grammar. */
#include <stdlib.h>
#include <string.h>

#include "grammar/grammar_lark.h"

bool lark_room(struct lark *l, void **array, uint32_t *room, uint32_t n, size_t size)
{
    if (n < *room)
        return true;
    size_t more = (size_t)n * 2 + 64;
    void *larger = realloc(*array, more * size);
    if (!larger) {
        read_memory(&l->r, more * size);
        return false;
    }
    *array = larger;
    *room = (uint32_t)more;
    return true;
}

static void add(struct lark *l, enum lark_kind kind, uint32_t at, uint32_t n)
{
    if (lark_room(l, (void **)&l->tokens, &l->tokens_room, l->n_tokens, sizeof *l->tokens))
        l->tokens[l->n_tokens++] = (struct lark_token){kind, at, n};
}

static char peek(const struct lark *l, uint32_t at)
{
    return at < l->r.n ? l->r.text[at] : '\0';
}

static bool lower(char c)
{
    return c >= 'a' && c <= 'z';
}

static bool upper(char c)
{
    return c >= 'A' && c <= 'Z';
}

static bool digit(char c)
{
    return c >= '0' && c <= '9';
}

/* A name: letters of one case, digits, _ and -. A lone _ is a mark. */
static void lex_name(struct lark *l)
{
    uint32_t begin = l->r.at, at = begin;
    bool has_lower = false, has_upper = false;
    while (lower(peek(l, at)) || upper(peek(l, at)) || digit(peek(l, at)) || peek(l, at) == '_' ||
           (peek(l, at) == '-' && peek(l, at + 1) != '>')) {
        has_lower |= lower(peek(l, at));
        has_upper |= upper(peek(l, at));
        at++;
    }
    l->r.at = at;
    if (has_lower && has_upper)
        read_error(&l->r, begin,
                   "expected a name in lower case (a rule) or upper case (a "
                   "terminal), found %.*s",
                   (int)(at - begin < 60 ? at - begin : 60), l->r.text + begin);
    else if (has_lower || has_upper)
        add(l, has_lower ? LARK_RULE : LARK_TERMINAL, begin, at - begin);
    else
        for (; begin < at; begin++)
            add(l, LARK_MARK, begin, 1);
}

/* "...", with i behind it or not. */
static void lex_string(struct lark *l)
{
    uint32_t begin = l->r.at, at = begin + 1;
    for (; peek(l, at) != '"'; at++) {
        at += peek(l, at) == '\\';
        if (at >= l->r.n || (unsigned char)peek(l, at) < ' ') {
            read_error(&l->r, begin,
                       "expected '\"' at the end of the string, found none in its line");
            return;
        }
    }
    at++;
    at += peek(l, at) == 'i';
    add(l, LARK_STRING, begin, at - begin);
    l->r.at = at;
}

/* /.../ and flags; it may have several lines. */
static void lex_regex(struct lark *l)
{
    uint32_t begin = l->r.at, at = begin + 1;
    for (; peek(l, at) != '/'; at++) {
        at += peek(l, at) == '\\';
        if (at >= l->r.n) {
            read_error(&l->r, begin,
                       "expected '/' at the end of the regular expression, found "
                       "none");
            return;
        }
    }
    for (at++; at < l->r.n && strchr("imslux", l->r.text[at]); at++)
        if (l->r.text[at] == '\0')
            break;
    add(l, LARK_REGEX, begin, at - begin);
    l->r.at = at;
}

/* JSON text up to its last bracket; what is in it is checked when it is parsed. */
static void lex_json(struct lark *l)
{
    uint32_t begin = l->r.at, at = begin, open = 0;
    while (at < l->r.n && strchr(" \t\r\n", l->r.text[at]))
        at++;
    begin = at;
    do {
        char c = peek(l, at);
        if (c == '"')
            for (at++; at < l->r.n && l->r.text[at] != '"'; at++)
                at += l->r.text[at] == '\\';
        open += c == '{' || c == '[';
        open -= open > 0 && (c == '}' || c == ']');
        at++;
    } while (at < l->r.n && (open > 0 || lower(peek(l, at))));
    if (open > 0 || at > l->r.n || begin == l->r.n) {
        read_error(&l->r, begin, "expected JSON text, found no end of it");
        return;
    }
    add(l, LARK_JSON, begin, at - begin);
    l->r.at = at;
}

/* %name, and its JSON. */
static void lex_word(struct lark *l)
{
    static const char *const with_json[] = {"%json", "%regex", "%llguidance"};
    uint32_t begin = l->r.at, at = begin + 1;
    while (lower(peek(l, at)))
        at++;
    add(l, LARK_WORD, begin, at - begin);
    l->r.at = at;
    for (size_t i = 0; i < sizeof with_json / sizeof *with_json && !l->r.failed; i++)
        if (lark_is(l, &l->tokens[l->n_tokens - 1], with_json[i]))
            lex_json(l);
}

/* <name> or @name. */
static void lex_foreign(struct lark *l)
{
    uint32_t begin = l->r.at, at = begin + 1;
    bool special = peek(l, begin) == '<';
    while (at < l->r.n && (special ? !strchr("<> \t\r\n", l->r.text[at])
                                   : lower(peek(l, at)) || upper(peek(l, at)) ||
                                         digit(peek(l, at)) || strchr("_-", peek(l, at))))
        at++;
    if (special && (peek(l, at) != '>' || at == begin + 1)) {
        read_expected(&l->r, at, "'>' at the end of a token's name");
        return;
    }
    at += special;
    add(l, special ? LARK_SPECIAL : LARK_GRAMMAR, begin, at - begin);
    l->r.at = at;
}

static void lex_number(struct lark *l)
{
    uint32_t begin = l->r.at, at = begin + 1;
    while (digit(peek(l, at)))
        at++;
    if (peek(l, at) == '.' && peek(l, at + 1) != '.')
        for (at++; digit(peek(l, at));)
            at++;
    add(l, LARK_NUMBER, begin, at - begin);
    l->r.at = at;
}

static void lex_mark(struct lark *l)
{
    static const struct {
        char text[3];
        enum lark_kind kind;
    } pairs[] = {{"->", LARK_ARROW}, {"..", LARK_DOTS}, {"::", LARK_COLONS}};
    char c = peek(l, l->r.at), next = peek(l, l->r.at + 1);
    for (size_t i = 0; i < sizeof pairs / sizeof *pairs; i++)
        if (c == pairs[i].text[0] && next == pairs[i].text[1]) {
            add(l, pairs[i].kind, l->r.at, 2);
            l->r.at += 2;
            return;
        }
    if (c == '\0' || !strchr(":,.(){}[]~|&=+*?", c)) {
        read_expected(&l->r, l->r.at, "a name, a string or an operator");
        return;
    }
    add(l, LARK_MARK, l->r.at++, 1);
}

void lark_lex(struct lark *l)
{
    struct grammar_reader *r = &l->r;
    while (!r->failed && r->at < r->n) {
        char c = peek(l, r->at), next = peek(l, r->at + 1);
        if (c == ' ' || c == '\t' || c == '\r') {
            r->at++;
        } else if (c == '#' || (c == '/' && next == '/')) {
            while (r->at < r->n && peek(l, r->at) != '\n')
                r->at++;
        } else if (c == '\n') {
            if (l->n_tokens == 0 || l->tokens[l->n_tokens - 1].kind != LARK_NEWLINE)
                add(l, LARK_NEWLINE, r->at, 1);
            r->at++;
        } else if (lower(c) || upper(c) || c == '_') {
            lex_name(l);
        } else if ((c == '?' || c == '!') && (lower(next) || next == '_' || next == '?') &&
                   (l->n_tokens == 0 || l->tokens[l->n_tokens - 1].kind == LARK_NEWLINE)) {
            r->at++; /* ?rule and !rule say how trees are built */
        } else if (c == '"') {
            lex_string(l);
        } else if (c == '/') {
            lex_regex(l);
        } else if (c == '%') {
            lex_word(l);
        } else if (c == '<' || c == '@') {
            lex_foreign(l);
        } else if (digit(c) || ((c == '+' || c == '-') && digit(next))) {
            lex_number(l);
        } else {
            lex_mark(l);
        }
    }
    add(l, LARK_END, r->n, 0);
}

/* ---- looking at tokens ---------------------------------------------------------------------- */

bool lark_is(const struct lark *l, const struct lark_token *token, const char *text)
{
    size_t n = strlen(text);
    return token->n == n && memcmp(l->r.text + token->at, text, n) == 0;
}

bool lark_at_mark(const struct lark *l, char mark)
{
    const struct lark_token *token = lark_next(l);
    return token->kind == LARK_MARK && l->r.text[token->at] == mark;
}

bool lark_skip_mark(struct lark *l, char mark)
{
    bool there = lark_at_mark(l, mark);
    l->next += there;
    return there;
}

void lark_want_mark(struct lark *l, char mark)
{
    const char what[] = {'\'', mark, '\'', '\0'};
    if (!l->r.failed && !lark_skip_mark(l, mark))
        lark_expected(l, what);
}

bool lark_skip(struct lark *l, enum lark_kind kind)
{
    bool there = lark_next(l)->kind == kind;
    l->next += there && kind != LARK_END;
    return there;
}

node lark_expected(struct lark *l, const char *what)
{
    const struct lark_token *token = lark_next(l);
    if (token->kind == LARK_END)
        return read_error(&l->r, token->at, "expected %s, found the end", what);
    if (token->kind == LARK_NEWLINE)
        return read_error(&l->r, token->at, "expected %s, found the end of the line", what);
    return read_error(&l->r, token->at, "expected %s, found %.*s", what,
                      (int)(token->n < 60 ? token->n : 60), l->r.text + token->at);
}

node lark_refuse(struct lark *l, const char *what)
{
    const struct lark_token *token = lark_next(l);
    return read_error(&l->r, token->at, "expected %s, found %.*s, which isn't supported", what,
                      (int)(token->n < 60 ? token->n : 60), l->r.text + token->at);
}
