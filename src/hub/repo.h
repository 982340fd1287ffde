/* SPDX-License-Identifier: MIT */
/*
 * repo.h: a repository's files, as the hub lists them, and which of them to fetch. The list isn't
 * trusted: it is refused if a name could lead out of a folder.
 */
#ifndef HUB_REPO_H
#define HUB_REPO_H

#include <stddef.h>

#include "checkpoint/hub_cache.h"
#include "hub/hub.h"

struct hub_repo {
    char commit[HUB_COMMIT + 1];
    char architecture[32];  /* of its GGUF files; "": not said */
    struct hub_file *files; /* [n], by name */
    size_t n;
};

/* The hub's answer to api/models/NAME/revision/REVISION?blobs=true. */
int repo_parse(struct hub_repo *repo, const char *json, size_t size, const char *where,
               struct llama3_error *err);
void repo_free(struct hub_repo *repo);

/* What to fetch; by default what llama3 and transformers read of a checkpoint. */
struct repo_choice {
    const char *const *include, *const *exclude; /* [n_include], [n_exclude]: globs */
    size_t n_include, n_exclude;
    const char *tag; /* of a GGUF repository: "Q4_K_M"; "": not said */
};

/* The *n files to fetch, small ones before weights; free() the list. -1 if there are none, or if
 * two names would clash on some file system. */
int repo_choose(const struct hub_repo *repo, const struct repo_choice *choice, const char *where,
                const struct hub_file ***files, size_t *n, struct llama3_error *err);

/* A GGUF model, of one file or several shards. */
struct repo_gguf {
    const char *first;       /* the first shard, which is the one to open */
    char tag[HUB_NAME_SIZE]; /* "Q4_K_M"; the whole name if it has no such word */
    uint64_t size;           /* of all shards */
    size_t shards, count;    /* found, and how many there should be */
    bool opens;              /* llama3 reads this type, by its name */
};

/* The GGUF models of a repository, smallest first; free() the list. */
int repo_ggufs(const struct hub_repo *repo, struct repo_gguf **ggufs, size_t *n,
               struct llama3_error *err);

bool repo_has_safetensors(const struct hub_repo *repo);

#endif
