/* SPDX-License-Identifier: MIT */
/*
 * store.h: where files go. In the cache, as huggingface_hub lays it out: contents by their hash in
 * blobs/, and a relative link of the file's name in snapshots/COMMIT/. In a folder that the user
 * names: files by their names, with huggingface_hub's notes on them below DIR/.cache/huggingface.
 * Either way Python's tools and ours find each other's downloads, and share their locks.
 *
 * Folders below the root are made and entered without following links, so that neither a name nor
 * what somebody left there leads elsewhere.
 */
#ifndef HUB_STORE_H
#define HUB_STORE_H

#include "hub/hub.h"

struct store {
    char *root;     /* CACHE/models--OWNER--NAME, or DIR */
    char *locks;    /* the folder of locks */
    char *snapshot; /* where the files are by their names */
    char *arriving; /* where they are until they are whole */
    char *cached;   /* of DIR: where the cache may have the same contents; else NULL */
    char commit[HUB_COMMIT + 1];
    bool local; /* DIR */
    bool drops; /* what arrives is dropped as it is used, as an earlier run may have begun to do */
};

/* Makes the folders. local_dir: NULL for the cache. */
int store_open(struct store *store, const char *repository, const char *local_dir,
               const char *commit, struct llama3_error *err);
void store_close(struct store *store);

/* The paths of one file, and of what it is until it is whole. */
struct blob_paths {
    char *final;      /* the blob, or DIR/NAME */
    char *incomplete; /* the same, sparse, while it arrives */
    char *ranges;     /* which bytes of that are there */
    char *mismatch;   /* what was not what the hub said it would be */
    char *lock;
};

/* Makes the folders that it names. */
int store_paths(const struct store *store, const struct hub_file *file, struct blob_paths *paths,
                struct llama3_error *err);
void blob_paths_free(struct blob_paths *paths);

/* Whether the file's contents are there, whole; of a folder's file that has no note it is hashed.
 */
bool store_has(const struct store *store, const struct hub_file *file,
               const struct blob_paths *paths);
/* Copies the file's contents from the cache, if it has them; false if not all of it was copied. */
bool store_seed(const struct store *store, const struct hub_file *file, int fd);
/* Contents that are there get the file's name: the link in the snapshot, or the note. */
int store_name(const struct store *store, const struct hub_file *file, struct llama3_error *err);
/* The path of a file by its name, for free(). */
char *store_path(const struct store *store, const char *name, struct llama3_error *err);

/* Where the int4 file of the store's commit goes, and what goes with it. */
struct int4_paths {
    char *out;
    char *source; /* a text that says what it was made of */
    char *links;  /* a folder of links to the files as they arrive */
    char *lock;
};

/* Makes the folder that they are in. */
int store_int4(const struct store *store, struct int4_paths *paths, struct llama3_error *err);
void int4_paths_free(struct int4_paths *paths);
/* Writes a small file, whole or not at all. What a link of this name stands for stays as it is. */
int store_write(const char *path, const char *text, struct llama3_error *err);
/* A file goes, by its name; and its contents, unless another name stands for them. */
int store_drop(const struct store *store, const struct hub_file *file, struct llama3_error *err);

/* refs/REVISION says that it is at the store's commit. */
int store_set_ref(const struct store *store, const char *revision, struct llama3_error *err);

/* Takes a lock as huggingface_hub's: a descriptor to close; -1 with *busy, or with err filled. */
int store_lock(const char *path, bool *busy, struct llama3_error *err);

/* Free bytes of the file system that a folder is on. */
bool store_free_bytes(const char *folder, uint64_t *bytes);

#endif
