/* SPDX-License-Identifier: MIT */
/* keys.c: keys are stored as sorted, salted digests: lookup is fast, and no key stays in memory. */
#include "server/keys.h"

#include <nettle/hmac.h>
#include <nettle/sha2.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <unistd.h>

#include "base/file.h"
#include "base/size.h"

enum { MAX_FILE = 1 << 20, MAX_KEYS = 4096, MAX_KEY = 512 };

struct key_digest {
    uint8_t bytes[SHA256_DIGEST_SIZE]; /* salted: what clients are compared with */
    uint8_t owner[KEYS_OWNER];         /* the same in every run */
};

struct keys {
    uint8_t salt[32];
    struct key_digest list[MAX_KEYS]; /* [n], sorted */
    size_t n;
};

/* The salt is random and secret. A client can't know the digest of a guess, so the time of a lookup
 * tells it nothing about the keys. */
static struct key_digest hash(const struct keys *keys, const char *key, size_t n)
{
    struct key_digest digest;
    struct sha256_ctx sha;
    sha256_init(&sha);
    sha256_update(&sha, sizeof keys->salt, keys->salt);
    sha256_update(&sha, n, (const uint8_t *)key);
    sha256_digest(&sha, SHA256_DIGEST_SIZE, digest.bytes);
    explicit_bzero(&sha, sizeof sha);
    memset(digest.owner, 0, sizeof digest.owner);
    return digest;
}

static void name_owner(struct key_digest *digest, const char *key, size_t n)
{
    static const char what[] = "llama3-server owner 1";
    struct hmac_sha256_ctx hmac;
    hmac_sha256_set_key(&hmac, n, (const uint8_t *)key);
    hmac_sha256_update(&hmac, sizeof what, (const uint8_t *)what);
    hmac_sha256_digest(&hmac, sizeof digest->owner, digest->owner);
    explicit_bzero(&hmac, sizeof hmac);
}

static int compare(const void *a, const void *b)
{
    const struct key_digest *x = a, *y = b;
    return memcmp(x->bytes, y->bytes, sizeof x->bytes);
}

static int add(struct keys *keys, const char *key, const char *where, struct llama3_error *err)
{
    size_t n = strlen(key);
    for (size_t i = 0; i < n; i++)
        if (key[i] <= ' ' || key[i] > '~')
            return error_input(
                err, "%s: expected an API key of visible ASCII characters, found another", where);
    if (n == 0 || n > MAX_KEY || keys->n == MAX_KEYS)
        return error_input(err,
                           "%s: expected at most %d API keys of 1 to %d characters, found others",
                           where, MAX_KEYS, MAX_KEY);
    keys->list[keys->n] = hash(keys, key, n);
    name_owner(&keys->list[keys->n++], key, n);
    return 0;
}

/* Cuts the text into lines in place. */
static int read_lines(struct keys *keys, char *text, const char *path, struct llama3_error *err)
{
    char *rest = text, *line;
    while ((line = strsep(&rest, "\n")) != NULL) {
        size_t n = strlen(line);
        if (n > 0 && line[n - 1] == '\r')
            line[n - 1] = '\0';
        if (line[0] != '\0' && line[0] != '#' && add(keys, line, path, err) < 0)
            return -1;
    }
    return keys->n > 0 ? 0 : error_input(err, "%s: expected API keys, found none", path);
}

static int read_keys(struct keys *keys, const char *path, struct llama3_error *err)
{
    size_t size;
    char *text = file_read(path, MAX_FILE, &size, NULL, err);
    if (text == NULL)
        return -1;
    int status = read_lines(keys, text, path, err);
    explicit_bzero(text, size);
    free(text);
    return status;
}

struct keys *keys_open(const char *path, const char *key, struct llama3_error *err)
{
    struct keys *keys = size_alloc_for(1, sizeof *keys, "API keys", err);
    if (keys == NULL)
        return NULL;
    int status = getentropy(keys->salt, sizeof keys->salt) == 0
                     ? 0
                     : error_set(err, LLAMA3_EIO, "API keys: the system has no random numbers");
    if (status == 0 && path != NULL)
        status = read_keys(keys, path, err);
    if (status == 0 && key != NULL)
        status = add(keys, key, "LLAMA3_API_KEY", err);
    if (status == 0) {
        qsort(keys->list, keys->n, sizeof *keys->list, compare);
        return keys;
    }
    keys_close(keys);
    return NULL;
}

void keys_close(struct keys *keys)
{
    free(keys);
}

size_t keys_count(const struct keys *keys)
{
    return keys->n;
}

int keys_find(const struct keys *keys, const char *authorization)
{
    static const char scheme[] = "Bearer ";
    if (keys->n == 0)
        return 0;
    if (authorization == NULL || strncasecmp(authorization, scheme, sizeof scheme - 1) != 0)
        return -1;
    const char *given = authorization + sizeof scheme - 1;
    size_t n = strlen(given);
    while (n > 0 && (given[n - 1] == ' ' || given[n - 1] == '\t')) /* not part of the value */
        n--;
    if (n > MAX_KEY) /* don't hash a long text for somebody without a key */
        return -1;
    struct key_digest digest = hash(keys, given, n);
    const struct key_digest *found =
        bsearch(&digest, keys->list, keys->n, sizeof *keys->list, compare);
    return found != NULL ? (int)(found - keys->list) : -1;
}

const uint8_t *keys_owner(const struct keys *keys, int index)
{
    return keys->list[index].owner;
}
