/* SPDX-License-Identifier: MIT */
/* schema_memory.c: memory, tables and errors of schemas, all within limits. */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "base/size.h"
#include "grammar/schema_parts.h"

/* ---- memory --------------------------------------------------------------------------------- */

enum { CHUNK = 1 << 16 };

struct arena_chunk {
    struct arena_chunk *before;
    size_t size;
    _Alignas(16) char bytes[];
};

static int take(struct schemas *all, size_t bytes)
{
    if (all->failed)
        return -1;
    if (bytes > SCHEMA_MEMORY - all->memory)
        return schema_refuse(all, true, "expected a schema whose parts take at most %d MiB",
                             SCHEMA_MEMORY >> 20);
    all->memory += bytes;
    return 0;
}

static int out_of_memory(struct schemas *all, size_t bytes)
{
    all->failed = true;
    return error_memory(&all->error, "a schema", bytes);
}

void *schema_alloc(struct schemas *all, struct arena *arena, size_t n, size_t size)
{
    size_t bytes;
    if (!size_mul(n, size, &bytes) || bytes > SCHEMA_MEMORY) {
        take(all, SCHEMA_MEMORY);
        return NULL;
    }
    bytes = (bytes + 15) / 16 * 16;
    struct arena_chunk *last = arena->last;
    if (last == NULL || bytes > last->size - arena->used) {
        size_t room = bytes > CHUNK ? bytes : CHUNK;
        if (take(all, room) != 0)
            return NULL;
        struct arena_chunk *chunk = malloc(sizeof *chunk + room);
        if (chunk == NULL) {
            out_of_memory(all, room);
            return NULL;
        }
        *chunk = (struct arena_chunk){.before = last, .size = room};
        arena->last = last = chunk;
        arena->used = 0;
    }
    void *at = last->bytes + arena->used;
    arena->used += bytes;
    return memset(at, 0, bytes);
}

struct arena_mark arena_mark(const struct arena *arena)
{
    return (struct arena_mark){arena->last, arena->used};
}

void arena_release(struct schemas *all, struct arena *arena, struct arena_mark mark)
{
    while (arena->last != mark.last) {
        struct arena_chunk *before = arena->last->before;
        all->memory -= arena->last->size;
        free(arena->last);
        arena->last = before;
    }
    arena->used = mark.used;
}

void arena_free(struct arena *arena)
{
    while (arena->last != NULL) {
        struct arena_chunk *before = arena->last->before;
        free(arena->last);
        arena->last = before;
    }
}

int schema_grow(struct schemas *all, void *items, uint32_t n, uint32_t *capacity, size_t size)
{
    if (n < *capacity)
        return 0;
    size_t room = *capacity == 0 ? 16 : (size_t)*capacity * 2, bytes;
    if (room >= UINT32_MAX || !size_mul(room, size, &bytes))
        return take(all, SCHEMA_MEMORY);
    if (take(all, bytes / 2) != 0)
        return -1;
    void *old;
    memcpy(&old, items, sizeof old);
    void *moved = realloc(old, bytes);
    if (moved == NULL)
        return out_of_memory(all, bytes);
    memcpy(items, &moved, sizeof moved);
    *capacity = (uint32_t)room;
    return 0;
}

/* ---- tables --------------------------------------------------------------------------------- */

static int rehash(struct schemas *all, struct intern_table *table)
{
    size_t slots = table->slots == NULL ? 64 : ((size_t)table->mask + 1) * 2;
    size_t bytes = slots * sizeof *table->slots;
    if (take(all, bytes / 2) != 0)
        return -1;
    struct intern_slot *moved = malloc(bytes);
    if (moved == NULL)
        return out_of_memory(all, bytes);
    memset(moved, 0xff, bytes);
    for (size_t i = 0; table->slots != NULL && i <= table->mask; i++) {
        if (table->slots[i].id == UINT32_MAX)
            continue;
        size_t at = table->slots[i].hash & (slots - 1);
        while (moved[at].id != UINT32_MAX)
            at = (at + 1) & (slots - 1);
        moved[at] = table->slots[i];
    }
    free(table->slots);
    table->slots = moved;
    table->mask = (uint32_t)(slots - 1);
    return 0;
}

struct intern_slot *schema_slot(struct schemas *all, struct intern_table *table, uint64_t hash,
                                bool (*equal)(const struct schemas *all, uint32_t id,
                                              const void *key),
                                const void *key)
{
    if ((table->slots == NULL || table->n > table->mask / 2) && rehash(all, table) != 0)
        return NULL;
    uint32_t at = (uint32_t)hash & table->mask;
    struct intern_slot *slot;
    for (; (slot = &table->slots[at])->id != UINT32_MAX; at = (at + 1) & table->mask)
        if (slot->hash == (uint32_t)hash && equal(all, slot->id, key))
            return slot;
    slot->hash = (uint32_t)hash;
    table->n++;
    return slot;
}

/* ---- errors --------------------------------------------------------------------------------- */

static void add_token(struct buf *path, const char *token)
{
    buf_add_str(path, "/");
    for (; *token != '\0'; token++)
        if (*token == '~' || *token == '/')
            buf_add_str(path, *token == '~' ? "~0" : "~1");
        else
            buf_add(path, token, 1);
}

static void add_index(struct buf *path, uint32_t index)
{
    char text[16];
    snprintf(text, sizeof text, "%u", index);
    add_token(path, text);
}

static void add_path(const struct schemas *all, struct buf *path, uint32_t node, int depth)
{
    const struct schema_node *at = &all->nodes[node];
    if (at->parent == NODE_NONE || depth > 100) {
        buf_add_str(path, depth > 100 ? "..." : "#");
        return;
    }
    add_path(all, path, at->parent, depth + 1);
    if (at->keyword[0] == '\0') { /* a pointer, which it is already */
        buf_clear(path);
        buf_add_str(path, at->key);
        return;
    }
    add_token(path, at->keyword);
    if (at->key != NULL)
        add_token(path, at->key);
    if (at->index != NODE_NONE)
        add_index(path, at->index);
}

int schema_error(struct schemas *all, uint32_t node, const char *keyword, const char *key,
                 const char *format, ...)
{
    enum { LONGEST = 200 }; /* bytes of a place; the end says most */
    char text[384];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    struct buf path = {0};
    if (node < all->n_nodes)
        add_path(all, &path, node, 0);
    else
        buf_add_str(&path, "#");
    if (keyword != NULL)
        add_token(&path, keyword);
    if (key != NULL)
        add_token(&path, key);
    bool cut = path.size > LONGEST;
    error_input(&all->error, "%s%s: %s", cut ? "#..." : "",
                path.failed ? "#" : path.data + (cut ? path.size - LONGEST : 0), text);
    buf_free(&path);
    return -1;
}

int schema_refuse(struct schemas *all, bool failed, const char *format, ...)
{
    char text[384];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    if (!all->failed)
        schema_error(all, all->place, NULL, NULL, "%s", text);
    all->failed |= failed;
    return -1;
}

int schema_work(struct schemas *all, size_t steps)
{
    if (all->failed)
        return -1;
    if (regexes_failed(all->regexes, &all->error) != 0) {
        all->failed = true;
        return -1;
    }
    all->work += steps;
    if (all->work > SCHEMA_WORK)
        return schema_refuse(all, true, "expected a schema with fewer combinations of its parts");
    return 0;
}
