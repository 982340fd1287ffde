/* SPDX-License-Identifier: MIT */
#include "config.h" /* O_NOFOLLOW, renameat */

#include "hub/store.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <time.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/file.h"
#include "base/new_file.h"
#include "base/path.h"
#include "checkpoint/hub_cache.h"
#include "hub/digest.h"
#include "hub/folder.h"

/* ---- folders --------------------------------------------------------------------------------- */

/* Makes and opens a folder in another; not if it is a link. */
static int enter(int parent, const char *name)
{
    if (mkdirat(parent, name, 0777) != 0 && errno != EEXIST)
        return -1;
    return openat(parent, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
}

/* Makes the folders of a relative path below root; its last component is a file. Returns the last
 * folder's descriptor. */
static int enter_below(const char *root, const char *relative, struct llama3_error *err)
{
    int fd = open(root, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    char part[256];
    const char *at = relative;
    while (fd >= 0 && strchr(at, '/') != NULL) {
        size_t n = strcspn(at, "/");
        snprintf(part, sizeof part, "%.*s", (int)(n < 255 ? n : 255), at);
        int next = enter(fd, part);
        int saved = errno;
        close(fd);
        errno = saved;
        fd = next;
        at += n + 1;
    }
    if (fd >= 0)
        return fd;
    if (errno == ELOOP || errno == ENOTDIR)
        return error_set(err, LLAMA3_EIO,
                         "%s: expected a folder for %.200s, found a file or a link", root,
                         relative);
    return error_set(err, LLAMA3_EIO, "%s: %.200s: %s", root, relative, strerror(errno));
}

static int make_below(const char *root, const char *relative, struct llama3_error *err)
{
    int fd = enter_below(root, relative, err);
    if (fd < 0)
        return -1;
    close(fd);
    return 0;
}

static int make_folder(const char *root, const char *relative, struct llama3_error *err)
{
    char path[HUB_COMMIT + 300];
    snprintf(path, sizeof path, "%s/.", relative);
    return make_below(root, path, err);
}

/* Backups skip a folder with this file (https://bford.info/cachedir/). */
static void tag_cache(const char *folder)
{
    static const char text[] = "Signature: 8a477f597d28d172789f06886806bc55\n"
                               "# This is a cache of the Hugging Face hub.\n";
    char *path = path_join(folder, "CACHEDIR.TAG", NULL);
    int fd = path == NULL ? -1 : open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
    if (fd >= 0) {
        ssize_t n = write(fd, text, sizeof text - 1);
        (void)n; /* nothing depends on it */
        close(fd);
    }
    free(path);
}

static int open_cache(struct store *store, const char *repository, struct llama3_error *err)
{
    char below[HUB_NAME_SIZE + 40];
    char *cache = hub_cache_folder(err);
    int result = -1;
    store->root = cache == NULL ? NULL : hub_repository_folder(repository, err);
    if (store->root == NULL)
        goto out;
    const char *name = strrchr(store->root, '/') + 1;
    snprintf(below, sizeof below, ".locks/%s", name);
    store->locks = path_join(cache, below, err);
    store->arriving = path_join(store->root, "blobs", err);
    if (store->locks == NULL || store->arriving == NULL ||
        path_make_folders(cache, 0777, err) != 0 || make_folder(cache, below, err) != 0 ||
        path_make_folders(store->root, 0777, err) != 0 ||
        make_folder(store->root, "blobs", err) != 0 || make_folder(store->root, "refs", err) != 0)
        goto out;
    tag_cache(cache);
    snprintf(below, sizeof below, "snapshots/%s", store->commit);
    store->snapshot = path_join(store->root, below, err);
    result = store->snapshot == NULL ? -1 : make_folder(store->root, below, err);
out:
    free(cache);
    return result;
}

static int open_local(struct store *store, const char *repository, const char *folder,
                      struct llama3_error *err)
{
    static const char below[] = ".cache/huggingface/download";
    store->local = true;
    store->root = strdup(folder);
    store->snapshot = strdup(folder);
    store->arriving = path_join(folder, below, err);
    store->locks = path_join(folder, below, err);
    store->cached = path_append(hub_repository_folder(repository, NULL), "blobs", err);
    char *notes = path_join(folder, ".cache/huggingface", err);
    int result = -1;
    if (store->root != NULL && store->snapshot != NULL && store->arriving != NULL &&
        store->locks != NULL && notes != NULL && path_make_folders(folder, 0777, err) == 0)
        result = make_folder(folder, below, err);
    if (result == 0)
        tag_cache(notes);
    free(notes);
    return result;
}

int store_open(struct store *store, const char *repository, const char *local_dir,
               const char *commit, struct llama3_error *err)
{
    *store = (struct store){0};
    snprintf(store->commit, sizeof store->commit, "%s", commit);
    int result = local_dir != NULL ? open_local(store, repository, local_dir, err)
                                   : open_cache(store, repository, err);
    if (result != 0)
        store_close(store);
    return result;
}

void store_close(struct store *store)
{
    free(store->root);
    free(store->locks);
    free(store->snapshot);
    free(store->arriving);
    free(store->cached);
    *store = (struct store){0};
}

/* ---- paths ----------------------------------------------------------------------------------- */

static char *with_suffix(const char *folder, const char *name, const char *suffix,
                         struct llama3_error *err)
{
    struct buf text = {0};
    buf_add_str(&text, name);
    buf_add_str(&text, suffix);
    char *path = text.failed ? NULL : path_join(folder, text.data, err);
    buf_free(&text);
    return path;
}

char *store_path(const struct store *store, const char *name, struct llama3_error *err)
{
    return path_join(store->snapshot, name, err);
}

static int make_folders(const struct store *store, const char *name, struct llama3_error *err)
{
    if (make_below(store->snapshot, name, err) != 0)
        return -1;
    return store->local ? make_below(store->arriving, name, err) : 0; /* for notes and locks */
}

int store_paths(const struct store *store, const struct hub_file *file, struct blob_paths *paths,
                struct llama3_error *err)
{
    static const char notes[] = ".cache/huggingface";
    const char *name = store->local ? file->name : file->etag;
    *paths = (struct blob_paths){0};
    if (store->local && strncasecmp(file->name, notes, strlen(notes)) == 0)
        return error_input(err, "%s: expected a name outside of %s, where notes on files are",
                           file->name, notes);
    if (make_folders(store, file->name, err) != 0)
        return -1;
    paths->final = store->local ? store_path(store, file->name, err)
                                : path_join(store->arriving, file->etag, err);
    paths->incomplete = with_suffix(store->arriving, name, ".llama3.incomplete", err);
    paths->ranges = with_suffix(store->arriving, name, ".llama3.ranges", err);
    paths->mismatch = with_suffix(store->arriving, name, ".llama3.mismatch", err);
    paths->lock = with_suffix(store->locks, name, ".lock", err);
    if (paths->final != NULL && paths->incomplete != NULL && paths->ranges != NULL &&
        paths->mismatch != NULL && paths->lock != NULL)
        return 0;
    blob_paths_free(paths);
    return -1;
}

void blob_paths_free(struct blob_paths *paths)
{
    free(paths->final);
    free(paths->incomplete);
    free(paths->ranges);
    free(paths->mismatch);
    free(paths->lock);
    *paths = (struct blob_paths){0};
}

/* ---- what is there --------------------------------------------------------------------------- */

static bool is_whole(const char *path, uint64_t size, struct stat *st)
{
    return stat(path, st) == 0 && S_ISREG(st->st_mode) && (uint64_t)st->st_size == size;
}

/* huggingface_hub's note: commit, hash, and when the file was last known to have that hash. */
static bool read_note(const struct store *store, const struct hub_file *file, double *time)
{
    size_t size;
    bool right = false;
    char etag[HUB_ETAG + 1];
    char *path = with_suffix(store->arriving, file->name, ".metadata", NULL);
    char *text = path == NULL ? NULL : file_read(path, 512, &size, NULL, NULL);
    if (text != NULL)
        right = sscanf(text, "%*s %64s %lf", etag, time) == 2 && strcmp(etag, file->etag) == 0;
    free(text);
    free(path);
    return right;
}

bool store_has(const struct store *store, const struct hub_file *file,
               const struct blob_paths *paths)
{
    struct stat st;
    double noted;
    if (!is_whole(paths->final, file->size, &st))
        return false;
    if (!store->local)
        return true;
    if (read_note(store, file, &noted) && (double)st.st_mtime - 1 <= noted)
        return true;
    return digest_check(paths->final, file->etag, file->size, NULL, NULL, NULL) == 1;
}

bool store_seed(const struct store *store, const struct hub_file *file, int fd)
{
    struct stat st;
    char *path = store->cached == NULL ? NULL : path_join(store->cached, file->etag, NULL);
    int from = path == NULL ? -1 : open(path, O_RDONLY | O_CLOEXEC);
    bool whole = from >= 0 && fstat(from, &st) == 0 && S_ISREG(st.st_mode) &&
                 (uint64_t)st.st_size == file->size;
    off_t in = 0, out = 0;
    while (whole && (uint64_t)in < file->size)
        if (copy_file_range(from, &in, fd, &out, file->size - (uint64_t)in, 0) <= 0)
            whole = false;
    if (from >= 0)
        close(from);
    free(path);
    return whole;
}

/* ---- names ----------------------------------------------------------------------------------- */

/* A name for a new link before it replaces another. */
static void temporary_name(char *out, size_t size)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    snprintf(out, size, ".llama3.%ld.%ld.tmp", (long)getpid(), now.tv_nsec);
}

static bool is_link_to(int folder, const char *name, const char *target)
{
    char found[PATH_MAX];
    ssize_t n = readlinkat(folder, name, found, sizeof found);
    return n == (ssize_t)strlen(target) && memcmp(found, target, (size_t)n) == 0;
}

static int link_name(const struct store *store, const struct hub_file *file,
                     struct llama3_error *err)
{
    struct buf target = {0};
    char temporary[64];
    const char *last = strrchr(file->name, '/');
    last = last != NULL ? last + 1 : file->name;
    int folder = enter_below(store->snapshot, file->name, err);
    if (folder < 0)
        return -1;
    buf_add_str(&target, "../../");
    for (const char *c = file->name; *c != '\0'; c++)
        if (*c == '/')
            buf_add_str(&target, "../");
    buf_add_str(&target, "blobs/");
    buf_add_str(&target, file->etag);
    temporary_name(temporary, sizeof temporary);
    int result = 0;
    if (target.failed)
        result = error_memory(err, "a link", target.size);
    else if (symlinkat(target.data, folder, last) != 0 && /* exists: replace it */
             !is_link_to(folder, last, target.data) &&
             (symlinkat(target.data, folder, temporary) != 0 ||
              renameat(folder, temporary, folder, last) != 0)) {
        result =
            error_set(err, LLAMA3_EIO, "%s/%s: %s", store->snapshot, file->name, strerror(errno));
        unlinkat(folder, temporary, 0);
    }
    buf_free(&target);
    close(folder);
    return result;
}

int store_write(const char *path, const char *text, struct llama3_error *err)
{
    struct new_file file;
    struct stat st;
    if (lstat(path, &st) == 0 && S_ISLNK(st.st_mode)) /* its target is somebody else's */
        unlink(path);
    if (new_file_open(&file, path, NEW_FILE_MODE, err) != 0)
        return -1;
    if (new_file_write(&file, text, strlen(text), err) == 0)
        return new_file_commit(&file, err);
    new_file_abandon(&file);
    return -1;
}

static int write_note(const struct store *store, const struct hub_file *file,
                      struct llama3_error *err)
{
    char text[256];
    char *path = with_suffix(store->arriving, file->name, ".metadata", err);
    if (path == NULL)
        return -1;
    snprintf(text, sizeof text, "%s\n%s\n%lld.0\n", store->commit, file->etag,
             (long long)time(NULL));
    int result = store_write(path, text, err);
    free(path);
    return result;
}

int store_name(const struct store *store, const struct hub_file *file, struct llama3_error *err)
{
    return store->local ? write_note(store, file, err) : link_name(store, file, err);
}

static bool says(const char *path, const char *text)
{
    size_t size;
    char *found = file_read(path, 256, &size, NULL, NULL);
    bool same = found != NULL && strcmp(found, text) == 0;
    free(found);
    return same;
}

int store_set_ref(const struct store *store, const char *revision, struct llama3_error *err)
{
    if (store->local || strcmp(revision, store->commit) == 0)
        return 0;
    char *refs = path_join(store->root, "refs", err);
    char *path = refs == NULL ? NULL : path_join(refs, revision, err);
    int result = path == NULL ? -1 : 0;
    if (result == 0 && !says(path, store->commit)) /* the cache may be read-only */
        result = make_below(refs, revision, err) == 0 ? store_write(path, store->commit, err) : -1;
    free(path);
    free(refs);
    return result;
}

/* ---- int4 ------------------------------------------------------------------------------------ */

int store_int4(const struct store *store, struct int4_paths *paths, struct llama3_error *err)
{
    char name[HUB_COMMIT + 16];
    char *below = store->local ? strdup(store->arriving) : path_join(store->root, "llama3", err);
    *paths = (struct int4_paths){0};
    if (below == NULL || (!store->local && make_folder(store->root, "llama3", err) != 0)) {
        free(below);
        return -1;
    }
    paths->out = store->local ? path_join(store->root, "int4.safetensors", err)
                              : hub_int4_path(store->root, store->commit, err);
    snprintf(name, sizeof name, "%s.sources", store->commit);
    paths->links = path_join(below, name, err);
    snprintf(name, sizeof name, "%s-int4", store->local ? "this" : store->commit);
    paths->source = with_suffix(below, name, ".made-of", err);
    paths->lock = with_suffix(store->locks, name, ".lock", err);
    free(below);
    if (paths->out != NULL && paths->links != NULL && paths->source != NULL && paths->lock != NULL)
        return 0;
    int4_paths_free(paths);
    return -1;
}

void int4_paths_free(struct int4_paths *paths)
{
    free(paths->out);
    free(paths->source);
    free(paths->links);
    free(paths->lock);
    *paths = (struct int4_paths){0};
}

static int remove_file(const char *path, struct llama3_error *err)
{
    if (unlink(path) == 0 || errno == ENOENT)
        return 0;
    return error_system(err, path);
}

int store_drop(const struct store *store, const struct hub_file *file, struct llama3_error *err)
{
    char *named = store_path(store, file->name, err);
    char *other = store->local ? with_suffix(store->arriving, file->name, ".metadata", err)
                               : path_join(store->arriving, file->etag, err);
    int result = named == NULL || other == NULL ? -1 : remove_file(named, err);
    if (result == 0 && (store->local || folder_links(store->root, file->etag, NULL, 0) == 0))
        result = remove_file(other, err);
    free(other);
    free(named);
    return result;
}

/* ---- locks and room -------------------------------------------------------------------------- */

/* Whether the locked file still has this name: the one who held the lock may have removed it. */
static bool is_current(int fd, const char *path)
{
    struct stat open_one, named;
    return fstat(fd, &open_one) == 0 && stat(path, &named) == 0 &&
           open_one.st_ino == named.st_ino && open_one.st_dev == named.st_dev;
}

int store_lock(const char *path, bool *busy, struct llama3_error *err)
{
    *busy = false;
    for (;;) {
        int fd = open(path, O_RDWR | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0664);
        if (fd < 0)
            return error_system(err, path);
        if (flock(fd, LOCK_EX | LOCK_NB) == 0) {
            if (is_current(fd, path))
                return fd;
            close(fd);
            continue;
        }
        int saved = errno;
        close(fd);
        if (saved == EWOULDBLOCK) {
            *busy = true;
            return -1;
        }
        if (saved != EINTR)
            return error_set(err, LLAMA3_EIO, "%s: %s", path, strerror(saved));
    }
}

bool store_free_bytes(const char *folder, uint64_t *bytes)
{
    struct statvfs fs;
    if (statvfs(folder, &fs) != 0)
        return false;
    *bytes = (uint64_t)fs.f_bavail * fs.f_frsize;
    return true;
}
