/* SPDX-License-Identifier: MIT */
/* machine.h: what this process may use of the machine. */
#ifndef BASE_MACHINE_H
#define BASE_MACHINE_H

enum { MAX_THREADS = 1024 };

/* Cores that this process may use: those it may run on, or fewer where its cgroup has a CPU quota.
 * 1..MAX_THREADS. */
int processors_available(void);

/* Cores that a cgroup's cpu.max allows, rounded up: "150000 100000" (microseconds per period) is 2.
 * MAX_THREADS without a quota ("max 100000"). */
int processors_of_quota(const char *text);

#endif
