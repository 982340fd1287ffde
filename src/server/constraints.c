/* SPDX-License-Identifier: MIT */
#include "server/constraints.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "base/size.h"

/* What a constraint takes besides its text has limits of its own. */
enum { MAX_KEPT = 16, MAX_KEPT_BYTES = 1 << 20 };

struct kept_constraint {
    struct kept_constraint *next; /* used before this one */
    struct llama3_constraint *constraint;
    int user;
    enum llama3_constraint_kind kind;
    struct buf text;
    size_t users; /* requests that hold it */
};

struct constraints {
    struct llama3_model *model;
    pthread_mutex_t lock;
    struct kept_constraint *first; /* the one used last */
};

struct constraints *constraints_open(struct llama3_model *model, struct llama3_error *err)
{
    struct constraints *all = size_alloc_for(1, sizeof *all, "constraints", err);
    if (all == NULL)
        return NULL;
    all->model = model;
    pthread_mutex_init(&all->lock, NULL);
    return all;
}

static void drop(struct kept_constraint *kept)
{
    llama3_constraint_close(kept->constraint);
    buf_free(&kept->text);
    free(kept);
}

void constraints_close(struct constraints *all)
{
    if (all == NULL)
        return;
    while (all->first != NULL) {
        struct kept_constraint *next = all->first->next;
        drop(all->first);
        all->first = next;
    }
    pthread_mutex_destroy(&all->lock);
    free(all);
}

/* Drops those beyond the limits that nobody holds. Under the lock. */
static void trim(struct constraints *all)
{
    size_t n = 0, bytes = 0;
    for (struct kept_constraint **at = &all->first; *at != NULL;) {
        struct kept_constraint *kept = *at;
        n++;
        bytes += kept->text.size;
        if (kept->users > 0 || (n <= MAX_KEPT && bytes <= MAX_KEPT_BYTES)) {
            at = &kept->next;
            continue;
        }
        *at = kept->next;
        bytes -= kept->text.size;
        n--;
        drop(kept);
    }
}

/* Takes the one that is asked for out of the list; NULL: it isn't there. Under the lock. */
static struct kept_constraint *find(struct constraints *all, int user,
                                    const struct constraint_request *r)
{
    for (struct kept_constraint **at = &all->first; *at != NULL; at = &(*at)->next) {
        struct kept_constraint *kept = *at;
        if (kept->user != user || kept->kind != r->kind || kept->text.size != r->text.size ||
            (r->text.size > 0 && memcmp(kept->text.data, r->text.data, r->text.size) != 0))
            continue;
        *at = kept->next;
        return kept;
    }
    return NULL;
}

/* On the request's thread: other answers go on. */
static struct kept_constraint *compile(struct constraints *all, int user,
                                       const struct constraint_request *r, struct llama3_error *err)
{
    char where[96];
    struct kept_constraint *kept = size_alloc_for(1, sizeof *kept, "a constraint", err);
    if (kept == NULL)
        return NULL;
    kept->user = user;
    kept->kind = r->kind;
    buf_add(&kept->text, r->text.data, r->text.size);
    snprintf(where, sizeof where, "request: \"%s\"", r->where);
    if (kept->text.failed)
        error_memory(err, "a constraint", r->text.size);
    else
        kept->constraint =
            llama3_constraint_open(all->model, r->kind, r->text.data, r->text.size, where, err);
    if (kept->constraint != NULL)
        return kept;
    drop(kept);
    return NULL;
}

struct kept_constraint *constraints_take(struct constraints *all, int user,
                                         const struct constraint_request *r,
                                         struct llama3_error *err)
{
    pthread_mutex_lock(&all->lock);
    struct kept_constraint *kept = find(all, user, r);
    if (kept == NULL) {
        pthread_mutex_unlock(&all->lock);
        kept = compile(all, user, r, err);
        if (kept == NULL)
            return NULL;
        pthread_mutex_lock(&all->lock);
    }
    kept->users++;
    kept->next = all->first;
    all->first = kept;
    trim(all);
    pthread_mutex_unlock(&all->lock);
    return kept;
}

void constraints_give(struct constraints *all, struct kept_constraint *kept)
{
    if (kept == NULL)
        return;
    pthread_mutex_lock(&all->lock);
    kept->users--;
    trim(all);
    pthread_mutex_unlock(&all->lock);
}

const struct llama3_constraint *constraints_of(const struct kept_constraint *kept)
{
    return kept != NULL ? kept->constraint : NULL;
}
