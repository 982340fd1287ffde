/* SPDX-License-Identifier: MIT */
#include "config.h"

#include "nodes.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <check.h>

static void write_text(const char *folder, const char *name, const char *text)
{
    char path[256];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    FILE *file = fopen(path, "w");
    ck_assert_ptr_nonnull(file);
    fprintf(file, "%s\n", text);
    fclose(file);
}

struct numa *numa_invented(const struct machine *machine, const char *allowed_cpus, size_t threads,
                           char note[NUMA_NOTE])
{
    char folder[] = "/tmp/llama3-numa-XXXXXX", name[300];
    cpu_set_t allowed;
    CPU_ZERO(&allowed);
    for (const char *at = allowed_cpus; *at != '\0'; at++)
        CPU_SET((size_t)(*at - '0'), &allowed);
    ck_assert_ptr_nonnull(mkdtemp(folder));
    if (machine->has_memory != NULL)
        write_text(folder, "has_memory", machine->has_memory);
    for (int i = 0; i < MOST_LISTS && machine->cpus[i] != NULL; i++) {
        snprintf(name, sizeof name, "%s/node%d", folder, i);
        ck_assert_int_eq(mkdir(name, 0700), 0);
        write_text(name, "cpulist", machine->cpus[i]);
    }
    struct numa *numa = numa_read(folder, &allowed, threads, note);
    for (int i = 0; i < MOST_LISTS && machine->cpus[i] != NULL; i++) {
        snprintf(name, sizeof name, "%s/node%d/cpulist", folder, i);
        unlink(name);
        *strrchr(name, '/') = '\0';
        rmdir(name);
    }
    snprintf(name, sizeof name, "%s/has_memory", folder);
    unlink(name);
    ck_assert_int_eq(rmdir(folder), 0);
    return numa;
}
