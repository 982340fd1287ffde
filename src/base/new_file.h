/* SPDX-License-Identifier: MIT */
/*
 * new_file.h: files that appear whole or not at all. Until it is committed a new file has no name,
 * or a temporary one in the same folder where the file system has no unnamed files. What was there
 * before stays untouched.
 */
#ifndef BASE_NEW_FILE_H
#define BASE_NEW_FILE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/error.h"

struct partial; /* partial.h */

enum { NEW_FILE_MODE = 0666, NEW_FILE_PRIVATE = 0600 };

struct new_file {
    int fd;
    char *path;      /* as errors name it */
    char *target;    /* where it will appear; NULL: it never will */
    char *temporary; /* the name it has until then; NULL: none */
    bool replaces;   /* there is a file of that name */
    mode_t mode;     /* its final mode: the replaced file's, or the one it is created with */
    uint64_t size;   /* written so far */
    uint64_t needed; /* as reserved; 0: not known */
    /* Of a partial file (partial.h); else NULL and 0. */
    struct partial *partial;
    uint64_t kept; /* bytes that an earlier run made */
    uint64_t tail; /* bytes reserved after the others; the commit cuts them off */
};

/* Begins a file that will be, or replace, path: a regular file or nothing. A symbolic link is
 * followed. The new file gets the permissions of the one it replaces, or `mode`, of which the umask
 * takes from NEW_FILE_MODE only. */
int new_file_open(struct new_file *file, const char *path, mode_t mode, struct llama3_error *err);

/* Begins a file that never gets a name, and is gone with its last descriptor and mapping. It lies
 * in $TMPDIR, or else in /var/tmp or /tmp; errors name the folder. */
int new_file_open_unnamed(struct new_file *file, struct llama3_error *err);

/* Reserves room for `size` bytes, so that a full disk is noticed now. */
int new_file_reserve(struct new_file *file, uint64_t size, struct llama3_error *err);
/* Writes the next bytes. Those that an earlier run made are the same, and are not written again. */
int new_file_write(struct new_file *file, const void *bytes, size_t n, struct llama3_error *err);

/* Whether an earlier run made the next n bytes; and those bytes, which new_file_write() then
 * skips. */
bool new_file_keeps(const struct new_file *file, size_t n);
int new_file_read(const struct new_file *file, void *bytes, size_t n, struct llama3_error *err);

/* Cuts off what was reserved but not written, as the commit does. */
int new_file_trim(struct new_file *file, struct llama3_error *err);

/* Syncs the folder of a path, so that the name is on disk too. -1 with errno. A file system that
 * cannot sync folders is no failure. */
int new_file_sync_folder(const char *path);

/* For partial.c: opens everything but the file itself. */
int new_file_begin(struct new_file *file, const char *path, mode_t mode, struct llama3_error *err);

/* Syncs the file and gives it its name. The file is closed, whatever this returns. */
int new_file_commit(struct new_file *file, struct llama3_error *err);
/* The same without waiting for the disk: after a power cut the name may be there without the bytes.
 * For what can be made again and has a checksum. */
int new_file_commit_unsynced(struct new_file *file, struct llama3_error *err);
/* Closes and deletes it. Fine on a zeroed, committed or abandoned one. */
void new_file_abandon(struct new_file *file);

#endif
