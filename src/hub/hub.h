/* SPDX-License-Identifier: MIT */
/*
 * hub: checkpoints from a model hub with the HTTP API of huggingface.co. It uses libcurl, base and
 * what of checkpoint/ knows the layout of the cache and of a model's folder.
 *
 *   request.h   one HTTP request: redirects, and who gets the token
 *   repo.h      a repository's list of files, and which of them to fetch
 *   ranges.h    which bytes of a file are there
 *   blob.h      a file while it is fetched: pieces, locks, resuming, hashes
 *   store.h     where files go: the cache, or a folder
 *   fetch.h     many blobs at a time
 *   library.h   the models in the cache: list, verify, remove
 *
 * hub.h: what they share.
 */
#ifndef HUB_HUB_H
#define HUB_HUB_H

#include <stdbool.h>
#include <stdint.h>

#include "base/error.h"

enum {
    HUB_ETAG = 64,    /* digits of a SHA-256 */
    HUB_BLOB_ID = 40, /* digits of git's hash, a SHA-1 */
    HUB_COMMIT = 40
};

/* A file of a repository. */
struct hub_file {
    const char *name; /* a relative path; checked by repo.h */
    uint64_t size;
    /* A large file's SHA-256, or a small one's git hash. It names the blob in the cache. */
    char etag[HUB_ETAG + 1];
};

#endif
