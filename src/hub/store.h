/* SPDX-License-Identifier: MIT */
/*
 * store.h: where files go. In the cache, as huggingface_hub lays it out: contents by their hash in
 * blobs/, and a relative link with the file's name in snapshots/COMMIT/. Or in a folder DIR that
 * the user names: files by their names, with huggingface_hub's notes below DIR/.cache/huggingface.
 * Either way Python's tools and ours share files and locks.
 *
 * Folders below the root are made and entered without following links, so that no name and no
 * planted link leads elsewhere.
 */
#ifndef HUB_STORE_H
#define HUB_STORE_H

#include "hub/hub.h"

struct store {
    char *root;     /* CACHE/models--OWNER--NAME, or DIR */
    char *locks;    /* the folder of locks */
    char *snapshot; /* the folder with files by name */
    char *arriving; /* the folder of incomplete files */
    char *cached;   /* for DIR: the cache's blobs, which may have the same contents; else NULL */
    char commit[HUB_COMMIT + 1];
    bool local; /* in DIR */
    bool drops; /* blobs are dropped after use, so that a record with dropped bytes is accepted */
};

/* Makes the folders. local_dir: NULL for the cache. */
int store_open(struct store *store, const char *repository, const char *local_dir,
               const char *commit, struct llama3_error *err);
void store_close(struct store *store);

/* The paths of one file. */
struct blob_paths {
    char *final;      /* the blob, or DIR/NAME */
    char *incomplete; /* the sparse file while it is fetched */
    char *ranges;     /* the record of which bytes are there */
    char *mismatch;   /* a file with a wrong hash */
    char *lock;
};

/* Makes the folders of these paths. */
int store_paths(const struct store *store, const struct hub_file *file, struct blob_paths *paths,
                struct llama3_error *err);
void blob_paths_free(struct blob_paths *paths);

/* Whether the file is there and complete. In a folder, a file without a note is hashed. */
bool store_has(const struct store *store, const struct hub_file *file,
               const struct blob_paths *paths);
/* Copies the file's contents from the cache; false if they aren't there, or copying failed. */
bool store_seed(const struct store *store, const struct hub_file *file, int fd);
/* Makes the link in the snapshot, or the note, for contents that are complete. */
int store_name(const struct store *store, const struct hub_file *file, struct llama3_error *err);
/* The path of a file by its name; free() it. */
char *store_path(const struct store *store, const char *name, struct llama3_error *err);

/* The paths of the commit's int4 file. */
struct int4_paths {
    char *out;
    char *source; /* a text that says what it was made of */
    char *links;  /* a folder of links to the source files while they are fetched */
    char *lock;
};

/* Makes their folder. */
int store_int4(const struct store *store, struct int4_paths *paths, struct llama3_error *err);
void int4_paths_free(struct int4_paths *paths);
/* Writes a small file atomically. A link of this name is replaced, not followed. */
int store_write(const char *path, const char *text, struct llama3_error *err);
/* Removes a file's name, and its contents if no other name is left. */
int store_drop(const struct store *store, const struct hub_file *file, struct llama3_error *err);

/* Records in refs/REVISION that it is at the store's commit. */
int store_set_ref(const struct store *store, const char *revision, struct llama3_error *err);

/* Takes a lock that huggingface_hub respects: a descriptor, which close() unlocks. -1: *busy is
 * true, or err is filled. */
int store_lock(const char *path, bool *busy, struct llama3_error *err);

/* The free bytes of a folder's file system. */
bool store_free_bytes(const char *folder, uint64_t *bytes);

#endif
