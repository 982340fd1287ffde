/* SPDX-License-Identifier: MIT */
/*
 * numa.h: memory nodes. On a machine that has several, a core reads the memory of its own node
 * faster than that of others. So the threads of a team are spread over the nodes in ascending
 * order, and what is shared out by ranges (base/threads.h) is cut the same way: each node holds
 * what its threads begin with. Where memory lies changes no result, and a request that fails
 * changes nothing.
 *
 * To be included after config.h, for cpu_set_t.
 */
#ifndef BASE_NUMA_H
#define BASE_NUMA_H

#include <sched.h>
#include <stddef.h>

struct numa; /* NULL: one node, or several that are used as one; nothing is placed */

enum { NUMA_NOTE = 128 };

/* The nodes for a team of so many threads. NULL where there is one; where several can't be told
 * apart, note says why, else it is "". */
struct numa *numa_open(size_t threads, char note[NUMA_NOTE]);
/* What a folder like /sys/devices/system/node says about nodes, for threads that may run on these
 * CPUs. It counts nodes that have memory, such CPUs, and get a thread. */
struct numa *numa_read(const char *folder, const cpu_set_t *allowed, size_t threads,
                       char note[NUMA_NOTE]);
void numa_close(struct numa *numa);

size_t numa_nodes(const struct numa *numa);            /* at least 1 */
int numa_number(const struct numa *numa, size_t node); /* as Linux numbers it */
size_t numa_node(const struct numa *numa, size_t thread);
const cpu_set_t *numa_cpus(const struct numa *numa, size_t node);
/* Of n things, the first that is a node's; of node numa_nodes(): n. Of threads, its first one. */
size_t numa_start(const struct numa *numa, size_t n, size_t node);

/* The whole pages in memory[0..bytes) are to lie on a node: those that have been touched move. */
void numa_place(const struct numa *numa, size_t node, void *memory, size_t bytes);
/* The same for memory that is a file's: it is read now. */
void numa_place_mapped(const struct numa *numa, size_t node, void *memory, size_t bytes);

/* Calls fn(arg) with this thread on a node's CPUs. */
void numa_run(const struct numa *numa, size_t node, void (*fn)(void *arg), void *arg);

#endif
