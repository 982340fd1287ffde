/*
 * deferred: a backend for tests that proves the seam to be one. It has an address space of its own
 * and executes late: handles are numbers, weights are copied when they are handed over, the batch
 * is copied when it is set, operations are only recorded, and `read` carries them out. Whoever
 * reaches around the seam - keeps a pointer, changes a batch too late, reads too early - gets
 * garbage. The arithmetic is the CPU backend's.
 */
#ifndef TESTS_DEFERRED_H
#define TESTS_DEFERRED_H

#include "backend/backend.h"

extern const struct backend_ops deferred_ops;

/* Operations recorded and not carried out yet, by all open backends: 0 after a read. */
size_t deferred_pending(void);

#endif
