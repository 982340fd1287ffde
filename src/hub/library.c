/* SPDX-License-Identifier: MIT */
#include "config.h" /* nftw, st_atim */

#include "hub/library.h"

#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/path.h"
#include "checkpoint/gguf_names.h"
#include "checkpoint/resolve.h"
#include "hub/digest.h"
#include "hub/folder.h"
#include "hub/store.h"

/* ---- one model ------------------------------------------------------------------------------- */

static int take_bytes(void *arg, const char *folder, const char *name)
{
    struct library_model *model = arg;
    struct stat st;
    if (!folder_stat(folder, name, &st) || !S_ISREG(st.st_mode))
        return 0;
    model->bytes += (uint64_t)st.st_blocks * 512;
    if (st.st_atime > model->used)
        model->used = st.st_atime;
    model->incomplete |= path_ends_with(name, ".incomplete");
    return 0;
}

static void add_format(struct library_model *model, const char *format)
{
    size_t used = strlen(model->formats);
    if (strstr(model->formats, format) == NULL)
        snprintf(model->formats + used, sizeof model->formats - used, "%s%s", used > 0 ? ", " : "",
                 format);
}

static int take_file(void *arg, const char *folder, const char *name)
{
    struct library_model *model = arg;
    char tag[HUB_NAME_SIZE], format[HUB_NAME_SIZE + 8];
    struct stat st;
    if (!folder_stat(folder, name, &st)) {
        model->incomplete = true; /* a dangling link */
    } else if (S_ISDIR(st.st_mode)) {
        if (path_ends_with(folder, name)) /* no deeper */
            return 0;
        return folder_each_in(folder, name, take_file, model);
    } else if (path_ends_with(name, ".safetensors")) {
        add_format(model, "safetensors");
    } else if (gguf_tag(name, tag), tag[0] != '\0') {
        snprintf(format, sizeof format, "gguf %s", tag);
        add_format(model, format);
    } else if (path_ends_with(name, ".bin") || path_ends_with(name, ".pth")) {
        add_format(model, "pickle");
    }
    return 0;
}

static int take_snapshot(void *arg, const char *folder, const char *name)
{
    struct library_model *model = arg;
    model->revisions++;
    return folder_each_in(folder, name, take_file, model);
}

static int take_int4(void *arg, const char *folder, const char *name)
{
    struct library_model *model = arg;
    if (path_ends_with(name, "-int4.safetensors"))
        add_format(model, "int4");
    model->incomplete |= path_ends_with(name, ".partial");
    return take_bytes(arg, folder, name);
}

/* "models--OWNER--NAME" becomes "OWNER/NAME". */
static bool read_name(const char *folder, char name[HUB_NAME_SIZE])
{
    const char *from = folder + strlen("models--"), *between = strstr(from, "--");
    if (strncmp(folder, "models--", 8) != 0 || strlen(from) >= HUB_NAME_SIZE - 1)
        return false;
    if (between == NULL)
        snprintf(name, HUB_NAME_SIZE, "%s", from);
    else
        snprintf(name, HUB_NAME_SIZE, "%.*s/%s", (int)(between - from), from, between + 2);
    return name[0] != '\0';
}

/* Whether files of a checkpoint are missing. */
static bool lacks_files(const struct library_model *model)
{
    struct llama3_error err = {0};
    if (strstr(model->formats, "safetensors") == NULL)
        return false;
    char *path = library_path(model->name, NULL, &err);
    free(path);
    return path == NULL && err.code == LLAMA3_EABSENT;
}

static int take_model(void *arg, const char *cache, const char *name)
{
    struct library *library = arg;
    struct library_model model = {0};
    if (!read_name(name, model.name))
        return 0;
    struct library_model *more = reallocarray(library->models, library->n + 1, sizeof *more);
    if (more == NULL ||
        (library->models = more, model.folder = path_join(cache, name, NULL)) == NULL)
        return -1;
    folder_each_in(model.folder, "blobs", take_bytes, &model);
    folder_each_in(model.folder, "snapshots", take_snapshot, &model);
    folder_each_in(model.folder, "llama3", take_int4, &model);
    model.incomplete = model.incomplete || lacks_files(&model);
    library->models[library->n++] = model;
    return 0;
}

static int by_name(const void *a, const void *b)
{
    return strcasecmp(((const struct library_model *)a)->name,
                      ((const struct library_model *)b)->name);
}

int library_open(struct library *library, struct llama3_error *err)
{
    *library = (struct library){0};
    char *cache = hub_cache_folder(err);
    int result = cache == NULL ? -1 : folder_each(cache, take_model, library);
    if (cache != NULL && result != 0)
        error_memory(err, "a list of models", library->n * sizeof *library->models);
    if (library->n > 0)
        qsort(library->models, library->n, sizeof *library->models, by_name);
    free(cache);
    if (result != 0)
        library_close(library);
    return result;
}

void library_close(struct library *library)
{
    for (size_t i = 0; i < library->n; i++)
        free(library->models[i].folder);
    free(library->models);
    *library = (struct library){0};
}

const struct library_model *library_find(const struct library *library, const char *name)
{
    for (size_t i = 0; i < library->n; i++)
        if (strcmp(library->models[i].name, name) == 0)
            return &library->models[i];
    return NULL;
}

/* ---- what to open ---------------------------------------------------------------------------- */

char *library_path_in(const char *folder, struct llama3_error *err)
{
    enum checkpoint_kind kind;
    return resolve_folder(folder, &kind, err);
}

char *library_path(const char *name, const char *revision, struct llama3_error *err)
{
    enum checkpoint_kind kind;
    if (revision == NULL)
        return resolve_hub(name, &kind, err);
    char *folder = hub_repository_folder(name, err);
    char *snapshot = folder == NULL ? NULL : hub_snapshot(folder, revision, err);
    char *path = snapshot == NULL ? NULL : library_path_in(snapshot, err);
    free(snapshot);
    free(folder);
    return path;
}

/* ---- verifying ------------------------------------------------------------------------------- */

static bool is_blob(const char *name)
{
    size_t n = strlen(name);
    return (n == HUB_ETAG || n == HUB_BLOB_ID) && strspn(name, "0123456789abcdef") == n;
}

struct verifying {
    const struct library_model *model;
    const struct library_check *check;
    struct llama3_error *err;
    uint64_t done, total;
};

static int count_blob(void *arg, const char *folder, const char *name)
{
    struct verifying *v = arg;
    struct stat st;
    if (is_blob(name) && folder_stat(folder, name, &st))
        v->total += (uint64_t)st.st_size;
    return 0;
}

static int on_read(void *arg, size_t n)
{
    struct verifying *v = arg;
    v->done += n;
    return v->check->on_bytes != NULL ? v->check->on_bytes(v->check->arg, v->done, v->total) : 0;
}

static int verify_blob(void *arg, const char *folder, const char *name)
{
    struct verifying *v = arg;
    struct stat st;
    char path[PATH_MAX], kept[PATH_MAX];
    char search[600];
    if (!is_blob(name) || !folder_stat(folder, name, &st) ||
        snprintf(path, sizeof path, "%s/%s", folder, name) >= (int)sizeof path ||
        snprintf(kept, sizeof kept, "%s.llama3.mismatch", path) >= (int)sizeof kept)
        return 0;
    int right = digest_check(path, name, (uint64_t)st.st_size, on_read, v, v->err);
    if (right != 0)
        return right < 0 ? -1 : 0;
    folder_links(v->model->folder, name, search, sizeof search);
    if (rename(path, kept) != 0)
        return error_system(v->err, path);
    v->check->bad(v->check->arg, search, kept);
    return 0;
}

int library_verify(const struct library_model *model, const struct library_check *check,
                   struct llama3_error *err)
{
    struct verifying v = {.model = model, .check = check, .err = err};
    folder_each_in(model->folder, "blobs", count_blob, &v);
    return folder_each_in(model->folder, "blobs", verify_blob, &v);
}

/* ---- removing -------------------------------------------------------------------------------- */

struct removing {
    const struct library_model *model;
    const char *tag;
    struct llama3_error *err;
    size_t removed;
};

static int check_lock(void *arg, const char *folder, const char *name)
{
    struct removing *r = arg;
    char path[PATH_MAX];
    bool busy = false;
    struct llama3_error why;
    if (snprintf(path, sizeof path, "%s/%s", folder, name) >= (int)sizeof path)
        return 0;
    int fd = store_lock(path, &busy, &why);
    if (fd >= 0)
        close(fd);
    if (!busy)
        return 0;
    return error_input(r->err, "%s is being fetched by another program", r->model->name);
}

static int unlink_entry(const char *path, const struct stat *st, int type, struct FTW *walk)
{
    (void)st;
    (void)walk;
    return type == FTW_DP || type == FTW_DNR || type == FTW_D ? rmdir(path) : unlink(path);
}

static int remove_tree(const char *path, struct llama3_error *err)
{
    if (nftw(path, unlink_entry, 16, FTW_DEPTH | FTW_PHYS) == 0 || errno == ENOENT)
        return 0;
    return error_system(err, path);
}

static int remove_int4(void *arg, const char *folder, const char *name)
{
    struct removing *r = arg;
    char path[PATH_MAX];
    if (snprintf(path, sizeof path, "%s/%s", folder, name) >= (int)sizeof path)
        return 0;
    if (remove_tree(path, r->err) != 0)
        return -1;
    r->removed++;
    return 0;
}

/* Removes the link to a GGUF file with the tag, and its blob if no other link is left. */
static int remove_tagged(void *arg, const char *folder, const char *name)
{
    struct removing *r = arg;
    char path[PATH_MAX], target[PATH_MAX], blob[PATH_MAX + 8];
    struct stat st;
    if (snprintf(path, sizeof path, "%s/%s", folder, name) >= (int)sizeof path ||
        lstat(path, &st) != 0)
        return 0;
    if (S_ISDIR(st.st_mode))
        return folder_each(path, remove_tagged, r);
    if (gguf_tag_fits(name, r->tag) < 2) /* not the whole word */
        return 0;
    ssize_t n = readlink(path, target, sizeof target - 1);
    if (unlink(path) != 0)
        return error_system(r->err, path);
    r->removed++;
    target[n > 0 ? n : 0] = '\0';
    const char *last = strrchr(target, '/');
    if (last == NULL || !is_blob(last + 1))
        return 0;
    size_t links = folder_links(r->model->folder, last + 1, NULL, 0);
    snprintf(blob, sizeof blob, "%s/blobs/%s", r->model->folder, last + 1);
    if (links == 0 && unlink(blob) != 0 && errno != ENOENT)
        return error_system(r->err, blob);
    return 0;
}

static int remove_in_snapshot(void *arg, const char *folder, const char *name)
{
    return folder_each_in(folder, name, remove_tagged, arg);
}

int library_remove(const struct library_model *model, const char *tag, struct llama3_error *err)
{
    struct removing r = {.model = model, .tag = tag, .err = err};
    const char *name = strrchr(model->folder, '/') + 1;
    char locks[PATH_MAX];
    snprintf(locks, sizeof locks, "%.*s.locks/%s", (int)(name - model->folder), model->folder,
             name);
    if (folder_each(locks, check_lock, &r) != 0)
        return -1;
    if (tag[0] == '\0')
        return remove_tree(model->folder, err) == 0 ? remove_tree(locks, err) : -1;
    int result = strcmp(tag, "int4") == 0
                     ? folder_each_in(model->folder, "llama3", remove_int4, &r)
                     : folder_each_in(model->folder, "snapshots", remove_in_snapshot, &r);
    if (result == 0 && r.removed == 0)
        result = error_input(err, "%s: expected one of %s, found %s", model->name,
                             model->formats[0] != '\0' ? model->formats : "nothing", tag);
    return result;
}
