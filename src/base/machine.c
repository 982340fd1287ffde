/* SPDX-License-Identifier: MIT */
#include "config.h" /* dl_iterate_phdr, sched_getaffinity */

#include "base/machine.h"

#include <link.h>
#include <sched.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#include "base/cgroup.h"
#include "base/hex.h"

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

int threads_chosen(int given, int *threads, struct llama3_error *err)
{
    if (given < 0 || given > MAX_THREADS)
        return error_input(err, "threads: expected 0 (all cores) to %d, found %d", MAX_THREADS,
                           given);
    *threads = given > 0 ? given : processors_available();
    return 0;
}

/* The build ID among the notes of a segment. */
static void find_build_id(const char *at, size_t size, char out[BUILD_ID_SIZE])
{
    ElfW(Nhdr) note;
    while (size >= sizeof note) {
        memcpy(&note, at, sizeof note);
        size_t name = (note.n_namesz + 3U) & ~3U, desc = (note.n_descsz + 3U) & ~3U;
        const char *bytes = at + sizeof note + name;
        if (size - sizeof note < name || size - sizeof note - name < desc)
            return;
        if (note.n_type == NT_GNU_BUILD_ID && note.n_descsz <= (BUILD_ID_SIZE - 1) / 2)
            hex_text((const uint8_t *)bytes, note.n_descsz, out);
        at = bytes + desc;
        size -= sizeof note + name + desc;
    }
}

/* Of the object that has this code in one of its segments. */
static int look_at_object(struct dl_phdr_info *object, size_t size, void *out)
{
    uintptr_t here = (uintptr_t)&find_build_id - object->dlpi_addr;
    bool found = false;
    (void)size;
    for (size_t i = 0; i < object->dlpi_phnum; i++) {
        const ElfW(Phdr) *segment = &object->dlpi_phdr[i];
        found |= segment->p_type == PT_LOAD && here - segment->p_vaddr < segment->p_memsz;
    }
    for (size_t i = 0; found && i < object->dlpi_phnum; i++) {
        const ElfW(Phdr) *segment = &object->dlpi_phdr[i];
        if (segment->p_type == PT_NOTE)
            find_build_id((const char *)object->dlpi_addr + segment->p_vaddr, segment->p_memsz,
                          out);
    }
    return found;
}

const char *build_id(char out[BUILD_ID_SIZE])
{
    out[0] = '\0';
    dl_iterate_phdr(look_at_object, out);
    return out;
}
