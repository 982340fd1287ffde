/* SPDX-License-Identifier: MIT */
/* digest.h: what files are verified by: SHA-256, or git's name of a file's contents, which is the
 * SHA-1 of "blob SIZE", a zero byte and the contents. */
#ifndef HUB_DIGEST_H
#define HUB_DIGEST_H

#include <nettle/sha1.h>
#include <nettle/sha2.h>
#include <stddef.h>

#include "hub/hub.h"

struct digest {
    bool git;
    union {
        struct sha1_ctx sha1;
        struct sha256_ctx sha256;
    };
};

/* By the number of an etag's digits. */
void digest_begin(struct digest *digest, const char *etag, uint64_t size);
void digest_add(struct digest *digest, const void *bytes, size_t n);
/* Whether all that was added is what the etag says. */
bool digest_is(struct digest *digest, const char *etag);

/* Whether a file has these contents: 1, 0, or -1 with err. on_read (may be NULL) is told of each
 * piece; non-zero gives up. */
int digest_check(const char *path, const char *etag, uint64_t size,
                 int (*on_read)(void *arg, size_t n), void *arg, struct llama3_error *err);
/* The same, false too if it can't be read. */
bool digest_matches(const char *path, const char *etag, uint64_t size);

#endif
