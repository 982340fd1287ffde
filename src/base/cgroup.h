/* SPDX-License-Identifier: MIT */
/* cgroup.h: where the limits stand that hold for this process and others of its group. */
#ifndef BASE_CGROUP_H
#define BASE_CGROUP_H

#include <stdbool.h>

/* Calls fn with the folder of this process's cgroup, and of each that it lies in: those of version
 * 2, and those of version 1 that a controller ("memory") has. */
void cgroup_each(const char *controller, void (*fn)(void *arg, const char *folder, bool v2),
                 void *arg);

#endif
