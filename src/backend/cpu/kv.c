/* kv.c: the KV cache in pages that sequences share until one of them writes. */
#include <stdlib.h>
#include <string.h>

#include "backend/cpu/cpu.h"
#include "base/size.h"

static size_t head_bytes(const struct cpu *cpu)
{
    return cpu->shape.head_dim * KV_PAGE * cpu->kv_element;
}

uint8_t *cpu_page_k(const struct cpu *cpu, const struct page *page, size_t layer, size_t head)
{
    return page->data + (layer * cpu->shape.n_kv_heads + head) * 2 * head_bytes(cpu);
}

uint8_t *cpu_page_v(const struct cpu *cpu, const struct page *page, size_t layer, size_t head)
{
    return cpu_page_k(cpu, page, layer, head) + head_bytes(cpu);
}

/* ---- pages ----------------------------------------------------------------------------- */

static struct page *page_new(struct cpu *cpu, struct llama3_error *err)
{
    struct page *page = size_alloc(1, sizeof *page);
    uint8_t *data = size_alloc_aligned(cpu->page_bytes, 1);
    if (page == NULL || data == NULL) {
        free(page);
        free(data);
        error_memory(err, "a KV page", cpu->page_bytes);
        return NULL;
    }
    page->data = data;
    page->refs = 1;
    cpu->pages_held++;
    return page;
}

static void page_drop(struct cpu *cpu, struct page *page)
{
    if (--page->refs > 0)
        return;
    free(page->data);
    free(page);
    cpu->pages_held--;
}

static size_t pages_for(size_t positions)
{
    return (positions + KV_PAGE - 1) / KV_PAGE;
}

static int make_room(struct kv *kv, size_t n, struct llama3_error *err)
{
    if (n <= kv->capacity)
        return 0;
    size_t capacity = kv->capacity * 2 > n ? kv->capacity * 2 : n, bytes;
    struct page **moved = NULL;
    if (size_mul(capacity, sizeof(struct page *), &bytes))
        moved = realloc(kv->pages, bytes);
    if (moved == NULL)
        return error_memory(err, "a page table", capacity * sizeof(struct page *));
    kv->pages = moved;
    kv->capacity = capacity;
    return 0;
}

/* ---- sequences ------------------------------------------------------------------------- */

struct kv *cpu_kv_open(struct backend *backend, struct llama3_error *err)
{
    (void)backend;
    struct kv *kv = size_alloc(1, sizeof *kv);
    if (kv == NULL)
        error_memory(err, "a sequence", sizeof *kv);
    return kv;
}

void cpu_kv_truncate(struct backend *backend, struct kv *kv, size_t n)
{
    while (kv->n_pages > pages_for(n))
        page_drop(cpu_of(backend), kv->pages[--kv->n_pages]);
}

void cpu_kv_close(struct backend *backend, struct kv *kv)
{
    cpu_kv_truncate(backend, kv, 0);
    free(kv->pages);
    free(kv);
}

struct kv *cpu_kv_fork(struct backend *backend, struct kv *kv, size_t n, struct llama3_error *err)
{
    struct kv *made = cpu_kv_open(backend, err);
    size_t n_pages = pages_for(n);
    if (made == NULL || make_room(made, n_pages, err) < 0) {
        free(made);
        return NULL;
    }
    for (size_t i = 0; i < n_pages; i++) {
        made->pages[i] = kv->pages[i];
        made->pages[i]->refs++;
    }
    made->n_pages = n_pages;
    return made;
}

/* The page at i becomes this sequence's own. */
static int own_page(struct cpu *cpu, struct kv *kv, size_t i, struct llama3_error *err)
{
    struct page *shared = kv->pages[i];
    if (shared->refs == 1)
        return 0;
    struct page *copy = page_new(cpu, err);
    if (copy == NULL)
        return -1;
    memcpy(copy->data, shared->data, cpu->page_bytes);
    kv->pages[i] = copy;
    page_drop(cpu, shared);
    return 0;
}

int cpu_kv_reserve(struct backend *backend, struct kv *kv, size_t from, size_t to,
                   struct llama3_error *err)
{
    struct cpu *cpu = cpu_of(backend);
    size_t before = kv->n_pages, need = pages_for(to);

    if (to > cpu->shape.max_context || from > to)
        return error_set(err, LLAMA3_ECONTEXT, "positions %zu to %zu do not fit the context of %zu",
                         from, to, cpu->shape.max_context);
    if (make_room(kv, need, err) < 0)
        return -1;
    for (size_t i = from / KV_PAGE; i < before && i < need; i++)
        if (own_page(cpu, kv, i, err) < 0)
            return -1;
    while (kv->n_pages < need) {
        struct page *page = page_new(cpu, err);
        if (page == NULL) {
            cpu_kv_truncate(backend, kv, before * KV_PAGE);
            return -1;
        }
        kv->pages[kv->n_pages++] = page;
    }
    return 0;
}

uint64_t cpu_kv_bytes(const struct backend *backend)
{
    const struct cpu *cpu = (const struct cpu *)backend;
    return (uint64_t)cpu->pages_held * cpu->page_bytes;
}

/* ---- out and in ------------------------------------------------------------------------ */

static int check_span(const struct cpu *cpu, const struct kv *kv, size_t layer, size_t from,
                      size_t to, struct llama3_error *err)
{
    if (layer >= cpu->shape.n_layers || from > to || pages_for(to) > kv->n_pages)
        return error_set(err, LLAMA3_EINPUT,
                         "KV of layer %zu, positions %zu to %zu: expected a layer below %zu and at "
                         "most %zu positions",
                         layer, from, to, cpu->shape.n_layers, kv->n_pages * KV_PAGE);
    return 0;
}

/* Copies one head's K and V of a position between its page and plain rows. */
static void copy_head(const struct cpu *cpu, const struct kv *kv, size_t layer, size_t head,
                      size_t position, uint8_t *k, uint8_t *v, bool into_page)
{
    size_t e = cpu->kv_element, head_dim = cpu->shape.head_dim, slot = position % KV_PAGE;
    const struct page *page = kv->pages[position / KV_PAGE];
    uint8_t *page_k = cpu_page_k(cpu, page, layer, head) + slot * e;
    uint8_t *page_v = cpu_page_v(cpu, page, layer, head) + slot * head_dim * e;

    for (size_t d = 0; d < head_dim; d++) {
        uint8_t *in_page = page_k + d * KV_PAGE * e, *outside = k + d * e;
        memcpy(into_page ? in_page : outside, into_page ? outside : in_page, e);
    }
    memcpy(into_page ? page_v : v, into_page ? v : page_v, head_dim * e);
}

static void copy_span(const struct cpu *cpu, const struct kv *kv, size_t layer, size_t from,
                      size_t to, uint8_t *k, uint8_t *v, bool into_page)
{
    size_t row = cpu->shape.head_dim * cpu->kv_element;
    for (size_t p = from; p < to; p++) {
        for (size_t h = 0; h < cpu->shape.n_kv_heads; h++) {
            size_t at = ((p - from) * cpu->shape.n_kv_heads + h) * row;
            copy_head(cpu, kv, layer, h, p, k + at, v + at, into_page);
        }
    }
}

int cpu_kv_export(struct backend *backend, struct kv *kv, size_t layer, size_t from, size_t to,
                  void *k, void *v, struct llama3_error *err)
{
    const struct cpu *cpu = cpu_of(backend);
    if (check_span(cpu, kv, layer, from, to, err) < 0)
        return -1;
    copy_span(cpu, kv, layer, from, to, k, v, false);
    return 0;
}

int cpu_kv_import(struct backend *backend, struct kv *kv, size_t layer, size_t from, size_t to,
                  const void *k, const void *v, struct llama3_error *err)
{
    struct cpu *cpu = cpu_of(backend);
    if (check_span(cpu, kv, layer, from, to, err) < 0)
        return -1;
    /* copy_head only reads from k and v in this direction. */
    copy_span(cpu, kv, layer, from, to, (uint8_t *)(uintptr_t)k, (uint8_t *)(uintptr_t)v, true);
    return 0;
}
