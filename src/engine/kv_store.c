/* SPDX-License-Identifier: MIT */
#include "config.h" /* flock, O_NOFOLLOW */

#include "engine/kv_store.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <nettle/sha2.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "base/checksum.h"
#include "base/new_file.h"
#include "base/path.h"
#include "base/size.h"
#include "base/tokens.h"

enum {
    NEAR = 64,        /* files that are compared with a prompt at most */
    SHARE = 32,       /* a program looks again after this part of the limit */
    BLOCK = 4096,     /* a file takes whole ones */
    ABANDONED = 3600, /* seconds, after which no program writes a temporary file any more */
    WRITE_TRIES = 2,  /* more */
    LOCK_TRIES = 50,  /* 20 ms apart: a stopped program may hold the lock for ever */
    DIGITS = 32,      /* of a digest in a name */
    OWNER = 8,
    STEM = OWNER + 1 + DIGITS + 1 + DIGITS /* a name without ".kv" */
};

static const char magic[16] = "llama3-kv page 1";

struct header {
    char magic[sizeof magic];
    struct kv_digest root, before, own;
    uint64_t index, bytes;
    struct checksum sum; /* of the page */
    int32_t tokens[KV_STORE_TOKENS];
    uint8_t unused[KV_STORE_HEADER - 480]; /* zero */
    uint8_t digest[SHA256_DIGEST_SIZE];    /* of what comes before */
};
_Static_assert(sizeof(struct header) == KV_STORE_HEADER, "no padding");

struct kv_store {
    char *directory;
    uint64_t max_bytes, file_bytes;
    size_t page_bytes;
    pthread_mutex_t lock; /* of what is known of the room */
    bool looked, failed;
    uint64_t held;             /* by all files, when last looked, and what was written since */
    uint64_t written;          /* since */
    pthread_mutex_t note_lock; /* of the notes, which nobody waits long for */
    struct llama3_error note;
    size_t n_notes; /* since it was taken */
};

/* ---- places -------------------------------------------------------------------------------- */

void kv_digest_next(const struct kv_digest *before, const int32_t *tokens, struct kv_digest *own)
{
    struct sha256_ctx sha;
    sha256_init(&sha);
    sha256_update(&sha, sizeof before->bytes, before->bytes);
    sha256_update(&sha, KV_STORE_TOKENS * sizeof *tokens, (const uint8_t *)tokens);
    sha256_digest(&sha, sizeof own->bytes, own->bytes);
}

static void hex(const struct kv_digest *digest, char out[DIGITS + 1])
{
    for (size_t i = 0; i < DIGITS / 2; i++)
        snprintf(out + 2 * i, 3, "%02x", digest->bytes[i]);
}

/* All of a name up to OWN. */
static void name_begin(const struct kv_root *root, const struct kv_digest *before,
                       char name[KV_STORE_NAME])
{
    char text[DIGITS + 1];
    hex(before, text);
    snprintf(name, KV_STORE_NAME, "%08" PRIx32 "-%s-", root->owner, text);
}

static void name_of(const struct kv_place *place, char name[KV_STORE_NAME])
{
    char text[DIGITS + 1];
    name_begin(place->root, &place->before, name);
    hex(&place->own, text);
    size_t n = strlen(name);
    snprintf(name + n, KV_STORE_NAME - n, "%s.kv", text);
}

/* Whether a name is a page's; its owner. */
static bool is_page(const char *name, uint32_t *owner)
{
    for (size_t i = 0; i < STEM; i++) {
        bool dash = i == OWNER || i == OWNER + 1 + DIGITS;
        if (dash ? name[i] != '-' : name[i] == '\0' || strchr("0123456789abcdef", name[i]) == NULL)
            return false;
    }
    *owner = (uint32_t)strtoul(name, NULL, 16);
    return strcmp(name + STEM, ".kv") == 0;
}

/* ---- notes --------------------------------------------------------------------------------- */

/* The first one is kept, and the others counted. */
static void note(struct kv_store *store, const char *name, const char *what)
{
    pthread_mutex_lock(&store->note_lock);
    if (store->n_notes++ == 0)
        error_input(&store->note, "%s%s%s: %s", store->directory, name[0] != '\0' ? "/" : "", name,
                    what);
    pthread_mutex_unlock(&store->note_lock);
}

bool kv_store_note(struct kv_store *store, struct llama3_error *out)
{
    pthread_mutex_lock(&store->note_lock);
    size_t n = store->n_notes;
    *out = store->note;
    if (n > 1)
        error_input(out, "%.400s (and %zu more)", store->note.message, n - 1);
    store->n_notes = 0;
    pthread_mutex_unlock(&store->note_lock);
    return n > 0;
}

/* ---- opening ------------------------------------------------------------------------------- */

/* Ours, and closed to others. */
static int check_directory(const char *directory, struct llama3_error *err)
{
    struct stat st;
    if (stat(directory, &st) != 0)
        return error_system(err, directory);
    if (!S_ISDIR(st.st_mode))
        return error_set(err, LLAMA3_EIO, "%s: expected a directory, found another file",
                         directory);
    if (st.st_uid != geteuid())
        return error_input(err, "%s: expected a directory of user %u, found one of user %u",
                           directory, (unsigned)geteuid(), (unsigned)st.st_uid);
    return (st.st_mode & 077) == 0 || chmod(directory, 0700) == 0 ? 0
                                                                  : error_system(err, directory);
}

struct kv_store *kv_store_open(const char *directory, uint64_t max_bytes, size_t page_bytes,
                               struct llama3_error *err)
{
    struct kv_store *store = size_alloc_for(1, sizeof *store, "the store of prefixes", err);
    if (store == NULL)
        return NULL;
    pthread_mutex_init(&store->lock, NULL);
    pthread_mutex_init(&store->note_lock, NULL);
    store->max_bytes = max_bytes;
    store->page_bytes = page_bytes;
    store->file_bytes = ((uint64_t)KV_STORE_HEADER + page_bytes + BLOCK - 1) / BLOCK * BLOCK;
    store->directory = path_copy(directory, strlen(directory), err);
    if (store->directory != NULL && path_make_folders(directory, 0700, err) == 0 &&
        check_directory(directory, err) == 0)
        return store;
    kv_store_close(store);
    return NULL;
}

void kv_store_close(struct kv_store *store)
{
    if (store == NULL)
        return;
    pthread_mutex_destroy(&store->lock);
    pthread_mutex_destroy(&store->note_lock);
    free(store->directory);
    free(store);
}

/* ---- reading ------------------------------------------------------------------------------- */

static void remove_bad(struct kv_store *store, const char *path, const char *what)
{
    const char *name = strrchr(path, '/');
    char text[128];
    bool gone = unlink(path) == 0 || errno == ENOENT;
    snprintf(text, sizeof text, "%s; %s", what, gone ? "removed" : "it can't be removed");
    note(store, name != NULL ? name + 1 : path, text);
}

static void seal(const struct header *header, uint8_t digest[SHA256_DIGEST_SIZE])
{
    struct sha256_ctx sha;
    sha256_init(&sha);
    sha256_update(&sha, offsetof(struct header, digest), (const uint8_t *)header);
    sha256_digest(&sha, SHA256_DIGEST_SIZE, digest);
}

/* What is wrong with a header, a copy of the mapped one; NULL: nothing. */
static const char *check_header(const struct kv_store *store, const struct header *header)
{
    uint8_t digest[SHA256_DIGEST_SIZE];
    seal(header, digest);
    if (memcmp(header->magic, magic, sizeof magic) != 0)
        return "expected a page of keys and values, found another file";
    if (memcmp(header->digest, digest, sizeof digest) != 0)
        return "the page's header is damaged";
    return header->bytes == store->page_bytes ? NULL : "the page is of another size";
}

static bool same(const struct kv_digest *a, const struct kv_digest *b)
{
    return memcmp(a, b, sizeof *a) == 0;
}

/* Maps a page's file, which has to follow `before`. A missing file is no error. */
static bool map_page(struct kv_store *store, const char *path, const struct kv_root *root,
                     const struct kv_digest *before, size_t index, struct map *map,
                     struct header *header)
{
    struct stat st;
    const char *what = NULL;
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOFOLLOW);
    if (fd < 0) {
        if (errno == ELOOP)
            remove_bad(store, path, "expected a page, found a symbolic link");
        return false;
    }
    *map = (struct map){0};
    if (fstat(fd, &st) != 0 || !S_ISREG(st.st_mode))
        what = "expected a page, found no regular file";
    else if ((uint64_t)st.st_size != KV_STORE_HEADER + (uint64_t)store->page_bytes)
        what = "the page is cut short, or too long";
    else if (map_descriptor(map, fd, path, NULL) != 0)
        map->data = NULL; /* without memory: as if it were not there */
    close(fd);
    if (map->data != NULL) {
        memcpy(header, map->data, sizeof *header);
        what = check_header(store, header);
        if (what == NULL && (!same(&header->root, &root->digest) ||
                             !same(&header->before, before) || header->index != index))
            what = "the page is of another model, build or prompt";
    }
    if (what != NULL) {
        map_close(map);
        remove_bad(store, path, what);
    }
    return map->data != NULL;
}

bool kv_store_map(struct kv_store *store, const struct kv_place *place, struct map *map)
{
    struct header header;
    char name[KV_STORE_NAME];
    name_of(place, name);
    char *path = path_join(store->directory, name, NULL);
    bool found = path != NULL &&
                 map_page(store, path, place->root, &place->before, place->index, map, &header);
    if (found && (!same(&header.own, &place->own) ||
                  memcmp(header.tokens, place->tokens, sizeof header.tokens) != 0)) {
        map_close(map);
        remove_bad(store, path, "the page is of another model, build or prompt");
        found = false;
    }
    free(path);
    return found;
}

size_t kv_store_near(struct kv_store *store, const struct kv_root *root,
                     const struct kv_digest *before, size_t index, const int32_t *tokens, size_t n,
                     struct map *map)
{
    char begin[KV_STORE_NAME];
    uint32_t owner;
    size_t most = 0, looked = 0;
    DIR *directory = opendir(store->directory);
    struct dirent *entry;
    name_begin(root, before, begin);
    while (directory != NULL && most < n && looked < NEAR && (entry = readdir(directory)) != NULL) {
        struct map other;
        struct header header;
        if (strncmp(entry->d_name, begin, strlen(begin)) != 0 || !is_page(entry->d_name, &owner))
            continue;
        looked++;
        char *path = path_join(store->directory, entry->d_name, NULL);
        if (path != NULL && map_page(store, path, root, before, index, &other, &header)) {
            size_t shared = tokens_common(header.tokens, tokens, n);
            if (shared > most) {
                if (most > 0)
                    map_close(map);
                *map = other;
                most = shared;
            } else {
                map_close(&other);
            }
        }
        free(path);
    }
    if (directory != NULL)
        closedir(directory);
    return most;
}

bool kv_store_check(struct kv_store *store, const struct map *map)
{
    struct header header;
    struct checksum sum = {0};
    memcpy(&header, map->data, sizeof header);
    map_fill(map, map->data, map->size);
    checksum_add(&sum, map->data + KV_STORE_HEADER, store->page_bytes);
    if (memcmp(&sum, &header.sum, sizeof sum) == 0 && map_check(map, NULL) == 0)
        return true;
    remove_bad(store, map_path(map), "the page is damaged");
    return false;
}

/* ---- making room --------------------------------------------------------------------------- */

struct page_file {
    char name[KV_STORE_NAME];
    uint32_t owner;
    uint64_t bytes, used;
};

struct page_files {
    struct page_file *entries; /* [n] */
    size_t n, room;
    uint64_t bytes;
};

static uint64_t nanoseconds(const struct timespec *t)
{
    return (uint64_t)t->tv_sec * 1000000000 + (uint64_t)t->tv_nsec;
}

/* By owner, and then what was used least recently first. */
static int by_use(const void *a, const void *b)
{
    const struct page_file *x = a, *y = b;
    if (x->owner != y->owner)
        return x->owner < y->owner ? -1 : 1;
    if (x->used != y->used)
        return x->used < y->used ? -1 : 1;
    return strcmp(x->name, y->name);
}

static bool add_entry(struct page_files *list, const struct page_file *entry)
{
    if (list->n == list->room) {
        size_t room = list->room * 2 + 64;
        struct page_file *entries = realloc(list->entries, room * sizeof *entries);
        if (entries == NULL)
            return false;
        list->entries = entries;
        list->room = room;
    }
    list->entries[list->n++] = *entry;
    list->bytes += entry->bytes;
    return true;
}

/* What a program that was killed has left, where the file system has no unnamed files. */
static void remove_abandoned(int folder, const char *name, const struct stat *st)
{
    char hidden[KV_STORE_NAME]; /* ".NAME.RANDOM" (new_file.h) */
    uint32_t owner;
    snprintf(hidden, sizeof hidden, "%.*s", STEM + 3, name[0] == '.' ? name + 1 : "");
    if (is_page(hidden, &owner) && st->st_mtim.tv_sec + ABANDONED < time(NULL))
        unlinkat(folder, name, 0);
}

/* Lists the store's files; -1 if it can't. */
static int list_files(const struct kv_store *store, struct page_files *list)
{
    struct dirent *found;
    struct stat st;
    bool ok = true;
    DIR *directory = opendir(store->directory);
    *list = (struct page_files){0};
    if (directory == NULL)
        return -1;
    while (ok && (found = readdir(directory)) != NULL) {
        struct page_file entry;
        if (fstatat(dirfd(directory), found->d_name, &st, AT_SYMLINK_NOFOLLOW) != 0)
            continue; /* it has gone meanwhile */
        if (!is_page(found->d_name, &entry.owner)) {
            remove_abandoned(dirfd(directory), found->d_name, &st);
            continue;
        }
        memcpy(entry.name, found->d_name, STEM + sizeof ".kv");
        entry.bytes = ((uint64_t)st.st_size + BLOCK - 1) / BLOCK * BLOCK;
        entry.used = nanoseconds(&st.st_mtim);
        ok = add_entry(list, &entry);
    }
    closedir(directory);
    if (ok)
        return 0;
    free(list->entries);
    return -1;
}

/* An owner's files in a sorted list, [first, end), that are still there. */
struct owner_files {
    size_t first, end;
    uint64_t bytes;
};

static size_t cut_by_owner(const struct page_files *list, struct owner_files *owners)
{
    size_t n = 0;
    for (size_t i = 0; i < list->n; i++) {
        if (i == 0 || list->entries[i].owner != list->entries[i - 1].owner)
            owners[n++] = (struct owner_files){.first = i};
        owners[n - 1].end = i + 1;
        owners[n - 1].bytes += list->entries[i].bytes;
    }
    return n;
}

/* Removes files until `bytes` are left or the next one to go is of the same owner and was used no
 * earlier than the page that needs the room. */
static void evict(const struct kv_store *store, struct page_files *list, uint64_t bytes,
                  uint32_t owner, uint64_t used)
{
    struct owner_files *owners = size_alloc(list->n, sizeof *owners);
    if (owners == NULL)
        return;
    qsort(list->entries, list->n, sizeof *list->entries, by_use);
    size_t n = cut_by_owner(list, owners);
    while (list->bytes > bytes) {
        struct owner_files *most = &owners[0];
        for (size_t i = 1; i < n; i++)
            if (owners[i].bytes > most->bytes)
                most = &owners[i];
        if (most->first == most->end)
            break;
        const struct page_file *entry = &list->entries[most->first];
        if (entry->owner == owner && entry->used >= used)
            break;
        char *path = path_join(store->directory, entry->name, NULL);
        if (path == NULL || (unlink(path) != 0 && errno != ENOENT)) {
            free(path);
            break;
        }
        free(path);
        most->first++;
        most->bytes -= entry->bytes;
        list->bytes -= entry->bytes;
    }
    free(owners);
}

/* A descriptor that holds the store's lock, or -1. */
static int take_lock(const struct kv_store *store)
{
    char *path = path_join(store->directory, "lock", NULL);
    int fd = path != NULL ? open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600) : -1;
    free(path);
    for (int i = 0; fd >= 0 && flock(fd, LOCK_EX | LOCK_NB) != 0; i++) {
        const struct timespec moment = {.tv_nsec = 20000000};
        if (errno != EWOULDBLOCK || i == LOCK_TRIES) {
            close(fd);
            return -1;
        }
        nanosleep(&moment, NULL);
    }
    return fd;
}

/* Looks at the directory and removes files until the others take `most` bytes, as evict() may.
 * False: they take more. */
static bool make_room(struct kv_store *store, uint64_t most, uint32_t owner, uint64_t used)
{
    struct page_files list;
    bool room = false;
    int lock = take_lock(store);
    if (lock < 0)
        return false;
    if (list_files(store, &list) == 0) {
        if (list.bytes > most)
            evict(store, &list, most, owner, used);
        room = list.bytes <= most;
        store->held = list.bytes;
        store->written = 0;
        store->looked = true;
        free(list.entries);
    }
    close(lock);
    return room;
}

void kv_store_trim(struct kv_store *store)
{
    pthread_mutex_lock(&store->lock);
    make_room(store, store->max_bytes, 0, UINT64_MAX);
    pthread_mutex_unlock(&store->lock);
}

/* ---- writing ------------------------------------------------------------------------------- */

static struct timespec moment_of(uint64_t nanoseconds)
{
    return (struct timespec){.tv_sec = (time_t)(nanoseconds / 1000000000),
                             .tv_nsec = (long)(nanoseconds % 1000000000)};
}

/* Says that a page's file was used then; false if it isn't there, or has not its size. */
static bool touch(const struct kv_store *store, const char *path, uint64_t used)
{
    const struct timespec times[2] = {{.tv_nsec = UTIME_OMIT}, moment_of(used)};
    struct stat st;
    return lstat(path, &st) == 0 &&
           (uint64_t)st.st_size == KV_STORE_HEADER + (uint64_t)store->page_bytes &&
           utimensat(AT_FDCWD, path, times, AT_SYMLINK_NOFOLLOW) == 0;
}

static int write_file(const struct kv_store *store, const char *path, const struct kv_place *place,
                      const void *page, uint64_t used, struct llama3_error *err)
{
    const struct timespec times[2] = {{.tv_nsec = UTIME_OMIT}, moment_of(used)};
    struct new_file file;
    struct header header = {.root = place->root->digest,
                            .before = place->before,
                            .own = place->own,
                            .index = place->index,
                            .bytes = store->page_bytes};
    memcpy(header.magic, magic, sizeof magic);
    memcpy(header.tokens, place->tokens, sizeof header.tokens);
    checksum_add(&header.sum, page, store->page_bytes);
    seal(&header, header.digest);
    if (new_file_open(&file, path, NEW_FILE_PRIVATE, err) < 0)
        return -1;
    if (new_file_write(&file, &header, sizeof header, err) == 0 &&
        new_file_write(&file, page, store->page_bytes, err) == 0 &&
        (futimens(file.fd, times) == 0 || error_system(err, path) == 0))
        return new_file_commit_unsynced(&file, err);
    new_file_abandon(&file);
    return -1;
}

/* Whether there is room for one more file, which then counts. */
static bool has_room(struct kv_store *store, uint32_t owner, uint64_t used)
{
    uint64_t bytes = store->file_bytes;
    if (bytes > store->max_bytes)
        return false;
    if ((!store->looked || store->held + bytes > store->max_bytes ||
         store->written + bytes > store->max_bytes / SHARE) &&
        !make_room(store, store->max_bytes - bytes, owner, used))
        return false;
    store->held += bytes;
    store->written += bytes;
    return true;
}

static enum kv_put give_up(struct kv_store *store, const struct llama3_error *err)
{
    const char *why = strrchr(err->message, ':'); /* what the system said */
    char text[160];
    snprintf(text, sizeof text, "no more prompts are kept%.120s", why != NULL ? why : "");
    pthread_mutex_lock(&store->lock);
    store->failed = true;
    pthread_mutex_unlock(&store->lock);
    note(store, "", text);
    return KV_PUT_FAILED;
}

enum kv_put kv_store_put(struct kv_store *store, const struct kv_place *place, const void *page,
                         uint64_t used)
{
    char name[KV_STORE_NAME];
    struct llama3_error err = {0};
    enum kv_put result = KV_PUT_DONE;
    used -= (uint64_t)place->index * 1000;
    name_of(place, name);
    char *path = path_join(store->directory, name, NULL);
    if (path == NULL)
        return KV_PUT_FULL;
    if (touch(store, path, used)) {
        free(path);
        return KV_PUT_DONE;
    }
    pthread_mutex_lock(&store->lock);
    if (store->failed)
        result = KV_PUT_FAILED;
    else if (!has_room(store, place->root->owner, used))
        result = KV_PUT_FULL;
    pthread_mutex_unlock(&store->lock);
    for (int tries = 0; result == KV_PUT_DONE; tries++) {
        if (write_file(store, path, place, page, used, &err) == 0)
            break;
        if (tries == WRITE_TRIES)
            result = give_up(store, &err);
        else /* the file that was replaced, or all of the directory, may have gone meanwhile */
            path_make_folders(store->directory, 0700, NULL);
    }
    free(path);
    return result;
}
