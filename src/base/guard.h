/* SPDX-License-Identifier: MIT */
/*
 * guard.h: mapped files that another program cuts short while they are open. Reading a page that is
 * gone raises SIGBUS, which ends the process. With the handler installed, zeros replace what is
 * gone, and guard_check() reports it.
 */
#ifndef BASE_GUARD_H
#define BASE_GUARD_H

#include <stddef.h>
#include <stdint.h>

#include "base/error.h"

struct guard; /* of one mapping */

/* Watches data[size], a mapping of a file. Call guard_remove() before unmapping it. NULL without
 * memory. */
struct guard *guard_add(const void *data, size_t size, const char *path);
void guard_remove(struct guard *guard); /* NULL is fine */

const char *guard_path(const struct guard *guard);

/* How often the handler has replaced what was gone, in any mapping. */
uint64_t guard_count(void);

/* -1 once part of the file could not be read. A NULL guard always passes. */
int guard_check(const struct guard *guard, struct llama3_error *err);

/* Installs the SIGBUS handler, once per process. A SIGBUS for any other reason goes to the previous
 * handler. No thread that reads a mapping may block SIGBUS. */
int guard_install(struct llama3_error *err);

#endif
