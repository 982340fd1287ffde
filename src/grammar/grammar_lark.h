/* SPDX-License-Identifier: MIT */
/* grammar_lark.h: the inside of the reader of Lark: grammar_lark_lex.c makes tokens of the text,
 * grammar_lark.c reads definitions and statements, grammar_lark_parts.c what stands in them, and
 * grammar_lark_values.c what a token is as a regex. */
#ifndef GRAMMAR_GRAMMAR_LARK_H
#define GRAMMAR_GRAMMAR_LARK_H

#include <jansson.h>

#include "grammar/grammar_read.h"

enum lark_kind {
    LARK_END,
    LARK_NEWLINE,
    LARK_RULE,     /* a name in lower case, without ? and ! before it */
    LARK_TERMINAL, /* a name in upper case */
    LARK_STRING,   /* with its quotes, and i behind them */
    LARK_REGEX,    /* with its slashes and flags */
    LARK_NUMBER,
    LARK_SPECIAL, /* <name> */
    LARK_GRAMMAR, /* @name */
    LARK_WORD,    /* %name; its JSON text is the next token */
    LARK_JSON,
    LARK_ARROW,  /* -> */
    LARK_DOTS,   /* .. */
    LARK_COLONS, /* :: */
    LARK_MARK    /* one of : , . ( ) { } [ ] ~ | & = _ + * ? */
};

struct lark_token {
    uint32_t kind, at, n; /* of the text */
};

/* A definition, or a terminal that was imported. */
struct lark_name {
    node rule;           /* of a rule */
    regex terminal;      /* of a terminal, if done */
    bool done, open;     /* open: its definition is being read */
    bool lazy;           /* the rule is a lexeme that ends as soon as it can */
    bool empty;          /* max_tokens=0 */
    uint32_t body;       /* the token after ':', or 0 */
    uint32_t suffix;     /* the token of suffix=, or 0 */
    const char *pattern; /* what was imported, or NULL */
};

struct lark {
    struct grammar_reader r;
    struct lark_token *tokens; /* [n_tokens], the last is LARK_END */
    uint32_t n_tokens, tokens_room, next;
    struct lark_name *defined; /* [r.n_names] */
    uint32_t defined_room;
    uint32_t *ignored; /* [n_ignored], tokens after %ignore */
    uint32_t n_ignored, ignored_room;
    node ignore; /* what may follow a lexeme, or GRAMMAR_EMPTY */
    bool ignore_once, initial_skip;
    int terminals;     /* in terminals, that are being read */
    uint32_t start_at; /* of the text */
};

/* Text to tokens. */
void lark_lex(struct lark *l);

static inline const struct lark_token *lark_next(const struct lark *l)
{
    return &l->tokens[l->next];
}
bool lark_at_mark(const struct lark *l, char mark);
bool lark_skip_mark(struct lark *l, char mark);
void lark_want_mark(struct lark *l, char mark);
/* "expected WHAT, found" the next token. */
node lark_expected(struct lark *l, const char *what);
/* That something isn't supported, by the text of the next token. what: "a rule without ...". */
node lark_refuse(struct lark *l, const char *what);
/* Takes the next token if it is of this kind. */
bool lark_skip(struct lark *l, enum lark_kind kind);
bool lark_is(const struct lark *l, const struct lark_token *token, const char *text);
/* Room for one more in an array of *room things. */
bool lark_room(struct lark *l, void **array, uint32_t *room, uint32_t n, size_t size);

/* Choices, from the next token on: a regex, or a node of lexemes. */
uint32_t lark_choices(struct lark *l, bool terminal);
/* The definition of the name with this number. */
regex lark_terminal(struct lark *l, uint32_t name, uint32_t at);
/* A lexeme, and what may be ignored after it. */
node lark_lexeme(struct lark *l, regex r, bool lazy);

/* What tokens are: a string or a range of two, /regex/, %regex { }, %json { }. They are taken. */
bool lark_string(struct lark *l, struct buf *out, bool *ignore_case);
regex lark_string_regex(struct lark *l);
/* n strings with '|' between them: as alternatives each would have its own states. */
regex lark_strings(struct lark *l, size_t n);
regex lark_regex(struct lark *l);
regex lark_structured(struct lark *l);
node lark_json(struct lark *l);
/* The next token's JSON; a new reference, or NULL. */
json_t *lark_value(struct lark *l);
/* Lark's common.NAME; NULL: there is none. */
const char *lark_common(const char *name, size_t n);

#endif
