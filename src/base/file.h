/* SPDX-License-Identifier: MIT */
/* file.h: files as they are read: mapped, or whole up to a limit. */
#ifndef BASE_FILE_H
#define BASE_FILE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"

/* A read-only private mapping of a whole regular file. */
struct map {
    const uint8_t *data; /* [size]; NULL if size is 0 */
    size_t size;
    bool of_file; /* what is dropped can be read again; false: other memory stands for a file */
    struct guard *guard; /* NULL: nothing can be cut from it */
};

/* Errors name the path and what the system said; a directory or another kind of file is refused. */
int map_open(struct map *map, const char *path, struct llama3_error *err);
/* The same of a file that is open, and stays so. */
int map_descriptor(struct map *map, int fd, const char *path, struct llama3_error *err);
void map_close(struct map *map); /* zeroes *map */

/* As it was opened; "": other memory stands for a file. */
const char *map_path(const struct map *map);

/* -1 once something of it could not be read, because the file was cut short (guard.h): what was
 * read since it was opened may be zeros. */
int map_check(const struct map *map, struct llama3_error *err);

/* Hints about the part of n bytes from `begin` that lies in the map, if any does: it will be read
 * next; it won't be for a while, and needn't stay in this process's memory (whole pages only). */
void map_want(const struct map *map, const uint8_t *begin, size_t n);
void map_drop(const struct map *map, const uint8_t *begin, size_t n);

/* A whole file in memory, NUL-terminated besides its size, of at most max bytes. Freed by free().
 * *missing (may be NULL): set if the file does not exist, which then is no error: NULL is returned
 * with err untouched. */
char *file_read(const char *path, size_t max, size_t *size, bool *missing,
                struct llama3_error *err);

/* Bytes of memory that could be had now without swapping: the smaller of MemAvailable and what the
 * limits of this process's cgroups leave. False, and *bytes 0, if neither is known. */
bool memory_available(uint64_t *bytes);

/* Bytes that the limit in a cgroup's folder leaves; false if it has no limit. Cached pages of files
 * that the kernel would drop first count as free, as in MemAvailable: otherwise reading or
 * downloading a model would seem to use up the memory of a container. */
bool memory_of_cgroup(const char *folder, bool v2, uint64_t *bytes);

#endif
