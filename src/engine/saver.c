/* SPDX-License-Identifier: MIT */
#include "config.h"

#include "engine/saver.h"

#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/clock.h"
#include "base/size.h"

/* Times in seconds. */
/* Of rest while passes run, for one of work: a page costs an answer more than its work, since a
 * thread that computes loses its core for a tick (base/threads.h). */
static const double PACE = 400;
static const double IDLE = 0.02;     /* without a pass, after which nobody is held up */
static const double MOST_REST = 1.0; /* since the first page's time has page faults in it */
static const double LINGER = 0.4;    /* at the end */

/* Pages of a chain that wait. */
struct saving {
    struct sequence *sequence; /* all tokens up to their end */
    struct kv_root root;
    uint64_t used;
    size_t first, end;         /* pages, */
    size_t done;               /* of which so many have been put */
    struct kv_digest *digests; /* [end - first + 1] from the one before */
    int32_t *tokens;           /* [end - first][KV_PAGE] */
    struct saving *next;
};

struct saver {
    struct kv_store *store;
    struct forward *forward;
    pthread_mutex_t *kv_lock; /* taken before the lock, where both are */
    void *copy;               /* [page bytes] where pages aren't in the host's memory; or NULL */
    pthread_t thread;
    pthread_mutex_t lock; /* of the queue and `closing` */
    pthread_cond_t changed;
    struct saving *first;
    bool closing;
    double until; /* then it ends */
    atomic_bool passing;
    _Atomic double passed; /* when the last pass ended */
};

/* ---- chains -------------------------------------------------------------------------------- */

const struct kv_digest *kv_chain_before(const struct kv_chain *chain, size_t page)
{
    return page > 0 ? &chain->digests[page - 1] : &chain->root.digest;
}

bool kv_chain_extend(struct kv_chain *chain, const int32_t *tokens, size_t n)
{
    if (n > chain->room) {
        size_t room = n + chain->room + 8, bytes;
        struct kv_digest *digests =
            size_mul(room, sizeof *digests, &bytes) ? realloc(chain->digests, bytes) : NULL;
        if (digests == NULL)
            return false;
        chain->digests = digests;
        chain->room = room;
    }
    for (; chain->n < n; chain->n++)
        kv_digest_next(kv_chain_before(chain, chain->n), tokens + chain->n * KV_PAGE,
                       &chain->digests[chain->n]);
    return true;
}

bool kv_chain_place(struct kv_chain *chain, const int32_t *tokens, size_t page,
                    struct kv_place *place)
{
    if (!kv_chain_extend(chain, tokens, page + 1))
        return false;
    *place = (struct kv_place){.root = &chain->root,
                               .index = page,
                               .before = *kv_chain_before(chain, page),
                               .tokens = tokens + page * KV_PAGE,
                               .own = chain->digests[page]};
    return true;
}

void kv_chain_cut(struct kv_chain *chain, size_t n)
{
    size_t pages = n / KV_PAGE;
    chain->n = chain->n < pages ? chain->n : pages;
    chain->offered = chain->offered < pages ? chain->offered : pages;
    if (n == 0) /* whose scales may change now */
        chain->begun = false;
}

void kv_chain_use(struct kv_chain *chain)
{
    struct timespec now;
    timespec_get(&now, TIME_UTC);
    chain->used = (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec;
    chain->offered = 0; /* all that it has counts as used */
}

void kv_chain_free(struct kv_chain *chain)
{
    free(chain->digests);
    *chain = (struct kv_chain){0};
}

/* ---- the queue ----------------------------------------------------------------------------- */

/* With the kv_lock held. */
static void free_saving(struct saver *saver, struct saving *saving)
{
    sequence_close(saver->forward, saving->sequence);
    free(saving->digests);
    free(saving->tokens);
    free(saving);
}

/* All but the sequence; NULL without memory. */
static struct saving *make_saving(const struct kv_chain *chain, const int32_t *tokens, size_t first,
                                  size_t end)
{
    struct saving *s = size_alloc(1, sizeof *s);
    if (s == NULL)
        return NULL;
    *s = (struct saving){.root = chain->root, .used = chain->used, .first = first, .end = end};
    s->digests = size_alloc(end - first + 1, sizeof *s->digests);
    s->tokens = size_alloc((end - first) * KV_PAGE, sizeof *s->tokens);
    if (s->digests == NULL || s->tokens == NULL) {
        free(s->digests);
        free(s->tokens);
        free(s);
        return NULL;
    }
    s->digests[0] = *kv_chain_before(chain, first);
    memcpy(s->digests + 1, chain->digests + first, (end - first) * sizeof *s->digests);
    memcpy(s->tokens, tokens + first * KV_PAGE, (end - first) * KV_PAGE * sizeof *s->tokens);
    return s;
}

void saver_offer(struct saver *saver, struct kv_chain *chain, struct sequence *sequence,
                 const int32_t *tokens, size_t n)
{
    size_t first = chain->offered, end = n / KV_PAGE;
    if (!chain->begun || first >= end || !kv_chain_extend(chain, tokens, end))
        return;
    struct saving *saving = make_saving(chain, tokens, first, end);
    if (saving == NULL)
        return;
    pthread_mutex_lock(saver->kv_lock);
    saving->sequence = sequence_fork(saver->forward, sequence, end * KV_PAGE, NULL);
    bool failed = saving->sequence == NULL;
    if (failed)
        free_saving(saver, saving);
    pthread_mutex_unlock(saver->kv_lock);
    if (failed)
        return;
    chain->offered = end;
    pthread_mutex_lock(&saver->lock);
    struct saving **last = &saver->first;
    while (*last != NULL)
        last = &(*last)->next;
    *last = saving;
    pthread_cond_signal(&saver->changed);
    pthread_mutex_unlock(&saver->lock);
}

static struct saving *take_all(struct saver *saver)
{
    pthread_mutex_lock(&saver->lock);
    struct saving *all = saver->first;
    saver->first = NULL;
    pthread_mutex_unlock(&saver->lock);
    return all;
}

bool saver_shed(struct saver *saver)
{
    struct saving *all = take_all(saver);
    bool any = all != NULL;
    while (all != NULL) {
        struct saving *next = all->next;
        free_saving(saver, all);
        all = next;
    }
    return any;
}

void saver_pass(struct saver *saver, bool runs)
{
    if (!runs)
        atomic_store_explicit(&saver->passed, clock_seconds(), memory_order_relaxed);
    atomic_store_explicit(&saver->passing, runs, memory_order_release);
}

/* ---- the thread ---------------------------------------------------------------------------- */

static bool is_idle(struct saver *saver)
{
    return !atomic_load_explicit(&saver->passing, memory_order_acquire) &&
           clock_seconds() - atomic_load_explicit(&saver->passed, memory_order_relaxed) > IDLE;
}

/* Lets the passes have the machine after so many seconds of work. The lock is held. */
static void rest(struct saver *saver, double worked)
{
    double now = clock_seconds(), length = worked * PACE;
    double end = now + (length < MOST_REST ? length : MOST_REST);
    while (now < end && !saver->closing && !is_idle(saver)) {
        struct timespec until = clock_moment(end < now + IDLE ? end : now + IDLE);
        pthread_cond_timedwait(&saver->changed, &saver->lock, &until);
        now = clock_seconds();
    }
}

/* The processor's time of this thread. */
static double thread_seconds(void)
{
    struct timespec t;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

/* Puts the next page of those that wait; false: no more of these. */
static bool put_next(struct saver *saver, struct saving *s)
{
    size_t i = s->done, page = s->first + i;
    struct kv_place place = {.root = &s->root,
                             .index = page,
                             .before = s->digests[i],
                             .tokens = s->tokens + i * KV_PAGE,
                             .own = s->digests[i + 1]};
    const void *bytes = sequence_page(saver->forward, s->sequence, page);
    if (bytes == NULL) {
        pthread_mutex_lock(saver->kv_lock);
        int status = sequence_copy_page(saver->forward, s->sequence, page, saver->copy, NULL);
        pthread_mutex_unlock(saver->kv_lock);
        if (status < 0)
            return false;
        bytes = saver->copy;
    }
    return kv_store_put(saver->store, &place, bytes, s->used) == KV_PUT_DONE;
}

static bool is_over(const struct saver *saver)
{
    return saver->closing && clock_seconds() >= saver->until;
}

/* Puts pages until one has no room. The lock isn't held. */
static void save(struct saver *saver, struct saving *s)
{
    bool goes_on = true;
    for (; s->first + s->done < s->end && goes_on; s->done++) {
        double began = thread_seconds();
        goes_on = put_next(saver, s);
        pthread_mutex_lock(&saver->lock);
        rest(saver, thread_seconds() - began);
        goes_on = goes_on && !is_over(saver);
        pthread_mutex_unlock(&saver->lock);
    }
}

static void *saver_main(void *arg)
{
    struct saver *saver = arg;
    kv_store_trim(saver->store);
    pthread_mutex_lock(&saver->lock);
    while (!is_over(saver)) {
        struct saving *s = saver->first;
        if (s == NULL && saver->closing)
            break;
        if (s == NULL) {
            pthread_cond_wait(&saver->changed, &saver->lock);
            continue;
        }
        saver->first = s->next;
        pthread_mutex_unlock(&saver->lock);
        save(saver, s);
        pthread_mutex_lock(saver->kv_lock);
        free_saving(saver, s);
        pthread_mutex_unlock(saver->kv_lock);
        pthread_mutex_lock(&saver->lock);
    }
    pthread_mutex_unlock(&saver->lock);
    return NULL;
}

/* ---- opening ------------------------------------------------------------------------------- */

struct saver *saver_open(struct kv_store *store, struct forward *forward, pthread_mutex_t *kv_lock,
                         struct llama3_error *err)
{
    struct saver *saver = size_alloc_for(1, sizeof *saver, "the store of prefixes", err);
    if (saver == NULL)
        return NULL;
    saver->store = store;
    saver->forward = forward;
    saver->kv_lock = kv_lock;
    saver->copy = size_alloc_for(1, forward_page_bytes(forward), "a page of the KV cache", err);
    if (saver->copy == NULL) {
        free(saver);
        return NULL;
    }
    pthread_mutex_init(&saver->lock, NULL);
    clock_condition(&saver->changed);
    /* As the engine's. SIGXFSZ among them: a file that may not grow is an error of write(). */
    sigset_t all, before;
    sigfillset(&all);
    sigdelset(&all, SIGBUS);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    int failed = pthread_create(&saver->thread, NULL, saver_main, saver);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (!failed)
        return saver;
    error_set(err, LLAMA3_ENOMEM, "no thread could be started for the store of prefixes");
    pthread_cond_destroy(&saver->changed);
    pthread_mutex_destroy(&saver->lock);
    free(saver->copy);
    free(saver);
    return NULL;
}

void saver_close(struct saver *saver)
{
    if (saver == NULL)
        return;
    pthread_mutex_lock(&saver->lock);
    saver->closing = true;
    saver->until = clock_seconds() + LINGER;
    pthread_cond_signal(&saver->changed);
    pthread_mutex_unlock(&saver->lock);
    pthread_join(saver->thread, NULL);
    saver_shed(saver);
    pthread_cond_destroy(&saver->changed);
    pthread_mutex_destroy(&saver->lock);
    free(saver->copy);
    free(saver);
}
