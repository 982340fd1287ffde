/* SPDX-License-Identifier: MIT */
/* digest.h: hashes of files: SHA-256, or git's, the SHA-1 of "blob SIZE", a zero byte and the
 * contents. */
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

/* The etag's length tells which hash. */
void digest_begin(struct digest *digest, const char *etag, uint64_t size);
void digest_add(struct digest *digest, const void *bytes, size_t n);
/* Whether the hash of all that was added is the etag. */
bool digest_is(struct digest *digest, const char *etag);

/* Whether a file has this size and hash: 1, 0, or -1 with err. on_read (may be NULL) is called for
 * each piece; non-zero cancels. */
int digest_check(const char *path, const char *etag, uint64_t size,
                 int (*on_read)(void *arg, size_t n), void *arg, struct llama3_error *err);

#endif
