/* SPDX-License-Identifier: MIT */
/* machine.h: what this process may use of the machine, and which build of the code it runs. */
#ifndef BASE_MACHINE_H
#define BASE_MACHINE_H

#include "base/error.h"

enum { MAX_THREADS = 1024 };

/* Cores that this process may use: those it may run on, or fewer where its cgroup has a CPU quota.
 * 1..MAX_THREADS. */
int processors_available(void);

/* The threads to use where a caller asks for `given`: 1..MAX_THREADS, or 0 for
 * processors_available(). LLAMA3_EINPUT for another number. */
int threads_chosen(int given, int *threads, struct llama3_error *err);

/* Cores that a cgroup's cpu.max allows, rounded up: "150000 100000" (microseconds per period) is 2.
 * MAX_THREADS without a quota ("max 100000"). */
int processors_of_quota(const char *text);

enum { BUILD_ID_SIZE = 65 };

/* The linker's build ID of the library or program that this code is in, in hexadecimal; "" where it
 * was linked without one. Returns out. */
const char *build_id(char out[BUILD_ID_SIZE]);

#endif
