/* SPDX-License-Identifier: MIT */
/*
 * deferred: a backend for tests that proves the seam to be one. It has an address space of its own
 * and executes late: handles are numbers, weights are copied when they are handed over, the batch
 * is copied when it is set, operations are only recorded, and `read` carries them out. Whoever
 * reaches around the seam - keeps a pointer, changes a batch too late, reads too early - gets
 * garbage. The arithmetic is the CPU backend's.
 *
 * It is a device as well, whose memory is a number: what is held counts against it, by the sums
 * that it gives when asked, and more than there is can't be had.
 */
#ifndef TESTS_DEFERRED_H
#define TESTS_DEFERRED_H

#include "backend/backend.h"

extern const struct backend_ops deferred_ops;

/* What tests make of the device, as zeroes a working one without memory to speak of: */
struct deferred_device {
    uint64_t free_bytes, total_bytes; /* 0: as much as one likes */
    const char *absent;               /* why it doesn't answer, NULL: it does */
    size_t fail_after;                /* operations carried out before one fails; 0: none does */
    /* What became of it: */
    uint64_t used_bytes, most_bytes;
};
extern struct deferred_device deferred_device;

/* Operations recorded and not carried out yet, by all open backends: 0 after a read. */
size_t deferred_pending(void);

#endif
