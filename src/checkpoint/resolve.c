/* SPDX-License-Identifier: MIT */
/*
 * resolve.c: from what the user typed to a file or directory. An existing path wins; otherwise
 * "OWNER/NAME" is looked up in the local Hugging Face cache (resolve_hub.c).
 */
#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/file.h"
#include "base/path.h"
#include "checkpoint/hub_cache.h"
#include "checkpoint/readers.h"

static bool is_empty(const char *path)
{
    struct stat st;
    return stat(path, &st) == 0 && S_ISREG(st.st_mode) && st.st_size == 0;
}

/* ---- directories -------------------------------------------------------------------------------
 */

/* What a directory without config.json, or without safetensors, has instead. */
struct listing {
    size_t n_files, n_ggufs, n_pickles;
    char gguf[256]; /* the only .gguf file, later parts of a split set not counted */
    char pickle[256];
};

/* True for NAME-00002-of-00003.gguf and the like, but not for the first part. */
static bool is_later_part(const char *name)
{
    unsigned part = 1, count = 0;
    size_t n = strlen(name), tail = strlen("-00001-of-00002.gguf");
    return n > tail && sscanf(name + n - tail, "-%5u-of-%5u.gguf", &part, &count) == 2 && part != 1;
}

static int list(const char *folder, struct listing *listing, struct llama3_error *err)
{
    DIR *dir = opendir(folder);
    *listing = (struct listing){0};
    if (dir == NULL)
        return error_set(err, LLAMA3_EIO, "%s: %s", folder, strerror(errno));
    for (struct dirent *entry; (entry = readdir(dir)) != NULL;) {
        const char *name = entry->d_name;
        if (name[0] == '.')
            continue;
        listing->n_files++;
        if (path_ends_with(name, ".gguf") && !is_later_part(name)) {
            listing->n_ggufs++;
            snprintf(listing->gguf, sizeof listing->gguf, "%s", name);
        } else if (path_ends_with(name, ".bin") || path_ends_with(name, ".pth") ||
                   path_ends_with(name, ".pt")) {
            listing->n_pickles++;
            snprintf(listing->pickle, sizeof listing->pickle, "%s", name);
        }
    }
    closedir(dir);
    return 0;
}

/* What to open in a directory; takes over `folder`. */
static char *resolve_folder(char *folder, enum checkpoint_kind *kind, struct llama3_error *err)
{
    struct listing listing;
    bool weights = path_exists_in(folder, "model.safetensors") ||
                   path_exists_in(folder, "model.safetensors.index.json");
    char *gguf = NULL;
    bool config = path_exists_in(folder, "config.json");
    *kind = CHECKPOINT_FOLDER;
    if (config && weights)
        return folder;
    if (list(folder, &listing, err) != 0)
        ;
    else if (listing.n_ggufs == 1 && !weights && (gguf = path_join(folder, listing.gguf, err)))
        *kind = CHECKPOINT_GGUF;
    else if (listing.n_ggufs > 1 && !weights)
        error_set(err, LLAMA3_EINPUT,
                  "%s: expected one .gguf file, found %zu: give the path of one (%s)", folder,
                  listing.n_ggufs, listing.gguf);
    else if (weights)
        error_set(err, LLAMA3_EINPUT,
                  "%s: expected config.json beside model.safetensors, found none", folder);
    else if (listing.n_pickles > 0)
        error_set(err, LLAMA3_EINPUT,
                  "%s: expected model.safetensors, found %s: convert to safetensors", folder,
                  listing.pickle);
    else if (listing.n_files == 0)
        error_set(
            err, LLAMA3_EINPUT,
            "%s: expected a checkpoint (config.json and model.safetensors, or a .gguf file), found "
            "an empty directory",
            folder);
    else
        error_set(
            err, LLAMA3_EINPUT,
            "%s: expected a checkpoint (config.json and model.safetensors, or a .gguf file), found "
            "no %s",
            folder, config ? "model.safetensors" : "config.json");
    free(folder);
    return gguf;
}

/* ---- files
 * --------------------------------------------------------------------------------------- */

static char *copy(const char *text, size_t length, struct llama3_error *err)
{
    char *result = strndup(text, length);
    if (result == NULL)
        error_memory(err, "a path", length);
    return result;
}

/* A .gguf file and one of ours are themselves, whatever their name; model.safetensors and its index
 * stand for their directory. */
static char *resolve_file(const char *path, enum checkpoint_kind *kind, struct llama3_error *err)
{
    const char *slash = strrchr(path, '/');
    const char *name = slash != NULL ? slash + 1 : path;
    *kind = packed_recognise(path) ? CHECKPOINT_PACKED : CHECKPOINT_GGUF;
    if (*kind == CHECKPOINT_PACKED)
        return copy(path, strlen(path), err);
    if (strcmp(name, "model.safetensors") == 0 ||
        strcmp(name, "model.safetensors.index.json") == 0 || strcmp(name, "config.json") == 0) {
        char *folder = slash == NULL   ? copy(".", 1, err)
                       : slash == path ? copy("/", 1, err)
                                       : copy(path, (size_t)(slash - path), err);
        return folder == NULL ? NULL : resolve_folder(folder, kind, err);
    }
    if (path_ends_with(name, ".safetensors") && is_empty(path)) {
        error_set(err, LLAMA3_EINPUT, "%s: expected a checkpoint, found an empty file", path);
        return NULL;
    }
    if (path_ends_with(name, ".safetensors")) {
        struct map map;
        if (map_open(&map, path, err) != 0)
            return NULL;
        map_close(&map);
        error_set(
            err, LLAMA3_EINPUT,
            "%s: expected a directory, a .gguf file, model.safetensors or a file of "
            "llama3-quantize, "
            "found other safetensors: one of several, whose directory to give, or a damaged one",
            path);
        return NULL;
    }
    return copy(path, strlen(path), err);
}

/* ---- names ----------------------------------------------------------------------------------- */

/* A name of the hub's form, but for one that is a file's: it is a path that isn't there. */
static bool is_model(const char *path)
{
    char repository[HUB_NAME_SIZE], tag[HUB_NAME_SIZE];
    return hub_split(path, repository, tag) && !path_ends_with(path, ".gguf") &&
           !path_ends_with(path, ".safetensors") && !path_ends_with(path, ".json");
}

char *resolve_path(const char *path, enum checkpoint_kind *kind, struct llama3_error *err)
{
    struct stat st;
    if (path[0] == '\0') {
        error_set(err, LLAMA3_EINPUT, "expected a checkpoint's path, found an empty one");
        return NULL;
    }
    if (stat(path, &st) != 0) {
        if (errno != ENOENT || !is_model(path)) {
            error_set(err, LLAMA3_EIO, "%s: %s", path, strerror(errno));
            return NULL;
        }
        char *found = resolve_hub(path, kind, err);
        return found != NULL && *kind == CHECKPOINT_FOLDER ? resolve_folder(found, kind, err)
                                                           : found;
    }
    if (!S_ISDIR(st.st_mode))
        return resolve_file(path, kind, err);
    char *folder = copy(path, strlen(path), err);
    return folder == NULL ? NULL : resolve_folder(folder, kind, err);
}
