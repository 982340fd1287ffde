/* SPDX-License-Identifier: MIT */
#include "config.h" /* st_mtim, st_ctim */

#include "checkpoint/sources.h"

#include <dirent.h>
#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/path.h"
#include "checkpoint/gguf_names.h"
#include "checkpoint/readers.h"

enum { MAX_SOURCES = 4096 };

static int add(struct sources *sources, const char *path, struct llama3_error *err)
{
    struct source *moved = realloc(sources->items, (sources->n + 1) * sizeof *moved);
    if (moved == NULL)
        return error_memory(err, path, (sources->n + 1) * sizeof *moved);
    sources->items = moved;
    struct source source = {.path = realpath(path, NULL)};
    if (source.path == NULL || stat(source.path, &source.st) != 0) {
        free(source.path);
        return error_system(err, path);
    }
    sources->items[sources->n++] = source;
    return 0;
}

static int by_path(const void *a, const void *b)
{
    return strcmp(((const struct source *)a)->path, ((const struct source *)b)->path);
}

static bool is_source(const char *name, bool templates)
{
    return name[0] != '.' && (path_ends_with(name, ".jinja") ||
                              (!templates && (path_ends_with(name, ".json") ||
                                              path_ends_with(name, ".safetensors"))));
}

/* templates: only these, and the folder may be missing. */
static int list_files(struct sources *sources, const char *folder, bool templates,
                      struct llama3_error *err)
{
    DIR *dir = opendir(folder);
    int result = 0;
    if (dir == NULL)
        return templates && (errno == ENOENT || errno == ENOTDIR) ? 0 : error_system(err, folder);
    for (struct dirent *entry; result == 0 && (entry = readdir(dir)) != NULL;) {
        const char *name = entry->d_name;
        if (sources->n == MAX_SOURCES || !is_source(name, templates))
            continue;
        char *path = path_join(folder, name, err);
        if (path == NULL)
            result = -1;
        else if (!path_ends_with(name, ".safetensors") || !packed_recognise(path))
            result = add(sources, path, err); /* not our own, which was made of it */
        free(path);
    }
    closedir(dir);
    return result;
}

static int list_folder(struct sources *sources, const char *folder, struct llama3_error *err)
{
    char *more = path_join(folder, ADDITIONAL_TEMPLATES, err);
    int result = more != NULL && list_files(sources, folder, false, err) == 0
                     ? list_files(sources, more, true, err)
                     : -1;
    free(more);
    if (sources->n > 0)
        qsort(sources->items, sources->n, sizeof *sources->items, by_path);
    return result;
}

/* generation_config.json beside a GGUF file, if there is one. */
static int list_generation(struct sources *sources, const char *path, struct llama3_error *err)
{
    char *beside = path_append(path_folder(path, err), "generation_config.json", err);
    int result = beside == NULL ? -1 : access(beside, F_OK) != 0 ? 0 : add(sources, beside, err);
    free(beside);
    return result;
}

/* A file, and the other shards of its set if it is the first one. */
static int list_file(struct sources *sources, const char *path, struct llama3_error *err)
{
    unsigned shard, count;
    size_t stem;
    int result = add(sources, path, err);
    if (!gguf_is_shard(path, &shard, &count, &stem) || shard != 1)
        return result;
    for (unsigned i = 2; i <= count && i <= MAX_SOURCES && result == 0; i++) {
        char *other = gguf_shard_path(path, i, err);
        result = other == NULL ? -1 : add(sources, other, err);
        free(other);
    }
    return result;
}

int sources_list(struct sources *sources, const char *path, struct llama3_error *err)
{
    enum checkpoint_kind kind = CHECKPOINT_FOLDER;
    *sources = (struct sources){0};
    char *found = resolve_path(path, &kind, err);
    if (found == NULL)
        return -1;
    int result = kind == CHECKPOINT_FOLDER ? list_folder(sources, found, err)
                                           : list_file(sources, found, err);
    if (result == 0 && kind == CHECKPOINT_GGUF)
        result = list_generation(sources, found, err);
    free(found);
    if (result != 0)
        sources_free(sources);
    return result;
}

void sources_free(struct sources *sources)
{
    for (size_t i = 0; i < sources->n; i++)
        free(sources->items[i].path);
    free(sources->items);
    *sources = (struct sources){0};
}

void sources_describe(const struct sources *sources, struct buf *out)
{
    for (size_t i = 0; i < sources->n; i++) {
        const struct stat *st = &sources->items[i].st;
        char line[256];
        snprintf(line, sizeof line, "\n%ju %ju %jd %jd.%09ld %jd.%09ld ", (uintmax_t)st->st_dev,
                 (uintmax_t)st->st_ino, (intmax_t)st->st_size, (intmax_t)st->st_mtim.tv_sec,
                 st->st_mtim.tv_nsec, (intmax_t)st->st_ctim.tv_sec, st->st_ctim.tv_nsec);
        buf_add_str(out, line);
        buf_add_str(out, sources->items[i].path);
    }
}

bool sources_have(const struct sources *sources, const char *path)
{
    struct stat st;
    if (stat(path, &st) != 0)
        return false;
    for (size_t i = 0; i < sources->n; i++)
        if (sources->items[i].st.st_dev == st.st_dev && sources->items[i].st.st_ino == st.st_ino)
            return true;
    return false;
}
