/* SPDX-License-Identifier: MIT */
/* library.h: what is in the cache, whoever put it there. */
#ifndef HUB_LIBRARY_H
#define HUB_LIBRARY_H

#include <stddef.h>
#include <time.h>

#include "checkpoint/hub_cache.h"
#include "hub/hub.h"

struct library_model {
    char name[HUB_NAME_SIZE]; /* "OWNER/NAME"; "NAME" of a few old ones */
    char *folder;
    uint64_t bytes;    /* of disk */
    time_t used;       /* when a file of it was last read, as far as the file system says */
    size_t revisions;  /* commits that have files */
    bool incomplete;   /* something is still to arrive, or a part of the checkpoint is not there */
    char formats[160]; /* "safetensors, int4", "gguf Q4_K_M" */
};

struct library {
    struct library_model *models; /* [n], by name */
    size_t n;
};

/* All models; none where there is no cache. */
int library_open(struct library *library, struct llama3_error *err);
void library_close(struct library *library);
const struct library_model *library_find(const struct library *library, const char *name);

/* What llama3_model_open() would open, for free(), of "OWNER/NAME" or "OWNER/NAME:TAG" in the
 * cache; revision: of that one, which goes with no tag, NULL for main. And of a folder. */
char *library_path(const char *name, const char *revision, struct llama3_error *err);
char *library_path_in(const char *folder, struct llama3_error *err);

/* Hashes every file of a model. bad is called with each that isn't what its name says; it is kept
 * apart, so that it is fetched again. on_bytes is told how many more bytes were read of how many;
 * non-zero gives up. -1: it could not be done. */
struct library_check {
    void (*bad)(void *arg, const char *file, const char *kept);
    int (*on_bytes)(void *arg, uint64_t done, uint64_t total);
    void *arg;
};
int library_verify(const struct library_model *model, const struct library_check *check,
                   struct llama3_error *err);

/* Removes a model; with a tag ("int4", "Q4_K_M") only that of it. Refuses what is being fetched. */
int library_remove(const struct library_model *model, const char *tag, struct llama3_error *err);

#endif
