/* SPDX-License-Identifier: MIT */
/* path.h: paths put together and taken apart. */
#ifndef BASE_PATH_H
#define BASE_PATH_H

#include <stdbool.h>

#include "base/error.h"

/* "folder/name" for free(); NULL without memory. */
char *path_join(const char *folder, const char *name, struct llama3_error *err);
/* The same with a folder that is freed; NULL if that is NULL. */
char *path_append(char *folder, const char *name, struct llama3_error *err);
/* The first n bytes of a path, for free(); the same. */
char *path_copy(const char *path, size_t n, struct llama3_error *err);
/* The folder of a file as path_join() takes it, for free(): "a/" of "a/b", "" of "b". */
char *path_folder(const char *path, struct llama3_error *err);

/* Like mkdir -p with the mode of new folders. Links are followed. */
int path_make_folders(const char *path, unsigned mode, struct llama3_error *err);

/* -1 for a caller's path that is NULL or empty. what: which one, for the error. */
int path_check(const char *path, const char *what, struct llama3_error *err);

/* Whether a path, or any text, ends in another. */
bool path_ends_with(const char *path, const char *suffix);

/* Whether there is such a file or folder, links followed. */
bool path_exists(const char *path);
bool path_exists_in(const char *folder, const char *name);

#endif
