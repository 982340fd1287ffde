/* SPDX-License-Identifier: MIT */
/*
 * guard.h: mapped files that another program cuts short while they are open. Reading a page that is
 * gone raises SIGBUS, which ends the process. With the handler installed, zeros take the place of
 * what is gone, and whoever used it finds out by guard_check().
 */
#ifndef BASE_GUARD_H
#define BASE_GUARD_H

#include <stddef.h>

#include "base/error.h"

struct guard; /* of one mapping */

/* Watches data[size], a mapping of a file; NULL without memory. Before it is unmapped:
 * guard_remove(). */
struct guard *guard_add(const void *data, size_t size, const char *path);
void guard_remove(struct guard *guard); /* NULL is fine */

const char *guard_path(const struct guard *guard);

/* -1 once a part of the file could not be read. NULL is always whole. */
int guard_check(const struct guard *guard, struct llama3_error *err);

/* Installs the handler for SIGBUS in this process, once. SIGBUS for another reason goes to the
 * handler that was there. It must be blocked in no thread that reads a mapping. */
int guard_install(struct llama3_error *err);

#endif
