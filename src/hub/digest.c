/* SPDX-License-Identifier: MIT */
#include "hub/digest.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/hex.h"

enum { PIECE = 1 << 18 };

void digest_begin(struct digest *digest, const char *etag, uint64_t size)
{
    char header[64];
    *digest = (struct digest){.git = strlen(etag) == HUB_BLOB_ID};
    if (!digest->git) {
        sha256_init(&digest->sha256);
        return;
    }
    sha1_init(&digest->sha1);
    int n = snprintf(header, sizeof header, "blob %" PRIu64, size);
    digest_add(digest, header, (size_t)n + 1);
}

void digest_add(struct digest *digest, const void *bytes, size_t n)
{
    if (digest->git)
        sha1_update(&digest->sha1, n, bytes);
    else
        sha256_update(&digest->sha256, n, bytes);
}

bool digest_is(struct digest *digest, const char *etag)
{
    uint8_t bytes[SHA256_DIGEST_SIZE];
    char hex[HUB_ETAG + 1];
    size_t n = digest->git ? SHA1_DIGEST_SIZE : SHA256_DIGEST_SIZE;
    if (digest->git)
        sha1_digest(&digest->sha1, n, bytes);
    else
        sha256_digest(&digest->sha256, n, bytes);
    hex_text(bytes, n, hex);
    return strcmp(hex, etag) == 0;
}

int digest_check(const char *path, const char *etag, uint64_t size,
                 int (*on_read)(void *arg, size_t n), void *arg, struct llama3_error *err)
{
    struct digest digest;
    uint64_t total = 0;
    ssize_t n = -1;
    int result = 0;
    uint8_t *piece = malloc(PIECE);
    if (piece == NULL)
        return error_memory(err, path, PIECE);
    int fd = open(path, O_RDONLY | O_NONBLOCK | O_CLOEXEC);
    struct stat st;
    if (fd >= 0 && (fstat(fd, &st) != 0 || !S_ISREG(st.st_mode))) { /* a pipe might never end */
        close(fd);
        free(piece);
        return 0;
    }
    digest_begin(&digest, etag, size);
    while (fd >= 0 && result == 0 && (n = read(fd, piece, PIECE)) != 0) {
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            break;
        digest_add(&digest, piece, (size_t)n);
        total += (uint64_t)n;
        if (on_read != NULL && on_read(arg, (size_t)n) != 0)
            result = error_set(err, LLAMA3_ECANCELED, "canceled");
    }
    if (n < 0)
        result = error_system(err, path);
    if (fd >= 0)
        close(fd);
    free(piece);
    return result != 0 ? -1 : total == size && digest_is(&digest, etag);
}
