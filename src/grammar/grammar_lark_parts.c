/* SPDX-License-Identifier: MIT */
/*
 * grammar_lark_parts.c: what stands in a definition. In a terminal all is one regex; in a rule
 * strings, regular expressions and terminals are lexemes. The two have one syntax, and so one
 * parser by recursive descent, which is told which of them it reads.
 *
 *     choices  = sequences ["->" name] ("|" choices)*     a newline may precede "|"
 *     sequences = sequence ("&" sequence)*                in terminals
 *     sequence = part*
 *     part     = atom ["*" | "+" | "?" | "~" m [".." n] | "{" [m] ["," [n]] "}"]
 *     atom     = ["~"] ("(" choices ")" | "[" choices "]" | value)
 */
#include "grammar/grammar_lark.h"

static const char no_tokens[] = "text or the name of a rule";

static uint32_t join(struct lark *l, bool terminal, uint32_t a, uint32_t b, bool choice)
{
    struct grammar *grammar = l->r.grammar;
    if (terminal)
        return choice ? regex_or(grammar->regexes, a, b) : regex_concat(grammar->regexes, a, b);
    return choice ? grammar_or(grammar, a, b) : grammar_concat(grammar, a, b);
}

/* What was pushed from base on, as one: neighbours first, so that nodes don't become deep. */
static uint32_t join_from(struct lark *l, bool terminal, size_t base, bool choice)
{
    size_t n = l->r.n_all - base;
    uint32_t *list = l->r.all + base;
    if (l->r.failed)
        return GRAMMAR_NONE;
    for (; n > 1; n = (n + 1) / 2)
        for (size_t i = 0; i < n; i += 2)
            list[i / 2] = i + 1 < n ? join(l, terminal, list[i], list[i + 1], choice) : list[i];
    l->r.n_all = base;
    return n > 0 ? list[0] : choice ? (uint32_t)GRAMMAR_NONE : (uint32_t)GRAMMAR_EMPTY;
}

static uint32_t repeat(struct lark *l, bool terminal, uint32_t part, uint32_t min, uint32_t max)
{
    struct grammar *grammar = l->r.grammar;
    return terminal ? regex_repeat(grammar->regexes, part, min, max)
                    : grammar_repeat(grammar, part, min, max);
}

node lark_lexeme(struct lark *l, regex r, bool lazy)
{
    struct grammar *grammar = l->r.grammar;
    struct regexes *all = grammar->regexes;
    bool null = regex_nullable(all, r);
    if (null) /* nothing is ignored after an empty lexeme */
        r = regex_and(all, r, regex_not(all, REGEX_EMPTY));
    node id = lazy ? grammar_terminal_lazy(grammar, r) : grammar_terminal(grammar, r);
    id = grammar_concat(grammar, id, l->ignore);
    return null ? grammar_or(grammar, GRAMMAR_EMPTY, id) : id;
}

/* ---- values --------------------------------------------------------------------------------- */

static uint32_t of_regex(struct lark *l, bool terminal, regex r)
{
    return terminal || l->r.failed ? r : lark_lexeme(l, r, false);
}

static uint32_t named(struct lark *l, bool terminal)
{
    const struct lark_token *token = lark_next(l);
    uint32_t known = l->r.n_names, name = read_name(&l->r, token->at, token->n, 0);
    if (name == READ_NO_PLACE)
        return GRAMMAR_NONE;
    const char *kind = token->kind == LARK_RULE ? "rule" : "terminal";
    if (name == known || l->r.names[name].defined_at == READ_NO_PLACE)
        return read_error(&l->r, token->at, "expected a definition of the %s %.*s, found none",
                          kind, (int)(token->n < 60 ? token->n : 60), l->r.text + token->at);
    if (terminal && token->kind == LARK_RULE)
        return lark_expected(l, "text or a terminal in a terminal");
    if ((token[1].kind == LARK_MARK && l->r.text[token[1].at] == '{' &&
         token[2].kind != LARK_NUMBER &&
         !(token[2].kind == LARK_MARK && l->r.text[token[2].at] == ',')) ||
        token[1].kind == LARK_COLONS) {
        l->next++;
        return lark_refuse(l, "a name without parameters");
    }
    l->next++;
    if (token->kind == LARK_RULE)
        return l->defined[name].rule;
    regex r = lark_terminal(l, name, token->at);
    return of_regex(l, terminal, r);
}

static uint32_t value(struct lark *l, bool terminal)
{
    const struct lark_token *token = lark_next(l);
    switch (token->kind) {
    case LARK_STRING:
        return of_regex(l, terminal, lark_string_regex(l));
    case LARK_REGEX:
        return of_regex(l, terminal, lark_regex(l));
    case LARK_RULE:
    case LARK_TERMINAL:
        return named(l, terminal);
    case LARK_SPECIAL:
    case LARK_GRAMMAR:
        return lark_refuse(l, no_tokens);
    case LARK_WORD:
        if (lark_is(l, token, "%regex")) {
            l->next++;
            return of_regex(l, terminal, lark_structured(l));
        }
        if (lark_is(l, token, "%json") && !terminal) {
            l->next++;
            return grammar_concat(l->r.grammar, lark_json(l), l->ignore);
        }
        return lark_refuse(l, terminal ? "text in a terminal" : no_tokens);
    default:
        return lark_expected(l, no_tokens);
    }
}

static uint32_t group(struct lark *l, bool terminal, char close)
{
    if (l->r.nesting >= READ_MAX_NESTING)
        return read_error(&l->r, lark_next(l)->at,
                          "expected at most %d groups in groups, found more", READ_MAX_NESTING);
    l->next++;
    l->r.nesting++;
    uint32_t part = lark_choices(l, terminal);
    l->r.nesting--;
    lark_skip(l, LARK_NEWLINE);
    lark_want_mark(l, close);
    return close == ']' ? repeat(l, terminal, part, 0, 1) : part;
}

static uint32_t atom(struct lark *l, bool terminal)
{
    if (lark_skip_mark(l, '~')) { /* a lexeme, wherever it stands */
        regex r = lark_at_mark(l, '(')   ? group(l, true, ')')
                  : lark_at_mark(l, '[') ? group(l, true, ']')
                                         : value(l, true);
        return l->r.failed ? GRAMMAR_NONE
                           : of_regex(l, terminal, regex_not(l->r.grammar->regexes, r));
    }
    if (lark_at_mark(l, '('))
        return group(l, terminal, ')');
    if (lark_at_mark(l, '['))
        return group(l, terminal, ']');
    return value(l, terminal);
}

/* ---- sequences and choices ------------------------------------------------------------------ */

static uint32_t count(struct lark *l)
{
    if (lark_next(l)->kind != LARK_NUMBER)
        return lark_expected(l, "a number");
    l->r.at = lark_next(l)->at;
    uint32_t n = read_count(&l->r);
    if (!l->r.failed && l->r.at != lark_next(l)->at + lark_next(l)->n)
        lark_expected(l, "a whole number");
    l->next++;
    return n;
}

static uint32_t counted(struct lark *l, bool terminal, uint32_t part)
{
    uint32_t min = 0, max, at = lark_next(l)->at;
    if (lark_skip_mark(l, '~')) {
        min = max = count(l);
        if (!l->r.failed && lark_skip(l, LARK_DOTS))
            max = count(l);
    } else {
        l->next++;
        if (!lark_at_mark(l, ','))
            min = count(l);
        max = min;
        if (!l->r.failed && lark_skip_mark(l, ','))
            max = lark_at_mark(l, '}') ? UINT32_MAX : count(l);
        lark_want_mark(l, '}');
    }
    if (!l->r.failed && max < min)
        return read_error(&l->r, at, "expected at least as many as %u, found %u", (unsigned)min,
                          (unsigned)max);
    return l->r.failed ? GRAMMAR_NONE : repeat(l, terminal, part, min, max);
}

static uint32_t part(struct lark *l, bool terminal)
{
    uint32_t made = atom(l, terminal);
    if (l->r.failed)
        return GRAMMAR_NONE;
    if (lark_skip_mark(l, '*'))
        return repeat(l, terminal, made, 0, UINT32_MAX);
    if (lark_skip_mark(l, '+'))
        return repeat(l, terminal, made, 1, UINT32_MAX);
    if (lark_skip_mark(l, '?'))
        return repeat(l, terminal, made, 0, 1);
    /* "a ~ 2" repeats; "a ~b" is a and then what b isn't. */
    if (lark_at_mark(l, '{') || (lark_at_mark(l, '~') && lark_next(l)[1].kind == LARK_NUMBER))
        return counted(l, terminal, made);
    return made;
}

/* Whether a sequence ends here. */
static bool at_end(const struct lark *l)
{
    const struct lark_token *token = lark_next(l);
    if (token->kind == LARK_NEWLINE) /* a space in groups */
        return l->r.nesting == 0 || (token[1].kind == LARK_MARK && l->r.text[token[1].at] == '|');
    return token->kind == LARK_END || token->kind == LARK_ARROW || lark_at_mark(l, '|') ||
           lark_at_mark(l, '&') || lark_at_mark(l, ')') || lark_at_mark(l, ']') ||
           (token->kind == LARK_WORD && lark_is(l, token, "%if"));
}

static uint32_t sequence(struct lark *l, bool terminal)
{
    size_t base = l->r.n_all;
    while (!l->r.failed && !at_end(l))
        if (!lark_skip(l, LARK_NEWLINE))
            read_push(&l->r, part(l, terminal));
    return join_from(l, terminal, base, false);
}

static uint32_t sequences(struct lark *l, bool terminal)
{
    uint32_t made = sequence(l, terminal);
    while (!l->r.failed && lark_at_mark(l, '&')) {
        if (!terminal)
            return lark_refuse(l, "sequences joined by '|' in a rule");
        l->next++;
        uint32_t other = sequence(l, terminal);
        if (!l->r.failed)
            made = regex_and(l->r.grammar->regexes, made, other);
    }
    if (!l->r.failed && lark_skip(l, LARK_ARROW)) { /* a name in trees, which nobody builds */
        if (!lark_skip(l, LARK_RULE) && !lark_skip(l, LARK_TERMINAL))
            lark_expected(l, "a name after '->'");
    }
    if (!l->r.failed && lark_next(l)->kind == LARK_WORD && lark_is(l, lark_next(l), "%if"))
        lark_refuse(l, "a rule without parameters");
    return made;
}

/* How many choices there are from here on, if each is one string of its own case; else 0. */
static size_t plain_strings(const struct lark *l)
{
    size_t n = 1;
    for (const struct lark_token *token = lark_next(l); token->kind == LARK_STRING; n++) {
        if (token->n == 2 || l->r.text[token->at + token->n - 1] == 'i')
            break;
        token++;
        bool line = token->kind == LARK_NEWLINE;
        const struct lark_token *bar = line ? token + 1 : token;
        if (token->kind == LARK_END)
            return n;
        if (bar->kind == LARK_MARK && l->r.text[bar->at] == '|')
            token = bar + 1;
        else if (line || (token->kind == LARK_MARK && l->r.text[token->at] == ')'))
            return n;
    }
    return 0;
}

uint32_t lark_choices(struct lark *l, bool terminal)
{
    size_t n_strings = terminal ? plain_strings(l) : 0;
    if (n_strings >= GRAMMAR_MIN_STRINGS)
        return lark_strings(l, n_strings);
    size_t base = l->r.n_all;
    bool more;
    do {
        read_push(&l->r, sequences(l, terminal));
        if (lark_next(l)->kind == LARK_NEWLINE && lark_next(l)[1].kind == LARK_MARK &&
            l->r.text[lark_next(l)[1].at] == '|')
            l->next++;
        more = !l->r.failed && lark_skip_mark(l, '|');
    } while (more);
    return join_from(l, terminal, base, true);
}
