/* SPDX-License-Identifier: MIT */
/*
 * hub: checkpoints from a model hub, which speaks HTTP as huggingface.co does. It stands on
 * libcurl, base and checkpoint/hub_cache.h, which says where files go.
 *
 *   request.h   one HTTP request: redirects, and who may see the token
 *   repo.h      what files a repository has; which of them are wanted
 *   ranges.h    which bytes of a file are there
 *   blob.h      a file that arrives: in pieces, locked, resumed, verified
 *   store.h     where files go: the cache, or a folder
 *   fetch.h     many blobs at a time
 *   library.h   what is in the cache: listed, verified, removed
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
    HUB_BLOB_ID = 40, /* digits of a SHA-1, as git names a file's contents */
    HUB_COMMIT = 40
};

/* A file of a repository. */
struct hub_file {
    const char *name; /* a relative path; checked by repo.h */
    uint64_t size;
    /* The SHA-256 of a large file, else git's name of its contents: what its name in the cache is,
     * and what it is verified by. */
    char etag[HUB_ETAG + 1];
};

#endif
