/* SPDX-License-Identifier: MIT */
#include "hub/hasher.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/size.h"

enum { PIECE = 1 << 18 };

struct hasher {
    struct blob *blobs; /* [n] */
    size_t n;
    void (*wake)(void *arg);
    void *arg;
    uint8_t piece[PIECE]; /* to be hashed */
    pthread_t thread;

    pthread_mutex_t lock; /* of what follows */
    pthread_cond_t changed;
    bool noticed; /* there may be bytes to hash */
    bool busy;    /* hashing a piece */
    bool held, ending;
};

/* A blob with bytes to hash. An empty one needs a verdict, too. */
static struct blob *next(const struct hasher *h)
{
    for (size_t i = 0; i < h->n; i++) {
        struct blob *blob = &h->blobs[i];
        if (blob->state == BLOB_OPEN && blob->verdict == BLOB_UNHASHED &&
            (blob->hashed < blob->ready || blob->file->size == blob->hashed))
            return blob;
    }
    return NULL;
}

static void hash_piece(struct hasher *h, struct blob *blob)
{
    uint64_t left = blob->ready - blob->hashed;
    size_t n = left < PIECE ? (size_t)left : PIECE;
    ssize_t got = n == 0 ? 0 : pread(blob->fd, h->piece, n, (off_t)blob->hashed);
    if (got < 0 && errno == EINTR)
        return;
    if (got < 0 || (got == 0 && n > 0)) {
        blob->verdict = BLOB_UNREADABLE;
        h->wake(h->arg);
        return;
    }
    digest_add(&blob->digest, h->piece, (size_t)got);
    blob->hashed += (uint64_t)got;
    if (blob->hashed < blob->file->size)
        return;
    struct digest digest =
        blob->digest; /* digest_is() ends it, and blob->digest may still be recorded */
    blob->verdict = digest_is(&digest, blob->file->etag) ? BLOB_RIGHT : BLOB_WRONG;
    h->wake(h->arg);
}

static void *run(void *arg)
{
    struct hasher *h = arg;
    pthread_mutex_lock(&h->lock);
    while (!h->ending) {
        struct blob *blob = h->held ? NULL : next(h);
        if (blob == NULL) {
            while (!h->ending && (h->held || !h->noticed))
                pthread_cond_wait(&h->changed, &h->lock);
            h->noticed = false;
            continue;
        }
        h->busy = true;
        pthread_mutex_unlock(&h->lock);
        hash_piece(h, blob);
        pthread_mutex_lock(&h->lock);
        h->busy = false;
        if (h->held)
            pthread_cond_broadcast(&h->changed);
    }
    pthread_mutex_unlock(&h->lock);
    return NULL;
}

struct hasher *hasher_open(struct blob *blobs, size_t n, void (*wake)(void *arg), void *arg,
                           struct llama3_error *err)
{
    struct hasher *h = size_alloc_for(1, sizeof *h, "a hash", err);
    if (h == NULL)
        return NULL;
    h->blobs = blobs;
    h->n = n;
    h->wake = wake;
    h->arg = arg;
    pthread_mutex_init(&h->lock, NULL);
    pthread_cond_init(&h->changed, NULL);
    int failed = pthread_create(&h->thread, NULL, run, h);
    if (failed == 0)
        return h;
    error_set(err, LLAMA3_ENOMEM, "could not start a thread");
    pthread_cond_destroy(&h->changed);
    pthread_mutex_destroy(&h->lock);
    free(h);
    return NULL;
}

/* Sets one of its flags, and wakes those that wait for a change. */
static void set(struct hasher *h, bool *flag)
{
    pthread_mutex_lock(&h->lock);
    *flag = true;
    pthread_cond_broadcast(&h->changed);
    pthread_mutex_unlock(&h->lock);
}

void hasher_notice(struct hasher *h)
{
    set(h, &h->noticed);
}

void hasher_hold(struct hasher *h)
{
    pthread_mutex_lock(&h->lock);
    h->held = true;
    while (h->busy)
        pthread_cond_wait(&h->changed, &h->lock);
    pthread_mutex_unlock(&h->lock);
}

void hasher_release(struct hasher *h)
{
    pthread_mutex_lock(&h->lock);
    h->held = false;
    h->noticed = true;
    pthread_cond_broadcast(&h->changed);
    pthread_mutex_unlock(&h->lock);
}

void hasher_close(struct hasher *h)
{
    if (h == NULL)
        return;
    set(h, &h->ending);
    pthread_join(h->thread, NULL);
    pthread_cond_destroy(&h->changed);
    pthread_mutex_destroy(&h->lock);
    free(h);
}
