/* SPDX-License-Identifier: MIT */
/*
 * slots.h: who may generate now. There are so many sequences at once and so many pages for their
 * KV; who wants one waits for both. Clients take turns: the next is whoever has fewest sequences,
 * and of these who came first. Only the next is looked at, so that a large one is not passed for
 * ever.
 */
#ifndef SERVER_SLOTS_H
#define SERVER_SLOTS_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"

struct slots;
struct slot {
    const char *client; /* stays the caller's */
    uint64_t pages;     /* no more than there are are waited for */
    struct slot *next;
};

struct slots *slots_open(size_t sequences, uint64_t pages, struct llama3_error *err);
void slots_close(struct slots *slots);

/* Waits for a slot; slot->client and pages are set. -1: *cancel became true. */
int slots_take(struct slots *slots, struct slot *slot, const atomic_bool *cancel);
void slots_give(struct slots *slots, struct slot *slot);
/* After a cancel was set. */
void slots_wake(struct slots *slots);

void slots_count(struct slots *slots, size_t *taken, size_t *waiting);

#endif
