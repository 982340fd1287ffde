/* SPDX-License-Identifier: MIT */
/* sources.h: the files that a checkpoint consists of, without reading them. */
#ifndef CHECKPOINT_SOURCES_H
#define CHECKPOINT_SOURCES_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/stat.h>

#include "base/buf.h"
#include "base/error.h"

struct source {
    char *path; /* without symbolic links */
    struct stat st;
};

struct sources {
    struct source *items; /* [n] */
    size_t n;
};

/* What model_open() would read of a path, and what may lie beside it: of a directory its JSON
 * files, templates and safetensors files but for our own, of a split GGUF model all shards, and
 * generation_config.json beside a GGUF file. */
int sources_list(struct sources *sources, const char *path, struct llama3_error *err);
void sources_free(struct sources *sources);

/* A line for each: device, inode, size, path, and the times of modification, which anybody may set,
 * and of change, which only the system sets. */
void sources_describe(const struct sources *sources, struct buf *out);

/* Whether a path leads to one of the files, also by another name. */
bool sources_have(const struct sources *sources, const char *path);

#endif
