/*
 * kv.c: the KV pages of sequences. A page belongs to every sequence that shares it; who is going to
 * write owns it alone, so kv_reserve copies what is shared. malloc is the pool: a page is taken
 * when its first position comes and given back when its last holder lets go.
 */
#include "backend/cpu/cpu.h"

#include <stdlib.h>
#include <string.h>

#include "base/size.h"

struct kv *cpu_kv_open(struct backend *backend, struct llama3_error *err)
{
    struct cpu *cpu = (struct cpu *)backend;
    struct kv *kv = size_alloc(1, sizeof *kv);
    if (kv != NULL)
        kv->pages = size_alloc(cpu->max_pages, sizeof *kv->pages);
    if (kv == NULL || kv->pages == NULL) {
        free(kv);
        error_memory(err, "a sequence", cpu->max_pages * sizeof *kv->pages);
        return NULL;
    }
    return kv;
}

static void page_drop(struct cpu *cpu, struct page *page)
{
    if (--page->refs > 0)
        return;
    free(page);
    cpu->pages_held--;
}

static void keep_pages(struct cpu *cpu, struct kv *kv, size_t n)
{
    while (kv->n_pages > n) {
        kv->n_pages--;
        page_drop(cpu, kv->pages[kv->n_pages]);
        kv->pages[kv->n_pages] = NULL;
    }
}

void cpu_kv_close(struct backend *backend, struct kv *kv)
{
    if (kv == NULL)
        return;
    keep_pages((struct cpu *)backend, kv, 0);
    free(kv->pages);
    free(kv);
}

void cpu_kv_truncate(struct backend *backend, struct kv *kv, size_t n)
{
    keep_pages((struct cpu *)backend, kv, n / KV_PAGE + (n % KV_PAGE > 0));
}

/* A list of n pages, or NULL and nothing held. */
static struct page *new_pages(struct cpu *cpu, size_t n, struct llama3_error *err)
{
    struct page *list = NULL;

    for (size_t i = 0; i < n; i++) {
        struct page *page = size_alloc_aligned(1, cpu->page_bytes);
        if (page == NULL) {
            while (list != NULL) {
                page = list->next;
                free(list);
                list = page;
            }
            error_memory(err, "a page of the KV cache", cpu->page_bytes);
            return NULL;
        }
        page->next = list;
        list = page;
    }
    return list;
}

int cpu_kv_reserve(struct backend *backend, struct kv *kv, size_t from, size_t to,
                   struct llama3_error *err)
{
    struct cpu *cpu = (struct cpu *)backend;
    if (from >= to)
        return 0;
    if (to > cpu->shape.max_context)
        return error_set(err, LLAMA3_ECONTEXT, "position %zu lies beyond the context of %zu tokens",
                         to - 1, cpu->shape.max_context);

    size_t first = from / KV_PAGE < kv->n_pages ? from / KV_PAGE : kv->n_pages;
    size_t end = (to - 1) / KV_PAGE + 1;
    size_t needed = 0;
    for (size_t i = first; i < end; i++)
        needed += i >= kv->n_pages || kv->pages[i]->refs > 1;
    if (needed == 0)
        return 0;
    struct page *list = new_pages(cpu, needed, err);
    if (list == NULL)
        return -1;

    for (size_t i = first; i < end; i++) {
        if (i < kv->n_pages && kv->pages[i]->refs == 1)
            continue;
        struct page *page = list;
        list = page->next;
        page->refs = 1;
        cpu->pages_held++;
        if (i < kv->n_pages) {
            memcpy(page->data, kv->pages[i]->data, cpu->page_bytes - sizeof *page);
            page_drop(cpu, kv->pages[i]);
        }
        kv->pages[i] = page;
    }
    kv->n_pages = end > kv->n_pages ? end : kv->n_pages;
    return 0;
}

struct kv *cpu_kv_fork(struct backend *backend, struct kv *kv, size_t n, struct llama3_error *err)
{
    struct kv *fork = cpu_kv_open(backend, err);
    if (fork == NULL)
        return NULL;
    size_t shared = n / KV_PAGE + (n % KV_PAGE > 0);
    fork->n_pages = shared < kv->n_pages ? shared : kv->n_pages;
    for (size_t i = 0; i < fork->n_pages; i++) {
        fork->pages[i] = kv->pages[i];
        fork->pages[i]->refs++;
    }
    return fork;
}

static int check_range(const struct cpu *cpu, const struct kv *kv, size_t layer, size_t from,
                       size_t to, struct llama3_error *err)
{
    if (layer >= cpu->shape.n_layers || from > to || to > kv->n_pages * KV_PAGE)
        return error_set(err, LLAMA3_EINPUT,
                         "KV of layer %zu, positions %zu to %zu: there are %zu layers and %zu "
                         "positions",
                         layer, from, to, cpu->shape.n_layers, kv->n_pages * KV_PAGE);
    return 0;
}

int cpu_kv_export(struct backend *backend, struct kv *kv, size_t layer, size_t from, size_t to,
                  void *k, void *v, struct llama3_error *err)
{
    const struct cpu *cpu = (const struct cpu *)backend;
    size_t size = cpu->kv_size, dim = cpu->shape.head_dim;
    if (check_range(cpu, kv, layer, from, to, err) != 0)
        return -1;

    char *k_out = k, *v_out = v;
    for (size_t position = from; position < to; position++)
        for (size_t head = 0; head < cpu->shape.n_kv_heads; head++) {
            struct page *page = kv->pages[position / KV_PAGE];
            size_t slot = position % KV_PAGE;
            const unsigned char *column = page_k(cpu, page, layer, head) + slot * size;
            for (size_t i = 0; i < dim; i++)
                memcpy(k_out + i * size, column + i * KV_PAGE * size, size);
            memcpy(v_out, page_v(cpu, page, layer, head) + slot * cpu->padded_dim * size,
                   dim * size);
            k_out += dim * size;
            v_out += dim * size;
        }
    return 0;
}

int cpu_kv_import(struct backend *backend, struct kv *kv, size_t layer, size_t from, size_t to,
                  const void *k, const void *v, struct llama3_error *err)
{
    const struct cpu *cpu = (const struct cpu *)backend;
    size_t size = cpu->kv_size, dim = cpu->shape.head_dim;
    if (check_range(cpu, kv, layer, from, to, err) != 0)
        return -1;
    for (size_t position = from; position < to; position++)
        if (kv->pages[position / KV_PAGE]->refs > 1)
            return error_set(err, LLAMA3_EINPUT, "KV of position %zu is shared: reserve it first",
                             position);

    const char *k_in = k, *v_in = v;
    for (size_t position = from; position < to; position++)
        for (size_t head = 0; head < cpu->shape.n_kv_heads; head++) {
            struct page *page = kv->pages[position / KV_PAGE];
            size_t slot = position % KV_PAGE;
            unsigned char *column = page_k(cpu, page, layer, head) + slot * size;
            for (size_t i = 0; i < dim; i++)
                memcpy(column + i * KV_PAGE * size, k_in + i * size, size);
            memcpy(page_v(cpu, page, layer, head) + slot * cpu->padded_dim * size, v_in,
                   dim * size);
            k_in += dim * size;
            v_in += dim * size;
        }
    return 0;
}

uint64_t cpu_kv_bytes(const struct backend *backend)
{
    const struct cpu *cpu = (const struct cpu *)backend;
    return (uint64_t)cpu->pages_held * cpu->page_bytes;
}
