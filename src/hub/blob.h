/* SPDX-License-Identifier: MIT */
/*
 * blob.h: a file that arrives. It is sparse and of full size from the beginning, its bytes come in
 * any order, and a second file says which are there; so whatever ends the program, another run goes
 * on. A thread of its own hashes it from the front as far as it is there (hasher.h). It gets its
 * final name once its hash is right.
 *
 * What is recorded has been written, but need not be on disk: after a power cut the hash finds out.
 */
#ifndef HUB_BLOB_H
#define HUB_BLOB_H

#include <stdatomic.h>

#include "hub/digest.h"
#include "hub/ranges.h"
#include "hub/store.h"

enum blob_state {
    BLOB_WAITING, /* not looked at yet, or another process has its lock */
    BLOB_OPEN,    /* arrives */
    BLOB_DONE     /* under its final name */
};

enum blob_verdict { BLOB_UNHASHED = 0, BLOB_RIGHT, BLOB_WRONG, BLOB_UNREADABLE };

struct blob {
    const struct hub_file *file;
    struct blob_paths paths;
    enum blob_state state;
    int fd, ranges_fd, lock; /* -1: none */
    struct ranges have;      /* what is there, or was until it was dropped */
    struct ranges dropped;   /* of that, what is not any more */
    bool changed;            /* since it was recorded */
    bool shared;             /* another program has been fetching it, too */
    int mismatches;          /* times that its hash was wrong */

    /* the hasher's; `ready` bytes from the front can be hashed */
    _Atomic uint64_t ready, hashed;
    _Atomic int verdict; /* enum blob_verdict */
    struct digest digest;
};

/* Zeroes *blob and sets its paths. */
int blob_init(struct blob *blob, const struct store *store, const struct hub_file *file,
              struct llama3_error *err);
/* From BLOB_WAITING to BLOB_OPEN, or BLOB_DONE if it is there; stays if another process has it. */
int blob_open(struct blob *blob, const struct store *store, struct llama3_error *err);

/* Of one that stays BLOB_WAITING: whether it is another program that has it, which is noted. */
bool blob_note_shared(struct blob *blobs, size_t n, size_t index);

/* Bytes for an offset. */
int blob_write(struct blob *blob, uint64_t offset, const void *bytes, size_t n,
               struct llama3_error *err);
/* Says in the second file what is there. */
int blob_record(struct blob *blob, struct llama3_error *err);

/* Whole and right: it gets its name. */
int blob_finish(struct blob *blob, const struct store *store, struct llama3_error *err);
/* Whole and wrong: it is kept apart, and the blob begins again. The hasher must not be in it. */
int blob_set_apart(struct blob *blob, struct llama3_error *err);

/* Frees the disk of bytes [begin, end), which have been hashed and are not read again; they count
 * as there. Whole blocks only. The hasher must not be in it. */
int blob_drop(struct blob *blob, uint64_t begin, uint64_t end, struct llama3_error *err);

/* Nothing of it is left, and it begins again if it is opened. The hasher must not be in it. */
void blob_discard(struct blob *blob);

/* Closes it in whatever state; what arrived stays for another run. */
void blob_close(struct blob *blob);

/* Bytes of disk that are still needed for it. */
uint64_t blob_missing(const struct blob *blob);

#endif
