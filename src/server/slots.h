/* SPDX-License-Identifier: MIT */
/*
 * slots.h: the queue for sequences and KV pages. A sequence waits until there is a free slot and
 * enough free pages. Next is the client with the fewest running sequences; among those, the one
 * that came first. Nobody overtakes the next one, so that a large sequence isn't starved.
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
    const char *client; /* must outlive the slot */
    uint64_t pages;     /* capped at all that exist */
    struct slot *next;
};

struct slots *slots_open(size_t sequences, uint64_t pages, struct llama3_error *err);
void slots_close(struct slots *slots);

/* Waits for a slot whose client and pages are set. -1: *cancel became true. */
int slots_take(struct slots *slots, struct slot *slot, const atomic_bool *cancel);
void slots_give(struct slots *slots, struct slot *slot);
/* Wakes those that wait, to see their cancel flag. */
void slots_wake(struct slots *slots);

void slots_count(struct slots *slots, size_t *taken, size_t *waiting);

#endif
