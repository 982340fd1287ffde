/* SPDX-License-Identifier: MIT */
/*
 * pages.h: the KV pages of sequences, wherever their memory is. A page belongs to every sequence
 * that shares it; who is going to write owns it alone, so pages_reserve copies what is shared. A
 * page is taken when its first position comes and given back when its last holder lets go.
 */
#ifndef BACKEND_PAGES_H
#define BACKEND_PAGES_H

#include "backend/backend.h"

/* A backend's own struct begins with this. */
struct page {
    size_t refs; /* sequences that hold it; written only by the one that holds it alone */
    struct page *next;
};

struct kv {
    struct page **pages; /* [max_pages], the first n_pages are held */
    size_t n_pages;
};

struct page_pool {
    size_t n_layers, max_context;
    size_t max_pages; /* of a sequence */
    size_t held;      /* by all sequences */
    struct page *(*take)(struct page_pool *pool, struct llama3_error *err);
    void (*drop)(struct page_pool *pool, struct page *page);
    void (*copy)(struct page_pool *pool, struct page *to, const struct page *from);
};

/* Sets the numbers; the functions are the caller's. */
void pages_open(struct page_pool *pool, const struct backend_shape *shape);

/* What backend.h says of kv_open, kv_close, kv_truncate, kv_reserve and kv_fork. */
struct kv *pages_kv_open(struct page_pool *pool, struct llama3_error *err);
void pages_kv_close(struct page_pool *pool, struct kv *kv);
void pages_truncate(struct page_pool *pool, struct kv *kv, size_t n);
int pages_reserve(struct page_pool *pool, struct kv *kv, size_t from, size_t to,
                  struct llama3_error *err);
struct kv *pages_fork(struct page_pool *pool, struct kv *kv, size_t n, struct llama3_error *err);

/* Whether a batch is within bounds: its rows, tokens, sequences and logits, and its positions,
 * which are reserved in pages that may be written. */
int pages_check_batch(const struct page_pool *pool, const struct backend_shape *shape,
                      const struct batch *batch, struct llama3_error *err);

/* Whether positions [from, to) of a layer can be exported, and imported. */
int pages_check_export(const struct page_pool *pool, const struct kv *kv, size_t layer, size_t from,
                       size_t to, struct llama3_error *err);
int pages_check_import(const struct page_pool *pool, const struct kv *kv, size_t layer, size_t from,
                       size_t to, struct llama3_error *err);

#endif
