/* SPDX-License-Identifier: MIT */
#include "config.h" /* fallocate, O_NOFOLLOW */

#include "hub/blob.h"

#include <errno.h>
#include <fcntl.h>
#include <nettle/version.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/new_file.h"

/* A record may hold a digest in progress. That is nettle's structure, so its version counts. */
enum { RECORD_VERSION = 1, NETTLE = NETTLE_VERSION_MAJOR << 8 | NETTLE_VERSION_MINOR };

enum { WRITE_BEHIND = 8 << 20 };

static const char magic[8] = "llama3rg";

struct blob_record {
    char magic[8];
    uint32_t version, nettle;
    uint64_t size;
    char etag[HUB_ETAG + 1];
    struct ranges have, dropped;
    uint64_t hashed; /* bytes in `digest`; 0: nothing was dropped, so hash from the front */
    struct digest digest;
    uint8_t checksum[SHA256_DIGEST_SIZE];
};

static void sum(const struct blob_record *record, uint8_t out[SHA256_DIGEST_SIZE])
{
    struct sha256_ctx context;
    sha256_init(&context);
    sha256_update(&context, offsetof(struct blob_record, checksum), (const uint8_t *)record);
    sha256_digest(&context, SHA256_DIGEST_SIZE, out);
}

int blob_init(struct blob *blob, const struct store *store, const struct hub_file *file,
              struct llama3_error *err)
{
    *blob = (struct blob){.file = file, .fd = -1, .ranges_fd = -1, .lock = -1};
    return store_paths(store, file, &blob->paths, err);
}

/* The number of bytes before the first gap. */
static uint64_t front(const struct blob *blob)
{
    uint64_t until;
    return ranges_gap(&blob->have, 0, blob->file->size, &until);
}

static void begin(struct blob *blob)
{
    blob->have = blob->dropped = (struct ranges){0};
    blob->changed = true;
    digest_begin(&blob->digest, blob->file->etag, blob->file->size);
    blob->ready = 0;
    blob->hashed = 0;
    blob->verdict = BLOB_UNHASHED;
}

/* Resumes from an earlier run's record, if it is of this file. */
static void go_on(struct blob *blob, const struct store *store)
{
    struct blob_record record;
    uint8_t checksum[SHA256_DIGEST_SIZE];
    struct stat st;
    begin(blob);
    if (pread(blob->ranges_fd, &record, sizeof record, 0) != (ssize_t)sizeof record)
        return;
    sum(&record, checksum);
    if (memcmp(record.magic, magic, sizeof magic) != 0 || record.version != RECORD_VERSION ||
        memcmp(checksum, record.checksum, sizeof checksum) != 0 ||
        record.size != blob->file->size || strcmp(record.etag, blob->file->etag) != 0 ||
        !ranges_valid(&record.have, record.size) || !ranges_valid(&record.dropped, record.size) ||
        record.hashed > record.size ||
        (record.dropped.n > 0 && (!store->drops || record.nettle != NETTLE)) ||
        fstat(blob->fd, &st) != 0 || (uint64_t)st.st_size != record.size)
        return;
    blob->have = record.have;
    blob->dropped = record.dropped;
    if (record.dropped.n > 0) {
        blob->digest = record.digest;
        blob->hashed = record.hashed;
    }
    blob->ready = front(blob);
}

/* Opens a regular file with one name only: through a hard link we would write to another's file. */
static int open_own(const char *path, struct llama3_error *err)
{
    struct stat st;
    if (lstat(path, &st) == 0 && S_ISREG(st.st_mode) && st.st_nlink > 1 && unlink(path) != 0)
        return error_system(err, path);
    int fd = open(path, O_RDWR | O_CREAT | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC, 0666);
    if (fd < 0)
        return error_system(err, path);
    if (fstat(fd, &st) == 0 && S_ISREG(st.st_mode) && st.st_nlink == 1)
        return fd;
    close(fd);
    return error_set(err, LLAMA3_EIO, "%s: expected a regular file of one name, found another kind",
                     path);
}

/* With the lock held. */
static int open_files(struct blob *blob, const struct store *store, struct llama3_error *err)
{
    blob->fd = open_own(blob->paths.incomplete, err);
    if (blob->fd < 0)
        return -1;
    blob->ranges_fd = open_own(blob->paths.ranges, err);
    if (blob->ranges_fd < 0)
        return -1;
    go_on(blob, store);
    if (blob->have.n == 0 && ftruncate(blob->fd, 0) != 0)
        return error_system(err, blob->paths.incomplete);
    if (ftruncate(blob->fd, (off_t)blob->file->size) != 0)
        return error_system(err, blob->paths.incomplete);
    if (blob->have.n == 0 && store_seed(store, blob->file, blob->fd)) {
        ranges_add(&blob->have, 0, blob->file->size);
        blob->ready = blob->file->size;
    }
    blob->state = BLOB_OPEN;
    return blob_record(blob, err);
}

/* Removes what a run left that ended just after the file got its name. */
static void tidy(struct blob *blob)
{
    bool busy;
    if (access(blob->paths.ranges, F_OK) != 0 && access(blob->paths.incomplete, F_OK) != 0)
        return;
    if (blob->lock < 0)
        blob->lock = store_lock(blob->paths.lock, &busy, NULL);
    if (blob->lock < 0)
        return; /* whoever has the lock does it */
    unlink(blob->paths.incomplete);
    unlink(blob->paths.ranges);
}

int blob_open(struct blob *blob, const struct store *store, struct llama3_error *err)
{
    bool busy = false, there = store_has(store, blob->file, &blob->paths);
    if (!there) {
        blob->lock = store_lock(blob->paths.lock, &busy, err);
        if (blob->lock < 0)
            return busy ? 0 : -1;
        there = store_has(store, blob->file, &blob->paths); /* made meanwhile */
    }
    if (!there)
        return open_files(blob, store, err);
    blob->state = BLOB_DONE;
    tidy(blob);
    int result = store_name(store, blob->file, err);
    if (blob->lock >= 0)
        close(blob->lock);
    blob->lock = -1;
    return result;
}

bool blob_note_shared(struct blob *blobs, size_t n, size_t index)
{
    struct blob *blob = &blobs[index];
    if (blob->state != BLOB_WAITING)
        return false;
    for (size_t i = 0; i < n; i++) /* files with the same contents are one blob */
        if (i != index && blobs[i].state == BLOB_OPEN &&
            strcmp(blobs[i].paths.lock, blob->paths.lock) == 0)
            return false;
    return blob->shared = true;
}

int blob_write(struct blob *blob, uint64_t offset, const void *bytes, size_t n,
               struct llama3_error *err)
{
    const char *at = bytes;
    for (uint64_t done = 0; done < n;) {
        ssize_t written = pwrite(blob->fd, at + done, n - done, (off_t)(offset + done));
        if (written < 0 && errno == EINTR)
            continue;
        if (written < 0)
            return error_system(err, blob->paths.incomplete);
        done += (uint64_t)written;
    }
    if (!ranges_add(&blob->have, offset, offset + n))
        return error_set(err, LLAMA3_EIO, "%s: too many gaps", blob->paths.incomplete);
    /* Start writeback now, so that fsync() has little to do at the end. */
    if ((offset + n) / WRITE_BEHIND > offset / WRITE_BEHIND && offset + n >= WRITE_BEHIND)
        sync_file_range(blob->fd, (off_t)(offset + n - WRITE_BEHIND), WRITE_BEHIND,
                        SYNC_FILE_RANGE_WRITE);
    blob->changed = true;
    blob->ready = front(blob);
    return 0;
}

int blob_record(struct blob *blob, struct llama3_error *err)
{
    struct blob_record record;
    if (!blob->changed || blob->state != BLOB_OPEN)
        return 0;
    memset(&record, 0, sizeof record); /* the checksum includes padding */
    memcpy(record.magic, magic, sizeof magic);
    record.version = RECORD_VERSION;
    record.nettle = NETTLE;
    record.size = blob->file->size;
    strcpy(record.etag, blob->file->etag);
    record.have = blob->have;
    record.dropped = blob->dropped;
    if (blob->dropped.n > 0) {
        record.hashed = blob->hashed;
        record.digest = blob->digest;
    }
    sum(&record, record.checksum);
    if (pwrite(blob->ranges_fd, &record, sizeof record, 0) != (ssize_t)sizeof record)
        return error_system(err, blob->paths.ranges);
    blob->changed = false;
    return 0;
}

/* ---- ends ------------------------------------------------------------------------------------ */

static void close_files(struct blob *blob)
{
    int *const fds[] = {&blob->fd, &blob->ranges_fd, &blob->lock};
    for (size_t i = 0; i < sizeof fds / sizeof *fds; i++) {
        if (*fds[i] >= 0)
            close(*fds[i]);
        *fds[i] = -1;
    }
}

int blob_finish(struct blob *blob, const struct store *store, struct llama3_error *err)
{
    if (fsync(blob->fd) != 0)
        return error_system(err, blob->paths.incomplete);
    if (rename(blob->paths.incomplete, blob->paths.final) != 0)
        return error_system(err, blob->paths.final);
    new_file_sync_folder(blob->paths.final); /* the name is right even if this fails */
    unlink(blob->paths.ranges);
    if (blob->mismatches > 0)
        unlink(blob->paths.mismatch);
    blob->state = BLOB_DONE;
    int result = store_name(store, blob->file, err);
    close_files(blob);
    return result;
}

int blob_set_apart(struct blob *blob, struct llama3_error *err)
{
    blob->mismatches++;
    if (rename(blob->paths.incomplete, blob->paths.mismatch) != 0)
        return error_system(err, blob->paths.mismatch);
    close(blob->fd);
    blob->fd = open_own(blob->paths.incomplete, err);
    if (blob->fd < 0)
        return -1;
    begin(blob);
    if (ftruncate(blob->fd, (off_t)blob->file->size) != 0)
        return error_system(err, blob->paths.incomplete);
    return blob_record(blob, err);
}

int blob_drop(struct blob *blob, uint64_t begin, uint64_t end, struct llama3_error *err)
{
    if (!ranges_add(&blob->dropped, begin, end))
        return 0; /* too many ranges: keep it for now */
    blob->changed = true;
    if (blob_record(blob, err) != 0)
        return -1;
    if (fdatasync(blob->ranges_fd) != 0)
        return error_system(err, blob->paths.ranges);
    if (fallocate(blob->fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, (off_t)begin,
                  (off_t)(end - begin)) != 0 &&
        errno != EOPNOTSUPP)
        return error_system(err, blob->paths.incomplete);
    return 0;
}

void blob_discard(struct blob *blob)
{
    if (blob->state == BLOB_OPEN) {
        unlink(blob->paths.incomplete);
        unlink(blob->paths.ranges);
        close_files(blob);
    }
    begin(blob);
    blob->state = BLOB_WAITING;
}

void blob_close(struct blob *blob)
{
    if (blob->state == BLOB_OPEN && blob->have.n == 0)
        blob_discard(blob);
    else
        blob_record(blob, NULL);
    close_files(blob);
    blob_paths_free(&blob->paths);
}

uint64_t blob_missing(const struct blob *blob)
{
    return blob->state == BLOB_DONE ? 0 : blob->file->size - ranges_bytes(&blob->have);
}
