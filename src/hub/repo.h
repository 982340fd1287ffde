/* SPDX-License-Identifier: MIT */
/*
 * repo.h: what files a repository has, as the hub lists them, and which of them are wanted. What
 * the hub says is not trusted: a name that could lead out of a folder is refused with the whole
 * list.
 */
#ifndef HUB_REPO_H
#define HUB_REPO_H

#include <stddef.h>

#include "checkpoint/hub_cache.h"
#include "hub/hub.h"

struct hub_repo {
    char commit[HUB_COMMIT + 1];
    char architecture[32];  /* of its GGUF files, as the hub says; "": it doesn't */
    struct hub_file *files; /* [n], by name */
    size_t n;
};

/* The hub's answer to api/models/NAME/revision/REVISION?blobs=true. */
int repo_parse(struct hub_repo *repo, const char *json, size_t size, const char *where,
               struct llama3_error *err);
void repo_free(struct hub_repo *repo);

const struct hub_file *repo_find(const struct hub_repo *repo, const char *name);

/* What is asked for; by default what llama3 and transformers read of a checkpoint. */
struct repo_choice {
    const char *const *include, *const *exclude; /* [n_include], [n_exclude]: globs */
    size_t n_include, n_exclude;
    const char *tag; /* of a GGUF repository: "Q4_K_M"; "": not said */
};

/* Leaves the files that are wanted: *n of them in the order in which they are best fetched (small
 * ones, then weights), for free(). -1 where that is none, or where two would be one file or one
 * would lie in another. */
int repo_choose(const struct hub_repo *repo, const struct repo_choice *choice, const char *where,
                const struct hub_file ***files, size_t *n, struct llama3_error *err);

/* A GGUF file, or the parts of one. */
struct repo_gguf {
    const char *first;       /* the file to open: the first part */
    char tag[HUB_NAME_SIZE]; /* "Q4_K_M", or the whole name where there is no such word */
    uint64_t size;           /* of all parts */
    size_t parts, count;     /* that there are, of how many */
    bool opens;              /* llama3 reads this type, as far as the name tells */
};

/* The GGUF models of a repository, smallest first; *ggufs for free(). */
int repo_ggufs(const struct hub_repo *repo, struct repo_gguf **ggufs, size_t *n,
               struct llama3_error *err);

/* Whether it has weights as safetensors. */
bool repo_has_safetensors(const struct hub_repo *repo);

#endif
