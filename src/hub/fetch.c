/* SPDX-License-Identifier: MIT */
#include "hub/fetch.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/size.h"
#include "hub/fetch_parts.h"

enum {
    MAX_FAILURES = 5,  /* in a row, without a new byte */
    MAX_REFUSALS = 20, /* in a row, each with a Retry-After */
    MAX_PAUSE = 3600,  /* seconds */
    LEAST = 4 << 20,   /* bytes of a request, if there are so many */
    TICK = 100         /* milliseconds */
};

static const double RECORD_EVERY = 0.25; /* seconds */

void fetch_wake(void *arg)
{
    struct fetch *f = arg;
    curl_multi_wakeup(f->hub->multi);
}

int fetch_open(struct fetch *f, struct llama3_error *err)
{
    f->sources = size_alloc_for(f->n, sizeof *f->sources, "a list of files", err);
    if (f->sources == NULL)
        return -1;
    f->ended = false;
    f->n_dropped = 0;
    pthread_mutex_init(&f->lock, NULL);
    pthread_cond_init(&f->arrived, NULL);
    f->hasher = hasher_open(f->blobs, f->n, fetch_wake, f, err);
    return f->hasher != NULL ? 0 : -1;
}

static void free_slot(struct fetch_slot *slot)
{
    request_close(&slot->request);
    slot->blob = NULL;
}

void fetch_close(struct fetch *f)
{
    for (size_t i = 0; i < MAX_CONNECTIONS; i++)
        free_slot(&f->slots[i]);
    hasher_close(f->hasher);
    for (size_t i = 0; f->sources != NULL && i < f->n; i++)
        free(f->sources[i].address);
    if (f->sources != NULL) {
        pthread_cond_destroy(&f->arrived);
        pthread_mutex_destroy(&f->lock);
    }
    free(f->sources);
    free(f->dropped);
    f->sources = NULL;
    f->dropped = NULL;
    f->hasher = NULL;
}

double fetch_pause(const struct fetch *f)
{
    double left = f->not_before - clock_seconds();
    return left > 0 ? left : 0;
}

static void note(struct fetch *f, const char *text)
{
    if (f->on_note != NULL)
        f->on_note(f->arg, text);
}

/* ---- a body ---------------------------------------------------------------------------------- */

static int give_up(struct fetch_slot *slot)
{
    slot->failed = true;
    return false;
}

/* Checks an answer's headers before its body is written, so that no byte goes to a wrong offset. */
static int check_answer(struct fetch_slot *slot)
{
    const struct request *r = &slot->request;
    uint64_t size = slot->blob->file->size, expected = slot->span.end - slot->span.begin;
    if (r->encoded)
        return error_set(&slot->err, LLAMA3_EIO,
                         "%s: %s: expected the file as it is, found it encoded", r->host,
                         slot->blob->file->name);
    if (r->ranged && r->status == 206 &&
        (!r->has_range || r->first != slot->span.begin || r->total != size))
        return error_set(&slot->err, LLAMA3_EIO,
                         "%s: %s: expected bytes from %" PRIu64 " of %" PRIu64 ", found others",
                         r->host, slot->blob->file->name, slot->span.begin, size);
    if (r->length != UINT64_MAX && r->status == 200 && r->length != size)
        return error_set(&slot->err, LLAMA3_EIO,
                         "%s: %s: expected %" PRIu64 " bytes, found %" PRIu64, r->host,
                         slot->blob->file->name, size, r->length);
    if (r->length != UINT64_MAX && r->status == 206 && r->length > expected)
        return error_set(&slot->err, LLAMA3_EIO,
                         "%s: %s: expected %" PRIu64 " bytes, found %" PRIu64, r->host,
                         slot->blob->file->name, expected, r->length);
    return 0;
}

static bool on_body(void *arg, const char *bytes, size_t n)
{
    struct fetch_slot *slot = arg;
    struct fetch *f = slot->fetch;
    struct request *r = &slot->request;
    size_t index = (size_t)(slot->blob - f->blobs);
    if (r->ranged && r->status == 200) { /* ranges are ignored: the whole file comes */
        r->ranged = false;
        f->sources[index].whole = true;
        if (slot->span.begin != 0)
            return give_up(slot); /* another request will get it */
        slot->span.end = slot->blob->file->size;
    }
    if (slot->at == slot->span.begin && check_answer(slot) != 0)
        return give_up(slot);
    if (n > slot->span.end - slot->at) {
        error_set(&slot->err, LLAMA3_EIO, "%s: expected %" PRIu64 " bytes, found more",
                  slot->blob->file->name, slot->span.end - slot->span.begin);
        return give_up(slot);
    }
    pthread_mutex_lock(&f->lock);
    int result = blob_write(slot->blob, slot->at, bytes, n, &slot->err);
    pthread_cond_broadcast(&f->arrived);
    pthread_mutex_unlock(&f->lock);
    if (result != 0)
        return give_up(slot);
    hasher_notice(f->hasher);
    slot->at += n;
    f->refusals = 0;
    f->sources[index].failures = 0;
    return true;
}

/* ---- what to fetch next ---------------------------------------------------------------------- */

/* The first gap in a span, at most one piece long. Bytes in flight count as there. */
static bool next_gap(const struct fetch *f, const struct fetch_span *from, struct fetch_span *gap)
{
    struct ranges taken = f->blobs[from->blob].have;
    for (int i = 0; i < f->connections; i++)
        if (f->slots[i].blob == &f->blobs[from->blob])
            ranges_add(&taken, f->slots[i].at, f->slots[i].span.end);
    uint64_t until, begin = ranges_gap(&taken, from->begin, from->end, &until);
    *gap = (struct fetch_span){from->blob, begin,
                               until - begin > FETCH_PIECE ? begin + FETCH_PIECE : until};
    return begin < from->end;
}

/* The next bytes to request of a span, if its blob can be fetched now. */
static bool try_span(struct fetch *f, const struct fetch_span *span, double now,
                     struct fetch_span *next)
{
    struct fetch_source *source = &f->sources[span->blob];
    const struct blob *blob = &f->blobs[span->blob];
    if (blob->state != BLOB_OPEN || now < source->not_before)
        return false;
    if (!source->whole)
        return next_gap(f, span, next);
    for (int i = 0; i < f->connections; i++)
        if (f->slots[i].blob == blob)
            return false;
    *next = (struct fetch_span){span->blob, 0, blob->file->size};
    return !ranges_have(&blob->have, 0, blob->file->size);
}

/* Whether the disk has room for another piece besides those in flight. */
static bool has_room(const struct fetch *f)
{
    uint64_t bytes, needed = f->keep_free + FETCH_PIECE;
    for (int i = 0; i < f->connections; i++)
        if (f->slots[i].blob != NULL)
            needed += f->slots[i].span.end - f->slots[i].at;
    return f->keep_free == 0 || !store_free_bytes(f->store->arriving, &bytes) || bytes >= needed;
}

/* A request costs a round trip, so a short gap is extended by the bytes after it. */
static bool try_least(struct fetch *f, const struct fetch_span *span, double now,
                      struct fetch_span *next)
{
    if (!try_span(f, span, now, next))
        return false;
    if (next->end - next->begin >= LEAST || f->sources[span->blob].whole)
        return true;
    uint64_t size = f->blobs[span->blob].file->size;
    const struct fetch_span wide = {span->blob, next->begin,
                                    size - next->begin < LEAST ? size : next->begin + LEAST};
    return try_span(f, &wide, now, next);
}

static bool choose_next(struct fetch *f, double now, struct fetch_span *next)
{
    if (f->wanted.begin < f->wanted.end && try_least(f, &f->wanted, now, next))
        return true;
    if (!has_room(f))
        return false;
    for (size_t i = 0; i < f->n_first; i++)
        if (try_least(f, &f->first[i], now, next))
            return true;
    for (size_t i = 0; i < f->n; i++) {
        const struct fetch_span all = {i, 0, f->blobs[i].file->size};
        if (try_span(f, &all, now, next))
            return true;
    }
    return false;
}

static int add_address(const struct fetch *f, const struct blob *blob, struct buf *url)
{
    buf_add_str(url, f->hub->endpoint);
    buf_add_str(url, "/");
    buf_add_str(url, f->repository);
    buf_add_str(url, "/resolve/");
    buf_add_str(url, f->store->commit);
    buf_add_str(url, "/");
    request_escape(url, blob->file->name, true);
    return url->failed ? -1 : 0;
}

static int start(struct fetch *f, struct fetch_slot *slot, const struct fetch_span *span,
                 struct llama3_error *err)
{
    struct buf url = {0};
    struct fetch_source *source = &f->sources[span->blob];
    *slot =
        (struct fetch_slot){.fetch = f, .span = *span, .at = span->begin, .begun = clock_seconds()};
    slot->direct = source->address != NULL;
    if (slot->direct)
        buf_add_str(&url, source->address);
    int result = !slot->direct && add_address(f, &f->blobs[span->blob], &url) != 0
                     ? error_memory(err, "an address", url.size)
                     : 0;
    slot->request =
        (struct request){.ranged = !source->whole, /* even for all: 206 tells the size */
                         .begin = span->begin,
                         .end = span->end,
                         .on_body = on_body,
                         .arg = slot};
    if (result == 0)
        result = request_open(&slot->request, f->hub, url.data, err);
    if (result == 0)
        result = request_start(&slot->request, err);
    buf_free(&url);
    if (result == 0)
        slot->blob = &f->blobs[span->blob];
    return result;
}

static int start_some(struct fetch *f, struct llama3_error *err)
{
    double now = clock_seconds();
    struct fetch_span next;
    int result = 0;
    if (now < f->not_before)
        return 0;
    for (int i = 0; i < f->connections && result == 0; i++) {
        if (f->slots[i].blob != NULL)
            continue;
        pthread_mutex_lock(&f->lock);
        bool found = choose_next(f, now, &next);
        pthread_mutex_unlock(&f->lock);
        if (!found)
            break;
        result = start(f, &f->slots[i], &next, err);
    }
    return result;
}

/* ---- results --------------------------------------------------------------------------------- */

int fetch_pause_all(struct fetch *f, const struct request *r, struct llama3_error *err)
{
    double least = 0.5 * (double)(1 << (f->refusals < 4 ? f->refusals : 4));
    double seconds = r->retry_after < 0 ? 10 : r->retry_after < least ? least : r->retry_after;
    const char *what = r->status == 429 ? "too many requests" : "not available now";
    char text[400];
    if (seconds > MAX_PAUSE || f->refusals >= MAX_REFUSALS)
        return error_set(err, LLAMA3_EIO, "%s: %s: it asks to wait %.0f s; try again later",
                         r->host, what, seconds);
    f->refusals++;
    double until = clock_seconds() + seconds;
    if (until > f->not_before) {
        if (fetch_pause(f) == 0) {
            snprintf(text, sizeof text, "%s: %s: waiting %.0f s, as it asks", r->host, what,
                     seconds);
            note(f, text);
        }
        f->not_before = until;
    }
    return 0;
}

bool fetch_is_pause(const struct request *r)
{
    return r->status == 429 || (r->status == 503 && r->retry_after >= 0);
}

bool fetch_is_passing(const struct request *r)
{
    return r->status == 408 || r->status >= 500;
}

int fetch_try_again(struct fetch_source *source, double begun, const struct llama3_error *why,
                    struct llama3_error *err)
{
    if (begun < source->failed)
        return 0;
    if (++source->failures > MAX_FAILURES)
        return error_copy(err, why);
    source->failed = clock_seconds();
    source->not_before = source->failed + 0.25 * (double)(1 << source->failures);
    return 0;
}

/* Keeps the signed address of a redirect for further requests, until it is refused. */
static void keep_address(struct fetch_source *source, const struct request *r)
{
    if (r->to_hub || source->address != NULL)
        return;
    source->address = strdup(r->url);
}

static int ended(struct fetch *f, struct fetch_slot *slot, CURLcode code, struct llama3_error *err)
{
    struct request *r = &slot->request;
    struct fetch_source *source = &f->sources[slot->blob - f->blobs];
    struct llama3_error why;
    code = request_end(r, code);
    if (slot->failed && slot->err.message[0] == '\0')
        return 0; /* another request gets the whole file */
    if (slot->failed && slot->err.code == LLAMA3_EIO && r->status == 206)
        return fetch_try_again(source, slot->begun, &slot->err, err);
    if (slot->failed)
        return error_copy(err, &slot->err);
    if (code == CURLE_OK && request_is_redirect(r))
        return request_follow(r, err) == 0 ? 1 : -1;
    if (code == CURLE_OK && (r->status == 200 || r->status == 206) && slot->at == slot->span.end) {
        keep_address(source, r);
        return 0;
    }
    if (code == CURLE_OK && fetch_is_pause(r))
        return fetch_pause_all(f, r, err);
    if (code == CURLE_OK && slot->direct && r->status >= 400) { /* the signature has expired */
        free(source->address);
        source->address = NULL;
        error_set(&why, LLAMA3_EIO, "%s: the storage refused it (HTTP status %ld)",
                  slot->blob->file->name, r->status);
        return fetch_try_again(source, slot->begun, &why, err);
    }
    if (code == CURLE_OK && r->status >= 300) {
        fetch_refused(r, f->repository, slot->blob->file->name, &why);
        if (fetch_is_passing(r) || !r->to_hub)
            return fetch_try_again(source, slot->begun, &why, err);
        return error_copy(err, &why);
    }
    if (code == CURLE_OK)
        error_set(&why, LLAMA3_EIO, "%s: expected %" PRIu64 " bytes, found %" PRIu64,
                  slot->blob->file->name, slot->span.end - slot->span.begin,
                  slot->at - slot->span.begin);
    else
        fetch_broken(r, code, &why);
    if (code == CURLE_PEER_FAILED_VERIFICATION || code == CURLE_SSL_CACERT_BADFILE)
        return error_copy(err, &why);
    if (slot->direct) { /* the storage may have moved */
        free(source->address);
        source->address = NULL;
    }
    return fetch_try_again(source, slot->begun, &why, err);
}

static int take_ended(struct fetch *f, struct llama3_error *err)
{
    CURLMsg *message;
    int left;
    while ((message = curl_multi_info_read(f->hub->multi, &left)) != NULL) {
        struct request *r = NULL;
        CURLcode code = message->data.result;
        curl_easy_getinfo(message->easy_handle, CURLINFO_PRIVATE, (char **)&r);
        struct fetch_slot *slot = r->arg;
        int result = ended(f, slot, code, err);
        if (result <= 0)
            free_slot(slot);
        if (result < 0)
            return -1;
    }
    return 0;
}

/* ---- blobs ----------------------------------------------------------------------------------- */

static int open_waiting(struct fetch *f, struct llama3_error *err)
{
    int result = 0;
    bool waits = false;
    hasher_hold(f->hasher);
    pthread_mutex_lock(&f->lock);
    for (size_t i = 0; i < f->n && result == 0; i++)
        if (f->blobs[i].state == BLOB_WAITING) {
            result = blob_open(&f->blobs[i], f->store, err);
            waits |= blob_note_shared(f->blobs, f->n, i);
        }
    pthread_cond_broadcast(&f->arrived);
    pthread_mutex_unlock(&f->lock);
    hasher_release(f->hasher);
    if (waits && !f->waits)
        note(f, "another program is fetching some of these files: waiting for it");
    f->waits = waits;
    return result;
}

/* The blob is complete, so no request writes to it. */
static int take_verdict(struct fetch *f, struct blob *blob, struct llama3_error *err)
{
    char text[400];
    switch ((enum blob_verdict)blob->verdict) {
    case BLOB_RIGHT:
        return f->drops ? 0 : blob_finish(blob, f->store, err);
    case BLOB_UNREADABLE:
        return error_set(err, LLAMA3_EIO, "%s: can't be read", blob->paths.incomplete);
    case BLOB_WRONG:
        if (f->used && f->on_wrong != NULL)
            f->on_wrong(f->arg);
        if (blob->dropped.n > 0)
            blob->mismatches++;
        else if (blob_set_apart(blob, err) != 0)
            return -1;
        if (blob->mismatches > 1)
            return error_set(err, LLAMA3_EIO,
                             "%s: expected the hash %.12s..., found another, twice: what came is "
                             "kept in %.1000s",
                             blob->file->name, blob->file->etag, blob->paths.mismatch);
        snprintf(text, sizeof text, "%s: its hash is not what the hub says: fetching it again",
                 blob->file->name);
        note(f, text);
        if (f->used) /* the reader has used wrong bytes */
            return error_input(err, "%s: its hash is not what the hub says", blob->file->name);
        return 0;
    default:
        return 0;
    }
}

static int take_verdicts(struct fetch *f, struct llama3_error *err)
{
    int result = 0;
    for (size_t i = 0; i < f->n && result == 0; i++) {
        struct blob *blob = &f->blobs[i];
        if (blob->state != BLOB_OPEN || blob->verdict == BLOB_UNHASHED ||
            ((f->drops || f->opens) && blob->verdict == BLOB_RIGHT))
            continue;
        hasher_hold(f->hasher);
        pthread_mutex_lock(&f->lock);
        result = take_verdict(f, blob, err);
        pthread_cond_broadcast(&f->arrived);
        pthread_mutex_unlock(&f->lock);
        hasher_release(f->hasher);
    }
    return result;
}

/* Frees dropped bytes that have been hashed. */
static int drop_some(struct fetch *f, struct llama3_error *err)
{
    size_t kept = 0;
    int result = 0;
    pthread_mutex_lock(&f->lock);
    bool any = f->n_dropped > 0;
    pthread_mutex_unlock(&f->lock);
    if (!any)
        return 0;
    hasher_hold(f->hasher);
    pthread_mutex_lock(&f->lock);
    for (size_t i = 0; i < f->n_dropped; i++) {
        struct fetch_span span = f->dropped[i];
        struct blob *blob = &f->blobs[span.blob];
        if (blob->state == BLOB_OPEN && blob->hashed < span.end)
            f->dropped[kept++] = span;
        else if (blob->state == BLOB_OPEN && result == 0)
            result = blob_drop(blob, span.begin, span.end, err);
    }
    f->n_dropped = kept;
    pthread_mutex_unlock(&f->lock);
    hasher_release(f->hasher);
    return result;
}

static int record_all(struct fetch *f, struct llama3_error *err)
{
    double now = clock_seconds();
    int result = 0;
    if (now - f->recorded < RECORD_EVERY)
        return 0;
    f->recorded = now;
    for (size_t i = 0; i < f->n && result == 0; i++) {
        bool digest = f->blobs[i].dropped.n > 0; /* the hasher writes it */
        if (digest)
            hasher_hold(f->hasher);
        result = blob_record(&f->blobs[i], err);
        if (digest)
            hasher_release(f->hasher);
    }
    return result;
}

bool fetch_all_verified(const struct fetch *f)
{
    for (size_t i = 0; i < f->n; i++)
        if (f->blobs[i].state != BLOB_DONE && (!f->drops || f->blobs[i].verdict != BLOB_RIGHT))
            return false;
    return true;
}

static bool all_done(struct fetch *f)
{
    pthread_mutex_lock(&f->lock);
    bool done = !f->used && fetch_all_verified(f);
    pthread_mutex_unlock(&f->lock);
    return done;
}

static bool any_waits(const struct fetch *f)
{
    for (size_t i = 0; i < f->n; i++)
        if (f->blobs[i].state == BLOB_WAITING)
            return true;
    return false;
}

/* ---- the loop -------------------------------------------------------------------------------- */

int fetch_turn(struct fetch *f, struct llama3_error *err)
{
    int running;
    CURLMcode code = curl_multi_poll(f->hub->multi, NULL, 0, TICK, NULL);
    if (code == CURLM_OK)
        code = curl_multi_perform(f->hub->multi, &running);
    if (code != CURLM_OK)
        return error_set(err, LLAMA3_EIO, "libcurl: %s", curl_multi_strerror(code));
    return 0;
}

static int run(struct fetch *f, struct llama3_error *err)
{
    double looked = 0, ticked = 0;
    while (!all_done(f)) {
        double now = clock_seconds();
        if (now - looked > 0.3 && any_waits(f)) {
            if (open_waiting(f, err) != 0)
                return -1;
            looked = now;
        }
        if (start_some(f, err) != 0 || fetch_turn(f, err) != 0 || take_ended(f, err) != 0 ||
            take_verdicts(f, err) != 0 || drop_some(f, err) != 0 || record_all(f, err) != 0)
            return -1;
        if (now - ticked >= 1e-3 * TICK) {
            ticked = now;
            pthread_cond_broadcast(&f->arrived); /* the reader may wait for a verdict */
            if (f->on_tick != NULL && f->on_tick(f->arg) != 0)
                return error_set(err, LLAMA3_ECANCELED, "canceled");
        }
    }
    return 0;
}

int fetch_run(struct fetch *f, struct llama3_error *err)
{
    int result = run(f, err);
    pthread_mutex_lock(&f->lock);
    f->ended = true;
    pthread_cond_broadcast(&f->arrived);
    pthread_mutex_unlock(&f->lock);
    return result;
}
