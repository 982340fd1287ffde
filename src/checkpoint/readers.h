/* SPDX-License-Identifier: MIT */
/* readers.h: what stands behind model_open(): a look at the path, then one reader for each kind of
 * checkpoint. Each fills a zeroed model; on failure model_close() frees what it holds. */
#ifndef CHECKPOINT_READERS_H
#define CHECKPOINT_READERS_H

#include "checkpoint/model.h"

/* A GGUF file, with its other parts if it is the first of a split set. */
int gguf_model_open(struct model *model, const char *path, struct llama3_error *err);

/* A directory as Hugging Face's: config.json, tokenizer.json, model.safetensors or its shards. */
int hf_model_open(struct model *model, const char *folder, struct llama3_error *err);

/* One of our own files (packed.h), mapped; model->path is its name. */
int packed_model_read(struct model *model, const struct map *map, struct llama3_error *err);
/* Whether a file says that it is one of ours, whole or not. */
bool packed_recognise(const char *path);

enum checkpoint_kind {
    CHECKPOINT_FOLDER, /* with config.json */
    CHECKPOINT_GGUF,   /* any other file */
    CHECKPOINT_PACKED  /* one of ours */
};

/* What the user's path stands for, for free(): itself, a file in it, its directory, or what a name
 * stands for. NULL with what was looked for and where. */
char *resolve_path(const char *path, enum checkpoint_kind *kind, struct llama3_error *err);

/* What "OWNER/NAME" or "OWNER/NAME:TAG" stands for in the local Hugging Face cache, for free(): a
 * snapshot's folder, a GGUF file in it, or the file that llama3-pull --int4 made of it. NULL with
 * LLAMA3_EABSENT and the command that fetches it, if that would help. */
char *resolve_hub(const char *name, enum checkpoint_kind *kind, struct llama3_error *err);

#endif
