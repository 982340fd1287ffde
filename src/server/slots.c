/* SPDX-License-Identifier: MIT */
#include "server/slots.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "base/size.h"

struct slots {
    pthread_mutex_t lock;
    pthread_cond_t changed;
    size_t sequences; /* free */
    uint64_t pages;   /* free */
    uint64_t total;   /* pages */
    struct slot *taken;
    struct slot *waiting; /* in order of arrival */
};

struct slots *slots_open(size_t sequences, uint64_t pages, struct llama3_error *err)
{
    struct slots *slots = size_alloc_for(1, sizeof *slots, "a queue", err);
    if (slots == NULL)
        return NULL;
    slots->sequences = sequences;
    slots->pages = slots->total = pages;
    pthread_mutex_init(&slots->lock, NULL);
    pthread_cond_init(&slots->changed, NULL);
    return slots;
}

void slots_close(struct slots *slots)
{
    if (slots == NULL)
        return;
    pthread_mutex_destroy(&slots->lock);
    pthread_cond_destroy(&slots->changed);
    free(slots);
}

static void append(struct slot **list, struct slot *slot)
{
    while (*list != NULL)
        list = &(*list)->next;
    slot->next = NULL;
    *list = slot;
}

static void take_out(struct slot **list, struct slot *slot)
{
    while (*list != slot)
        list = &(*list)->next;
    *list = slot->next;
}

static size_t taken_by(const struct slots *slots, const char *client)
{
    size_t n = 0;
    for (const struct slot *s = slots->taken; s != NULL; s = s->next)
        n += strcmp(s->client, client) == 0;
    return n;
}

static const struct slot *next_in_turn(const struct slots *slots)
{
    const struct slot *next = NULL;
    size_t least = SIZE_MAX;
    for (const struct slot *s = slots->waiting; s != NULL; s = s->next) {
        size_t n = taken_by(slots, s->client);
        if (n < least) {
            least = n;
            next = s;
        }
    }
    return next;
}

int slots_take(struct slots *slots, struct slot *slot, const atomic_bool *cancel)
{
    int status = 0;
    slot->pages = slot->pages < slots->total ? slot->pages : slots->total;
    pthread_mutex_lock(&slots->lock);
    append(&slots->waiting, slot);
    while (!atomic_load(cancel) &&
           !(slots->sequences > 0 && slot->pages <= slots->pages && next_in_turn(slots) == slot))
        pthread_cond_wait(&slots->changed, &slots->lock);
    take_out(&slots->waiting, slot);
    if (atomic_load(cancel)) {
        status = -1;
    } else {
        append(&slots->taken, slot);
        slots->sequences--;
        slots->pages -= slot->pages;
    }
    pthread_cond_broadcast(&slots->changed); /* the next one in turn may go */
    pthread_mutex_unlock(&slots->lock);
    return status;
}

void slots_give(struct slots *slots, struct slot *slot)
{
    pthread_mutex_lock(&slots->lock);
    take_out(&slots->taken, slot);
    slots->sequences++;
    slots->pages += slot->pages;
    pthread_cond_broadcast(&slots->changed);
    pthread_mutex_unlock(&slots->lock);
}

void slots_wake(struct slots *slots)
{
    pthread_mutex_lock(&slots->lock);
    pthread_cond_broadcast(&slots->changed);
    pthread_mutex_unlock(&slots->lock);
}

void slots_count(struct slots *slots, size_t *taken, size_t *waiting)
{
    *taken = *waiting = 0;
    pthread_mutex_lock(&slots->lock);
    for (const struct slot *s = slots->taken; s != NULL; s = s->next)
        ++*taken;
    for (const struct slot *s = slots->waiting; s != NULL; s = s->next)
        ++*waiting;
    pthread_mutex_unlock(&slots->lock);
}
