/* SPDX-License-Identifier: MIT */
/*
 * held.h: an answer that a constraint holds: the mask of each draw, and the tokens of which there
 * is no choice. Thoughts before an answer are free.
 */
#ifndef ENGINE_HELD_H
#define ENGINE_HELD_H

#include "base/buf.h"
#include "engine/session.h"
#include "engine/thoughts.h"
#include "grammar/constraint.h"

/* A constraint of a model's vocabulary. */
struct llama3_constraint {
    const struct session_model *model;
    struct constraint *constraint;
};

/* As llama3_constraint_open() (api_constraint.c), for a vocabulary of vocab_size tokens. */
struct llama3_constraint *constraint_of(struct session_model *model, size_t vocab_size,
                                        enum llama3_constraint_kind kind, const char *text,
                                        size_t length, const char *where, struct llama3_error *err);

enum held_state {
    HELD_PERHAPS,  /* the answer may begin with <think> */
    HELD_THINKING, /* anything goes up to </think>, which has to come */
    HELD_AFTER,    /* white space may stand between thoughts and answer */
    HELD_ANSWER
};

struct held {
    const struct session_model *model; /* NULL: the answer is free */
    struct constraint *constraint;
    struct matcher *matcher; /* of the answer so far */
    enum held_state state;
    bool beside;          /* PERHAPS: what there is of the tag is no answer */
    struct buf text;      /* PERHAPS, THINKING: what may be a tag; ANSWER: its end */
    size_t spaces;        /* bytes of white space that AFTER let pass */
    uint32_t *mask;       /* [(vocab_size + 31) / 32] where it is another than the matcher's */
    const uint32_t *next; /* the mask of the next draw, once held_prepare() made it; NULL: all */
    const uint32_t *own;  /* what the matcher allows of it */
    bool prepared;
    struct llama3_error failure; /* of held_prepare() */
};

/* Begins an answer. constraint: NULL for a free one. For held_end() in any case. */
int held_begin(struct held *held, const struct llama3_constraint *constraint, enum held_state state,
               struct llama3_error *err);
void held_end(struct held *held);

/* Makes the mask of the next draw: beside a pass, on the session's thread. arg: a struct held. */
void held_prepare(void *arg);
/* The mask of the next draw, made now if it is not; NULL: all tokens are allowed. */
int held_mask(struct held *held, const uint32_t **mask, struct llama3_error *err);
/* Whether a token that was drawn by this mask can't be taken: a stop id within thoughts, or the end
 * of thoughts in one token with what can't follow. The mask is then without it. */
bool held_refuses(struct held *held, int32_t token);
/* Takes a token. LLAMA3_EINPUT for one that is not allowed. */
int held_accept(struct held *held, int32_t token, struct llama3_error *err);
/* Whether the text is complete, and nothing can follow. */
bool held_ended(const struct held *held);

/* Appends the tokens that must come next, each of which the caller then takes: those that the
 * tokenizer makes of the bytes that must come, after what the answer ends with, as far as they are
 * the same whatever follows. */
int held_forced(struct held *held, struct tokens *out, struct llama3_error *err);

#endif
