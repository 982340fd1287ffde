/* SPDX-License-Identifier: MIT */
/* resolve_folder.c: finds the checkpoint in a directory. */
#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/json.h"
#include "base/path.h"
#include "checkpoint/gguf_names.h"
#include "checkpoint/resolve.h"

enum { MAX_INDEX = 1 << 26 };

bool shard_name_is_plain(const char *name)
{
    size_t n = strlen(name);
    return n > 0 && n < SHARD_NAME && name[0] != '.' && strchr(name, '/') == NULL;
}

json_t *shards_index(const char *folder, char **path, struct llama3_error *err)
{
    size_t size = 0;
    *path = path_join(folder, "model.safetensors.index.json", err);
    char *text = *path == NULL ? NULL : file_read(*path, MAX_INDEX, &size, NULL, err);
    json_t *index = text == NULL ? NULL : json_parse(text, size, *path, err);
    free(text);
    return index;
}

bool shards_in(const char *folder, char missing[SHARD_NAME])
{
    const char *name;
    char *path;
    json_t *file;
    missing[0] = '\0';
    if (path_exists_in(folder, "model.safetensors"))
        return true;
    json_t *index = shards_index(folder, &path, NULL);
    bool there = path != NULL && path_exists(path);
    json_object_foreach(json_object_get(index, "weight_map"), name, file)
    {
        const char *shard = json_string_value(file);
        if (missing[0] == '\0' && shard != NULL && shard_name_is_plain(shard) &&
            !path_exists_in(folder, shard))
            snprintf(missing, SHARD_NAME, "%s", shard);
    }
    json_decref(index);
    free(path);
    return there;
}

/* What a directory without config.json, or without safetensors, has instead. */
struct listing {
    size_t n_files, n_ggufs, n_pickles;
    char gguf[256]; /* the last one; of a split model only the first shard counts */
    char pickle[256];
};

static int list(const char *folder, struct listing *listing, struct llama3_error *err)
{
    DIR *dir = opendir(folder);
    *listing = (struct listing){0};
    if (dir == NULL)
        return error_system(err, folder);
    for (struct dirent *entry; (entry = readdir(dir)) != NULL;) {
        const char *name = entry->d_name;
        unsigned shard, count;
        size_t stem;
        if (name[0] == '.')
            continue;
        listing->n_files++;
        if (path_ends_with(name, ".gguf") &&
            (!gguf_is_shard(name, &shard, &count, &stem) || shard == 1)) {
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

char *resolve_folder(const char *folder, enum checkpoint_kind *kind, struct llama3_error *err)
{
    struct listing listing;
    bool weights = path_exists_in(folder, "model.safetensors") ||
                   path_exists_in(folder, "model.safetensors.index.json");
    char *path = NULL;
    bool config = path_exists_in(folder, "config.json");
    *kind = CHECKPOINT_FOLDER;
    if (config && weights)
        path = path_copy(folder, strlen(folder), err);
    else if (list(folder, &listing, err) != 0)
        ;
    else if (listing.n_ggufs == 1 && !weights && (path = path_join(folder, listing.gguf, err)))
        *kind = CHECKPOINT_GGUF;
    else if (listing.n_ggufs > 1 && !weights)
        error_input(err, "%s: expected one .gguf file, found %zu: give the path of one (%s)",
                    folder, listing.n_ggufs, listing.gguf);
    else if (weights)
        error_input(err, "%s: expected config.json beside model.safetensors, found none", folder);
    else if (listing.n_pickles > 0)
        error_input(err, "%s: expected model.safetensors, found %s: convert to safetensors", folder,
                    listing.pickle);
    else
        error_input(
            err,
            "%s: expected a checkpoint (config.json and model.safetensors, or a .gguf file), "
            "found %s",
            folder,
            listing.n_files == 0 ? "an empty directory"
            : config             ? "no model.safetensors"
                                 : "no config.json");
    return path;
}
