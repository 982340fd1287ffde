/* SPDX-License-Identifier: MIT */
/*
 * grammar_lark.c: definitions and statements of a Lark grammar. Names may be used before they are
 * defined: a first pass over the tokens finds where each definition is, a second one reads them;
 * terminals are read when they are first needed, since they are one regex with what they mention.
 */
#include <stdlib.h>
#include <string.h>

#include "grammar/grammar_lark.h"

/* ---- first pass ----------------------------------------------------------------------------- */

/* The number of a new name, which the token is. */
static uint32_t define(struct lark *l, const struct lark_token *token)
{
    uint32_t name = read_name(&l->r, token->at, token->n, 0);
    if (name == READ_NO_PLACE ||
        !lark_room(l, (void **)&l->defined, &l->defined_room, name, sizeof *l->defined))
        return READ_NO_PLACE;
    if (l->r.names[name].defined_at != READ_NO_PLACE) {
        read_error(&l->r, token->at, "expected one definition of %.*s, found another",
                   (int)(token->n < 60 ? token->n : 60), l->r.text + token->at);
        return READ_NO_PLACE;
    }
    l->r.names[name].defined_at = token->at;
    l->defined[name] = (struct lark_name){0};
    return name;
}

/* KEY=VALUE of an attribute; whether it is the key. */
static bool attribute(struct lark *l, const char *key, bool *given)
{
    if (!lark_is(l, lark_next(l), key))
        return false;
    l->next++;
    *given = lark_skip_mark(l, '=');
    return true;
}

/* One of the attributes of a rule. */
static void read_attribute(struct lark *l, struct lark_name *made)
{
    bool given;
    const struct lark_token *key = lark_next(l);
    if (attribute(l, "capture", &given) || attribute(l, "stop_capture", &given)) {
        if (given && !lark_skip(l, LARK_STRING)) /* says nothing about the language */
            lark_expected(l, "a string");
    } else if (attribute(l, "lazy", &given)) {
        made->lazy = true;
    } else if (attribute(l, "suffix", &given) && given) {
        const struct lark_token *value = lark_next(l);
        if (value->kind != LARK_STRING && value->kind != LARK_REGEX &&
            value->kind != LARK_TERMINAL) {
            lark_expected(l, "a string, a regular expression or a terminal");
            return;
        }
        if (made->suffix)
            lark_expected(l, "one suffix");
        made->lazy = true;
        made->suffix = l->next++;
    } else if (attribute(l, "max_tokens", &given) && given && lark_is(l, lark_next(l), "0")) {
        made->empty = true;
        l->next++;
    } else {
        l->next = (uint32_t)(key - l->tokens);
        if (key->kind == LARK_RULE)
            lark_refuse(l, "one of the attributes capture, lazy and suffix");
        else
            lark_expected(l, "the name of an attribute");
    }
}

static void skip_line(struct lark *l)
{
    while (lark_next(l)->kind != LARK_NEWLINE && lark_next(l)->kind != LARK_END)
        l->next++;
}

/* What stands before ':' is read; the rest is passed over. */
static void find_definition(struct lark *l)
{
    const struct lark_token *token = lark_next(l);
    bool is_rule = token->kind == LARK_RULE;
    uint32_t name = define(l, token);
    if (name == READ_NO_PLACE)
        return;
    struct lark_name *made = &l->defined[name];
    l->next++;
    if (lark_at_mark(l, '{') || lark_next(l)->kind == LARK_COLONS)
        lark_refuse(l, "a name without parameters");
    else if (lark_at_mark(l, '.'))
        lark_refuse(l, "a name without a priority");
    if (is_rule && !l->r.failed && lark_skip_mark(l, '[')) {
        while (!l->r.failed && !lark_at_mark(l, ']')) {
            read_attribute(l, made);
            if (!l->r.failed && !lark_skip_mark(l, ','))
                break;
        }
        lark_want_mark(l, ']');
    }
    lark_want_mark(l, ':');
    if (l->r.failed)
        return;
    made->body = l->next;
    if (is_rule) {
        char text[64];
        size_t n = token->n < sizeof text ? token->n : sizeof text - 1;
        memcpy(text, l->r.text + token->at, n);
        text[n] = '\0';
        made->rule = grammar_rule(l->r.grammar, text);
    }
    /* A definition goes on in lines that begin with '|', and in brackets. */
    int depth = 0;
    for (;; l->next++) {
        token = lark_next(l);
        depth += lark_at_mark(l, '(') || lark_at_mark(l, '[');
        depth -= lark_at_mark(l, ')') || lark_at_mark(l, ']');
        if (token->kind == LARK_END ||
            (token->kind == LARK_NEWLINE && depth <= 0 &&
             !(token[1].kind == LARK_MARK && l->r.text[token[1].at] == '|')))
            return;
    }
}

/* ---- statements ----------------------------------------------------------------------------- */

/* One of common's terminals: from the place of its name, as the name at `as`. */
static void import(struct lark *l, const struct lark_token *of, const struct lark_token *as)
{
    const char *pattern = lark_common(l->r.text + of->at, of->n);
    if (!pattern) {
        read_error(&l->r, of->at, "expected the name of a terminal in common, found %.*s",
                   (int)(of->n < 60 ? of->n : 60), l->r.text + of->at);
        return;
    }
    uint32_t name = define(l, as);
    if (name != READ_NO_PLACE)
        l->defined[name].pattern = pattern;
}

/* %import common.NAME [-> NAME], or common (NAME, ...). */
static void read_import(struct lark *l)
{
    if (lark_next(l)->kind != LARK_RULE || !lark_is(l, lark_next(l), "common")) {
        lark_refuse(l, "%import common");
        return;
    }
    l->next++;
    if (lark_skip_mark(l, '.')) {
        const struct lark_token *of = lark_next(l), *as = of;
        if (!lark_skip(l, LARK_TERMINAL)) {
            lark_expected(l, "the name of a terminal");
            return;
        }
        if (lark_skip(l, LARK_ARROW)) {
            as = lark_next(l);
            if (!lark_skip(l, LARK_TERMINAL)) {
                lark_expected(l, "the name of a terminal");
                return;
            }
        }
        import(l, of, as);
        return;
    }
    lark_want_mark(l, '(');
    while (!l->r.failed) {
        const struct lark_token *of = lark_next(l);
        if (!lark_skip(l, LARK_TERMINAL)) {
            lark_expected(l, "the name of a terminal");
            return;
        }
        import(l, of, of);
        if (!lark_skip_mark(l, ','))
            break;
    }
    lark_want_mark(l, ')');
}

/* %llguidance { }. */
static void read_options(struct lark *l)
{
    uint32_t at = lark_next(l)->at;
    json_t *options = lark_value(l), *value;
    const char *key;
    if (options && !json_is_object(options))
        read_error(&l->r, at, "expected an object after %%llguidance, found another value");
    json_object_foreach(options, key, value)
    {
        if (!json_is_boolean(value))
            read_error(&l->r, at, "%s: expected true or false, found another value", key);
        else if (strcmp(key, "ignore_once") == 0)
            l->ignore_once = json_is_true(value);
        else if (strcmp(key, "allow_initial_skip") == 0)
            l->initial_skip = json_is_true(value);
        else if (strcmp(key, "no_forcing") != 0 && json_is_true(value)) /* about speed alone */
            read_error(&l->r, at,
                       "expected the options allow_initial_skip, ignore_once and no_forcing, "
                       "found %s, which isn't supported",
                       key);
    }
    json_decref(options);
}

static void find_statement(struct lark *l)
{
    const struct lark_token *token = lark_next(l);
    if (token->kind != LARK_WORD) {
        lark_expected(l, "a definition or a statement");
        return;
    }
    l->next++;
    if (lark_is(l, token, "%ignore")) {
        if (lark_room(l, (void **)&l->ignored, &l->ignored_room, l->n_ignored, sizeof *l->ignored))
            l->ignored[l->n_ignored++] = l->next;
        skip_line(l);
    } else if (lark_is(l, token, "%import")) {
        read_import(l);
    } else if (lark_is(l, token, "%llguidance")) {
        read_options(l);
    } else {
        l->next--;
        lark_refuse(l, "%import, %ignore or %llguidance");
    }
}

/* ---- second pass ---------------------------------------------------------------------------- */

static void want_line_end(struct lark *l)
{
    if (!l->r.failed && lark_next(l)->kind != LARK_NEWLINE && lark_next(l)->kind != LARK_END)
        lark_expected(l, "text, a name or the end of the line");
}

/* Choices from the token on, wherever the reader is. */
static uint32_t choices_at(struct lark *l, uint32_t token, bool terminal)
{
    uint32_t before = l->next;
    int nesting = l->r.nesting;
    l->next = token;
    l->r.nesting = 0;
    uint32_t made = lark_choices(l, terminal);
    want_line_end(l);
    l->r.nesting = nesting;
    l->next = before;
    return made;
}

regex lark_terminal(struct lark *l, uint32_t name, uint32_t at)
{
    struct lark_name *made = &l->defined[name];
    struct llama3_error err = {.size = sizeof err};
    if (made->done)
        return made->terminal;
    if (made->open)
        return read_error(&l->r, at,
                          "expected a terminal without itself in it, found %.*s in its "
                          "own definition",
                          (int)(l->r.names[name].n < 60 ? l->r.names[name].n : 60),
                          l->r.text + l->r.names[name].at);
    if (l->terminals >= READ_MAX_NESTING)
        return read_error(&l->r, at, "expected at most %d terminals in terminals, found more",
                          READ_MAX_NESTING);
    made->open = true;
    l->terminals++;
    if (made->pattern) {
        made->terminal = regex_parse(l->r.grammar->regexes, made->pattern, strlen(made->pattern),
                                     REGEX_WHOLE, &err);
        if (made->terminal == REGEX_NONE)
            read_error_of(&l->r, at, &err);
    } else {
        made->terminal = choices_at(l, made->body, true);
    }
    l->terminals--;
    made->open = false;
    made->done = true;
    return made->terminal;
}

/* The texts of r that begin with no other of its texts. */
static regex shortest(struct regexes *all, regex r)
{
    struct byte_set any;
    memset(&any, 0xff, sizeof any);
    regex more = regex_repeat(all, regex_bytes(all, &any), 1, UINT32_MAX);
    return regex_and(all, r, regex_not(all, regex_concat(all, r, more)));
}

/* A rule with [lazy] or [suffix]: its body and the suffix are one lexeme. */
static node lazy_rule(struct lark *l, const struct lark_name *made)
{
    struct regexes *all = l->r.grammar->regexes;
    regex r = choices_at(l, made->body, true);
    if (made->suffix && !l->r.failed) {
        l->next = made->suffix;
        const struct lark_token *token = lark_next(l);
        regex suffix = REGEX_NONE;
        if (token->kind == LARK_TERMINAL) {
            uint32_t known = l->r.n_names, name = read_name(&l->r, token->at, token->n, 0);
            if (name == known || name == READ_NO_PLACE ||
                l->r.names[name].defined_at == READ_NO_PLACE)
                return read_error(&l->r, token->at,
                                  "expected a definition of the terminal %.*s, found none",
                                  (int)(token->n < 60 ? token->n : 60), l->r.text + token->at);
            suffix = lark_terminal(l, name, token->at);
        } else {
            suffix = token->kind == LARK_STRING ? lark_string_regex(l) : lark_regex(l);
        }
        r = regex_concat(all, r, suffix);
    }
    return l->r.failed ? GRAMMAR_NONE : lark_lexeme(l, shortest(all, r), true);
}

static void read_ignored(struct lark *l)
{
    struct grammar *grammar = l->r.grammar;
    regex r = REGEX_NONE;
    for (uint32_t i = 0; i < l->n_ignored && !l->r.failed; i++)
        r = regex_or(grammar->regexes, r, choices_at(l, l->ignored[i], true));
    l->ignore = l->r.failed ? (node)GRAMMAR_EMPTY
                            : grammar_repeat(grammar, grammar_terminal(grammar, r), 0,
                                             l->ignore_once ? 1 : UINT32_MAX);
}

static void read_rules(struct lark *l)
{
    struct grammar *grammar = l->r.grammar;
    for (uint32_t i = 0; i < l->r.n_names && !l->r.failed; i++) {
        struct lark_name *made = &l->defined[i];
        if (l->r.names[i].defined_at == READ_NO_PLACE || made->pattern ||
            made->rule == GRAMMAR_NONE)
            continue;
        node body = made->empty  ? (node)GRAMMAR_EMPTY
                    : made->lazy ? lazy_rule(l, made)
                                 : choices_at(l, made->body, false);
        grammar_define(grammar, made->rule, body);
        if (l->r.names[i].n == 5 && memcmp(l->r.text + l->r.names[i].at, "start", 5) == 0) {
            grammar->start = made->rule;
            l->start_at = l->r.names[i].defined_at;
        }
    }
    if (l->r.failed)
        return;
    if (grammar->start == GRAMMAR_NONE && !grammar_is_failed(grammar)) {
        error_input(l->r.err, "%s: expected a rule with the name start, found none", l->r.where);
        l->r.failed = true;
    } else if (l->initial_skip) {
        grammar->start = grammar_concat(grammar, l->ignore, grammar->start);
    }
}

int grammar_lark(struct grammar *grammar, const char *text, size_t n, const char *where,
                 struct llama3_error *err)
{
    struct lark l = {.r = {.grammar = grammar, .text = text, .where = where, .err = err}};
    if (n > READ_MAX_TEXT)
        return error_input(err, "%s: expected at most %d bytes, found %zu", where, READ_MAX_TEXT,
                           n);
    l.r.n = (uint32_t)n;
    grammar->greedy = true;
    if (read_open(&l.r))
        lark_lex(&l);
    while (!l.r.failed && lark_next(&l)->kind != LARK_END) {
        if (lark_skip(&l, LARK_NEWLINE))
            continue;
        if (lark_next(&l)->kind == LARK_RULE || lark_next(&l)->kind == LARK_TERMINAL)
            find_definition(&l);
        else
            find_statement(&l);
        want_line_end(&l);
    }
    if (!l.r.failed)
        read_ignored(&l);
    if (!l.r.failed)
        read_rules(&l);
    int status = read_check(&l.r, l.start_at);
    free(l.tokens);
    free(l.defined);
    free(l.ignored);
    read_close(&l.r);
    return status;
}
