/* SPDX-License-Identifier: MIT */
/*
 * resolve_hub.c: finds "OWNER/NAME" or "OWNER/NAME:TAG" in the local Hugging Face cache. The error
 * for one that is missing says how to fetch it.
 */
#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>

#include "base/buf.h"
#include "base/path.h"
#include "checkpoint/gguf_names.h"
#include "checkpoint/hub_cache.h"
#include "checkpoint/resolve.h"

enum { MAX_GGUFS = 1000 };

struct hub_search {
    const char *given; /* as the user named it */
    char repository[HUB_NAME_SIZE], tag[HUB_NAME_SIZE];
    char *folder, *commit, *snapshot; /* commit and snapshot: of main */
    enum checkpoint_kind *kind;
    struct llama3_error *err;
};

/* ---- GGUF files ------------------------------------------------------------------------------ */

/* A file, or a set of shards. */
struct gguf_set {
    char *first;           /* the first shard's path in the snapshot */
    size_t stem;           /* length of what all shards' names begin with */
    unsigned count, found; /* shards */
};

struct ggufs {
    struct gguf_set items[MAX_GGUFS];
    size_t n;
};

static void free_ggufs(struct ggufs *ggufs)
{
    for (size_t i = 0; ggufs != NULL && i < ggufs->n; i++)
        free(ggufs->items[i].first);
    free(ggufs);
}

/* Adds a file to its set. Takes ownership of name. */
static void add_gguf(struct ggufs *ggufs, char *name)
{
    unsigned shard, count;
    size_t stem;
    if (!gguf_is_weights(name, &shard, &count, &stem)) {
        free(name);
        return;
    }
    for (size_t i = 0; i < ggufs->n; i++) {
        struct gguf_set *set = &ggufs->items[i];
        if (count == 1 || set->count != count || set->stem != stem ||
            strncmp(set->first, name, stem) != 0)
            continue;
        set->found++;
        if (shard == 1) { /* names of the same length */
            free(set->first);
            set->first = name;
        } else {
            free(name);
        }
        return;
    }
    if (ggufs->n == MAX_GGUFS) {
        free(name);
        return;
    }
    ggufs->items[ggufs->n++] =
        (struct gguf_set){.first = name, .stem = stem, .count = count, .found = 1};
}

/* The GGUF files of a folder, and of the folders in it. below: its path in the snapshot, "" at the
 * top. -1 without memory. */
static int list_ggufs(struct ggufs *ggufs, const char *folder, const char *below)
{
    DIR *dir = opendir(folder);
    int result = 0;
    for (struct dirent *entry; dir != NULL && result == 0 && (entry = readdir(dir)) != NULL;) {
        struct stat st;
        if (entry->d_name[0] == '.')
            continue;
        char *path = path_join(folder, entry->d_name, NULL);
        char *name = path_join(below, entry->d_name, NULL);
        bool there = path != NULL && stat(path, &st) == 0; /* false for a dangling link */
        if (path == NULL || name == NULL)
            result = -1;
        else if (there && S_ISDIR(st.st_mode) && below[0] == '\0')
            result = list_ggufs(ggufs, path, name);
        if (result == 0 && there && S_ISREG(st.st_mode))
            add_gguf(ggufs, name);
        else
            free(name);
        free(path);
    }
    if (dir != NULL)
        closedir(dir);
    return result;
}

static int by_name(const void *a, const void *b)
{
    return strcmp(((const struct gguf_set *)a)->first, ((const struct gguf_set *)b)->first);
}

static struct ggufs *find_ggufs(const struct hub_search *s)
{
    struct ggufs *ggufs = calloc(1, sizeof *ggufs);
    if (ggufs == NULL || list_ggufs(ggufs, s->snapshot, "") != 0) {
        error_memory(s->err, "a list of files", sizeof *ggufs);
        free_ggufs(ggufs);
        return NULL;
    }
    if (ggufs->n > 0)
        qsort(ggufs->items, ggufs->n, sizeof *ggufs->items, by_name);
    return ggufs;
}

/* Keeps those that the tag fits best. */
static void keep_fitting(struct ggufs *ggufs, const char *tag)
{
    int best = 1;
    size_t n = 0;
    for (size_t i = 0; i < ggufs->n; i++) {
        int fit = gguf_tag_fits(ggufs->items[i].first, tag);
        best = fit > best ? fit : best;
    }
    for (size_t i = 0; i < ggufs->n; i++) {
        if (gguf_tag_fits(ggufs->items[i].first, tag) == best)
            ggufs->items[n++] = ggufs->items[i];
        else
            free(ggufs->items[i].first);
    }
    ggufs->n = n;
}

/* ---- errors ---------------------------------------------------------------------------------- */

/* "OWNER/NAME:TAG, ..." of files, each tag once; those that no tag names by their paths. */
static char *names_of(const struct hub_search *s, const struct ggufs *ggufs)
{
    struct buf out = {0};
    char tag[HUB_NAME_SIZE], before[HUB_NAME_SIZE] = "";
    size_t left = ggufs->n;
    buf_add_str(&out, "");
    for (size_t i = 0; i < ggufs->n && out.size < 200; i++, left--) {
        gguf_tag(ggufs->items[i].first, tag);
        if (tag[0] != '\0' && strcasecmp(tag, before) == 0)
            continue;
        memcpy(before, tag, sizeof tag);
        buf_add_str(&out, out.size > 0 ? ", " : "");
        buf_add_str(&out, tag[0] != '\0' ? s->repository : ggufs->items[i].first);
        buf_add_str(&out, tag[0] != '\0' ? ":" : "");
        buf_add_str(&out, tag);
    }
    if (left > 0)
        buf_add_str(&out, ", ...");
    return out.failed ? NULL : out.data;
}

/* The command that fetches what was asked for. */
static const char *command_of(const struct hub_search *s, char command[2 * HUB_NAME_SIZE + 32])
{
    bool int4 = strcasecmp(s->tag, "int4") == 0;
    snprintf(command, 2 * HUB_NAME_SIZE + 32, "llama3-pull %s%s%s%s", int4 ? "--int4 " : "",
             s->repository, int4 || s->tag[0] == '\0' ? "" : ":", int4 ? "" : s->tag);
    return command;
}

static char *absent(const struct hub_search *s)
{
    char command[2 * HUB_NAME_SIZE + 32];
    error_set(s->err, LLAMA3_EABSENT,
              "%s: not on this machine; get it: %s (no such path, and not in %s)", s->given,
              command_of(s, command), s->snapshot != NULL ? s->snapshot : s->folder);
    return NULL;
}

static char *incomplete(const struct hub_search *s, const char *missing)
{
    char command[2 * HUB_NAME_SIZE + 32];
    error_set(s->err, LLAMA3_EABSENT, "%s: incomplete, without %.100s; get the rest: %s (in %s)",
              s->given, missing, command_of(s, command), s->snapshot);
    return NULL;
}

/* ---- choosing -------------------------------------------------------------------------------- */

/* The one GGUF file, or the first of its set. */
static char *take_gguf(const struct hub_search *s, const struct ggufs *ggufs)
{
    const struct gguf_set *gguf = &ggufs->items[0];
    char missing[300];
    if (ggufs->n == 1 && gguf->found == gguf->count) {
        *s->kind = CHECKPOINT_GGUF;
        return path_join(s->snapshot, gguf->first, s->err);
    }
    if (ggufs->n == 1) {
        snprintf(missing, sizeof missing, "%u of %u shards of %.*s.gguf", gguf->count - gguf->found,
                 gguf->count, (int)gguf->stem, gguf->first);
        return incomplete(s, missing);
    }
    char *names = names_of(s, ggufs);
    if (names == NULL)
        error_memory(s->err, "names of files", 200);
    else
        error_input(s->err, "%s: expected one GGUF file, found %zu; name one: %s (in %s)", s->given,
                    ggufs->n, names, s->snapshot);
    free(names);
    return NULL;
}

static char *take_tag(const struct hub_search *s)
{
    struct ggufs *ggufs = find_ggufs(s);
    char *path = NULL;
    if (ggufs == NULL)
        return NULL;
    keep_fitting(ggufs, s->tag);
    path = ggufs->n == 0 ? absent(s) : take_gguf(s, ggufs);
    free_ggufs(ggufs);
    return path;
}

/* The int4 file; NULL with *err untouched if there is none. */
static char *take_int4(const struct hub_search *s)
{
    char *path = hub_int4_path(s->folder, s->commit, s->err);
    if (path != NULL && path_exists(path)) {
        *s->kind = CHECKPOINT_PACKED;
        return path;
    }
    free(path);
    return NULL;
}

/* Without a tag: the original weights, else the int4 file made of them, else a GGUF file. A
 * snapshot that has none of these is returned as it is: its reader says what is missing. */
static char *take_any(const struct hub_search *s)
{
    char missing[SHARD_NAME], *path = NULL;
    bool weights = shards_in(s->snapshot, missing);
    bool config = path_exists_in(s->snapshot, "config.json");
    bool complete = weights && config && missing[0] == '\0';
    struct ggufs *ggufs = NULL;
    if (!complete && ((path = take_int4(s)) != NULL || (ggufs = find_ggufs(s)) == NULL))
        return path;
    if (complete || (!weights && !config && ggufs->n == 0))
        path = path_copy(s->snapshot, strlen(s->snapshot), s->err);
    else if (!weights && ggufs->n > 0)
        path = take_gguf(s, ggufs);
    else
        path = incomplete(s, !config ? "config.json" : weights ? missing : "model.safetensors");
    free_ggufs(ggufs);
    return path;
}

/* Finds refs/main and its snapshot; -1 with the reason. */
static int find_main(struct hub_search *s)
{
    s->folder = hub_repository_folder(s->repository, s->err);
    if (s->folder == NULL)
        return -1;
    if (!path_exists_in(s->folder, "refs/main")) {
        absent(s);
        return -1;
    }
    s->commit = hub_commit(s->folder, NULL, s->err);
    s->snapshot = s->commit == NULL ? NULL : hub_commit_folder(s->folder, s->commit, s->err);
    return s->snapshot == NULL ? -1 : 0;
}

char *resolve_hub(const char *name, enum checkpoint_kind *kind, struct llama3_error *err)
{
    struct hub_search s = {.given = name, .kind = kind, .err = err};
    char *path = NULL;
    *kind = CHECKPOINT_FOLDER;
    if (!hub_split(name, s.repository, s.tag))
        error_set(err, LLAMA3_EIO, "%s: %s", name, strerror(ENOENT));
    else if (find_main(&s) != 0)
        ;
    else if (strcasecmp(s.tag, "int4") == 0)
        path = (path = take_int4(&s)) != NULL ? path : absent(&s);
    else if (!path_exists(s.snapshot))
        absent(&s);
    else if (s.tag[0] != '\0')
        path = take_tag(&s);
    else
        path = take_any(&s);
    free(s.snapshot);
    free(s.commit);
    free(s.folder);
    return path;
}
