/* SPDX-License-Identifier: MIT */
/*
 * kv_store.h: pages of keys and values in a directory, for prompts of later runs that begin alike.
 * It knows tokens and bytes, and nothing of models: saver.h puts pages in and takes them out.
 *
 * A file holds one page. Its name is a digest of what its bytes depend on: of the page before it,
 * which names in this way all that came before, down to the root, and of its own tokens. So chains
 * that begin alike share files, and a name never means two things.
 *
 *     OWNER-BEFORE-OWN.kv       8, 32 and 32 hexadecimal digits
 *     header                    KV_STORE_HEADER bytes, with a SHA-256 of itself
 *     the page                  with a checksum (checksum.h) in the header
 *
 * The page's sum finds damage, not malice: the directory is the user's own and closed to others,
 * and whoever can write there can do all that the user can. A SHA-256 of it would take twenty times
 * as long as mapping it. Files appear whole, without waiting for the disk, since the sum finds what
 * a power cut left. Any of them may go at any time; what is mapped stays.
 *
 * The time of a file's modification is that of its last use. What was used least recently goes
 * first, of the owner that has most; and in a chain the end before the beginning, which is why a
 * page's time is a microsecond before that of the page in front of it.
 *
 * Thread-safe. Several programs may use a directory.
 */
#ifndef ENGINE_KV_STORE_H
#define ENGINE_KV_STORE_H

#include "base/file.h"

enum { KV_STORE_TOKENS = 64, KV_STORE_HEADER = 512, KV_STORE_NAME = 80 };

struct kv_digest {
    uint8_t bytes[32];
};

/* What the first page of a chain comes after: whose it is, and of which model, build, ... */
struct kv_root {
    uint32_t owner; /* for whom its bytes count; 0: the user's own */
    struct kv_digest digest;
};

/* A page's place in a chain. */
struct kv_place {
    const struct kv_root *root;
    size_t index;            /* of pages in the chain */
    struct kv_digest before; /* the page before; the root's for page 0 */
    const int32_t *tokens;   /* [KV_STORE_TOKENS] */
    struct kv_digest own;
};

/* The digest of the page after `before` that has these tokens. */
void kv_digest_next(const struct kv_digest *before, const int32_t *tokens, struct kv_digest *own);

struct kv_store;

/* Pages of page_bytes, in files that together take at most max_bytes: of each program that writes
 * at the same time, a 32nd more. The directory is made with its parents, and closed to other users.
 * LLAMA3_EINPUT for one that is another user's; LLAMA3_EIO. */
struct kv_store *kv_store_open(const char *directory, uint64_t max_bytes, size_t page_bytes,
                               struct llama3_error *err);
void kv_store_close(struct kv_store *store); /* NULL is fine */
/* Removes what is above the limit, which may have been larger for the program that wrote it. */
void kv_store_trim(struct kv_store *store);

/* Maps the file of a page, whose bytes begin at KV_STORE_HEADER; false: it isn't there. One that
 * is damaged, or another than its name says, is removed with a note. The page itself is checked
 * by kv_store_check(). */
bool kv_store_map(struct kv_store *store, const struct kv_place *place, struct map *map);
/* Maps the file of the page after `before`, its number index, that shares most of the n <
 * KV_STORE_TOKENS tokens with it; how many, 0: none. */
size_t kv_store_near(struct kv_store *store, const struct kv_root *root,
                     const struct kv_digest *before, size_t index, const int32_t *tokens, size_t n,
                     struct map *map);
/* Whether a mapped page is as it was written; if not, its file is removed with a note. It reads all
 * of it, from several threads at once if these map different pages. */
bool kv_store_check(struct kv_store *store, const struct map *map);

enum kv_put {
    KV_PUT_DONE,  /* it is there now, or was already: then it counts as used */
    KV_PUT_FULL,  /* only what was used later could have made room */
    KV_PUT_FAILED /* from now on nothing is kept; there is a note */
};

/* page: [page_bytes]. used: nanoseconds since 1970, of the chain's use. */
enum kv_put kv_store_put(struct kv_store *store, const struct kv_place *place, const void *page,
                         uint64_t used);

/* Takes what there is to say since the last time, in one line: false if nothing. */
bool kv_store_note(struct kv_store *store, struct llama3_error *note);

#endif
