/* SPDX-License-Identifier: MIT */
/* cgroup.h: the cgroups whose limits hold for this process. */
#ifndef BASE_CGROUP_H
#define BASE_CGROUP_H

#include <stdbool.h>

/* Calls fn with the folder of this process's cgroup and of each one above it, in the hierarchy of
 * version 2 and in that of version 1 for the controller ("memory"). */
void cgroup_each(const char *controller, void (*fn)(void *arg, const char *folder, bool v2),
                 void *arg);

#endif
