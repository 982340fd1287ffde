/* SPDX-License-Identifier: MIT */
#include "backend/pages.h"

#include <math.h>
#include <stdlib.h>

#include "base/size.h"

void pages_open(struct backend *backend, struct page_pool *pool, const struct backend_shape *shape)
{
    backend->pool = pool;
    pool->n_layers = shape->n_layers;
    pool->max_context = shape->max_context;
    pool->max_pages = kv_pages(shape->max_context);
}

struct kv *pages_kv_open(struct backend *backend, struct llama3_error *err)
{
    size_t n = backend->pool->max_pages;
    struct kv *kv = size_alloc_for(1, sizeof *kv, "a sequence", err);
    if (kv == NULL)
        return NULL;
    kv->pages = size_alloc_for(n, sizeof *kv->pages, "a sequence", err);
    if (kv->pages != NULL)
        return kv;
    free(kv);
    return NULL;
}

static void drop_reference(struct page_pool *pool, struct page *page)
{
    if (--page->refs > 0)
        return;
    pool->held--;
    if (page->lent == NULL) {
        pool->drop(pool, page);
        return;
    }
    page->lent->release(page->lent);
    free(page);
}

static void keep_pages(struct page_pool *pool, struct kv *kv, size_t n)
{
    while (kv->n_pages > n) {
        kv->n_pages--;
        drop_reference(pool, kv->pages[kv->n_pages]);
        kv->pages[kv->n_pages] = NULL;
    }
}

void pages_kv_close(struct backend *backend, struct kv *kv)
{
    if (kv == NULL)
        return;
    keep_pages(backend->pool, kv, 0);
    free(kv->pages);
    free(kv);
}

void pages_truncate(struct backend *backend, struct kv *kv, size_t n)
{
    keep_pages(backend->pool, kv, kv_pages(n));
}

/* Takes a list of n pages; -1: none is held. */
static int take_pages(struct page_pool *pool, size_t n, struct page **list,
                      struct llama3_error *err)
{
    *list = NULL;
    for (size_t i = 0; i < n; i++) {
        struct page *page = pool->take(pool, err);
        if (page == NULL) {
            while (*list != NULL) {
                page = *list;
                *list = page->next;
                pool->drop(pool, page);
            }
            return -1;
        }
        page->next = *list;
        *list = page;
    }
    return 0;
}

static bool is_own(const struct page *page)
{
    return page->refs == 1 && page->lent == NULL;
}

/* Whether only this sequence holds its page i, which may be written. */
static bool owns(const struct kv *kv, size_t i)
{
    return i < kv->n_pages && is_own(kv->pages[i]);
}

/* The first page that reserving positions from `from` on looks at. */
static size_t first_page(const struct kv *kv, size_t from)
{
    return from / KV_PAGE < kv->n_pages ? from / KV_PAGE : kv->n_pages;
}

static size_t count_missing(const struct kv *kv, size_t from, size_t to)
{
    size_t n = 0;
    for (size_t i = first_page(kv, from); from < to && i < kv_pages(to); i++)
        n += !owns(kv, i);
    return n;
}

uint64_t pages_missing(const struct backend *backend, const struct kv *kv, size_t from, size_t to)
{
    static const struct kv empty = {0};
    size_t n = count_missing(kv != NULL ? kv : &empty, from, to);
    return (uint64_t)n * backend->pool->page_bytes;
}

int pages_reserve(struct backend *backend, struct kv *kv, size_t from, size_t to,
                  struct llama3_error *err)
{
    struct page_pool *pool = backend->pool;
    if (from >= to)
        return 0;
    if (to > pool->max_context)
        return error_set(err, LLAMA3_ECONTEXT, "position %zu lies beyond the context of %zu tokens",
                         to - 1, pool->max_context);

    size_t end = kv_pages(to);
    struct page *list;
    if (take_pages(pool, count_missing(kv, from, to), &list, err) != 0)
        return -1;

    for (size_t i = first_page(kv, from); i < end; i++) {
        if (owns(kv, i))
            continue;
        struct page *page = list;
        list = page->next;
        page->refs = 1;
        pool->held++;
        if (i < kv->n_pages) {
            pool->copy(pool, page, kv->pages[i]);
            drop_reference(pool, kv->pages[i]);
        }
        kv->pages[i] = page;
    }
    kv->n_pages = end > kv->n_pages ? end : kv->n_pages;
    return 0;
}

struct kv *pages_fork(struct backend *backend, struct kv *kv, size_t n, struct llama3_error *err)
{
    struct kv *fork = pages_kv_open(backend, err);
    if (fork == NULL)
        return NULL;
    size_t shared = kv_pages(n);
    fork->n_pages = shared < kv->n_pages ? shared : kv->n_pages;
    for (size_t i = 0; i < fork->n_pages; i++) {
        fork->pages[i] = kv->pages[i];
        fork->pages[i]->refs++;
    }
    return fork;
}

void pages_share(struct backend *backend, struct kv *kv, const struct kv *from, size_t n)
{
    for (size_t i = 0; i < n / KV_PAGE; i++) {
        from->pages[i]->refs++; /* first: it may be the same page */
        drop_reference(backend->pool, kv->pages[i]);
        kv->pages[i] = from->pages[i];
    }
}

size_t pages_size(const struct backend *backend)
{
    return backend->pool->page_bytes;
}

int pages_lend(struct backend *backend, struct kv *kv, size_t i, struct kv_lent *lent,
               struct llama3_error *err)
{
    struct page_pool *pool = backend->pool;
    if (i > kv->n_pages || i >= pool->max_pages)
        return error_input(err, "page %zu: the sequence has %zu of at most %zu", i, kv->n_pages,
                           pool->max_pages);
    struct page *page = pool->wrap(lent, err);
    if (page == NULL)
        return -1;
    page->refs = 1;
    page->lent = lent;
    pool->held++;
    if (i < kv->n_pages)
        drop_reference(pool, kv->pages[i]);
    else
        kv->n_pages++;
    kv->pages[i] = page;
    return 0;
}

int pages_check_lent(const struct backend *backend, const struct kv *kv, struct llama3_error *err)
{
    (void)backend;
    for (size_t i = 0; i < kv->n_pages; i++) {
        const struct kv_lent *lent = kv->pages[i]->lent;
        if (lent != NULL && lent->check(lent, err) < 0)
            return -1;
    }
    return 0;
}

uint64_t pages_bytes(const struct backend *backend)
{
    return (uint64_t)backend->pool->held * backend->pool->page_bytes;
}

/* Reserved, and in a page that may be written. */
static bool is_writable(const struct page_pool *pool, const struct kv *kv, int32_t position)
{
    if (position < 0 || (size_t)position >= pool->max_context)
        return false;
    if (pool->n_layers == 0)
        return true;
    size_t page = (size_t)position / KV_PAGE;
    return owns(kv, page);
}

static int check_row(const struct page_pool *pool, const struct batch *batch, size_t i,
                     struct llama3_error *err)
{
    const struct batch_row *row = &batch->rows[i];
    if (row->token < 0)
        return error_input(err, "row %zu has token %d: expected 0 or more", i, (int)row->token);
    if (row->seq < 0 || (size_t)row->seq >= batch->n_seqs)
        return error_input(err, "row %zu is of sequence %d: there are %zu", i, (int)row->seq,
                           batch->n_seqs);
    if (!is_writable(pool, batch->seqs[row->seq], row->position))
        return error_input(err, "row %zu has position %d, which is not reserved", i,
                           (int)row->position);
    return 0;
}

int pages_check_batch(const struct page_pool *pool, const struct backend_shape *shape,
                      const struct batch *batch, struct llama3_error *err)
{
    size_t wanted = 0;
    if (batch->n_rows == 0 || batch->n_rows > shape->max_rows || batch->n_seqs > shape->max_seqs)
        return error_input(err, "%zu rows of %zu sequences: expected 1 to %zu rows of at most %zu",
                           batch->n_rows, batch->n_seqs, shape->max_rows, shape->max_seqs);
    for (size_t i = 0; i < batch->n_rows; i++) {
        if (check_row(pool, batch, i, err) != 0)
            return -1;
        wanted += batch->rows[i].wants_logits;
    }
    if (wanted > shape->max_logit_rows)
        return error_input(err, "more than %zu rows want logits", shape->max_logit_rows);
    return 0;
}

int pages_check_export(const struct page_pool *pool, const struct kv *kv, size_t layer, size_t from,
                       size_t to, struct llama3_error *err)
{
    if (layer >= pool->n_layers || from > to || to > kv->n_pages * KV_PAGE)
        return error_input(err,
                           "KV of layer %zu, positions %zu to %zu: there are %zu layers and %zu "
                           "positions",
                           layer, from, to, pool->n_layers, kv->n_pages * KV_PAGE);
    return 0;
}

int pages_check_import(const struct page_pool *pool, const struct kv *kv, size_t layer, size_t from,
                       size_t to, struct llama3_error *err)
{
    if (pages_check_export(pool, kv, layer, from, to, err) != 0)
        return -1;
    for (size_t position = from; position < to; position++)
        if (!is_own(kv->pages[position / KV_PAGE]))
            return error_input(err, "KV of position %zu is shared: reserve it first", position);
    return 0;
}

void kv_spread(float *x, size_t head_dim)
{
    size_t n = head_dim & -head_dim;
    float scale = 1.0f / sqrtf((float)n);
    for (size_t half = 1; half < n; half *= 2)
        for (size_t first = 0; first < head_dim; first += 2 * half)
            for (size_t i = first; i < first + half; i++) {
                float a = x[i], b = x[i + half];
                x[i] = a + b;
                x[i + half] = a - b;
            }
    for (size_t i = 0; i < head_dim; i++)
        x[i] *= scale;
}
