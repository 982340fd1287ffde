/* SPDX-License-Identifier: MIT */
/* library.h: the models in the cache, whichever program fetched them. */
#ifndef HUB_LIBRARY_H
#define HUB_LIBRARY_H

#include <stddef.h>
#include <time.h>

#include "checkpoint/hub_cache.h"
#include "hub/hub.h"

struct library_model {
    char name[HUB_NAME_SIZE]; /* "OWNER/NAME"; a few old models are just "NAME" */
    char *folder;
    uint64_t bytes;    /* on disk */
    time_t used;       /* the last access time of its files */
    size_t revisions;  /* commits with files */
    bool incomplete;   /* a file of the checkpoint is missing */
    char formats[160]; /* "safetensors, int4", "gguf Q4_K_M" */
};

struct library {
    struct library_model *models; /* [n], by name */
    size_t n;
};

/* All models; none if there is no cache. */
int library_open(struct library *library, struct llama3_error *err);
void library_close(struct library *library);
const struct library_model *library_find(const struct library *library, const char *name);

/* The path that llama3_model_open() would open for "OWNER/NAME" or "OWNER/NAME:TAG", or for a
 * folder; free() it. revision: NULL for main; otherwise name has no tag. */
char *library_path(const char *name, const char *revision, struct llama3_error *err);
char *library_path_in(const char *folder, struct llama3_error *err);

/* Hashes every file of a model. bad() is called for each file with a wrong hash, which has been
 * renamed to `kept`, so that it will be fetched again. on_bytes() reports progress; non-zero
 * cancels. */
struct library_check {
    void (*bad)(void *arg, const char *file, const char *kept);
    int (*on_bytes)(void *arg, uint64_t done, uint64_t total);
    void *arg;
};
int library_verify(const struct library_model *model, const struct library_check *check,
                   struct llama3_error *err);

/* Removes a model, or with a tag ("int4", "Q4_K_M") only that file. An error if another program is
 * fetching it. */
int library_remove(const struct library_model *model, const char *tag, struct llama3_error *err);

#endif
