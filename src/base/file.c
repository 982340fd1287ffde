/* SPDX-License-Identifier: MIT */
/* file.c: reading files, and how much memory there is to read them into. */
#include "config.h" /* madvise */

#include "base/file.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/utsname.h>
#include <unistd.h>

#include "base/cgroup.h"
#include "base/guard.h"
#include "base/size.h"

/* The size of a regular file that is open; anything else is refused. */
static int check_regular(int fd, const char *path, size_t *size, struct llama3_error *err)
{
    struct stat st;
    if (fstat(fd, &st) != 0)
        return error_system(err, path);
    if (!S_ISREG(st.st_mode))
        return error_set(err, LLAMA3_EIO, "%s: expected a regular file, found %s", path,
                         S_ISDIR(st.st_mode) ? "a directory" : "a special file");
    if ((uint64_t)st.st_size > SIZE_MAX - 1)
        return error_set(err, LLAMA3_EIO, "%s: too large for this machine's addresses", path);
    *size = (size_t)st.st_size;
    return 0;
}

/* A descriptor of a regular file and its size, or -1. *missing as in file_read(). */
static int open_regular(const char *path, size_t *size, bool *missing, struct llama3_error *err)
{
    /* O_NONBLOCK: a FIFO in the place of a file must be refused, not waited for. */
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0) {
        if (missing != NULL && (errno == ENOENT || errno == ENOTDIR)) {
            *missing = true;
            return -1;
        }
        return error_system(err, path);
    }
    if (check_regular(fd, path, size, err) == 0)
        return fd;
    close(fd);
    return -1;
}

FILE *file_open(const char *path, size_t *size, struct llama3_error *err)
{
    int fd = open_regular(path, size, NULL, err);
    FILE *file = fd >= 0 ? fdopen(fd, "r") : NULL;
    if (fd >= 0 && file == NULL) {
        error_set(err, LLAMA3_EIO, "%s: %s", path, strerror(errno));
        close(fd);
    }
    return file;
}

int map_descriptor(struct map *map, int fd, const char *path, struct llama3_error *err)
{
    size_t size = 0;
    *map = (struct map){0};
    if (check_regular(fd, path, &size, err) != 0)
        return -1;
    if (size == 0)
        return 0;
    void *data = mmap(NULL, size, PROT_READ, MAP_PRIVATE, fd, 0);
    if (data == MAP_FAILED)
        return error_set(err, LLAMA3_EIO, "%s: can't map %zu bytes: %s", path, size,
                         strerror(errno));
    *map = (struct map){.data = data, .size = size, .of_file = true};
    map->guard = guard_add(data, size, path);
    if (map->guard != NULL)
        return 0;
    map_close(map);
    return error_memory(err, path, strlen(path));
}

int map_open(struct map *map, const char *path, struct llama3_error *err)
{
    size_t size = 0;
    *map = (struct map){0};
    int fd = open_regular(path, &size, NULL, err);
    if (fd < 0)
        return -1;
    int result = map_descriptor(map, fd, path, err);
    close(fd);
    return result;
}

void map_close(struct map *map)
{
    guard_remove(map->guard);
    if (map->data != NULL)
        munmap((void *)(uintptr_t)map->data, map->size);
    *map = (struct map){0};
}

const char *map_path(const struct map *map)
{
    return map->guard != NULL ? guard_path(map->guard) : "";
}

int map_check(const struct map *map, struct llama3_error *err)
{
    return guard_check(map->guard, err);
}

/* Whole pages only: all that the part touches, or all that it covers. */
static int advise(const struct map *map, const uint8_t *begin, size_t n, int advice, bool touched)
{
    uintptr_t page = (uintptr_t)sysconf(_SC_PAGESIZE), from = (uintptr_t)begin, to = from + n;
    uintptr_t first = (uintptr_t)map->data, last = first + map->size;
    from = from < first ? first : from;
    to = to > last ? last : to;
    if (map->data == NULL || from >= to)
        return 0;
    from = (from + (touched ? 0 : page - 1)) / page * page;
    to = (to + (touched ? page - 1 : 0)) / page * page;
    return from < to ? madvise((void *)from, to - from, advice) : 0;
}

void map_want(const struct map *map, const uint8_t *begin, size_t n)
{
    advise(map, begin, n, MADV_WILLNEED, true);
}

void map_drop(const struct map *map, const uint8_t *begin, size_t n)
{
    if (map->of_file)
        advise(map, begin, n, MADV_DONTNEED, false);
}

/* Linux does so since 5.18. An earlier one would take MADV_RANDOM to mean a page at a time. */
static bool reads_huge_pages(void)
{
    struct utsname name;
    int major, minor;
    return uname(&name) == 0 && sscanf(name.release, "%d.%d", &major, &minor) == 2 &&
           (major > 5 || (major == 5 && minor >= 18));
}

void map_ask_huge(const struct map *map, const uint8_t *begin, size_t n)
{
#ifdef MADV_HUGEPAGE
    if (!map->of_file || !reads_huge_pages())
        return;
    advise(map, begin, n, MADV_HUGEPAGE, true);
    /* One at a time: where threads that read ahead overlap, they leave small ones. */
    advise(map, begin, n, MADV_RANDOM, true);
#endif
}

void map_fill(const struct map *map, const uint8_t *begin, size_t n)
{
#ifdef MADV_POPULATE_READ
    if (advise(map, begin, n, MADV_POPULATE_READ, true) == 0 || errno != EINVAL)
        return;
#endif
    map_want(map, begin, n);
}

/* The kB of a line of smaps, in bytes; 0: it is of another key. */
static uint64_t smaps_bytes(const char *line, const char *key)
{
    uint64_t kib;
    size_t n = strlen(key);
    return strncmp(line, key, n) == 0 && sscanf(line + n, ": %" SCNu64, &kib) == 1 ? kib * 1024 : 0;
}

bool map_pages(const struct map *map, struct map_pages *pages)
{
    uintptr_t first = (uintptr_t)map->data, from, to;
    char line[512];
    bool inside = false, any = false;
    *pages = (struct map_pages){0};
    FILE *file = map->size > 0 ? fopen("/proc/self/smaps", "re") : NULL;
    while (file != NULL && fgets(line, sizeof line, file) != NULL) {
        if (sscanf(line, "%" SCNxPTR "-%" SCNxPTR " ", &from, &to) == 2) {
            inside = from < first + map->size && to > first;
            any |= inside;
        } else if (inside) {
            pages->bytes += smaps_bytes(line, "Rss");
            pages->own += smaps_bytes(line, "Pss");
            pages->huge += smaps_bytes(line, "FilePmdMapped");
        }
    }
    if (file != NULL)
        fclose(file);
    return any;
}

/* Fills text[0..size); fails if the file has fewer bytes by now. */
static int read_all(int fd, char *text, size_t size, const char *path, struct llama3_error *err)
{
    for (size_t at = 0; at < size;) {
        ssize_t n = read(fd, text + at, size - at);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return error_system(err, path);
        if (n == 0)
            return error_set(err, LLAMA3_EIO, "%s: expected %zu bytes, found %zu", path, size, at);
        at += (size_t)n;
    }
    return 0;
}

char *file_read(const char *path, size_t max, size_t *size, bool *missing, struct llama3_error *err)
{
    size_t n = 0;
    if (missing != NULL)
        *missing = false;
    int fd = open_regular(path, &n, missing, err);
    if (fd < 0)
        return NULL;

    char *text = NULL;
    if (n > max) {
        error_input(err, "%s: expected at most %zu bytes, found %zu", path, max, n);
    } else if ((text = malloc(n + 1)) == NULL) {
        error_memory(err, path, n + 1);
    } else if (read_all(fd, text, n, path, err) != 0) {
        free(text);
        text = NULL;
    } else {
        text[n] = '\0';
        *size = n;
    }
    close(fd);
    return text;
}

/* The number in a file that holds nothing else; false if there is none ("max"). */
static bool read_number(const char *path, uint64_t *out)
{
    FILE *file = fopen(path, "re");
    if (file == NULL)
        return false;
    bool ok = fscanf(file, "%" SCNu64, out) == 1;
    fclose(file);
    return ok;
}

/* Bytes of page cache that the kernel takes back first: files read once, by a cgroup's memory.stat.
 * 0 if it doesn't say. */
static uint64_t inactive_file(const char *folder, bool v2)
{
    const char *key = v2 ? "inactive_file" : "total_inactive_file";
    char path[4352], line[256], name[64];
    uint64_t found = 0, bytes;
    snprintf(path, sizeof path, "%s/memory.stat", folder);
    FILE *file = fopen(path, "re");
    if (file == NULL)
        return 0;
    while (found == 0 && fgets(line, sizeof line, file) != NULL)
        if (sscanf(line, "%63s %" SCNu64, name, &bytes) == 2 && strcmp(name, key) == 0)
            found = bytes;
    fclose(file);
    return found;
}

bool memory_of_cgroup(const char *folder, bool v2, uint64_t *bytes)
{
    char path[4352];
    uint64_t limit, used;
    snprintf(path, sizeof path, "%s/%s", folder, v2 ? "memory.max" : "memory.limit_in_bytes");
    if (!read_number(path, &limit))
        return false;
    snprintf(path, sizeof path, "%s/%s", folder, v2 ? "memory.current" : "memory.usage_in_bytes");
    if (!read_number(path, &used))
        return false;
    uint64_t cache = inactive_file(folder, v2);
    used = used > cache ? used - cache : 0;
    *bytes = limit > used ? limit - used : 0;
    return true;
}

struct available {
    uint64_t bytes;
    bool known;
};

static void take(struct available *least, uint64_t bytes)
{
    if (!least->known || bytes < least->bytes)
        *least = (struct available){bytes, true};
}

static void take_cgroup(void *arg, const char *folder, bool v2)
{
    uint64_t bytes;
    if (memory_of_cgroup(folder, v2, &bytes))
        take(arg, bytes);
}

bool memory_available(uint64_t *bytes)
{
    struct available least = {0};
    FILE *file = fopen("/proc/meminfo", "re");
    uint64_t kib;
    char line[256];
    while (file != NULL && fgets(line, sizeof line, file) != NULL)
        if (sscanf(line, "MemAvailable: %" SCNu64 " kB", &kib) == 1)
            take(&least, kib * 1024);
    if (file != NULL)
        fclose(file);
    cgroup_each("memory", take_cgroup, &least);
    *bytes = least.bytes;
    return least.known;
}
