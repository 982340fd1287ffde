/* SPDX-License-Identifier: MIT */
/* folder.h: what is in the folders of the cache. */
#ifndef HUB_FOLDER_H
#define HUB_FOLDER_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/stat.h>

typedef int folder_fn(void *arg, const char *folder, const char *name);

/* Calls each(arg, folder, name) for every entry; stops at non-zero and returns it. A missing folder
 * counts as empty. */
int folder_each(const char *folder, folder_fn *each, void *arg);
/* The same for root/name. */
int folder_each_in(const char *root, const char *name, folder_fn *each, void *arg);

/* stat() of folder/name. */
bool folder_stat(const char *folder, const char *name, struct stat *st);

/* The number of links to a blob in a repository's snapshots. name (may be NULL): the name of one,
 * or the blob's if there is none. */
size_t folder_links(const char *repository, const char *blob, char *name, size_t size);

#endif
