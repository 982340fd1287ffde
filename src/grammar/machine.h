/* SPDX-License-Identifier: MIT */
/*
 * machine.h: a parser that takes bytes: the set of all ways to read the text so far.
 *
 * A way is a terminal that is being read (term.h), and what comes after it: a stack of frames. The
 * stacks of all ways share their lower parts, and those that differ only below share their upper
 * parts (a "continuation" is a set of frames, each on a continuation of its own). All of it is
 * interned, so that equal states have equal ids, a step from a state by a byte is computed once,
 * and the number of states stays small for ambiguous grammars too.
 *
 * Every state can be completed: no frame offers what can't be.
 *
 * Failures stick, as in regex.h. Not thread-safe.
 */
#ifndef GRAMMAR_MACHINE_H
#define GRAMMAR_MACHINE_H

#include "base/buf.h"
#include "grammar/grammar_parts.h"
#include "grammar/intern.h"
#include "grammar/term.h"

typedef uint32_t state;
typedef uint32_t continuation;
enum { STATE_DEAD };
enum { N_FIRST = 512 };

enum frame_kind {
    FRAME_END,   /* of the text */
    FRAME_NODE,  /* a node of the grammar is next */
    FRAME_VALUE, /* a JSON value is next */
    FRAME_ARRAY,
    FRAME_OBJECT
};

/* What comes next, once what stands above it is complete. */
struct parse_frame {
    uint32_t kind, stage;
    uint32_t schemas; /* index of machine.schemas */
    uint32_t a, b;    /* by the kind */
};

/* A way, but for its frames. */
struct item {
    term term;
    uint32_t text; /* 0, or the text of the terminal so far, which its frame wants (capture_*) */
    continuation after;
};

struct items {
    struct item *all; /* [n] */
    size_t n, capacity;
    bool ends; /* the text may end here */
};

struct machine {
    struct regexes *regexes;
    struct grammar *grammar;
    bool greedy;
    struct interner interner;
    struct schemas **schemas;           /* of the grammar */
    regex blank, any_text, literals[8]; /* of literals: those that null, no, yes allow */
    regex bytes[256];                   /* that are offered; REGEX_NONE before */
    struct first_bytes {
        regex r;
        struct byte_set bytes;
    } first[N_FIRST];          /* what expressions may begin with, by their numbers */
    unsigned depth;            /* of frames that end at once */
    uint64_t steps, max_steps; /* states that were computed since machine_allow() */
    state start;
    struct llama3_error *err; /* of the call that is running; may be NULL */
    bool failed;
    struct llama3_error failure; /* the first one */
};

/* The grammar, which must be checked and outlive it, at its start. */
int machine_open(struct machine *m, struct grammar *grammar, struct llama3_error *err);
void machine_close(struct machine *m);
size_t machine_memory(const struct machine *m); /* bytes, without the grammar's */
/* 0, or -1 with the first failure: no state of it counts any more. */
int machine_failed(struct machine *m, struct llama3_error *err);
/* Lets it compute so many states before it fails. */
void machine_allow(struct machine *m, uint64_t steps);

state machine_step(struct machine *m, state s, uint8_t byte);
/* The bytes that may lead on from s: all of them, and perhaps some more. */
struct byte_set machine_first(struct machine *m, state s);
bool machine_may_end(const struct machine *m, state s);
/* The ways of a state, [*n]: 4 words for each, as item_of() reads them. Valid until a step. */
const uint32_t *machine_ways(const struct machine *m, state s, size_t *n);
static inline struct item item_of(const uint32_t *words)
{
    return (struct item){(term)words[0] << 32 | words[1], words[2], words[3]};
}
/* A state of these ways. */
state machine_state(struct machine *m, struct items *items);
/* The state after a terminal is complete: `tag` is its string's (regex_tag()), or UINT32_MAX. */
state machine_after(struct machine *m, const struct item *item, uint32_t tag);

/* ---- for the frames ------------------------------------------------------------------------- */

int machine_fail(struct machine *m, enum llama3_code code, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
void items_add(struct machine *m, struct items *items, term t, uint32_t text, continuation after);
continuation frame_push(struct machine *m, const struct parse_frame *frame, continuation below);
/* What is read when the frames of `after` are on top. text: of the terminal that is complete. */
void resume(struct machine *m, continuation after, uint32_t tag, uint32_t text, struct items *out);
void frame_resume(struct machine *m, const struct parse_frame *frame, continuation below,
                  uint32_t tag, uint32_t text, struct items *out);
/* White space or none, then the frame. */
void frame_after_blank(struct machine *m, const struct parse_frame *frame, continuation below,
                       struct items *out);
void value_start(struct machine *m, uint32_t schemas, expr e, bool capture, continuation after,
                 struct items *out);
void array_resume(struct machine *m, const struct parse_frame *frame, continuation below,
                  uint32_t text, struct items *out);
void object_resume(struct machine *m, const struct parse_frame *frame, continuation below,
                   uint32_t tag, uint32_t text, struct items *out);

/* Text that was read, as ids of interned prefixes; CAPTURE_TEXT and CAPTURE_STRING are empty ones,
 * of a bare text and of a string's characters. */
uint32_t capture_begin(struct machine *m, bool string);
uint32_t capture_add(struct machine *m, uint32_t text, const uint8_t *bytes, size_t n);
/* Appends it to out; true if it is a string's. */
bool capture_read(const struct machine *m, uint32_t text, struct buf *out);

#endif
