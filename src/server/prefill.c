/* SPDX-License-Identifier: MIT */
#include "server/prefill.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "base/size.h"
#include "base/tokens.h"
#include "server/keys.h"

enum { WORTH_WAITING = 64 }; /* tokens: fewer are computed sooner than waited for */
static const char household[] = "llama3-server household";

struct prefills {
    struct llama3_model *model;
    const struct keys *keys; /* NULL: one household */
    pthread_mutex_t lock;
    pthread_cond_t changed;
    struct prefill *first;
};

struct prefills *prefills_open(struct llama3_model *model, const struct keys *keys,
                               struct llama3_error *err)
{
    struct prefills *prefills = size_alloc_for(1, sizeof *prefills, "prompts", err);
    if (prefills == NULL)
        return NULL;
    prefills->model = model;
    prefills->keys = keys != NULL && keys_count(keys) > 0 ? keys : NULL;
    pthread_mutex_init(&prefills->lock, NULL);
    pthread_cond_init(&prefills->changed, NULL);
    return prefills;
}

void prefills_close(struct prefills *prefills)
{
    if (prefills == NULL)
        return;
    pthread_mutex_destroy(&prefills->lock);
    pthread_cond_destroy(&prefills->changed);
    free(prefills);
}

static size_t common(const struct prefill *a, const struct prefill *b)
{
    return tokens_common(a->tokens, b->tokens, a->n < b->n ? a->n : b->n);
}

static bool share_cache(const struct prefills *prefills, const struct prefill *a,
                        const struct prefill *b)
{
    size_t n = llama3_model_info(prefills->model)->n_adapters;
    return a->owner == b->owner && (n == 0 || memcmp(a->scales, b->scales, n * sizeof(float)) == 0);
}

/* Whether there is a prefill that saves many tokens and has few left to read. */
static bool worth_waiting(const struct prefills *prefills, const struct prefill *prefill,
                          size_t cached)
{
    for (const struct prefill *p = prefills->first; p != NULL; p = p->next) {
        size_t same = share_cache(prefills, p, prefill) ? common(p, prefill) : 0;
        if (same >= cached + WORTH_WAITING && p->n - p->done <= 2 * (same - cached))
            return true;
    }
    return false;
}

static struct llama3_session *open_session(struct prefills *prefills, const struct prefill *prefill,
                                           struct llama3_error *err)
{
    const struct llama3_info *info = llama3_model_info(prefills->model);
    struct llama3_session *session = llama3_session_open(prefills->model, err);
    int status = session != NULL ? llama3_session_owner(session, prefill->owner, err) : -1;
    if (status == 0 && prefills->keys != NULL)
        status = llama3_session_owner_key(session, keys_owner(prefills->keys, prefill->owner),
                                          KEYS_OWNER, err);
    else if (status == 0) /* none of the keys, nor the user's own programs */
        status = llama3_session_owner_key(session, household, sizeof household, err);
    for (size_t i = 0; status == 0 && i < info->n_adapters; i++)
        status =
            llama3_session_adapt(session, info->adapters[i]->name, (double)prefill->scales[i], err);
    if (status == 0)
        return session;
    llama3_session_close(session);
    return NULL;
}

/* Looks the prompt up, again after each wait. With the lock held: a prefill that ends has left its
 * tokens in the cache before it is off the list. */
static int adopt(struct prefills *prefills, struct llama3_session *session, struct prefill *prefill,
                 const atomic_bool *cancel, struct llama3_error *err)
{
    for (;;) {
        if (atomic_load(cancel))
            return error_set(err, LLAMA3_ECANCELED, "canceled");
        if (llama3_session_adopt(session, prefill->tokens, prefill->n, &prefill->done, err) < 0)
            return -1;
        if (!worth_waiting(prefills, prefill, prefill->done))
            return 0;
        pthread_cond_wait(&prefills->changed, &prefills->lock);
    }
}

struct llama3_session *prefill_begin(struct prefills *prefills, int owner, const float *scales,
                                     const int32_t *tokens, size_t n, struct prefill *prefill,
                                     const atomic_bool *cancel, struct llama3_error *err)
{
    *prefill = (struct prefill){.owner = owner, .scales = scales, .tokens = tokens, .n = n};
    struct llama3_session *session = open_session(prefills, prefill, err);
    if (session == NULL)
        return NULL;
    pthread_mutex_lock(&prefills->lock);
    int status = adopt(prefills, session, prefill, cancel, err);
    if (status == 0) {
        prefill->next = prefills->first;
        prefills->first = prefill;
    }
    pthread_mutex_unlock(&prefills->lock);
    if (status == 0)
        return session;
    llama3_session_close(session);
    return NULL;
}

void prefill_progress(struct prefills *prefills, struct prefill *prefill, size_t done)
{
    pthread_mutex_lock(&prefills->lock);
    prefill->done = done;
    pthread_mutex_unlock(&prefills->lock);
}

void prefill_end(struct prefills *prefills, struct prefill *prefill)
{
    pthread_mutex_lock(&prefills->lock);
    for (struct prefill **at = &prefills->first; *at != NULL; at = &(*at)->next) {
        if (*at == prefill) {
            *at = prefill->next;
            break;
        }
    }
    pthread_cond_broadcast(&prefills->changed);
    pthread_mutex_unlock(&prefills->lock);
}

void prefills_wake(struct prefills *prefills)
{
    pthread_mutex_lock(&prefills->lock);
    pthread_cond_broadcast(&prefills->changed);
    pthread_mutex_unlock(&prefills->lock);
}
