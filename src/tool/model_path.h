/* SPDX-License-Identifier: MIT */
/*
 * model_path.h: the options that every program takes to open a model, and what model is meant
 * where none is given.
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
    int int4;         /* enum llama3_int4 */
    bool no_cache;
};

enum { MODEL_OPTION_CTX = 1, N_MODEL_OPTIONS = 6 }; /* where --ctx is in the table; all */
extern const struct option_spec model_option_specs[N_MODEL_OPTIONS];

/* -1 after a usage error: options that have no meaning together. */
int model_check(const struct model_args *args);

/* The model given on the command line (NULL: none), $LLAMA3_MODEL, or the quickstart's model if it
 * is there. The caller frees it; NULL after an error on stderr that says how to get a model; how:
 * to give one, "--model". */
char *model_path(const char *given, const char *how);

/* The directory where --int4 keeps what it makes, for free(); NULL if there is none, or --no-cache
 * said so. */
char *model_cache(const struct model_args *args);

/* All but the cache and the callbacks. */
struct llama3_model_options model_options(const struct model_args *args);

#endif
