/* SPDX-License-Identifier: MIT */
/* file.h: files as they are read: mapped, or whole up to a limit. */
#ifndef BASE_FILE_H
#define BASE_FILE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include "base/error.h"

/* A read-only private mapping of a whole regular file. */
struct map {
    const uint8_t *data; /* [size]; NULL if size is 0 */
    size_t size;
    bool of_file;        /* dropped pages can be read again; false: the memory is no file's */
    struct guard *guard; /* NULL: nothing can be cut from it */
};

/* Errors name the path and what the system said; a directory or another kind of file is refused. */
int map_open(struct map *map, const char *path, struct llama3_error *err);
/* The same for an open descriptor, which stays open. */
int map_descriptor(struct map *map, int fd, const char *path, struct llama3_error *err);
void map_close(struct map *map); /* zeroes *map */

/* The path it was opened by; "" for memory that stands in for a file. */
const char *map_path(const struct map *map);

/* -1 once a page could not be read because the file was cut short (guard.h). What was read since it
 * was opened may be zeros. */
int map_check(const struct map *map, struct llama3_error *err);

/* Hints about the n bytes from `begin`, as far as they lie in the map. map_want(): they will be
 * read next. map_drop(): they will not be read for a while, and may leave this process's memory
 * (whole pages only). */
void map_want(const struct map *map, const uint8_t *begin, size_t n);
void map_drop(const struct map *map, const uint8_t *begin, size_t n);
/* The file's pages there are to be huge ones, where the system can have such when it reads them. */
void map_ask_huge(const struct map *map, const uint8_t *begin, size_t n);
/* Reads and maps them; returns once they are there, or can't be read. */
void map_fill(const struct map *map, const uint8_t *begin, size_t n);

/* What is in memory of a map, in bytes. own: counting what n processes have mapped as an nth. */
struct map_pages {
    uint64_t bytes, huge, own;
};
/* False if the system doesn't say. */
bool map_pages(const struct map *map, struct map_pages *pages);

/* Opens a regular file to read it from its beginning; anything else is refused. NULL on failure. */
FILE *file_open(const char *path, size_t *size, struct llama3_error *err);

/* Reads a whole file of at most max bytes. A NUL follows its bytes. Freed by free(). *missing (may
 * be NULL) is set if the file does not exist. That is no error then: NULL is returned and err left
 * alone. */
char *file_read(const char *path, size_t max, size_t *size, bool *missing,
                struct llama3_error *err);

/* Bytes of memory available without swapping: MemAvailable, or what the limits of this process's
 * cgroups leave if that is less. False, and *bytes 0, if neither is known. */
bool memory_available(uint64_t *bytes);

/* Bytes that a cgroup's limit leaves; false if it has none. Page cache that the kernel would drop
 * first counts as free, as in MemAvailable. Otherwise reading or downloading a model would seem to
 * use up a container's memory. */
bool memory_of_cgroup(const char *folder, bool v2, uint64_t *bytes);

#endif
