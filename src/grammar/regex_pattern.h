/* SPDX-License-Identifier: MIT */
/* regex_pattern.h: a pattern between its text (regex_parse.c, regex_class.c) and its expression
 * (regex_compile.c). */
#ifndef GRAMMAR_REGEX_PATTERN_H
#define GRAMMAR_REGEX_PATTERN_H

#include "grammar/regex_parts.h"

enum pattern_kind {
    PATTERN_EMPTY,
    PATTERN_CHARS,    /* r: one character of a class */
    PATTERN_SEQUENCE, /* child: the last of its children */
    PATTERN_EITHER,   /* the same */
    PATTERN_REPEAT,   /* child, min to max times */
    PATTERN_START,    /* ^ of the text; what: of a line */
    PATTERN_END,      /* $ */
    PATTERN_WORD,     /* \b; what: \B */
    PATTERN_AHEAD     /* (?=child); what: (?!child) */
};

struct pattern_node {
    uint8_t kind;
    bool plain; /* no assertion in it */
    bool what;
    bool made; /* r is its expression */
    uint32_t min, max;
    uint32_t child, before; /* before: its sibling; 0: none */
    regex r;
};

struct pattern {
    struct regexes *all;
    struct llama3_error *err;
    enum regex_syntax syntax;
    const uint8_t *text; /* [n] */
    size_t n, at;
    bool fold, dot_all, lines, spaced; /* (?i) (?s) (?m) (?x) */
    bool failed;
    unsigned depth;             /* of groups around */
    struct regex_vector nodes;  /* of struct pattern_node; number 0 is the empty one */
    struct regex_vector ranges; /* of uint32_t[2]: the class that is being read */
    regex classes[4];           /* by what is before: none, \n, a word's, other characters */
    uint32_t work;              /* of what costs more than its text, so far */
};

/* LLAMA3_EINPUT: at the next byte, or at an earlier one, `what` was expected. Returns 0. */
uint32_t pattern_error(struct pattern *p, size_t at, const char *what);
bool pattern_peek(const struct pattern *p, const char *text);
bool pattern_skip(struct pattern *p, const char *text); /* takes it if it is next */

/* ---- regex_class.c ---- */

/* The rest of an escape, behind the backslash. 1: *scalar; 2: a class was added to p->ranges; 0:
 * failed. in_class: whether it stands in brackets. */
int pattern_escape(struct pattern *p, bool in_class, uint32_t *scalar);
regex pattern_class(struct pattern *p); /* behind the [ */
regex pattern_dot(struct pattern *p);
/* One character of p->ranges, or none of them; the ranges are gone then. */
regex pattern_take(struct pattern *p, bool inverted);
void pattern_add(struct pattern *p, uint32_t first, uint32_t last);
void pattern_invert(struct pattern *p, size_t from);      /* the ranges from this number on */
void pattern_add_words(struct pattern *p, bool inverted); /* \w */

/* ---- regex_property.c ---- */

/* Adds \p{name}; false: not known. */
bool pattern_add_property(struct pattern *p, const char *name, size_t n, bool inverted);
/* Adds characters that differ from one of p->ranges only in case. */
void pattern_add_cases(struct pattern *p);

/* ---- regex_compile.c ---- */

enum { PATTERN_MAX_WORK = 1 << 20 };

regex regex_compile(struct pattern *p, uint32_t root);

#endif
