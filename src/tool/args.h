/* SPDX-License-Identifier: MIT */
/* args.h: the command line of llama3. */
#ifndef TOOL_ARGS_H
#define TOOL_ARGS_H

#include "base/buf.h"
#include "llama3.h"
#include "tool/constraint_options.h"
#include "tool/gpu_options.h"
#include "tool/model_path.h"
#include "tool/options.h"
#include "tool/template_options.h"

enum think { THINK_SHOW, THINK_HIDE };

struct args {
    struct model_args model;
    uint64_t cache_bytes; /* that prompts may take on disk */
    struct gpu_args gpu;
    /* what is asked */
    struct template_args template;
    const char *prompt, *session, *system;
    struct option_texts files;
    struct buf system_text; /* where --system @FILE was read to */
    bool system_is_stdin;
    const char *image; /* always refused */
    char *words;       /* those of the command line that are the prompt; NULL: none */
    bool raw, no_history;
    /* how it is answered: of a sampling the texts that llama3_sampling_set() takes; NULL, 0: not
     * given */
    const char *temperature, *top_p, *top_k, *min_p, *repeat_penalty, *frequency_penalty;
    const char *presence_penalty, *seed;
    char random_seed[24]; /* where none is given */
    size_t max_tokens;
    struct option_texts stop;
    struct constraint_args constraint;
    /* what is shown */
    int no_repeat_stop; /* bool */
    int think;          /* enum think */
    int color;          /* enum terminal_color */
    bool sessions;      /* what is there, instead of answering */
    bool plain, show_prompt, info, stats, verbose;
};

/* The options of an answer; offsets count from struct args. */
enum { N_ANSWER_OPTIONS = 10 };
extern const struct option_spec answer_option_specs[N_ANSWER_OPTIONS];

/* As options_begin(); for args_free() in any case. */
bool args_begin(struct args *args, int argc, char **argv, int *status);

void args_free(struct args *args);

/* The first option given that has no meaning without a chat template; NULL: none. */
const char *args_chat_option(const struct args *args);

/* The name of an option in session files, and of a setting in llama3.h: '_' for '-'. */
void args_key(const struct option_spec *spec, char key[32]);
/* Whether a sampling takes this value. */
int args_check_setting(const char *key, const char *value, struct llama3_error *err);

/* The checkpoint's defaults, overridden by what was given; for llama3_sampling_close(). */
struct llama3_sampling *args_sampling(const struct args *args, const struct llama3_model *model,
                                      struct llama3_error *err);

#endif
