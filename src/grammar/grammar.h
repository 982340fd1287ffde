/* SPDX-License-Identifier: MIT */
/*
 * grammar.h: a context-free grammar whose terminals are regular expressions. Nodes are made bottom
 * up and interned; a rule is declared first and defined later, so that it may contain itself.
 *
 * Failures stick, as in regex.h: functions return GRAMMAR_NONE, and grammar_check() says why.
 */
#ifndef GRAMMAR_GRAMMAR_H
#define GRAMMAR_GRAMMAR_H

#include "grammar/regex.h"
#include "grammar/schema.h"

typedef uint32_t node;
enum { GRAMMAR_NONE, GRAMMAR_EMPTY }; /* nothing; the empty text */

struct grammar {
    struct regexes *regexes;
    bool greedy; /* a terminal ends where no terminal that may stand here could go on (Lark's
                  * lexer); else it may end wherever it matches (GBNF, JSON) */
    node start;
    /* the rest is the inside of grammar.c */
    struct grammar_nodes *nodes;
};

/* limit: bytes of memory that nodes may take; as many again for the regexes. */
int grammar_open(struct grammar *grammar, size_t limit, struct llama3_error *err);
void grammar_close(struct grammar *grammar);

node grammar_terminal(struct grammar *grammar, regex r);
/* A value of a JSON Schema; it must be satisfiable. The grammar closes schemas, also on failure. */
node grammar_json(struct grammar *grammar, struct schemas *schemas, expr e);
node grammar_concat(struct grammar *grammar, node a, node b);
node grammar_or(struct grammar *grammar, node a, node b);
/* min <= max; UINT32_MAX: no limit. It may be called after grammar_check(), as grammar_concat() and
 * grammar_or() may: nodes are interned, and what is asked for again costs a look-up. */
node grammar_repeat(struct grammar *grammar, node a, uint32_t min, uint32_t max);
node grammar_rule(struct grammar *grammar, const char *name);
void grammar_define(struct grammar *grammar, node rule, node body);

/* Once, after the last definition; the language of `start` stays as it is.
 *
 * - Every rule is defined. Alternatives that never end are left out, and `start` must end.
 * - Terminals, rules and what is repeated don't match the empty text: it stands beside them.
 * - No rule can begin with itself; one that ends with itself is a repetition.
 * - What is regular becomes one terminal, up to a size: a state of a lexer costs far less than
 *   items of a parser. Not in a greedy grammar, where terminals say how texts are cut.
 *
 * 0, or -1: LLAMA3_EINPUT names the rule, LLAMA3_ENOMEM. */
int grammar_check(struct grammar *grammar, struct llama3_error *err);
/* 0, or -1 with err filled: something that was made is not what was asked for. */
int grammar_failed(const struct grammar *grammar, struct llama3_error *err);
size_t grammar_memory(const struct grammar *grammar); /* bytes, without those of the regexes */

/* Readers: they set `greedy` and `start` and end with grammar_check(). `where` names the file in
 * errors: "FILE, line N: expected ..., found ...". On failure the grammar is only good for closing.
 *
 * GBNF, as llama.cpp has it; rules may be left-recursive. Tokens by name or number are refused. */
int grammar_gbnf(struct grammar *grammar, const char *text, size_t n, const char *where,
                 struct llama3_error *err);
/* Lark, as llguidance has it: a lexeme is as long as it can be, %ignore may follow each, %regex { }
 * is a value; [capture] says nothing about the language, [lazy] and [suffix] make a rule
 * of terminals end as soon as it can. What would need tokens or a runtime is refused by name:
 * special tokens, %json, max_tokens, temperature, stop, parameters, templates, priorities,
 * @grammars. */
int grammar_lark(struct grammar *grammar, const char *text, size_t n, const char *where,
                 struct llama3_error *err);

#endif
