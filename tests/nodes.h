/* SPDX-License-Identifier: MIT */
/* nodes.h: memory nodes of machines that are made up. To be included after config.h. */
#ifndef TESTS_NODES_H
#define TESTS_NODES_H

#include "base/numa.h"

enum { MOST_LISTS = 4 };

/* Nodes that have memory, and the CPUs of nodes 0.., NULL for a node that isn't there. */
struct machine {
    const char *has_memory, *cpus[MOST_LISTS];
};

/* What numa_read() makes of a folder that says so; allowed_cpus: a digit for each. */
struct numa *numa_invented(const struct machine *machine, const char *allowed_cpus, size_t threads,
                           char note[NUMA_NOTE]);

#endif
