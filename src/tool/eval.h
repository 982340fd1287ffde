/* SPDX-License-Identifier: MIT */
/*
 * eval.h: inside llama3-eval: its options, a function for each mode, and what the modes share.
 */
#ifndef TOOL_EVAL_H
#define TOOL_EVAL_H

#include "tool/evaluate.h"
#include "tool/gpu_options.h"
#include "tool/model_path.h"

enum eval_mode {
    EVAL_LOGITS,
    EVAL_TOKENIZE,
    EVAL_DETOKENIZE,
    EVAL_PERPLEXITY,
    EVAL_KL,
    EVAL_MODES
};

struct eval_args {
    struct model_args model; /* its context: of EVAL_PERPLEXITY and EVAL_KL the window */
    struct gpu_args gpu;
    const char *paths[EVAL_MODES]; /* what the options that choose a mode name; NULL: not given */
    const char *file, *ids;        /* --file, --tokens */
    int ref_kv;                    /* enum llama3_kv_type; -1: as the model's */
    bool special, pretokens, json_lines, json;
};

/* The modes; each returns a status, with errors on stderr. */
int eval_logits(const struct eval_args *args);
int eval_tokenize(const struct eval_args *args);
int eval_detokenize(const struct eval_args *args);
int eval_predict(const struct eval_args *args, const char *text, const char *reference);

/* The options that were given, but for --int4's cache and callbacks. */
struct llama3_model_options eval_options(const struct eval_args *args);
/* As evaluate_open(). NULL after an error, which is on stderr unless *status says interrupted. */
struct llama3_model *eval_open(const struct eval_args *args, const char *path,
                               const struct llama3_model_options *options, bool adapted,
                               int *status);
/* Opens the tokenizer of the model that is meant. *path, freed by the caller, is where it lies.
 * NULL after an error, which is on stderr. */
struct llama3_model *eval_open_vocabulary(const struct eval_args *args, char **path);

/* Notes why no GPU is used, unless --quiet. */
void eval_note(const struct llama3_model *model);

/* Appends the ids of a list: separated by spaces, commas or both, each below limit. Errors call the
 * list `name`. */
int eval_parse_ids(const char *text, size_t size, const char *name, size_t limit,
                   struct tokens *ids, struct llama3_error *err);

#endif
