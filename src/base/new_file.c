/* SPDX-License-Identifier: MIT */
/* new_file.c: files without a name where the system has them (O_TMPFILE), so that not even a kill
 * leaves one behind. */
#include "config.h" /* O_TMPFILE, fallocate, sync_file_range */

#include "base/new_file.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { TRIES = 100, WRITE_BEHIND = 32 << 20 };

/* ---- opening --------------------------------------------------------------------------------- */

/* The directory of a path, for free(). */
static char *folder_of(const char *path)
{
    const char *slash = strrchr(path, '/');
    if (slash == NULL)
        return strdup(".");
    return strndup(path, slash == path ? 1 : (size_t)(slash - path));
}

/* Tries names beside target, ".NAME.RANDOM", until `make` makes one. make returns 0, or -1 with
 * errno; after EEXIST another name is tried. */
static int name_beside(struct new_file *file, int (*make)(struct new_file *file))
{
    const char *slash = strrchr(file->target, '/');
    int folder = slash == NULL ? 0 : (int)(slash + 1 - file->target);
    size_t size = strlen(file->target) + 32;
    file->temporary = malloc(size);
    if (file->temporary == NULL)
        return -1;
    for (int i = 0; i < TRIES; i++) {
        uint64_t random = (uint64_t)i;
        if (getentropy(&random, sizeof random) != 0)
            random ^= (uint64_t)getpid() << 32;
        snprintf(file->temporary, size, "%.*s.%.200s.%016" PRIx64, folder, file->target,
                 file->target + folder, random);
        if (make(file) == 0)
            return 0;
        if (errno != EEXIST)
            break;
    }
    int saved = errno;
    free(file->temporary);
    file->temporary = NULL;
    errno = saved;
    return -1;
}

static int create_named(struct new_file *file)
{
    file->fd = open(file->temporary, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, file->mode);
    return file->fd < 0 ? -1 : 0;
}

static int link_unnamed(struct new_file *file)
{
    char from[64];
    snprintf(from, sizeof from, "/proc/self/fd/%d", file->fd);
    return linkat(AT_FDCWD, from, AT_FDCWD, file->temporary, AT_SYMLINK_FOLLOW);
}

/* An unnamed file in a folder. -1 where there are none, or where it could not be named later. */
static int create_unnamed(const char *folder, mode_t mode)
{
    return access("/proc/self/fd", X_OK) != 0 ? -1
                                              : open(folder, O_RDWR | O_TMPFILE | O_CLOEXEC, mode);
}

/* Abandons the file, or closes one that has its name, and passes the result on. */
static int finish(struct new_file *file, int result)
{
    new_file_abandon(file);
    return result;
}

/* Zeroes the file and keeps its name for errors. */
static int begin(struct new_file *file, const char *path, struct llama3_error *err)
{
    *file = (struct new_file){.fd = -1, .path = strdup(path)};
    return file->path != NULL ? 0 : error_memory(err, "a path", strlen(path) + 1);
}

int new_file_begin(struct new_file *file, const char *path, mode_t mode, struct llama3_error *err)
{
    struct stat st;
    if (begin(file, path, err) != 0)
        return -1;
    file->replaces = stat(path, &st) == 0;
    file->mode = file->replaces ? st.st_mode & NEW_FILE_MODE : mode;
    if (file->replaces && !S_ISREG(st.st_mode))
        return finish(file,
                      error_set(err, LLAMA3_EIO, "%s: expected a regular file or nothing, found %s",
                                path, S_ISDIR(st.st_mode) ? "a directory" : "a special file"));
    file->target = file->replaces ? realpath(path, NULL) : strdup(path);
    return file->target != NULL ? 0 : finish(file, error_system(err, path));
}

int new_file_open(struct new_file *file, const char *path, mode_t mode, struct llama3_error *err)
{
    if (new_file_begin(file, path, mode, err) != 0)
        return -1;
    char *folder = folder_of(file->target);
    if (folder != NULL)
        file->fd = create_unnamed(folder, mode);
    int result = 0;
    if (folder == NULL || (file->fd < 0 && name_beside(file, create_named) != 0) ||
        ((file->replaces || mode != NEW_FILE_MODE) && fchmod(file->fd, file->mode) != 0 &&
         errno != EPERM)) /* EPERM: the file system has no modes */
        result = finish(file, error_system(err, path));
    free(folder);
    return result;
}

/* An unnamed file that is never named; -1 with errno. */
static int create_temporary(const char *folder)
{
    char path[4096];
    int fd = open(folder, O_RDWR | O_TMPFILE | O_CLOEXEC, NEW_FILE_PRIVATE);
    if (fd >= 0 || (size_t)snprintf(path, sizeof path, "%s/llama3-XXXXXX", folder) >= sizeof path)
        return fd;
    fd = mkostemp(path, O_CLOEXEC);
    if (fd >= 0)
        unlink(path);
    return fd;
}

int new_file_open_unnamed(struct new_file *file, struct llama3_error *err)
{
    static const char *const usual[] = {"/var/tmp", "/tmp"};
    const char *named = getenv("TMPDIR");
    bool is_named = named != NULL && named[0] != '\0';
    const char *const *folders = is_named ? &named : usual;
    for (size_t i = 0; i < (is_named ? 1 : sizeof usual / sizeof *usual); i++) {
        int fd = create_temporary(folders[i]);
        if (fd < 0)
            continue;
        if (begin(file, folders[i], err) == 0) {
            file->fd = fd;
            return 0;
        }
        close(fd);
        return -1;
    }
    int reason = errno;
    return is_named ? error_set(err, LLAMA3_EIO, "TMPDIR: %s: no temporary file: %s", named,
                                strerror(reason))
                    : error_set(err, LLAMA3_EIO, "/var/tmp or /tmp: no temporary file: %s",
                                strerror(reason));
}

/* ---- writing --------------------------------------------------------------------------------- */

static int refused(const struct new_file *file, struct llama3_error *err)
{
    int reason = errno;
    if ((reason == ENOSPC || reason == EDQUOT || reason == EFBIG) && file->needed > 0)
        return error_set(err, LLAMA3_EIO, "%s: %s: %" PRIu64 " bytes needed", file->path,
                         strerror(reason), file->needed);
    return error_set(err, LLAMA3_EIO, "%s: %s", file->path, strerror(reason));
}

/* The size in a partial file's record is the size needed, unless the file is damaged. */
static int check_size(const struct new_file *file, uint64_t size, struct llama3_error *err)
{
    struct stat st;
    if (file->kept == 0 || (fstat(file->fd, &st) == 0 && (uint64_t)st.st_size == size))
        return 0;
    return error_input(err, "%s: expected %" PRIu64 " bytes, found others", file->temporary, size);
}

int new_file_reserve(struct new_file *file, uint64_t size, struct llama3_error *err)
{
    uint64_t all = size + file->tail;
    file->needed = size;
    if (all < size || all > INT64_MAX)
        return error_set(err, LLAMA3_EIO, "%s: too large for a file: %" PRIu64 " bytes", file->path,
                         size);
    if (check_size(file, all, err) != 0)
        return -1;
    if (all == 0 || fallocate(file->fd, 0, 0, (off_t)all) == 0)
        return 0;
    if (errno != ENOSPC && errno != EFBIG && errno != EDQUOT &&
        (file->tail == 0 || ftruncate(file->fd, (off_t)all) == 0))
        return 0; /* not every file system can reserve; the writes will tell */
    return refused(file, err);
}

bool new_file_keeps(const struct new_file *file, size_t n)
{
    return file->size <= file->kept && n <= file->kept - file->size;
}

int new_file_read(const struct new_file *file, void *bytes, size_t n, struct llama3_error *err)
{
    char *at = bytes;
    for (size_t done = 0; done < n;) {
        ssize_t got = pread(file->fd, at + done, n - done, (off_t)(file->size + done));
        if (got < 0 && errno == EINTR)
            continue;
        if (got <= 0)
            return error_set(err, LLAMA3_EIO, "%s: %s", file->path,
                             got == 0 ? "it was cut short" : strerror(errno));
        done += (size_t)got;
    }
    return 0;
}

int new_file_write(struct new_file *file, const void *bytes, size_t n, struct llama3_error *err)
{
    const char *at = bytes;
    uint64_t before = file->size;
    if (new_file_keeps(file, n)) {
        file->size += n;
        return 0;
    }
    while (n > 0) {
        ssize_t written = pwrite(file->fd, at, n, (off_t)file->size);
        if (written < 0 && errno == EINTR)
            continue;
        if (written < 0)
            return refused(file, err);
        at += written;
        n -= (size_t)written;
        file->size += (uint64_t)written;
    }
    /* The disk starts writing now, so that little is left to wait for at the end. */
    if (file->size / WRITE_BEHIND > before / WRITE_BEHIND)
        sync_file_range(file->fd, 0, 0, SYNC_FILE_RANGE_WRITE);
    return 0;
}

/* ---- ending ---------------------------------------------------------------------------------- */

int new_file_sync_folder(const char *path)
{
    char *folder = folder_of(path);
    int fd = folder == NULL ? -1 : open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    free(folder);
    if (fd < 0)
        return errno == EACCES ? 0 : -1; /* a directory to write in, not to list */
    int result = fsync(fd) == 0 || errno == EINVAL ? 0 : -1;
    int saved = errno;
    close(fd);
    errno = saved;
    return result;
}

int new_file_trim(struct new_file *file, struct llama3_error *err)
{
    bool longer = file->needed + file->tail > file->size;
    return !longer || ftruncate(file->fd, (off_t)file->size) == 0 ? 0 : refused(file, err);
}

/* A partial file has had fewer permissions until now. EPERM: the file system has no modes. */
static int set_mode(const struct new_file *file)
{
    return file->partial == NULL || fchmod(file->fd, file->mode) == 0 || errno == EPERM ? 0 : -1;
}

static int commit(struct new_file *file, bool synced, struct llama3_error *err)
{
    if (new_file_trim(file, err) != 0)
        return finish(file, -1);
    if (set_mode(file) != 0 || (synced && fsync(file->fd) != 0) ||
        (file->temporary == NULL && name_beside(file, link_unnamed) != 0) ||
        rename(file->temporary, file->target) != 0)
        return finish(file, refused(file, err));
    free(file->temporary);
    file->temporary = NULL;
    int result = synced ? new_file_sync_folder(file->target) : 0;
    return finish(file, result == 0 ? 0 : error_system(err, file->path));
}

int new_file_commit(struct new_file *file, struct llama3_error *err)
{
    return commit(file, true, err);
}

int new_file_commit_unsynced(struct new_file *file, struct llama3_error *err)
{
    return commit(file, false, err);
}

void new_file_abandon(struct new_file *file)
{
    if (file->temporary != NULL)
        unlink(file->temporary);
    if (file->path != NULL && file->fd >= 0)
        close(file->fd);
    free(file->temporary);
    free(file->partial);
    free(file->target);
    free(file->path);
    *file = (struct new_file){.fd = -1};
}
