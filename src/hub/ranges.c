/* SPDX-License-Identifier: MIT */
#include "hub/ranges.h"

#include <string.h>

/* Replaces intervals [first, last) with n others. */
static bool replace(struct ranges *r, size_t first, size_t last, const struct range *with, size_t n)
{
    size_t left = r->n - last;
    if (first + n + left > MAX_RANGES)
        return false;
    memmove(&r->list[first + n], &r->list[last], left * sizeof *r->list);
    memcpy(&r->list[first], with, n * sizeof *with);
    r->n = (uint32_t)(first + n + left);
    return true;
}

bool ranges_add(struct ranges *r, uint64_t begin, uint64_t end)
{
    size_t first = 0, last;
    struct range one = {begin, end};
    if (begin >= end)
        return true;
    while (first < r->n && r->list[first].end < begin)
        first++;
    for (last = first; last < r->n && r->list[last].begin <= end; last++) {
        if (r->list[last].begin < one.begin)
            one.begin = r->list[last].begin;
        if (r->list[last].end > one.end)
            one.end = r->list[last].end;
    }
    return replace(r, first, last, &one, 1);
}

bool ranges_remove(struct ranges *r, uint64_t begin, uint64_t end)
{
    size_t first = 0, last, n = 0;
    struct range left[2];
    if (begin >= end)
        return true;
    while (first < r->n && r->list[first].end <= begin)
        first++;
    for (last = first; last < r->n && r->list[last].begin < end; last++) {
        if (r->list[last].begin < begin)
            left[n++] = (struct range){r->list[last].begin, begin};
        if (r->list[last].end > end)
            left[n++] = (struct range){end, r->list[last].end};
    }
    return replace(r, first, last, left, n);
}

uint64_t ranges_gap(const struct ranges *r, uint64_t from, uint64_t end, uint64_t *until)
{
    *until = end;
    for (size_t i = 0; i < r->n && from < end; i++) {
        if (r->list[i].end <= from)
            continue;
        if (r->list[i].begin > from) {
            if (r->list[i].begin < end)
                *until = r->list[i].begin;
            return from;
        }
        from = r->list[i].end;
    }
    return from < end ? from : end;
}

bool ranges_have(const struct ranges *r, uint64_t begin, uint64_t end)
{
    uint64_t until;
    return ranges_gap(r, begin, end, &until) == end;
}

uint64_t ranges_bytes(const struct ranges *r)
{
    uint64_t bytes = 0;
    for (size_t i = 0; i < r->n; i++)
        bytes += r->list[i].end - r->list[i].begin;
    return bytes;
}

bool ranges_valid(const struct ranges *r, uint64_t size)
{
    if (r->n > MAX_RANGES)
        return false;
    for (size_t i = 0; i < r->n; i++)
        if (r->list[i].begin >= r->list[i].end || r->list[i].end > size ||
            (i > 0 && r->list[i].begin <= r->list[i - 1].end))
            return false;
    return true;
}
