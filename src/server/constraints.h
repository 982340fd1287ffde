/* SPDX-License-Identifier: MIT */
/*
 * constraints.h: compiled constraints of answers, kept for requests that ask for the same: those
 * that were used last, of each key for itself, as the time that it takes would tell one what
 * another asks. Thread-safe.
 */
#ifndef SERVER_CONSTRAINTS_H
#define SERVER_CONSTRAINTS_H

#include "base/buf.h"
#include "llama3.h"

/* What a request asks for. */
struct constraint_request {
    const char *field; /* of the request; NULL: it asks for none */
    const char *where; /* this field, or its part */
    enum llama3_constraint_kind kind;
    struct buf text;
};

struct constraints;
struct kept_constraint;

struct constraints *constraints_open(struct llama3_model *model, struct llama3_error *err);
void constraints_close(struct constraints *all);

/* Compiles it, or finds it among those of this user; for constraints_give(). */
struct kept_constraint *constraints_take(struct constraints *all, int user,
                                         const struct constraint_request *request,
                                         struct llama3_error *err);
void constraints_give(struct constraints *all, struct kept_constraint *kept); /* NULL: nothing */
const struct llama3_constraint *constraints_of(const struct kept_constraint *kept);

#endif
