/* SPDX-License-Identifier: MIT */
/* api_constraint.c: constraints and their matchers: src/grammar, with a model's vocabulary. */
#include <stdlib.h>

#include "base/size.h"
#include "engine/held.h"

_Static_assert((int)LLAMA3_CONSTRAINT_LARK == (int)CONSTRAINT_LARK, "kinds as the grammar's");

struct llama3_constraint *constraint_of(struct session_model *model, size_t vocab_size,
                                        enum llama3_constraint_kind kind, const char *text,
                                        size_t length, const char *where, struct llama3_error *err)
{
    static const char *const kinds[] = {"JSON",   "JSON", "schema", "regular expression",
                                        "choice", "GBNF", "Lark"};
    if ((unsigned)kind > LLAMA3_CONSTRAINT_LARK) {
        error_input(err, "constraint: expected a kind of 0 to %d, found %d",
                    (int)LLAMA3_CONSTRAINT_LARK, (int)kind);
        return NULL;
    }
    struct llama3_constraint *c = size_alloc_for(1, sizeof *c, "a constraint", err);
    if (c == NULL)
        return NULL;
    c->model = model;
    pthread_mutex_lock(&model->vocabulary_lock);
    if (model->vocabulary == NULL)
        model->vocabulary =
            vocabulary_open(model->tokenizer, vocab_size, model->stop_ids, model->n_stop_ids, err);
    const struct vocabulary *vocabulary = model->vocabulary;
    pthread_mutex_unlock(&model->vocabulary_lock);
    if (vocabulary != NULL)
        c->constraint =
            constraint_open(vocabulary, (enum constraint_kind)kind, text != NULL ? text : "",
                            length, where != NULL ? where : kinds[kind], err);
    if (c->constraint != NULL)
        return c;
    free(c);
    return NULL;
}

void llama3_constraint_close(struct llama3_constraint *c)
{
    if (c == NULL)
        return;
    constraint_close(c->constraint);
    free(c);
}

/* ---- matchers: a llama3_matcher is a matcher ---------------------------------------------------
 */

static struct matcher *inner(struct llama3_matcher *m)
{
    return (struct matcher *)(void *)m;
}

static const struct matcher *inner_const(const struct llama3_matcher *m)
{
    return (const struct matcher *)(const void *)m;
}

struct llama3_matcher *llama3_matcher_open(struct llama3_constraint *c, struct llama3_error *err)
{
    return (struct llama3_matcher *)(void *)matcher_open(c->constraint, err);
}

struct llama3_matcher *llama3_matcher_copy(const struct llama3_matcher *m, struct llama3_error *err)
{
    return (struct llama3_matcher *)(void *)matcher_copy(inner_const(m), err);
}

void llama3_matcher_close(struct llama3_matcher *m)
{
    matcher_close(inner(m));
}

const uint32_t *llama3_matcher_mask(struct llama3_matcher *m, struct llama3_error *err)
{
    return matcher_mask(inner(m), err);
}

int llama3_matcher_accept(struct llama3_matcher *m, int32_t token, struct llama3_error *err)
{
    return matcher_accept(inner(m), token, err);
}

bool llama3_matcher_may_end(const struct llama3_matcher *m)
{
    return matcher_may_end(inner_const(m));
}

bool llama3_matcher_ended(const struct llama3_matcher *m)
{
    return matcher_ended(inner_const(m));
}

size_t llama3_matcher_forced(struct llama3_matcher *m, char *bytes, size_t room)
{
    return matcher_forced(inner(m), (uint8_t *)bytes, room);
}
