/* SPDX-License-Identifier: MIT */
/*
 * resolve.h: from what the user typed to a file or directory. All but resolve_path() stand on base
 * alone: llama3-pull, which is built without the readers, uses them too.
 */
#ifndef CHECKPOINT_RESOLVE_H
#define CHECKPOINT_RESOLVE_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>

#include "base/error.h"

enum checkpoint_kind {
    CHECKPOINT_FOLDER, /* with config.json */
    CHECKPOINT_GGUF,   /* any other file */
    CHECKPOINT_PACKED  /* one of ours */
};

/* What the user's path stands for, for free(): itself, a file in it, its directory, or what a name
 * stands for. NULL with what was looked for and where. */
char *resolve_path(const char *path, enum checkpoint_kind *kind, struct llama3_error *err);

/* The same of a directory: itself, or the GGUF file in it. */
char *resolve_folder(const char *folder, enum checkpoint_kind *kind, struct llama3_error *err);

/* What "OWNER/NAME" or "OWNER/NAME:TAG" stands for in the local Hugging Face cache, for free(): a
 * snapshot's folder, a GGUF file in it, or the file that llama3-pull --int4 made of it. NULL with
 * LLAMA3_EABSENT and the command that fetches it, if that would help. */
char *resolve_hub(const char *name, enum checkpoint_kind *kind, struct llama3_error *err);

/* Names of weight files come from an index: they may not lead out of its directory. */
enum { SHARD_NAME = 256 };
bool shard_name_is_plain(const char *name);

/* A folder's model.safetensors.index.json, a new reference; NULL with err filled. *path, for
 * free(): its path. */
json_t *shards_index(const char *folder, char **path, struct llama3_error *err);

/* Whether a folder has model.safetensors or its index; missing: the first file of that index that
 * is not there, or "". A damaged index has nothing missing: its reader reports it. */
bool shards_in(const char *folder, char missing[SHARD_NAME]);

#endif
