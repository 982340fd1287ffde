/* SPDX-License-Identifier: MIT */
#include "server/pool.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "base/size.h"

enum { WORTH_WAITING = 64 }; /* tokens: fewer are computed sooner than waited for */

struct pool_entry {
    int owner;
    struct llama3_session *session;
    struct pool_entry *next;
};

struct pool {
    struct llama3_model *model;
    size_t most;
    uint64_t bytes;
    pthread_mutex_t lock;
    pthread_cond_t changed;
    struct pool_entry *entries; /* most recently used first */
    struct pool_reader *readers;
    size_t n;
};

struct pool *pool_open(struct llama3_model *model, size_t most, uint64_t bytes,
                       struct llama3_error *err)
{
    struct pool *pool = size_alloc_for(1, sizeof *pool, "a pool of sequences", err);
    if (pool == NULL)
        return NULL;
    pool->model = model;
    pool->most = most;
    pool->bytes = bytes;
    pthread_mutex_init(&pool->lock, NULL);
    pthread_cond_init(&pool->changed, NULL);
    return pool;
}

/* Removes an entry; the caller owns its session. */
static struct llama3_session *unlink_entry(struct pool *pool, struct pool_entry **at)
{
    struct pool_entry *entry = *at;
    struct llama3_session *session = entry->session;
    *at = entry->next;
    free(entry);
    pool->n--;
    return session;
}

/* How many entries, or tokens in them, an owner has. */
static size_t has(const struct pool *pool, int owner, bool tokens)
{
    size_t sum = 0;
    for (const struct pool_entry *e = pool->entries; e != NULL; e = e->next) {
        size_t n = 1;
        if (e->owner != owner)
            continue;
        if (tokens)
            llama3_session_tokens(e->session, &n);
        sum += n;
    }
    return sum;
}

/* Drops the least recently used entry of the owner that has most. */
static void drop_one(struct pool *pool, bool tokens)
{
    struct pool_entry **last = NULL;
    size_t most = 0;
    for (struct pool_entry **at = &pool->entries; *at != NULL; at = &(*at)->next) {
        size_t n = has(pool, (*at)->owner, tokens);
        if (n >= most) {
            most = n;
            last = at;
        }
    }
    llama3_session_close(unlink_entry(pool, last));
}

void pool_close(struct pool *pool)
{
    if (pool == NULL)
        return;
    while (pool->entries != NULL)
        llama3_session_close(unlink_entry(pool, &pool->entries));
    pthread_mutex_destroy(&pool->lock);
    pthread_cond_destroy(&pool->changed);
    free(pool);
}

static size_t common(const int32_t *a, size_t n_a, const int32_t *b, size_t n_b)
{
    size_t n = n_a < n_b ? n_a : n_b, i = 0;
    while (i < n && a[i] == b[i])
        i++;
    return i;
}

static bool same_scales(const struct pool *pool, const float *a, const float *b)
{
    size_t n = llama3_model_info(pool->model)->n_adapters;
    return n == 0 || memcmp(a, b, n * sizeof *a) == 0;
}

static bool has_scales(const struct pool *pool, const struct pool_entry *entry, const float *scales)
{
    size_t n;
    return same_scales(pool, llama3_session_scales(entry->session, &n), scales);
}

/* A new session with these scales. */
static struct llama3_session *open_session(struct pool *pool, const float *scales,
                                           struct llama3_error *err)
{
    const struct llama3_info *info = llama3_model_info(pool->model);
    struct llama3_session *session = llama3_session_open(pool->model, err);
    for (size_t i = 0; session != NULL && i < info->n_adapters; i++)
        if (llama3_session_adapt(session, info->adapters[i]->name, (double)scales[i], err) < 0) {
            llama3_session_close(session);
            return NULL;
        }
    return session;
}

/* ---- taking ------------------------------------------------------------------------------ */

/* The owner's entry with the longest common prefix; *shared: its length. */
static struct pool_entry **best_entry(struct pool *pool, const struct pool_reader *r,
                                      size_t *shared)
{
    struct pool_entry **best = NULL;
    *shared = 0;
    for (struct pool_entry **at = &pool->entries; *at != NULL; at = &(*at)->next) {
        size_t length;
        const int32_t *have = llama3_session_tokens((*at)->session, &length);
        size_t same = (*at)->owner == r->owner && has_scales(pool, *at, r->scales)
                          ? common(have, length, r->tokens, r->n)
                          : 0;
        if (same > *shared) {
            *shared = same;
            best = at;
        }
    }
    return best;
}

/* Whether the owner has a prompt in prefill that saves many tokens and has few left to read. */
static bool worth_waiting(const struct pool *pool, const struct pool_reader *reader, size_t shared)
{
    for (const struct pool_reader *r = pool->readers; r != NULL; r = r->next) {
        size_t same = common(r->tokens, r->n, reader->tokens, reader->n);
        if (r->owner == reader->owner && same_scales(pool, r->scales, reader->scales) &&
            same >= shared + WORTH_WAITING && r->n - r->done <= 2 * (same - shared))
            return true;
    }
    return false;
}

/* The entry's session if all of it is shared, else a fork of the shared part. */
static struct llama3_session *from_entry(struct pool *pool, struct pool_entry **at, size_t shared,
                                         struct llama3_error *err)
{
    size_t length;
    struct pool_entry *entry = *at;
    llama3_session_tokens(entry->session, &length);
    if (length == shared)
        return unlink_entry(pool, at);
    *at = entry->next; /* to the front: most recently used */
    entry->next = pool->entries;
    pool->entries = entry;
    return llama3_session_fork(entry->session, shared, err);
}

struct llama3_session *pool_take(struct pool *pool, int owner, const float *scales,
                                 const int32_t *tokens, size_t n, struct pool_reader *reader,
                                 const atomic_bool *cancel, struct llama3_error *err)
{
    struct llama3_session *session = NULL;
    size_t shared;
    *reader = (struct pool_reader){.owner = owner, .scales = scales, .tokens = tokens, .n = n};
    pthread_mutex_lock(&pool->lock);
    struct pool_entry **best = best_entry(pool, reader, &shared);
    while (worth_waiting(pool, reader, shared) && !atomic_load(cancel)) {
        pthread_cond_wait(&pool->changed, &pool->lock);
        best = best_entry(pool, reader, &shared);
    }
    if (atomic_load(cancel))
        error_set(err, LLAMA3_ECANCELED, "canceled");
    else
        session =
            best != NULL ? from_entry(pool, best, shared, err) : open_session(pool, scales, err);
    if (session != NULL) {
        reader->done = shared;
        reader->next = pool->readers;
        pool->readers = reader;
    }
    pthread_mutex_unlock(&pool->lock);
    return session;
}

void pool_progress(struct pool *pool, struct pool_reader *reader, size_t done)
{
    pthread_mutex_lock(&pool->lock);
    reader->done = done;
    pthread_mutex_unlock(&pool->lock);
}

void pool_read(struct pool *pool, struct pool_reader *reader)
{
    pthread_mutex_lock(&pool->lock);
    for (struct pool_reader **at = &pool->readers; *at != NULL; at = &(*at)->next) {
        if (*at == reader) {
            *at = reader->next;
            break;
        }
    }
    pthread_cond_broadcast(&pool->changed);
    pthread_mutex_unlock(&pool->lock);
}

/* ---- giving back ------------------------------------------------------------------------- */

void pool_put(struct pool *pool, int owner, struct llama3_session *session)
{
    struct pool_entry *entry = size_alloc(1, sizeof *entry);
    size_t length;
    const int32_t *tokens = llama3_session_tokens(session, &length);
    size_t n_scales;
    const float *scales = llama3_session_scales(session, &n_scales);
    if (entry == NULL || length == 0) {
        free(entry);
        llama3_session_close(session);
        return;
    }
    entry->owner = owner;
    entry->session = session;
    pthread_mutex_lock(&pool->lock);
    for (struct pool_entry **at = &pool->entries; *at != NULL;) {
        size_t n;
        const int32_t *have = llama3_session_tokens((*at)->session, &n);
        if ((*at)->owner == owner && has_scales(pool, *at, scales) && n <= length &&
            common(have, n, tokens, length) == n)
            llama3_session_close(unlink_entry(pool, at));
        else
            at = &(*at)->next;
    }
    entry->next = pool->entries;
    pool->entries = entry;
    pool->n++;
    while (pool->n > pool->most)
        drop_one(pool, false);
    pthread_mutex_unlock(&pool->lock);
}

void pool_make_room(struct pool *pool, uint64_t bytes)
{
    pthread_mutex_lock(&pool->lock);
    while (pool->n > 0 && llama3_model_kv_bytes(pool->model) + bytes > pool->bytes)
        drop_one(pool, true);
    pthread_mutex_unlock(&pool->lock);
}

void pool_wake(struct pool *pool)
{
    pthread_mutex_lock(&pool->lock);
    pthread_cond_broadcast(&pool->changed);
    pthread_mutex_unlock(&pool->lock);
}

size_t pool_count(struct pool *pool)
{
    pthread_mutex_lock(&pool->lock);
    size_t n = pool->n;
    pthread_mutex_unlock(&pool->lock);
    return n;
}
