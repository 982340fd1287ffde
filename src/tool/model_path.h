/* SPDX-License-Identifier: MIT */
/*
 * model_path.h: the options that open a model, for every program, and which model is meant if none
 * is named.
 */
#ifndef TOOL_MODEL_PATH_H
#define TOOL_MODEL_PATH_H

#include "llama3.h"
#include "tool/options.h"

struct model_args {
    const char *path; /* NULL: not given */
    size_t context;   /* 0: the default */
    int kv;           /* enum llama3_kv_type */
    int threads;      /* 0: the default */
    int no_numa;      /* 1: --numa off */
    int int4;         /* enum llama3_int4 */
    int load;         /* enum llama3_load */
    bool no_cache;
    struct option_texts loras; /* --lora, as they are given */
};

enum { MODEL_OPTION_CTX = 1, N_MODEL_OPTIONS = 9 }; /* index of --ctx; size of the table */
extern const char *const kv_names[];                /* enum llama3_kv_type */
extern const char *const numa_names[];
extern const struct option_spec model_option_specs[N_MODEL_OPTIONS];
extern const char *const load_names[];

/* STATUS_OK, or STATUS_USAGE for options that make no sense together. */
int model_check(const struct model_args *args);

/* The path to open: `given`, else $LLAMA3_MODEL, else the quickstart's model if it is there. Freed
 * by the caller. NULL after an error on stderr, which says how to get a model; `how` names the
 * option for one, "--model". */
char *model_path(const char *given, const char *how);

/* The folder where --int4 keeps its files, for free(). NULL if there is none, or with
 * --no-cache. */
char *model_cache(const struct model_args *args);

/* Reads --lora into the options: *memory holds them, for free(). STATUS_OK, or a status after an
 * error on stderr. named: [loras.n], which have a name of their own (NAME=PATH); NULL: none may. */
int model_loras(const struct model_args *args, bool *named, struct llama3_model_options *options,
                void **memory);

/* Fills everything but adapters, the cache and the callbacks. */
struct llama3_model_options model_options(const struct model_args *args);

#endif
