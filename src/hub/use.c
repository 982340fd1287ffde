/* SPDX-License-Identifier: MIT */
/* use.c: what a thread does that uses bytes while they arrive. */
#include "config.h" /* reallocarray */

#include <stdlib.h>

#include "hub/fetch_parts.h"

void fetch_opened(struct fetch *f)
{
    pthread_mutex_lock(&f->lock);
    f->opens = false;
    pthread_mutex_unlock(&f->lock);
    fetch_wake(f);
}

void fetch_order(struct fetch *f, const struct fetch_span *first, size_t n)
{
    pthread_mutex_lock(&f->lock);
    f->first = first;
    f->n_first = n;
    pthread_mutex_unlock(&f->lock);
}

/* Whether bytes are there, or were until they were dropped. */
static bool is_there(const struct blob *blob, const struct fetch_span *span)
{
    return blob->state == BLOB_DONE || ranges_have(&blob->have, span->begin, span->end);
}

static bool is_dropped(const struct blob *blob, const struct fetch_span *span)
{
    struct ranges left = blob->dropped;
    return blob->state != BLOB_DONE && ranges_remove(&left, span->begin, span->end) &&
           ranges_bytes(&left) < ranges_bytes(&blob->dropped);
}

int fetch_wait(struct fetch *f, const struct fetch_span *span)
{
    const struct blob *blob = &f->blobs[span->blob];
    bool there;
    pthread_mutex_lock(&f->lock);
    while (!(there = is_there(blob, span)) && !f->ended) {
        f->wanted = *span;
        fetch_wake(f);
        pthread_cond_wait(&f->arrived, &f->lock);
    }
    f->wanted = (struct fetch_span){0};
    there = there && !is_dropped(blob, span);
    pthread_mutex_unlock(&f->lock);
    return there ? 0 : -1;
}

int fetch_wait_all(struct fetch *f)
{
    pthread_mutex_lock(&f->lock);
    while (!fetch_all_verified(f) && !f->ended)
        pthread_cond_wait(&f->arrived, &f->lock);
    bool verified = fetch_all_verified(f);
    pthread_mutex_unlock(&f->lock);
    return verified ? 0 : -1;
}

void fetch_release(struct fetch *f)
{
    pthread_mutex_lock(&f->lock);
    f->used = false;
    f->opens = false;
    pthread_mutex_unlock(&f->lock);
    fetch_wake(f);
}

int fetch_drop(struct fetch *f, const struct fetch_span *span)
{
    pthread_mutex_lock(&f->lock);
    struct fetch_span *more = reallocarray(f->dropped, f->n_dropped + 1, sizeof *more);
    if (more != NULL) {
        more[f->n_dropped++] = *span;
        f->dropped = more;
    }
    pthread_mutex_unlock(&f->lock);
    return more != NULL ? 0 : -1;
}
