/* SPDX-License-Identifier: MIT */
/*
 * partial.h: a new file that survives an interrupted run. Until it is committed it is NAME.partial,
 * beside its final name. Two records after its end take turns saying how far it is made. Whatever
 * ends a run, the next one goes on from there.
 *
 * A record counts if its checksum and that of the bytes it covers are right, and if it has this
 * run's key: a digest of everything that the file's bytes depend on. It is written once those
 * bytes, and the record before it, are on disk. Any other file of that name is replaced. So is a
 * symbolic link, and a file that somebody else owns, can write to, or has a second name for.
 */
#ifndef BASE_PARTIAL_H
#define BASE_PARTIAL_H

#include <stdbool.h>

#include "base/new_file.h"

enum { PARTIAL_KEY = 32, PARTIAL_STATE = 1024 };

/* As new_file_open(). file->kept: bytes that an earlier run made. Only one run at a time may make a
 * file; a second one is refused. */
int partial_open(struct new_file *file, const char *path, mode_t mode,
                 const uint8_t key[PARTIAL_KEY], struct llama3_error *err);

/* The state of the mark from which the file goes on; false if it starts anew. */
bool partial_state(const struct new_file *file, void *state, size_t n);

/* Records that everything written so far is good. A later run goes on from here, with this state of
 * n <= PARTIAL_STATE bytes. The file's size has been reserved. */
int partial_mark(struct new_file *file, const void *state, size_t n, struct llama3_error *err);
/* Syncs the last mark; earlier ones are on disk already. What is marked survives a power cut. */
int partial_settle(struct new_file *file, struct llama3_error *err);
/* Discards all marks: nothing of the file is good. */
void partial_forget(struct new_file *file);

/* Closes the file. If a later run can go on with it, it stays and the result is true; else it is
 * abandoned. Fine on any new file. */
bool partial_close(struct new_file *file);

#endif
