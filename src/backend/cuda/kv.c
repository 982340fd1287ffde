/* SPDX-License-Identifier: MIT */
/*
 * kv.c: KV pages on the device. They are allocated in slabs, since the driver's allocator is slow,
 * and freed to a list. Copies use a stream of their own, so that they may overlap a pass of other
 * sequences.
 *
 * A page holds, for each layer and KV head, K as [KV_PAGE][padded_dim] and V as
 * [padded_dim][KV_PAGE], the layouts that tensor cores load.
 */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "backend/cuda/state.h"
#include "base/size.h"

enum { SLAB_BYTES = 64 << 20 };

struct device_heads heads_of(const struct backend_shape *shape)
{
    struct device_heads h = {
        .n_heads = (int)shape->n_heads,
        .n_kv_heads = (int)shape->n_kv_heads,
        .head_dim = (int)shape->head_dim,
        .padded_dim = (int)((shape->head_dim + 31) / 32 * 32),
        .kv_type = shape->kv_type,
        .interleaved = shape->rope_interleaved,
    };
    h.state_floats = h.padded_dim + 4;
    h.n_group = h.n_heads / h.n_kv_heads;
    h.score_scale = 1.44269504f / sqrtf((float)h.head_dim);
    h.head_bytes = 2 * KV_PAGE * kv_key_bytes(shape->kv_type, (size_t)h.padded_dim);
    return h;
}

/* Of a page. */
static size_t layer_bytes(const struct device_heads *heads)
{
    return (size_t)heads->n_kv_heads * heads->head_bytes;
}

uint64_t cuda_kv_page_bytes(const struct backend_shape *shape)
{
    struct device_heads heads = heads_of(shape);
    return (uint64_t)layer_bytes(&heads) * shape->n_layers;
}

/* ---- the pool ---------------------------------------------------------------------------- */

static struct cuda *cuda_of(struct page_pool *pool)
{
    return (struct cuda *)((char *)pool - offsetof(struct cuda, pool));
}

/* Allocates a slab of pages, or a single one if memory lacks. */
static int add_slab(struct cuda *cuda, struct llama3_error *err)
{
    if (cuda->n_slabs == cuda->slab_room) {
        size_t room = cuda->slab_room * 2 + 16;
        void **slabs = realloc(cuda->slabs, room * sizeof *slabs);
        if (slabs == NULL)
            return error_memory(err, "KV pages", room * sizeof *slabs);
        cuda->slabs = slabs;
        cuda->slab_room = room;
    }
    size_t n = cuda->pool.held + 4; /* so that the pool about doubles */
    if (n > SLAB_BYTES / (cuda->pool.page_bytes + 1))
        n = SLAB_BYTES / (cuda->pool.page_bytes + 1) + 1;
    uint8_t *memory = cuda_alloc(n * cuda->pool.page_bytes, "pages of the KV cache", err);
    if (memory == NULL && n > 1) {
        n = 1;
        memory = cuda_alloc(cuda->pool.page_bytes, "a page of the KV cache", err);
    }
    if (memory == NULL)
        return -1;
    cuda->slabs[cuda->n_slabs++] = memory;
    for (size_t i = 0; i < n; i++) {
        struct cuda_page *page = size_alloc(1, sizeof *page);
        if (page == NULL)
            return i > 0 ? 0 : error_memory(err, "KV pages", sizeof *page);
        page->memory = memory + i * cuda->pool.page_bytes;
        page->base.next = cuda->free_pages;
        cuda->free_pages = &page->base;
    }
    return 0;
}

static struct page *take_page(struct page_pool *pool, struct llama3_error *err)
{
    struct cuda *cuda = cuda_of(pool);
    if (cuda->free_pages == NULL && add_slab(cuda, err) != 0)
        return NULL;
    struct page *page = cuda->free_pages;
    cuda->free_pages = page->next;
    return page;
}

static void drop_page(struct page_pool *pool, struct page *page)
{
    struct cuda *cuda = cuda_of(pool);
    page->next = cuda->free_pages;
    cuda->free_pages = page;
}

static void copy_page(struct page_pool *pool, struct page *to, const struct page *from)
{
    struct cuda *cuda = cuda_of(pool);
    cuda_check(cuda,
               cudaMemcpyAsync(((struct cuda_page *)to)->memory,
                               ((const struct cuda_page *)from)->memory, cuda->pool.page_bytes,
                               cudaMemcpyDeviceToDevice, cuda->kv_stream),
               "kv_reserve");
}

void cuda_pool_open(struct cuda *cuda)
{
    pages_open(&cuda->base, &cuda->pool, &cuda->shape);
    cuda->pool.take = take_page;
    cuda->pool.drop = drop_page;
    cuda->pool.copy = copy_page;
    cuda->pool.page_bytes = (size_t)cuda_kv_page_bytes(&cuda->shape);
}

void cuda_pool_close(struct cuda *cuda)
{
    while (cuda->free_pages != NULL) {
        struct page *page = cuda->free_pages;
        cuda->free_pages = page->next;
        free(page);
    }
    for (size_t i = 0; i < cuda->n_slabs; i++)
        cudaFree(cuda->slabs[i]);
    free(cuda->slabs);
}

/* ---- sequences --------------------------------------------------------------------------- */

int cuda_kv_reserve(struct backend *backend, struct kv *kv, size_t from, size_t to,
                    struct llama3_error *err)
{
    struct cuda *cuda = cuda_enter(backend);
    if (pages_reserve(backend, kv, from, to, err) != 0)
        return -1;
    cuda_check(cuda, cudaStreamSynchronize(cuda->kv_stream), "kv_reserve");
    return 0;
}

/* ---- out and in -------------------------------------------------------------------------- */

/* Copies n slots, from `slot` on, between a page's head in host memory and k and v,
 * [n][n_kv_heads][head_dim], which point to this head. */
static void convert_head(const struct cuda *cuda, unsigned char *head, size_t slot, size_t n,
                         char *k, char *v, bool out)
{
    const struct device_heads *h = &cuda->heads;
    size_t size = kv_key_bytes(h->kv_type, 1), dim = (size_t)h->head_dim,
           padded = (size_t)h->padded_dim;
    size_t row = (size_t)h->n_kv_heads * dim * size;
    unsigned char *v_head = head + KV_PAGE * padded * size;

    for (size_t p = 0; p < n; p++) {
        unsigned char *in_page = head + (slot + p) * padded * size;
        if (out)
            memcpy(k + p * row, in_page, dim * size);
        else
            memcpy(in_page, k + p * row, dim * size);
        if (!out)
            memset(in_page + dim * size, 0, (padded - dim) * size);
        for (size_t i = 0; i < padded; i++) {
            in_page = v_head + (i * KV_PAGE + slot + p) * size;
            if (!out && i >= dim)
                memset(in_page, 0, size);
            else if (i < dim)
                memcpy(out ? (void *)(v + p * row + i * size) : in_page,
                       out ? (const void *)in_page : v + p * row + i * size, size);
        }
    }
}

/* Copies a page's layer to the host and exports it; or imports into it and copies it back. */
static cudaError_t convert_page(struct cuda *cuda, uint8_t *layer, size_t slot, size_t n, char *k,
                                char *v, bool out)
{
    size_t head_bytes = cuda->heads.head_bytes;
    size_t head_row = kv_key_bytes(cuda->shape.kv_type, cuda->shape.head_dim);
    for (size_t head = 0; head < (size_t)cuda->heads.n_kv_heads; head++) {
        uint8_t *memory = layer + head * head_bytes;
        cudaError_t error = cudaMemcpyAsync(cuda->kv_staging, memory, head_bytes,
                                            cudaMemcpyDeviceToHost, cuda->kv_stream);
        if (error == cudaSuccess)
            error = cudaStreamSynchronize(cuda->kv_stream);
        if (error != cudaSuccess)
            return error;
        convert_head(cuda, cuda->kv_staging, slot, n, k + head * head_row, v + head * head_row,
                     out);
        if (out)
            continue;
        error = cudaMemcpyAsync(memory, cuda->kv_staging, head_bytes, cudaMemcpyHostToDevice,
                                cuda->kv_stream);
        if (error == cudaSuccess)
            error = cudaStreamSynchronize(cuda->kv_stream);
        if (error != cudaSuccess)
            return error;
    }
    return cudaSuccess;
}

static int convert(struct cuda *cuda, struct kv *kv, size_t layer, size_t from, size_t to, char *k,
                   char *v, bool out, struct llama3_error *err)
{
    size_t row = cuda->shape.n_kv_heads * kv_key_bytes(cuda->shape.kv_type, cuda->shape.head_dim);
    for (size_t at = from; at < to;) {
        size_t slot = at % KV_PAGE, n = KV_PAGE - slot < to - at ? KV_PAGE - slot : to - at;
        uint8_t *page = ((struct cuda_page *)kv->pages[at / KV_PAGE])->memory;
        cudaError_t error = convert_page(cuda, page + layer * layer_bytes(&cuda->heads), slot, n,
                                         k + (at - from) * row, v + (at - from) * row, out);
        if (error != cudaSuccess)
            return cuda_error(err, out ? "kv_export" : "kv_import", error);
        at += n;
    }
    return 0;
}

int cuda_kv_export(struct backend *backend, struct kv *kv, size_t layer, size_t from, size_t to,
                   void *k, void *v, struct llama3_error *err)
{
    struct cuda *cuda = cuda_enter(backend);
    if (pages_check_export(&cuda->pool, kv, layer, from, to, err) != 0)
        return -1;
    return convert(cuda, kv, layer, from, to, k, v, true, err);
}

int cuda_kv_import(struct backend *backend, struct kv *kv, size_t layer, size_t from, size_t to,
                   const void *k, const void *v, struct llama3_error *err)
{
    struct cuda *cuda = cuda_enter(backend);
    if (pages_check_import(&cuda->pool, kv, layer, from, to, err) != 0)
        return -1;
    return convert(cuda, kv, layer, from, to, (char *)(uintptr_t)k, (char *)(uintptr_t)v, false,
                   err);
}
