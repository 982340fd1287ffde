/* SPDX-License-Identifier: MIT */
/*
 * pages.h: the KV pages of sequences, wherever their memory is. Sequences may share a page, but
 * only a page of one sequence is written: pages_reserve copies shared ones. A page is allocated
 * with its first position, and freed when the last sequence drops its reference. And what is done
 * to heads before they become codes there.
 */
#ifndef BACKEND_PAGES_H
#define BACKEND_PAGES_H

#include "backend/backend.h"

/* A backend's own struct begins with this. */
struct page {
    size_t refs; /* sequences that hold it; only a page with one holder is written */
    struct page *next;
    struct kv_lent *lent; /* whose memory it is, which is never written; NULL: the backend's */
};

struct kv {
    struct page **pages; /* [max_pages], the first n_pages are held */
    size_t n_pages;
};

struct page_pool {
    size_t n_layers, max_context;
    size_t max_pages; /* of a sequence */
    size_t held;      /* by all sequences */
    size_t page_bytes;
    struct page *(*take)(struct page_pool *pool, struct llama3_error *err);
    void (*drop)(struct page_pool *pool, struct page *page);
    void (*copy)(struct page_pool *pool, struct page *to, const struct page *from);
    /* Makes a page of lent memory, and takes it apart; NULL where no memory can be lent. */
    struct page *(*wrap)(const struct kv_lent *lent, struct llama3_error *err);
};

/* Gives a backend its pool, and sets the numbers but page_bytes; the functions are the caller's. */
void pages_open(struct backend *backend, struct page_pool *pool, const struct backend_shape *shape);

/* What backend.h says of kv_open, kv_close, kv_truncate, kv_missing, kv_reserve, kv_fork, kv_share,
 * kv_bytes, kv_page_size, kv_lend and kv_check. */
struct kv *pages_kv_open(struct backend *backend, struct llama3_error *err);
void pages_kv_close(struct backend *backend, struct kv *kv);
void pages_truncate(struct backend *backend, struct kv *kv, size_t n);
uint64_t pages_missing(const struct backend *backend, const struct kv *kv, size_t from, size_t to);
int pages_reserve(struct backend *backend, struct kv *kv, size_t from, size_t to,
                  struct llama3_error *err);
struct kv *pages_fork(struct backend *backend, struct kv *kv, size_t n, struct llama3_error *err);
void pages_share(struct backend *backend, struct kv *kv, const struct kv *from, size_t n);
uint64_t pages_bytes(const struct backend *backend);
size_t pages_size(const struct backend *backend);
int pages_lend(struct backend *backend, struct kv *kv, size_t page, struct kv_lent *lent,
               struct llama3_error *err);
int pages_check_lent(const struct backend *backend, const struct kv *kv, struct llama3_error *err);

/* Checks a batch: the number of rows, sequences and logits, the tokens, and that positions are
 * reserved in pages that may be written. */
int pages_check_batch(const struct page_pool *pool, const struct backend_shape *shape,
                      const struct batch *batch, struct llama3_error *err);

/* Checks that positions [from, to) of a layer can be exported, or imported. */
int pages_check_export(const struct page_pool *pool, const struct kv *kv, size_t layer, size_t from,
                       size_t to, struct llama3_error *err);
int pages_check_import(const struct page_pool *pool, const struct kv *kv, size_t layer, size_t from,
                       size_t to, struct llama3_error *err);

/* x = H x / sqrt(n) for each n numbers of a head, where n is the largest power of two that divides
 * head_dim, and H Hadamard's matrix, which is its own inverse. Outliers become smaller, and
 * products of two heads stay what they are. */
void kv_spread(float *x /* [head_dim] */, size_t head_dim);

#endif
