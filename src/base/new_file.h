/* SPDX-License-Identifier: MIT */
/*
 * new_file.h: files as they are written: whole or not at all. Until it is committed a new file has
 * no name, or, where the file system can't do that, a temporary one beside its own; what was there
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
    mode_t mode;     /* what it will have: that file's, or what it is created with */
    uint64_t size;   /* written so far */
    uint64_t needed; /* as reserved; 0: not known */
    /* Of a file that outlives who makes it; else NULL and 0. */
    struct partial *partial;
    uint64_t kept; /* bytes that are there already */
    uint64_t tail; /* bytes that are reserved behind the others, and go when it is committed */
};

/* Begins the file that will be, or replace, path: a regular file or nothing. Of a symbolic link it
 * is what the link stands for. Who may read and write what was there may do so with the new one. */
int new_file_open(struct new_file *file, const char *path, struct llama3_error *err);

/* The same, but a file that wasn't there is its owner's alone: mode 0600, whatever the umask. */
int new_file_open_private(struct new_file *file, const char *path, struct llama3_error *err);

/* Begins a file that never gets a name and is gone with its last descriptor and mapping: in
 * $TMPDIR, or, where that is not set, in /var/tmp or /tmp, which errors name. */
int new_file_open_unnamed(struct new_file *file, struct llama3_error *err);

/* Asks for room for `size` bytes, now rather than at the last of them. */
int new_file_reserve(struct new_file *file, uint64_t size, struct llama3_error *err);
/* The next bytes. Those that are kept are the same ones, and are not written again. */
int new_file_write(struct new_file *file, const void *bytes, size_t n, struct llama3_error *err);

/* Whether the next n bytes are kept; and these bytes, which new_file_write() then passes over. */
bool new_file_keeps(const struct new_file *file, size_t n);
int new_file_read(const struct new_file *file, void *bytes, size_t n, struct llama3_error *err);

/* What was reserved beyond what was written goes, as it does when the file is committed. */
int new_file_trim(struct new_file *file, struct llama3_error *err);

/* The folder that a path is in is on disk, and so is the path's name: -1 with errno. Some file
 * systems can't say, which is no failure. */
int new_file_sync_folder(const char *path);

/* For partial.h: all of opening it but the file. */
int new_file_begin(struct new_file *file, const char *path, mode_t mode, struct llama3_error *err);

/* On disk, under its name. Whatever it returns, the file is closed. */
int new_file_commit(struct new_file *file, struct llama3_error *err);
/* Nothing is left of it; fine on a zeroed, committed or abandoned one. */
void new_file_abandon(struct new_file *file);

#endif
