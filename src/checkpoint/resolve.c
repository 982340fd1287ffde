/* SPDX-License-Identifier: MIT */
/*
 * resolve.c: from what the user typed to a file or directory. An existing path wins; otherwise
 * "OWNER/NAME" is looked up in the local Hugging Face cache (resolve_hub.c).
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/file.h"
#include "base/path.h"
#include "checkpoint/hub_cache.h"
#include "checkpoint/readers.h"

/* ---- files ----------------------------------------------------------------------------------- */

/* A GGUF file and one of ours are opened as they are, whatever their name. model.safetensors, its
 * index and config.json stand for their directory. */
static char *resolve_file(const char *path, enum checkpoint_kind *kind, struct llama3_error *err)
{
    const char *slash = strrchr(path, '/');
    const char *name = slash != NULL ? slash + 1 : path;
    *kind = packed_recognise(path) ? CHECKPOINT_PACKED : CHECKPOINT_GGUF;
    if (*kind == CHECKPOINT_PACKED)
        return path_copy(path, strlen(path), err);
    if (strcmp(name, "model.safetensors") == 0 ||
        strcmp(name, "model.safetensors.index.json") == 0 || strcmp(name, "config.json") == 0) {
        char *folder = slash == NULL   ? path_copy(".", 1, err)
                       : slash == path ? path_copy("/", 1, err)
                                       : path_copy(path, (size_t)(slash - path), err);
        char *found = folder == NULL ? NULL : resolve_folder(folder, kind, err);
        free(folder);
        return found;
    }
    if (path_ends_with(name, ".safetensors")) {
        struct map map;
        if (map_open(&map, path, err) != 0)
            return NULL;
        error_input(err,
                    "%s: expected a directory, a .gguf file, model.safetensors or a file of "
                    "llama3-quantize, found %s",
                    path,
                    map.size == 0 ? "an empty file"
                                  : "a shard (give its directory) or a damaged file");
        map_close(&map);
        return NULL;
    }
    return path_copy(path, strlen(path), err);
}

/* ---- names ----------------------------------------------------------------------------------- */

/* Whether it has the form of a model's name on the hub, and not the suffix of a file. */
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
        error_input(err, "expected a checkpoint's path, found an empty one");
        return NULL;
    }
    if (stat(path, &st) != 0) {
        if (errno != ENOENT || !is_model(path)) {
            error_system(err, path);
            return NULL;
        }
        char *found = resolve_hub(path, kind, err);
        if (found == NULL || *kind != CHECKPOINT_FOLDER)
            return found;
        char *in = resolve_folder(found, kind, err);
        free(found);
        return in;
    }
    return S_ISDIR(st.st_mode) ? resolve_folder(path, kind, err) : resolve_file(path, kind, err);
}
