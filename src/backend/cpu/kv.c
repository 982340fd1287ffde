/* SPDX-License-Identifier: MIT */
/* kv.c: KV pages in the host's memory. */
#include "config.h"

#include "backend/cpu/cpu.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/numa.h"
#include "base/size.h"

/* Pages of less than a huge page are allocated some at a time, so that they lie in huge pages too:
 * decode after 16,384 tokens is 2 to 4 % faster by that. */
struct slab {
    struct slab *next, **link; /* among the pool's, whose pages are not all taken */
    struct page *free;
    size_t n_taken;
    unsigned char *memory;
    struct cpu_page pages[];
};

static void list_slab(struct cpu *cpu, struct slab *slab)
{
    slab->next = cpu->slabs;
    slab->link = &cpu->slabs;
    if (slab->next != NULL)
        slab->next->link = &slab->next;
    cpu->slabs = slab;
}

static void unlist_slab(struct slab *slab)
{
    *slab->link = slab->next;
    if (slab->next != NULL)
        slab->next->link = slab->link;
}

/* Each memory node has some of the heads. */
static void place_page(const struct cpu *cpu, unsigned char *data)
{
    size_t heads = cpu->shape.n_kv_heads, bytes = cpu->pool.page_bytes / heads;
    for (size_t i = 0; i < numa_nodes(cpu->numa); i++) {
        size_t first = numa_start(cpu->numa, heads, i), end = numa_start(cpu->numa, heads, i + 1);
        numa_place(cpu->numa, i, data + first * bytes, (end - first) * bytes);
    }
}

static struct slab *open_slab(struct cpu *cpu)
{
    size_t bytes = cpu->pool.page_bytes, n = HUGE_PAGE / bytes + 1;
    struct slab *slab = size_alloc(1, sizeof *slab + n * sizeof slab->pages[0]);
    if (slab == NULL || (slab->memory = size_alloc_unset(n, bytes)) == NULL) {
        free(slab);
        return NULL;
    }
    while (n-- > 0) {
        slab->pages[n] = (struct cpu_page){{.next = slab->free}, slab, slab->memory + n * bytes};
        slab->free = &slab->pages[n].base;
        place_page(cpu, slab->pages[n].data);
    }
    list_slab(cpu, slab);
    return slab;
}

static struct cpu *cpu_of(struct page_pool *pool)
{
    return (struct cpu *)((char *)pool - offsetof(struct cpu, pool));
}

static struct page *take_page(struct page_pool *pool, struct llama3_error *err)
{
    struct cpu *cpu = cpu_of(pool);
    struct slab *slab = cpu->slabs != NULL ? cpu->slabs : open_slab(cpu);
    if (slab == NULL) {
        error_memory(err, "a page of the KV cache", pool->page_bytes);
        return NULL;
    }
    struct page *page = slab->free;
    slab->free = page->next;
    slab->n_taken++;
    if (slab->free == NULL)
        unlist_slab(slab);
    memset(((struct cpu_page *)page)->data, 0, pool->page_bytes);
    return page;
}

static void drop_page(struct page_pool *pool, struct page *page)
{
    struct slab *slab = ((struct cpu_page *)page)->slab;
    if (slab->free == NULL)
        list_slab(cpu_of(pool), slab);
    page->next = slab->free;
    slab->free = page;
    if (--slab->n_taken > 0)
        return;
    unlist_slab(slab);
    free(slab->memory);
    free(slab);
}

static void copy_page(struct page_pool *pool, struct page *to, const struct page *from)
{
    memcpy(((struct cpu_page *)to)->data, ((const struct cpu_page *)from)->data, pool->page_bytes);
}

/* Freed by free(). */
static struct page *wrap_page(const struct kv_lent *lent, struct llama3_error *err)
{
    struct cpu_page *page = size_alloc_for(1, sizeof *page, "a page of the KV cache", err);
    if (page == NULL)
        return NULL;
    page->data = (unsigned char *)(uintptr_t)lent->data;
    return &page->base;
}

const void *cpu_kv_page(const struct backend *backend, const struct kv *kv, size_t page)
{
    (void)backend;
    return ((const struct cpu_page *)kv->pages[page])->data;
}

void kv_open_pool(struct cpu *cpu)
{
    pages_open(&cpu->base, &cpu->pool, &cpu->shape);
    cpu->pool.page_bytes =
        cpu->shape.n_layers * cpu->shape.n_kv_heads * (cpu->k_bytes + cpu->v_bytes);
    cpu->pool.take = take_page;
    cpu->pool.drop = drop_page;
    cpu->pool.copy = copy_page;
    cpu->pool.wrap = wrap_page;
}

/* K of a head lies in a column: elements of `size` bytes, or pairs of codes, KV_PAGE apart. */
static inline __attribute__((always_inline)) void put_column(unsigned char *column, const char *k,
                                                             size_t dim, size_t size)
{
    for (size_t i = 0; i < dim; i++)
        memcpy(column + i * KV_PAGE * size, k + i * size, size);
}

/* V's codes of a slot, and what else it has but the scale, from or to where they are stored;
 * returns where that ends. Of int8 they lie two bytes apart, since pairs of positions lie side by
 * side. Of int4 they lie four bytes apart, as bytes of four positions are a word, and a group's
 * step and base lie beside those of the other position of a pair. */
static inline __attribute__((always_inline)) char *copy_values(const struct cpu *cpu,
                                                               unsigned char *v, size_t slot,
                                                               char *stored, bool out)
{
    size_t columns = kv_group_columns(cpu->padded_dim), groups = columns / KV_GROUP;
    bool nibbles = cpu->shape.kv_type == LLAMA3_KV_INT4;
    unsigned char *code = nibbles ? v + slot / 4 * 2 * columns + nibble_byte(slot)
                                  : v + slot / 2 * 2 * cpu->padded_dim + slot % 2;
    unsigned char *step =
        v + KV_PAGE / 2 * columns + (slot / 2 * groups * 2 + slot % 2) * KV_STEP_BYTES;
    size_t n = nibbles ? columns / 2 : cpu->shape.head_dim;
    for (size_t i = 0; i < n; i++, stored++, code += nibbles ? 4 : 2)
        memcpy(out ? (void *)stored : code, out ? (const void *)code : stored, 1);
    for (size_t i = 0; nibbles && i < groups; i++, stored += KV_STEP_BYTES)
        memcpy(out ? (void *)stored : step + i * 2 * KV_STEP_BYTES,
               out ? (const void *)(step + i * 2 * KV_STEP_BYTES) : stored, KV_STEP_BYTES);
    return stored;
}

static unsigned char *k_scale_at(const struct cpu *cpu, unsigned char *k, size_t slot)
{
    return k + cpu->k_bytes - (KV_PAGE - slot) * cpu->scale_size;
}

static unsigned char *v_scale_at(const struct cpu *cpu, unsigned char *v, size_t slot)
{
    return v + cpu->v_bytes - (KV_PAGE - slot) * cpu->scale_size;
}

static void put_codes(const struct cpu *cpu, unsigned char *to_k, unsigned char *to_v, size_t slot,
                      const char *k, const char *v)
{
    size_t dim = cpu->shape.head_dim;
    put_column(to_k + 2 * slot, k, dim / 2, 2);
    v = copy_values(cpu, to_v, slot, (char *)(uintptr_t)v, false);
    float scales[2];
    memcpy(&scales[0], k + dim, cpu->scale_size);
    memcpy(&scales[1], v, cpu->scale_size);
    if (!isfinite(scales[1])) { /* so that the score shows it, and V's scales are finite */
        scales[0] = NAN;
        scales[1] = 0;
    }
    memcpy(k_scale_at(cpu, to_k, slot), &scales[0], cpu->scale_size);
    memcpy(v_scale_at(cpu, to_v, slot), &scales[1], cpu->scale_size);
}

void kv_put(const struct cpu *cpu, struct page *page, size_t layer, size_t head, size_t slot,
            const void *k, const void *v)
{
    size_t size = cpu->kv_size, dim = cpu->shape.head_dim;
    unsigned char *to_k = page_k(cpu, page, layer, head), *to_v = page_v(cpu, page, layer, head);
    switch (size) { /* a copy of constant size is one instruction */
    case 1:
        put_codes(cpu, to_k, to_v, slot, k, v);
        return;
    case 2:
        put_column(to_k + slot * size, k, dim, 2);
        break;
    default:
        put_column(to_k + slot * size, k, dim, 4);
    }
    memcpy(to_v + slot * cpu->padded_dim * size, v, dim * size);
}

/* The reverse of kv_put(). */
static void get_slot(const struct cpu *cpu, struct page *page, size_t layer, size_t head,
                     size_t slot, char *k, char *v)
{
    size_t dim = cpu->shape.head_dim, step = cpu->kv_size == 1 ? 2 : cpu->kv_size;
    unsigned char *from_k = page_k(cpu, page, layer, head),
                  *from_v = page_v(cpu, page, layer, head);
    for (size_t i = 0; i < dim * cpu->kv_size / step; i++)
        memcpy(k + i * step, from_k + (i * KV_PAGE + slot) * step, step);
    if (cpu->kv_size > 1) {
        memcpy(v, from_v + slot * cpu->padded_dim * step, dim * step);
        return;
    }
    v = copy_values(cpu, from_v, slot, v, true);
    memcpy(k + dim, k_scale_at(cpu, from_k, slot), cpu->scale_size);
    memcpy(v, v_scale_at(cpu, from_v, slot), cpu->scale_size);
}

int cpu_kv_export(struct backend *backend, struct kv *kv, size_t layer, size_t from, size_t to,
                  void *k, void *v, struct llama3_error *err)
{
    const struct cpu *cpu = (const struct cpu *)backend;
    size_t k_bytes = kv_key_bytes(cpu->shape.kv_type, cpu->shape.head_dim);
    size_t v_bytes = kv_value_bytes(cpu->shape.kv_type, cpu->shape.head_dim);
    if (pages_check_export(&cpu->pool, kv, layer, from, to, err) != 0)
        return -1;

    char *k_out = k, *v_out = v;
    for (size_t position = from; position < to; position++)
        for (size_t head = 0; head < cpu->shape.n_kv_heads; head++) {
            get_slot(cpu, kv->pages[position / KV_PAGE], layer, head, position % KV_PAGE, k_out,
                     v_out);
            k_out += k_bytes;
            v_out += v_bytes;
        }
    return 0;
}

int cpu_kv_import(struct backend *backend, struct kv *kv, size_t layer, size_t from, size_t to,
                  const void *k, const void *v, struct llama3_error *err)
{
    const struct cpu *cpu = (const struct cpu *)backend;
    size_t k_bytes = kv_key_bytes(cpu->shape.kv_type, cpu->shape.head_dim);
    size_t v_bytes = kv_value_bytes(cpu->shape.kv_type, cpu->shape.head_dim);
    if (pages_check_import(&cpu->pool, kv, layer, from, to, err) != 0)
        return -1;

    const char *k_in = k, *v_in = v;
    for (size_t position = from; position < to; position++)
        for (size_t head = 0; head < cpu->shape.n_kv_heads; head++) {
            kv_put(cpu, kv->pages[position / KV_PAGE], layer, head, position % KV_PAGE, k_in, v_in);
            k_in += k_bytes;
            v_in += v_bytes;
        }
    return 0;
}
