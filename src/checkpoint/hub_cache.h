/* SPDX-License-Identifier: MIT */
/*
 * hub_cache.h: the names of models on the Hugging Face hub, and where its local cache keeps them.
 * The layout is huggingface_hub's, so that programs in Python and ours share what was fetched:
 * models--OWNER--NAME/ holds blobs/ (the files, by hash), snapshots/COMMIT/ (links to them by
 * their names) and refs/REVISION (the commit that a branch or tag was at).
 */
#ifndef CHECKPOINT_HUB_CACHE_H
#define CHECKPOINT_HUB_CACHE_H

#include <stdbool.h>

#include "base/error.h"

enum { HUB_NAME_SIZE = 200 }; /* two parts of 96 characters, '/', NUL */

/* "OWNER/NAME", by the rules of huggingface_hub: letters, digits, '-', '_' and '.', at most 96 in
 * each part. */
bool hub_is_repository(const char *name);

/* "OWNER/NAME[:TAG]" in its parts; tag is "" if there is none. False: it is no such name. */
bool hub_split(const char *model, char repository[HUB_NAME_SIZE], char tag[HUB_NAME_SIZE]);

/* What follows returns paths for free(), or NULL with *err filled. */

/* Where the tools of the hub keep what is theirs ($HF_HOME), and the cache below it or elsewhere,
 * by the variables of huggingface_hub. A variable that is set to nothing counts as unset. */
char *hub_home_folder(struct llama3_error *err);
char *hub_cache_folder(struct llama3_error *err);
/* The file with the token that the hub's own tool got by logging in. */
char *hub_token_path(struct llama3_error *err);

/* CACHE/models--OWNER--NAME of "OWNER/NAME", whether it is there or not. */
char *hub_repository_folder(const char *repository, struct llama3_error *err);

/* Whether it can be a branch, a tag or a commit: a path that doesn't lead out of refs/. */
bool hub_is_revision(const char *name);

/* In a repository's folder: the commit that a revision (NULL: main) stands for, itself if it is
 * one; the folder of that commit's files; where llama3-pull --int4 puts what it makes of them. */
char *hub_commit(const char *folder, const char *revision, struct llama3_error *err);
char *hub_snapshot(const char *folder, const char *revision, struct llama3_error *err);
char *hub_int4_path(const char *folder, const char *commit, struct llama3_error *err);

#endif
