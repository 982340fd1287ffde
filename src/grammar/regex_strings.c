/* SPDX-License-Identifier: MIT */
/* regex_strings.c: one of many given texts. A state is a range of the sorted list. */
#include "grammar/regex_parts.h"

#include <stdlib.h>

#include "base/utf8.h"

void regex_strings_close(struct regex_table *table)
{
    free(table->bytes);
    free(table->lengths);
    free(table->tags);
    free(table->text);
}

static const struct regex_table *table_of(const struct regexes *all, const struct regex_node *n)
{
    return &((const struct regex_table *)all->tables.items)[n->a];
}

/* The strings first to end exclusive, without the `depth` bytes that they share. */
static regex range(struct regexes *all, uint32_t table, uint32_t first, uint32_t end,
                   uint32_t depth)
{
    struct regex_node n = {.kind = KIND_STRINGS,
                           .life = LIFE_LIVE,
                           .depth = 1,
                           .a = table,
                           .b = first,
                           .c = end,
                           .d = depth};
    const struct regex_table *t = table_of(all, &n);
    n.nullable = t->lengths[first] == depth;
    n.utf8 = t->utf8 && (n.nullable || ((uint8_t)t->bytes[first][depth] & 0xc0) != 0x80);
    return regex_intern(all, &n, NULL, 0);
}

regex regex_strings(struct regexes *all, const struct regex_string *strings, const uint32_t *tags,
                    size_t n)
{
    size_t bytes = 0, at = 0;
    if (n == 0 || all->failed)
        return REGEX_NONE;
    for (size_t i = 0; i < n; i++)
        bytes += strings[i].n; /* they are in memory, all of them */
    if (n > UINT32_MAX || bytes > UINT32_MAX || all->tables.n >= UINT32_MAX)
        return regex_fail(all, LLAMA3_EINPUT, "regular expression: expected fewer strings");
    if (!regex_room(all, &all->tables, 1, sizeof(struct regex_table)))
        return REGEX_NONE;
    struct regex_table *t = (struct regex_table *)all->tables.items + all->tables.n;
    *t = (struct regex_table){.n = (uint32_t)n,
                              .utf8 = true,
                              .bytes = regex_alloc(all, n, sizeof *t->bytes),
                              .lengths = regex_alloc(all, n, sizeof *t->lengths),
                              .tags = tags != NULL ? regex_alloc(all, n, sizeof *t->tags) : NULL,
                              .text = regex_alloc(all, bytes + 1, 1)};
    all->tables.n++;
    if (all->failed)
        return REGEX_NONE;
    for (size_t i = 0; i < n; i++) {
        t->bytes[i] = t->text + at;
        t->lengths[i] = (uint32_t)strings[i].n;
        if (strings[i].n > 0)
            memcpy(t->text + at, strings[i].bytes, strings[i].n);
        t->utf8 &= utf8_valid((const uint8_t *)t->bytes[i], strings[i].n) == strings[i].n;
        t->longest = t->longest > t->lengths[i] ? t->longest : t->lengths[i];
        at += strings[i].n;
        if (tags != NULL)
            t->tags[i] = tags[i];
    }
    return range(all, (uint32_t)all->tables.n - 1, 0, (uint32_t)n, 0);
}

/* The first of the strings from `first` on whose byte at `depth` is at least `byte`. */
static uint32_t find(const struct regex_table *t, uint32_t first, uint32_t end, uint32_t depth,
                     unsigned byte)
{
    while (first < end) {
        uint32_t middle = first + (end - first) / 2;
        if ((uint8_t)t->bytes[middle][depth] < byte)
            first = middle + 1;
        else
            end = middle;
    }
    return first;
}

regex regex_strings_step(struct regexes *all, regex r, uint8_t byte, struct byte_set *same)
{
    struct regex_node n = *regex_node(all, r);
    const struct regex_table *t = table_of(all, &n);
    uint32_t start = n.b + (t->lengths[n.b] == n.d); /* one that ends here has no more bytes */
    uint32_t first = find(t, start, n.c, n.d, byte);
    uint32_t end = find(t, first, n.c, n.d, (unsigned)byte + 1);
    struct byte_set bytes = {0};
    if (first < end) {
        byte_set_add(&bytes, byte, byte);
        byte_set_narrow(same, &bytes, 0);
        return range(all, n.a, first, end, n.d + 1);
    }
    while (start < n.c) {
        uint8_t other = (uint8_t)t->bytes[start][n.d];
        byte_set_add(&bytes, other, other);
        start = find(t, start, n.c, n.d, (unsigned)other + 1);
    }
    byte_set_narrow(same, &bytes, UINT64_MAX);
    return REGEX_NONE;
}

uint32_t regex_tag(const struct regexes *all, regex r)
{
    const struct regex_node *n = regex_node(all, r);
    if (n->kind != KIND_STRINGS || !n->nullable)
        return UINT32_MAX;
    const struct regex_table *t = table_of(all, n);
    return t->tags != NULL ? t->tags[n->b] : n->b;
}
