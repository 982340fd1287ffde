/* SPDX-License-Identifier: MIT */
/* pull.h: the command line of llama3-pull, and what it does besides fetching. */
#ifndef TOOL_PULL_H
#define TOOL_PULL_H

#include "hub/repo.h"
#include "tool/options.h"

enum { PULL_SPARE = 64 << 20 /* bytes of disk that are left to others */ };

struct pull_args {
    const char *model; /* as given */
    char repository[HUB_NAME_SIZE], tag[HUB_NAME_SIZE];
    const char *revision, *local_dir;
    struct option_texts include, exclude;
    int jobs, threads;
    int int4; /* 0: not given */
    bool drop_source, list, remove, verify, yes, offline;
};

/* As options_begin(). The caller frees the items of args->include and args->exclude. */
bool pull_args_begin(struct pull_args *args, int argc, char **argv, int *status);

/* Chooses one of a GGUF repository's types. STATUS_OK: args->tag names it, or none is needed.
 * Otherwise the types have been shown. */
int pull_choose_gguf(const struct hub_repo *repo, struct pull_args *args);

/* --list, --remove and --verify; a status. */
int pull_list(void);
int pull_remove(const struct pull_args *args);
int pull_verify(const struct pull_args *args);

#endif
