/* SPDX-License-Identifier: MIT */
/*
 * partial.h: a new file that outlives the program which makes it. Until it is committed it lies
 * beside its own name as NAME.partial, and two records behind its end say, in turn, how far it is
 * made: whatever ends the program, another run goes on from there.
 *
 * A record counts if its checksum and that of the bytes that it speaks of are right, and it has the
 * key of this run: a digest of all that the file's bytes depend on. It is written when these bytes,
 * and the record before it, are on disk. Any other file of that name gives way to a new one; so
 * does one that somebody else owns, has another name for, or can write to, and a symbolic link.
 */
#ifndef BASE_PARTIAL_H
#define BASE_PARTIAL_H

#include <stdbool.h>

#include "base/new_file.h"

enum { PARTIAL_KEY = 32, PARTIAL_STATE = 1024 };

/* As new_file_open(), and _private() as that; file->kept says how many bytes there are already. One
 * run at a time makes a file: another one is refused. */
int partial_open(struct new_file *file, const char *path, const uint8_t key[PARTIAL_KEY],
                 struct llama3_error *err);
int partial_open_private(struct new_file *file, const char *path, const uint8_t key[PARTIAL_KEY],
                         struct llama3_error *err);

/* What was given to the mark that the file goes on from; false if it begins. */
bool partial_state(const struct new_file *file, void *state, size_t n);

/* All that was written so far is good: a later run goes on from here, with this state of n bytes,
 * at most PARTIAL_STATE. The file's room has been reserved. */
int partial_mark(struct new_file *file, const void *state, size_t n, struct llama3_error *err);
/* The last mark is on disk, as those before it are: what was marked survives a loss of power. */
int partial_settle(struct new_file *file, struct llama3_error *err);
/* Nothing of it is good. */
void partial_forget(struct new_file *file);

/* Closes the file: it stays, and the result is true, if a later run can go on with it; else it is
 * abandoned. Fine on a new file of another kind. */
bool partial_close(struct new_file *file);

#endif
