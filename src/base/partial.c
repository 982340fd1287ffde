/* SPDX-License-Identifier: MIT */
#include "config.h" /* O_NOFOLLOW, flock */

#include "base/partial.h"

#include <errno.h>
#include <fcntl.h>
#include <nettle/sha2.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

enum { TRIES = 100, SLOT = 4096, SLOTS = 2, FORM = 2, PIECE = 1 << 16 };

static const char magic[8] = "llama3pt";

/* In this machine's byte order: the file does not leave it before it is whole. */
struct partial_record {
    char magic[8];
    uint32_t version;
    uint32_t n_state;
    uint64_t number; /* the higher one is newer */
    uint64_t kept;   /* bytes that are good */
    uint64_t size;   /* of the file, both records included */
    uint32_t mode;   /* the file's final mode */
    uint32_t unused;
    uint8_t key[PARTIAL_KEY];
    uint8_t state[PARTIAL_STATE];
    uint8_t contents[SHA256_DIGEST_SIZE]; /* of the bytes that are good */
    uint8_t checksum[SHA256_DIGEST_SIZE]; /* of all before it */
};

struct partial {
    uint8_t key[PARTIAL_KEY];
    struct partial_record last; /* number 0: there is none */
    struct sha256_ctx contents; /* of the bytes so far */
    uint64_t summed;            /* how many */
};

static void sum(const struct partial_record *record, uint8_t out[SHA256_DIGEST_SIZE])
{
    struct sha256_ctx context;
    sha256_init(&context);
    sha256_update(&context, offsetof(struct partial_record, checksum), (const uint8_t *)record);
    sha256_digest(&context, SHA256_DIGEST_SIZE, out);
}

static void begin_sum(struct partial *partial)
{
    sha256_init(&partial->contents);
    partial->summed = 0;
}

/* The checksum of the file's first `end` bytes, read from the file. `end` never decreases. */
static int sum_contents(const struct new_file *file, uint64_t end, uint8_t out[SHA256_DIGEST_SIZE])
{
    struct partial *p = file->partial;
    uint8_t piece[PIECE];
    while (p->summed < end) {
        size_t n = end - p->summed < PIECE ? (size_t)(end - p->summed) : PIECE;
        ssize_t got = pread(file->fd, piece, n, (off_t)p->summed);
        if (got < 0 && errno == EINTR)
            continue;
        if (got <= 0) {
            errno = got < 0 ? errno : EIO;
            return -1;
        }
        sha256_update(&p->contents, (size_t)got, piece);
        p->summed += (uint64_t)got;
    }
    struct sha256_ctx context = p->contents;
    sha256_digest(&context, SHA256_DIGEST_SIZE, out);
    return 0;
}

/* ---- what is there --------------------------------------------------------------------------- */

static bool read_record(const struct new_file *file, uint64_t size, int slot,
                        struct partial_record *out)
{
    uint8_t checksum[SHA256_DIGEST_SIZE];
    uint64_t at = size - (uint64_t)(SLOTS - slot) * SLOT;
    if (size < SLOTS * SLOT || pread(file->fd, out, sizeof *out, (off_t)at) != sizeof *out)
        return false;
    sum(out, checksum);
    return memcmp(out->checksum, checksum, sizeof checksum) == 0 &&
           memcmp(out->magic, magic, sizeof magic) == 0 && out->version == FORM &&
           out->size == size && out->kept <= size - SLOTS * SLOT && out->number > 0 &&
           out->n_state <= PARTIAL_STATE && memcmp(out->key, file->partial->key, PARTIAL_KEY) == 0;
}

static bool find_record(struct new_file *file, uint64_t size)
{
    struct partial_record record, *last = &file->partial->last;
    for (int slot = 0; slot < SLOTS; slot++)
        if (read_record(file, size, slot, &record) && record.number > last->number)
            *last = record;
    uint8_t contents[SHA256_DIGEST_SIZE];
    if (last->number == 0)
        return false;
    if (sum_contents(file, last->kept, contents) != 0 ||
        memcmp(contents, last->contents, sizeof contents) != 0) {
        begin_sum(file->partial);
        last->number = 0;
        return false;
    }
    file->kept = last->kept;
    if (!file->replaces)
        file->mode = (mode_t)last->mode;
    return true;
}

/* Whether the name stands for the file that is open. */
static bool is_named(const struct new_file *file, const struct stat *st)
{
    struct stat named;
    return lstat(file->temporary, &named) == 0 && st->st_dev == named.st_dev &&
           st->st_ino == named.st_ino;
}

/* Whether nobody but us can have written to it. */
static bool is_ours(const struct stat *st)
{
    return S_ISREG(st->st_mode) && st->st_uid == geteuid() && st->st_nlink == 1 &&
           (st->st_mode & (S_IWGRP | S_IWOTH)) == 0;
}

/* ---- opening --------------------------------------------------------------------------------- */

enum outcome { DONE, AGAIN, FAILED };

/* One run at a time. A file system without locks cannot tell. */
static enum outcome lock(const struct new_file *file, struct llama3_error *err)
{
    if (flock(file->fd, LOCK_EX | LOCK_NB) == 0 || errno != EWOULDBLOCK)
        return DONE;
    error_set(err, LLAMA3_EIO, "%s: another run is making this file, and has locked %s", file->path,
              file->temporary);
    return FAILED;
}

/* Creates a file that only its owner may write to until it is whole. */
static enum outcome create(struct new_file *file, struct llama3_error *err)
{
    struct stat st;
    const mode_t own = S_IRUSR | S_IWUSR, others = S_IWGRP | S_IWOTH;
    file->fd = open(file->temporary, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, file->mode | own);
    if (file->fd < 0 && errno == EEXIST)
        return AGAIN;
    if (file->fd < 0 || fstat(file->fd, &st) != 0) {
        error_system(err, file->path);
        return FAILED;
    }
    enum outcome locked = lock(file, err);
    if (locked != DONE || !is_named(file, &st)) /* somebody was faster */
        return locked == FAILED ? FAILED : AGAIN;
    if (!file->replaces)
        file->mode = st.st_mode & 0777;
    if (fchmod(file->fd, (file->mode | own) & ~others) != 0 && errno != EPERM) {
        error_system(err, file->temporary);
        return FAILED;
    }
    return DONE;
}

static enum outcome remove_other(const struct new_file *file, struct llama3_error *err)
{
    if (unlink(file->temporary) == 0 || errno == ENOENT)
        return AGAIN;
    if (errno == EISDIR)
        error_set(err, LLAMA3_EIO, "%s: expected a regular file or nothing, found a directory",
                  file->temporary);
    else
        error_system(err, file->temporary);
    return FAILED;
}

/* Opens the existing file if this run can continue it; else removes it. */
static enum outcome try_open(struct new_file *file, struct llama3_error *err)
{
    struct stat st;
    file->fd = open(file->temporary, O_RDWR | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
    if (file->fd < 0)
        return errno == ENOENT ? create(file, err) : remove_other(file, err);
    if (fstat(file->fd, &st) != 0 || !is_ours(&st))
        return remove_other(file, err);
    enum outcome locked = lock(file, err);
    if (locked == FAILED || fstat(file->fd, &st) != 0 || !is_named(file, &st))
        return locked == FAILED ? FAILED : AGAIN; /* meanwhile it was finished or given up */
    return is_ours(&st) && find_record(file, (uint64_t)st.st_size) ? DONE : remove_other(file, err);
}

static int open_begun(struct new_file *file, const uint8_t key[PARTIAL_KEY],
                      struct llama3_error *err)
{
    size_t size = strlen(file->target) + sizeof ".partial";
    file->temporary = malloc(size);
    file->partial = calloc(1, sizeof *file->partial);
    if (file->temporary == NULL || file->partial == NULL)
        return error_memory(err, "a path", size);
    snprintf(file->temporary, size, "%s.partial", file->target);
    memcpy(file->partial->key, key, PARTIAL_KEY);
    begin_sum(file->partial);
    file->tail = SLOTS * SLOT;
    for (int i = 0; i < TRIES; i++) {
        enum outcome outcome = try_open(file, err);
        if (outcome == DONE)
            return 0;
        if (file->fd >= 0)
            close(file->fd);
        file->fd = -1;
        if (outcome == FAILED)
            return -1;
    }
    return error_set(err, LLAMA3_EIO, "%s: expected it to stay what it is for a moment",
                     file->temporary);
}

int partial_open(struct new_file *file, const char *path, mode_t mode,
                 const uint8_t key[PARTIAL_KEY], struct llama3_error *err)
{
    if (new_file_begin(file, path, mode, err) != 0)
        return -1;
    if (open_begun(file, key, err) == 0)
        return 0;
    free(file->temporary); /* which may be somebody else's */
    file->temporary = NULL;
    new_file_abandon(file);
    return -1;
}

/* ---- marks ----------------------------------------------------------------------------------- */

bool partial_state(const struct new_file *file, void *state, size_t n)
{
    if (file->partial == NULL || file->kept == 0 || file->partial->last.n_state != n)
        return false;
    memcpy(state, file->partial->last.state, n);
    return true;
}

int partial_mark(struct new_file *file, const void *state, size_t n, struct llama3_error *err)
{
    struct partial *partial = file->partial;
    struct partial_record record;
    memset(&record, 0, sizeof record);
    memcpy(record.magic, magic, sizeof magic);
    record.version = FORM;
    record.n_state = (uint32_t)n;
    record.number = partial->last.number + 1;
    record.kept = file->size;
    record.size = file->needed + file->tail;
    record.mode = file->mode;
    memcpy(record.key, partial->key, PARTIAL_KEY);
    memcpy(record.state, state, n);
    if (sum_contents(file, file->size, record.contents) != 0)
        return error_system(err, file->temporary);
    sum(&record, record.checksum);
    off_t at = (off_t)(file->needed + record.number % SLOTS * SLOT);
    if (fdatasync(file->fd) != 0)
        return error_system(err, file->temporary);
    ssize_t written = pwrite(file->fd, &record, sizeof record, at);
    if (written != sizeof record) {
        errno = written < 0 ? errno : ENOSPC;
        return error_system(err, file->temporary);
    }
    partial->last = record;
    return 0;
}

int partial_settle(struct new_file *file, struct llama3_error *err)
{
    return fdatasync(file->fd) == 0 ? 0 : error_system(err, file->temporary);
}

void partial_forget(struct new_file *file)
{
    if (file->partial != NULL)
        file->partial->last.number = 0;
}

bool partial_close(struct new_file *file)
{
    bool stays = file->partial != NULL && file->partial->last.number > 0;
    if (stays) {
        free(file->temporary);
        file->temporary = NULL;
    }
    new_file_abandon(file);
    return stays;
}
