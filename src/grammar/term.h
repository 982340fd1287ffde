/* SPDX-License-Identifier: MIT */
/*
 * term.h: a terminal while it is read: a regular expression over the bytes as they come, or over
 * the characters that a JSON string stands for, whatever escapes it is written with.
 *
 * A term is a number, so that states of the parser are compared by their bytes.
 */
#ifndef GRAMMAR_TERM_H
#define GRAMMAR_TERM_H

#include "grammar/regex.h"

typedef uint64_t term;
enum { TERM_DEAD = 0, TERM_CLOSED = 1 }; /* no term; the string's last quotation mark was read */

enum term_stage {
    STAGE_TEXT,   /* not a string */
    STAGE_LAZY,   /* the same, and it ends as soon as it can */
    STAGE_BEFORE, /* a string's first quotation mark is due */
    STAGE_INSIDE,
    STAGE_ESCAPE, /* behind a backslash */
    STAGE_UNIT,   /* digits of \uXXXX: so many, 0 to 3, of 4 */
    STAGE_UNIT1,
    STAGE_UNIT2,
    STAGE_UNIT3,
    STAGE_PAIR,   /* a high surrogate was read: \u and a low one are due */
    STAGE_PAIR_U, /* ... its backslash was read */
    STAGE_LOW,    /* digits of the low one */
    STAGE_LOW1,
    STAGE_LOW2,
    STAGE_LOW3
};

/* r's bits; 4 of the stage; 28 of digits: the unit's, behind those of the high surrogate. */
static inline term term_make(regex r, enum term_stage stage, uint32_t digits)
{
    return (term)r << 32 | (term)stage << 28 | digits;
}

static inline regex term_regex(term t)
{
    return (regex)(t >> 32);
}

static inline enum term_stage term_stage(term t)
{
    return (enum term_stage)(t >> 28 & 15);
}

static inline term term_text(regex r)
{
    return r == REGEX_NONE ? TERM_DEAD : term_make(r, STAGE_TEXT, 0);
}

static inline term term_lazy(regex r)
{
    return r == REGEX_NONE ? TERM_DEAD : term_make(r, STAGE_LAZY, 0);
}

static inline term term_string(regex r)
{
    return r == REGEX_NONE ? TERM_DEAD : term_make(r, STAGE_BEFORE, 0);
}

/* A string is complete by its quotation mark alone. */
static inline bool term_may_end(const struct regexes *all, term t)
{
    return term_stage(t) <= STAGE_LAZY && regex_nullable(all, term_regex(t));
}

/* The term after a byte. decoded (or NULL): the bytes of text that became known, at most 4, and
 * *n_decoded. */
term term_step(struct regexes *all, term t, uint8_t byte, uint8_t *decoded, size_t *n_decoded);

#endif
