/* SPDX-License-Identifier: MIT */
#include "config.h"

#include "base/numa.h"

#include <errno.h>
#include <limits.h>
#include <linux/mempolicy.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/size.h"

enum { MOST_NODES = 64, MASK_BITS = 1024, WORD_BITS = CHAR_BIT * sizeof(unsigned long) };

struct numa {
    size_t n, threads;
    struct {
        int number;
        cpu_set_t cpus;
        size_t first; /* thread */
    } nodes[MOST_NODES + 1];
};

/* ---- what there is --------------------------------------------------------------------------- */

/* A list as "0-3,8", of numbers below CPU_SETSIZE; empty if the file can't be read. */
static void read_list(const char *folder, const char *name, cpu_set_t *set)
{
    char path[4352], text[4096] = "";
    CPU_ZERO(set);
    snprintf(path, sizeof path, "%s/%s", folder, name);
    FILE *file = fopen(path, "re");
    if (file == NULL)
        return;
    if (fgets(text, sizeof text, file) == NULL)
        text[0] = '\0';
    fclose(file);
    for (char *at = text; *at >= '0' && *at <= '9';) {
        unsigned long first = strtoul(at, &at, 10), last = first;
        if (*at == '-')
            last = strtoul(at + 1, &at, 10);
        for (; first <= last && first < CPU_SETSIZE; first++)
            CPU_SET(first, set);
        at += *at == ',';
    }
}

/* The CPUs that have memory of their own, and how many nodes get a thread. */
static void add_nodes(struct numa *numa, const char *folder, const cpu_set_t *allowed)
{
    cpu_set_t nodes, cpus;
    char name[64];
    read_list(folder, "has_memory", &nodes);
    for (int i = 0; i < CPU_SETSIZE && numa->n < MOST_NODES; i++) {
        if (!CPU_ISSET((size_t)i, &nodes))
            continue;
        snprintf(name, sizeof name, "node%d/cpulist", i);
        read_list(folder, name, &cpus);
        CPU_AND(&cpus, &cpus, allowed);
        if (CPU_COUNT(&cpus) == 0)
            continue;
        numa->nodes[numa->n].number = i;
        numa->nodes[numa->n++].cpus = cpus;
    }
}

/* Threads by CPUs; a node that gets none is left out. Returns the number of CPUs. */
static size_t spread_threads(struct numa *numa)
{
    size_t cpus = 0, before = 0, kept = 0;
    for (size_t i = 0; i < numa->n; i++)
        cpus += (size_t)CPU_COUNT(&numa->nodes[i].cpus);
    for (size_t i = 0; i < numa->n; i++) {
        size_t first = numa->threads * before / cpus;
        before += (size_t)CPU_COUNT(&numa->nodes[i].cpus);
        if (first == numa->threads * before / cpus)
            continue;
        numa->nodes[kept] = numa->nodes[i];
        numa->nodes[kept++].first = first;
    }
    numa->n = kept;
    numa->nodes[kept].first = numa->threads;
    return cpus;
}

struct numa *numa_read(const char *folder, const cpu_set_t *allowed, size_t threads,
                       char note[NUMA_NOTE])
{
    struct numa *numa = size_alloc(1, sizeof *numa);
    note[0] = '\0';
    if (numa == NULL)
        return NULL;
    numa->threads = threads;
    add_nodes(numa, folder, allowed);
    if (spread_threads(numa) != (size_t)CPU_COUNT(allowed) && numa->n > 1) {
        snprintf(note, NUMA_NOTE, "some CPUs have no memory of their own");
        numa->n = 1;
    }
    if (numa->n > 1)
        return numa;
    free(numa);
    return NULL;
}

/* ---- placing --------------------------------------------------------------------------------- */

/* A set of one node, as Linux takes it. */
struct node_mask {
    unsigned long words[MASK_BITS / WORD_BITS];
};

static struct node_mask mask_of(const struct numa *numa, size_t node)
{
    struct node_mask mask = {{0}};
    size_t number = (size_t)numa->nodes[node].number;
    mask.words[number / WORD_BITS] = 1UL << number % WORD_BITS;
    return mask;
}

/* Preferred, so that a node that is full is no error. */
static long bind_pages(const struct numa *numa, size_t node, void *memory, size_t bytes)
{
    struct node_mask mask = mask_of(numa, node);
    return syscall(SYS_mbind, memory, bytes, MPOL_PREFERRED, mask.words, MASK_BITS + 1,
                   MPOL_MF_MOVE);
}

/* Whether memory can be placed; else note says why. */
static bool can_place(const struct numa *numa, char note[NUMA_NOTE])
{
    size_t bytes = (size_t)sysconf(_SC_PAGESIZE);
    int policy = MPOL_DEFAULT;
    if (syscall(SYS_get_mempolicy, &policy, NULL, 0, NULL, 0) == 0 && policy != MPOL_DEFAULT) {
        snprintf(note, NUMA_NOTE, "the process was started with a memory policy of its own");
        return false;
    }
    void *page = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (page == MAP_FAILED)
        return false;
    for (size_t i = 0; i < numa->n && note[0] == '\0'; i++)
        if (bind_pages(numa, i, page, bytes) != 0)
            snprintf(note, NUMA_NOTE, "mbind to node %d: %s", numa->nodes[i].number,
                     strerror(errno));
    munmap(page, bytes);
    return note[0] == '\0';
}

struct numa *numa_open(size_t threads, char note[NUMA_NOTE])
{
    cpu_set_t allowed;
    note[0] = '\0';
    if (sched_getaffinity(0, sizeof allowed, &allowed) != 0)
        return NULL;
    struct numa *numa = numa_read("/sys/devices/system/node", &allowed, threads, note);
    if (numa == NULL || can_place(numa, note))
        return numa;
    free(numa);
    return NULL;
}

void numa_close(struct numa *numa)
{
    free(numa);
}

void numa_place(const struct numa *numa, size_t node, void *memory, size_t bytes)
{
    uintptr_t page = (uintptr_t)sysconf(_SC_PAGESIZE);
    uintptr_t first = ((uintptr_t)memory + page - 1) / page * page;
    uintptr_t end = ((uintptr_t)memory + bytes) / page * page;
    if (numa != NULL && first < end)
        bind_pages(numa, node, (char *)memory + (first - (uintptr_t)memory), end - first);
}

void numa_place_mapped(const struct numa *numa, size_t node, void *memory, size_t bytes)
{
    if (numa == NULL)
        return;
    struct node_mask mask = mask_of(numa, node);
    char *from = memory;
#ifdef MADV_POPULATE_READ
    /* What isn't in memory yet comes to where this thread wants its own; what is has to be mapped
     * before it can move. */
    uintptr_t before = (uintptr_t)memory % (uintptr_t)sysconf(_SC_PAGESIZE);
    syscall(SYS_set_mempolicy, MPOL_PREFERRED, mask.words, MASK_BITS + 1);
    madvise(from - before, bytes + before, MADV_POPULATE_READ);
    syscall(SYS_set_mempolicy, MPOL_DEFAULT, NULL, 0);
#endif
    numa_place(numa, node, from, bytes);
}

/* ---- threads --------------------------------------------------------------------------------- */

size_t numa_nodes(const struct numa *numa)
{
    return numa != NULL ? numa->n : 1;
}

int numa_number(const struct numa *numa, size_t node)
{
    return numa->nodes[node].number;
}

size_t numa_node(const struct numa *numa, size_t thread)
{
    size_t node = 0;
    while (numa != NULL && thread >= numa->nodes[node + 1].first)
        node++;
    return node;
}

const cpu_set_t *numa_cpus(const struct numa *numa, size_t node)
{
    return &numa->nodes[node].cpus;
}

size_t numa_start(const struct numa *numa, size_t n, size_t node)
{
    if (numa == NULL)
        return node == 0 ? 0 : n;
    return n * numa->nodes[node].first / numa->threads;
}

void numa_run(const struct numa *numa, size_t node, void (*fn)(void *arg), void *arg)
{
    cpu_set_t before;
    bool moved = numa != NULL && sched_getaffinity(0, sizeof before, &before) == 0 &&
                 sched_setaffinity(0, sizeof before, &numa->nodes[node].cpus) == 0;
    fn(arg);
    if (moved)
        sched_setaffinity(0, sizeof before, &before);
}
