/* SPDX-License-Identifier: MIT */
#include "base/path.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/buf.h"

char *path_join(const char *folder, const char *name, struct llama3_error *err)
{
    struct buf path = {0};
    size_t n = strlen(folder);
    buf_add(&path, folder, n);
    if (n > 0 && folder[n - 1] != '/')
        buf_add_str(&path, "/");
    buf_add_str(&path, name);
    if (!path.failed)
        return path.data;
    buf_free(&path);
    error_memory(err, "a path", n + strlen(name) + 2);
    return NULL;
}

char *path_append(char *folder, const char *name, struct llama3_error *err)
{
    char *path = folder == NULL ? NULL : path_join(folder, name, err);
    free(folder);
    return path;
}

char *path_copy(const char *path, size_t n, struct llama3_error *err)
{
    char *copy = strndup(path, n);
    if (copy == NULL)
        error_memory(err, "a path", n);
    return copy;
}

char *path_folder(const char *path, struct llama3_error *err)
{
    const char *slash = strrchr(path, '/');
    return path_copy(path, slash != NULL ? (size_t)(slash + 1 - path) : 0, err);
}

int path_make_folders(const char *path, unsigned mode, struct llama3_error *err)
{
    char *copy = path_copy(path, strlen(path), err);
    int result = copy != NULL ? 0 : -1;
    for (char *at = copy; result == 0 && at != NULL; at++) {
        at = strchr(at + 1, '/');
        if (at != NULL)
            *at = '\0';
        if (mkdir(copy, (mode_t)mode) != 0 && errno != EEXIST && !path_exists(copy))
            result = error_system(err, copy);
        if (at == NULL)
            break;
        *at = '/';
    }
    free(copy);
    return result;
}

int path_check(const char *path, const char *what, struct llama3_error *err)
{
    return path != NULL && path[0] != '\0'
               ? 0
               : error_input(err, "%s: expected a path, found none", what);
}

bool path_ends_with(const char *path, const char *suffix)
{
    size_t n = strlen(path), m = strlen(suffix);
    return n >= m && strcmp(path + n - m, suffix) == 0;
}

bool path_exists(const char *path)
{
    struct stat st;
    return stat(path, &st) == 0;
}

bool path_exists_in(const char *folder, const char *name)
{
    char *path = path_join(folder, name, NULL);
    bool found = path != NULL && path_exists(path);
    free(path);
    return found;
}
