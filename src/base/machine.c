/* SPDX-License-Identifier: MIT */
#include "config.h" /* sched_getaffinity */

#include "base/machine.h"

#include <sched.h>
#include <stdbool.h>
#include <stdio.h>

#include "base/cgroup.h"

int processors_of_quota(const char *text)
{
    long long quota, period;
    if (sscanf(text, "%lld %lld", &quota, &period) != 2 || quota <= 0 || period <= 0)
        return MAX_THREADS;
    long long n = quota / period + (quota % period > 0);
    return n < MAX_THREADS ? (int)n : MAX_THREADS;
}

/* *arg: the smallest so far. */
static void take_quota(void *arg, const char *folder, bool v2)
{
    char path[4352], text[64];
    int *least = arg, n = MAX_THREADS;
    snprintf(path, sizeof path, "%s/cpu.max", folder);
    FILE *file = v2 ? fopen(path, "re") : NULL;
    if (file == NULL)
        return;
    if (fgets(text, sizeof text, file) != NULL)
        n = processors_of_quota(text);
    fclose(file);
    *least = n < *least ? n : *least;
}

int processors_available(void)
{
    cpu_set_t set;
    int most = MAX_THREADS;
    if (sched_getaffinity(0, sizeof set, &set) < 0)
        return 1;
    int n = CPU_COUNT(&set);
    cgroup_each("cpu", take_quota, &most);
    n = n < most ? n : most;
    return n < 1 ? 1 : n;
}
