/* SPDX-License-Identifier: MIT */
#include "config.h" /* lstat, readlink */

#include "hub/folder.h"

#include <dirent.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/path.h"

int folder_each(const char *folder, folder_fn *each, void *arg)
{
    DIR *dir = opendir(folder);
    int result = 0;
    if (dir == NULL)
        return 0;
    for (struct dirent *entry; result == 0 && (entry = readdir(dir)) != NULL;)
        if (strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0)
            result = each(arg, folder, entry->d_name);
    closedir(dir);
    return result;
}

int folder_each_in(const char *root, const char *name, folder_fn *each, void *arg)
{
    char *folder = path_join(root, name, NULL);
    int result = folder != NULL ? folder_each(folder, each, arg) : 0;
    free(folder);
    return result;
}

bool folder_stat(const char *folder, const char *name, struct stat *st)
{
    char path[PATH_MAX];
    return snprintf(path, sizeof path, "%s/%s", folder, name) < (int)sizeof path &&
           stat(path, st) == 0;
}

/* ---- the names of a blob --------------------------------------------------------------------- */

/* Looks for a link to a blob; found: its path below snapshots/COMMIT/. */
struct link_search {
    const char *blob;
    const char *below; /* the folder in the snapshot, "" at its top */
    char found[600];
    size_t links;
};

static int look_at(void *arg, const char *folder, const char *name)
{
    struct link_search *search = arg;
    char path[PATH_MAX], target[PATH_MAX];
    struct stat st;
    if (snprintf(path, sizeof path, "%s/%s", folder, name) >= (int)sizeof path ||
        lstat(path, &st) != 0)
        return 0;
    if (S_ISDIR(st.st_mode)) {
        const char *below = search->below;
        search->below = name;
        folder_each(path, look_at, search);
        search->below = below;
        return 0;
    }
    ssize_t n = S_ISLNK(st.st_mode) ? readlink(path, target, sizeof target - 1) : 0;
    target[n > 0 ? n : 0] = '\0';
    if (n <= 0 || !path_ends_with(target, search->blob))
        return 0;
    search->links++;
    snprintf(search->found, sizeof search->found, "%.250s%s%.250s", search->below,
             search->below[0] != '\0' ? "/" : "", name);
    return 0;
}

static int look_in_snapshot(void *arg, const char *folder, const char *name)
{
    return folder_each_in(folder, name, look_at, arg);
}

size_t folder_links(const char *repository, const char *blob, char *name, size_t size)
{
    struct link_search search = {.blob = blob, .below = ""};
    snprintf(search.found, sizeof search.found, "%.100s", blob);
    folder_each_in(repository, "snapshots", look_in_snapshot, &search);
    if (name != NULL)
        snprintf(name, size, "%s", search.found);
    return search.links;
}
