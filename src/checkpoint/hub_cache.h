/* SPDX-License-Identifier: MIT */
/*
 * hub_cache.h: names of models on the Hugging Face hub, and their paths in its local cache. The
 * layout is huggingface_hub's, so that Python programs and ours share files:
 * models--OWNER--NAME/ has blobs/ (files by hash), snapshots/COMMIT/ (links to them by name) and
 * refs/REVISION (the commit of a branch or tag).
 */
#ifndef CHECKPOINT_HUB_CACHE_H
#define CHECKPOINT_HUB_CACHE_H

#include <stdbool.h>

#include "base/error.h"

enum { HUB_NAME_SIZE = 200 }; /* two words of 96 characters, '/', NUL */

/* "OWNER/NAME", by the rules of huggingface_hub: letters, digits, '-', '_' and '.', at most 96 in
 * each of the two. */
bool hub_is_repository(const char *name);

/* Splits "OWNER/NAME[:TAG]"; tag is "" if there is none. False if it is no such name. */
bool hub_split(const char *model, char repository[HUB_NAME_SIZE], char tag[HUB_NAME_SIZE]);

/* What follows returns paths for free(), or NULL with *err filled. */

/* The folder of the hub's tools ($HF_HOME), and the cache, by default below it, as
 * huggingface_hub's variables say. An empty variable counts as unset. */
char *hub_home_folder(struct llama3_error *err);
char *hub_cache_folder(struct llama3_error *err);
/* The file with the token of the hub's own tool. */
char *hub_token_path(struct llama3_error *err);

/* CACHE/models--OWNER--NAME, which need not exist. */
char *hub_repository_folder(const char *repository, struct llama3_error *err);

/* Whether it can be a branch, tag or commit: a path that stays below refs/. */
bool hub_is_revision(const char *name);

/* In a repository's folder: the commit of a revision (NULL: main), which may be a commit itself;
 * the folder of a revision's files, which must exist; that of a commit; and the path of the file
 * that llama3-pull --int4 makes of them. */
char *hub_commit(const char *folder, const char *revision, struct llama3_error *err);
char *hub_snapshot(const char *folder, const char *revision, struct llama3_error *err);
char *hub_commit_folder(const char *folder, const char *commit, struct llama3_error *err);
char *hub_int4_path(const char *folder, const char *commit, struct llama3_error *err);

#endif
