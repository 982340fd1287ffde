/* SPDX-License-Identifier: MIT */
/* machine.h: what this process may use of the machine. */
#ifndef BASE_MACHINE_H
#define BASE_MACHINE_H

enum { MAX_THREADS = 1024 };

/* Cores that this process may run on, no more than its cgroup's quota of their time keeps busy:
 * 1..MAX_THREADS. */
int processors_available(void);

/* How many the text of a cgroup's cpu.max keeps busy, the last one perhaps in part: "150000
 * 100000", microseconds of each period, are 2. MAX_THREADS where there is no quota ("max 100000").
 */
int processors_of_quota(const char *text);

#endif
