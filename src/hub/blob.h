/* SPDX-License-Identifier: MIT */
/*
 * blob.h: a file while it is fetched. It is sparse and has its full size from the beginning. Its
 * bytes come in any order, and a second file records which are there, so that another run resumes.
 * A thread hashes it from the front (hasher.h). It gets its final name once the hash is right.
 *
 * Recorded bytes have been written, but need not be on disk: after a power cut the hash finds out.
 */
#ifndef HUB_BLOB_H
#define HUB_BLOB_H

#include <stdatomic.h>

#include "hub/digest.h"
#include "hub/ranges.h"
#include "hub/store.h"

enum blob_state {
    BLOB_WAITING, /* not opened yet, or another process has its lock */
    BLOB_OPEN,    /* being fetched */
    BLOB_DONE     /* under its final name */
};

enum blob_verdict { BLOB_UNHASHED = 0, BLOB_RIGHT, BLOB_WRONG, BLOB_UNREADABLE };

struct blob {
    const struct hub_file *file;
    struct blob_paths paths;
    enum blob_state state;
    int fd, ranges_fd, lock; /* -1: none */
    struct ranges have;      /* what has come, dropped or not */
    struct ranges dropped;   /* what is no longer on disk */
    bool changed;            /* since the last record */
    bool shared;             /* another program fetches it too */
    int mismatches;          /* how often its hash was wrong */

    /* the hasher's; the first `ready` bytes can be hashed */
    _Atomic uint64_t ready, hashed;
    _Atomic int verdict; /* enum blob_verdict */
    struct digest digest;
};

/* Zeroes *blob and sets its paths. */
int blob_init(struct blob *blob, const struct store *store, const struct hub_file *file,
              struct llama3_error *err);
/* From BLOB_WAITING to BLOB_OPEN, or BLOB_DONE if the file is complete. If another process has the
 * lock, it stays BLOB_WAITING. */
int blob_open(struct blob *blob, const struct store *store, struct llama3_error *err);

/* Whether a blob that stays BLOB_WAITING is locked by another program; then it is marked shared. */
bool blob_note_shared(struct blob *blobs, size_t n, size_t index);

int blob_write(struct blob *blob, uint64_t offset, const void *bytes, size_t n,
               struct llama3_error *err);
/* Records what is there. */
int blob_record(struct blob *blob, struct llama3_error *err);

/* Complete and right: gives it its name. */
int blob_finish(struct blob *blob, const struct store *store, struct llama3_error *err);
/* Complete and wrong: renames the file to keep it, and starts anew. The hasher must be held. */
int blob_set_apart(struct blob *blob, struct llama3_error *err);

/* Frees the disk blocks within [begin, end), which have been hashed and aren't needed any more.
 * They still count as there. The hasher must be held. */
int blob_drop(struct blob *blob, uint64_t begin, uint64_t end, struct llama3_error *err);

/* Deletes it; opening it starts anew. The hasher must be held. */
void blob_discard(struct blob *blob);

/* Closes it in any state. What has come stays for another run. */
void blob_close(struct blob *blob);

/* Bytes that haven't come yet. */
uint64_t blob_missing(const struct blob *blob);

#endif
