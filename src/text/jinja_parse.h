/* SPDX-License-Identifier: MIT */
/* jinja_parse.h: a template as tokens (jinja_lex.c) and as a tree (jinja_parse.c). Both lie in the
 * arena of the run that they are made with, and are not changed afterwards. */
#ifndef TEXT_JINJA_PARSE_H
#define TEXT_JINJA_PARSE_H

#include "text/jinja_run.h"

/* ---- tokens -------------------------------------------------------------------------------- */

enum token_type {
    TOKEN_END,
    TOKEN_DATA,  /* text between tags */
    TOKEN_PRINT, /* {{ */
    TOKEN_PRINT_END,
    TOKEN_BLOCK, /* {% */
    TOKEN_BLOCK_END,
    TOKEN_NAME,
    TOKEN_STRING,
    TOKEN_NUMBER, /* value */
    TOKEN_OPERATOR
};

struct token {
    enum token_type type;
    unsigned line;
    char operator; /* its character; of two: 'e' ==, 'n' !=, 'l' <=, 'g' >=, 'f' //, 'p' ** */
    const struct jinja_string *text; /* data, a name, what a string stands for */
    struct jinja_value value;
};

/* Tokens up to TOKEN_END, of [n] characters of the template. */
const struct token *jinja_lex(struct jinja_run *run, const uint32_t *chars, size_t n);

/* ---- the tree ------------------------------------------------------------------------------ */

enum expr_kind {
    EXPR_VALUE,     /* value */
    EXPR_NAME,      /* name */
    EXPR_LIST,      /* items */
    EXPR_TUPLE,     /* items */
    EXPR_DICT,      /* items: key, value, key, ... */
    EXPR_ATTRIBUTE, /* a.name; as a target: of a namespace */
    EXPR_SUBSCRIPT, /* a[b] */
    EXPR_SLICE,     /* items: from, to, step; each may be EXPR_VALUE None; as a subscript alone */
    EXPR_CALL,      /* a(args) */
    EXPR_FILTER,    /* a|name(args); a NULL: of the text of a block */
    EXPR_TEST,      /* a is name(args) */
    EXPR_NOT,
    EXPR_SIGN, /* op '-' or '+' */
    EXPR_AND,
    EXPR_OR,
    EXPR_ARITHMETIC, /* a op b, as of jinja_arithmetic() */
    EXPR_CONCAT,     /* items, as strings */
    EXPR_COMPARE,    /* a, and then items: each with its op, 'i' in, 'o' not in, and as of tokens */
    EXPR_IF          /* a if b else c; c may be NULL */
};

struct expr {
    enum expr_kind kind;
    unsigned line;
    char op;
    const struct jinja_string *name; /* one pointer for each name of the template */
    struct jinja_value value;
    struct expr *a, *b, *c;
    struct expr *items; /* of lists and arguments: the first; the others follow by next */
    struct expr *next;
    enum { ARG_PLAIN, ARG_NAMED, ARG_LIST, ARG_DICT } passed; /* of an argument: name=, *, ** */
    const struct jinja_string *passed_name;
};

struct macro {
    const struct jinja_string *name;
    struct expr *parameters; /* each with its name; a: its default, or NULL */
    size_t n_parameters;
    struct stmt *body;
    bool takes_list, takes_dict, takes_caller; /* its body mentions varargs, kwargs, caller */
};

enum stmt_kind {
    STMT_DATA,      /* text */
    STMT_PRINT,     /* value */
    STMT_IF,        /* value, body, otherwise */
    STMT_FOR,       /* target, value, test, body, otherwise, recursive */
    STMT_SET,       /* target, value */
    STMT_SET_BLOCK, /* target, value: its filters, or NULL; body */
    STMT_MACRO,     /* macro */
    STMT_CALL,      /* value: the call; macro: the caller */
    STMT_FILTER,    /* value: the filters; body */
    STMT_WITH,      /* target, value: lists of the same length; body */
    STMT_SCOPE,     /* body (generation) */
    STMT_BLOCK,     /* body, which sees the outermost scope */
    STMT_BREAK,
    STMT_CONTINUE
};

struct stmt {
    enum stmt_kind kind;
    unsigned line;
    bool recursive;
    const struct jinja_string *text;
    struct expr *target, *value, *test;
    struct stmt *body, *otherwise;
    struct macro *macro;
    struct stmt *next;
};

/* One pointer for each name, in the order of their arrival. */
struct names {
    const struct jinja_string **items; /* [n] */
    size_t n, capacity;
};

struct tree {
    struct stmt *body;
    struct names names; /* all that are read or set */
};

void jinja_parse(struct jinja_run *run, const uint32_t *chars, size_t n, struct tree *tree);

/* Makes scopes begin with the names that they set undefined (jinja_names.c). */
void jinja_hide_names(struct jinja_run *run, struct tree *tree);

#endif
