/* SPDX-License-Identifier: MIT */
/* eval.c: llama3-eval, what a model computes, for anyone who wants to check it: its options, and
 * which mode they ask for. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tool/eval.h"
#include "tool/interrupt.h"
#include "tool/progress.h"
#include "tool/say.h"

const char say_program[] = "llama3-eval";

#define FIELD(name) offsetof(struct eval_args, name)
/* The first EVAL_MODES choose a mode, in the order of enum eval_mode. */
static const struct option_spec mode_specs[] = {
    OPT_PATH(0, "logits", FIELD(paths[EVAL_LOGITS]), "OUT",
             "write the logits after each token to OUT (-: stdout)\n"
             "as little-endian float32 [tokens][vocabulary]"),
    OPT_PATH(0, "tokenize", FIELD(paths[EVAL_TOKENIZE]), "FILE",
             "print the ids of a text (-: stdin)"),
    OPT_MAYBE_PATH(0, "detokenize", FIELD(paths[EVAL_DETOKENIZE]), "FILE",
                   "print the text of ids (stdin)"),
    OPT_PATH(0, "perplexity", FIELD(paths[EVAL_PERPLEXITY]), "FILE",
             "how well the model predicts a text (-: stdin)"),
    OPT_PATH(0, "kl", FIELD(paths[EVAL_KL]), "REF",
             "the same for --file TEXT, and how far the model is\n"
             "from REF, one of the same vocabulary"),
};

static const struct option_spec input_specs[] = {
    OPT_TEXT(0, "tokens", FIELD(ids), "IDS", "--logits of these, as in \"1,2,3\" or \"1 2 3\""),
    OPT_PATH('f', "file", FIELD(file), "TEXT",
             "--logits or --kl of this text (-: stdin); without a\n"
             "mode its perplexity"),
    OPT_ONE_OF(0, "ref-kv", FIELD(ref_kv), "auto|f16|f32|int8|int4", kv_names,
               "--kv of REF with --kl (as --kv)"),
    OPT_FLAG(0, "special", FIELD(special),
             "--tokenize recognises the names of control tokens,\n"
             "and --detokenize writes them"),
    OPT_FLAG(0, "json-lines", FIELD(json_lines),
             "--tokenize many texts: a JSON string in each line,\n"
             "for which a line with a JSON array is printed"),
    OPT_FLAG(0, "pretokens", FIELD(pretokens),
             "--tokenize prints how many bytes each pre-token has"),
    OPT_FLAG(0, "json", FIELD(json), "--perplexity and --kl print a JSON object"),
};

static const struct option_spec output_specs[] = {
    OPT_QUIET("no progress and no notes on stderr"),
    OPT_HELP,
    OPT_VERSION,
};

/* ---- what the modes share ---------------------------------------------------------------- */

/* arg: whether quantizing has begun; notes come before its first report. */
static int on_quantized(void *arg, uint64_t done, uint64_t total)
{
    bool *begun = arg;
    if (!*begun)
        progress_start_bytes("quantizing", 0);
    *begun = true;
    progress_update((size_t)done, (size_t)total);
    return interrupt_seen();
}

struct llama3_model_options eval_options(const struct eval_args *args)
{
    struct llama3_model_options options = model_options(&args->model);
    gpu_apply(&args->gpu, &options);
    return options;
}

struct llama3_model *eval_open(const struct eval_args *args, const char *path,
                               const struct llama3_model_options *options, bool adapted,
                               int *status)
{
    bool begun = false;
    void *loras = NULL;
    struct llama3_model_options o = *options;
    struct llama3_error err = {.size = sizeof err};
    bool quantizes = o.int4 != LLAMA3_INT4_NO;
    if (adapted && (*status = model_loras(&args->model, NULL, &o, &loras)) != STATUS_OK) {
        free(loras);
        return NULL;
    }
    char *cache = quantizes ? model_cache(&args->model) : NULL;
    if (quantizes) {
        o.cache = cache;
        o.on_progress = on_quantized;
        o.on_note = say_on_note;
        o.arg = &begun;
        interrupt_defer();
    }
    struct llama3_model *model = evaluate_open(path, &o, &err);
    progress_stop();
    if (quantizes)
        interrupt_end();
    free(cache);
    free(loras);
    if (model != NULL)
        return model;
    *status = err.code == LLAMA3_ECANCELED ? STATUS_INTERRUPTED : STATUS_FAILED;
    if (*status == STATUS_FAILED)
        say_failure(&err);
    return NULL;
}

struct llama3_model *eval_open_vocabulary(const struct eval_args *args, char **path)
{
    struct llama3_error err = {.size = sizeof err};
    *path = model_path(args->model.path, "--model");
    struct llama3_model *model = *path != NULL ? evaluate_open_vocabulary(*path, &err) : NULL;
    if (*path != NULL && model == NULL)
        say_failure(&err);
    return model;
}

void eval_note(const struct llama3_model *model)
{
    const char *note = llama3_model_info(model)->gpu_note;
    if (note != NULL)
        say_note("no GPU is used: %s", note);
}

/* ---- the command line -------------------------------------------------------------------- */

/* *mode: the one that is asked for; EVAL_MODES if there is only a text. */
static int choose_mode(const struct eval_args *args, int *mode)
{
    *mode = EVAL_MODES;
    for (int i = 0; i < EVAL_MODES; i++) {
        if (args->paths[i] == NULL)
            continue;
        if (*mode < EVAL_MODES)
            return say_usage("--%s and --%s exclude each other", mode_specs[*mode].name,
                             mode_specs[i].name);
        *mode = i;
    }
    if (*mode < EVAL_MODES || args->file != NULL)
        return STATUS_OK;
    say_usage("expected one of --logits, --tokenize, --detokenize, --perplexity and --kl");
    return say_try_help();
}

/* Refuses options that a mode would silently ignore, and a mode that lacks one. */
static int check_mode(const struct eval_args *args, int mode)
{
    const struct {
        const char *name;
        bool given, has_meaning;
    } options[] = {
        {"tokens", args->ids != NULL, mode == EVAL_LOGITS},
        {"file", args->file != NULL, mode == EVAL_LOGITS || mode == EVAL_KL || mode == EVAL_MODES},
        {"ref-kv", args->ref_kv >= 0, mode == EVAL_KL},
        {"special", args->special, mode == EVAL_TOKENIZE || mode == EVAL_DETOKENIZE},
        {"json-lines", args->json_lines, mode == EVAL_TOKENIZE},
        {"pretokens", args->pretokens, mode == EVAL_TOKENIZE},
        {"json", args->json, mode >= EVAL_PERPLEXITY},
    };
    const char *name = mode_specs[mode < EVAL_MODES ? mode : EVAL_PERPLEXITY].name;
    for (size_t i = 0; i < sizeof options / sizeof *options; i++) {
        if (options[i].given && !options[i].has_meaning)
            return say_usage("--%s has no meaning with --%s", options[i].name, name);
    }
    if (args->special && args->pretokens)
        return say_usage("--special has no meaning with --pretokens");
    if (mode == EVAL_LOGITS && args->ids != NULL && args->file != NULL)
        return say_usage("--tokens and --file exclude each other");
    if (mode == EVAL_LOGITS && args->ids == NULL && args->file == NULL)
        return say_usage("--logits: expected --tokens IDS or --file TEXT, found neither");
    if (mode == EVAL_KL && args->file == NULL)
        return say_usage("--kl: expected a text to predict, found no --file TEXT");
    return STATUS_OK;
}

/* A model may be named without --model. */
static int take_operand(struct eval_args *args, const char *operand)
{
    if (operand != NULL && args->model.path != NULL)
        return say_usage("unexpected argument \"%s\": --model names the model", operand);
    args->model.path = operand != NULL ? operand : args->model.path;
    return STATUS_OK;
}

static int run(struct eval_args *args, const char *operand)
{
    int mode;
    if (take_operand(args, operand) != STATUS_OK || choose_mode(args, &mode) != STATUS_OK ||
        check_mode(args, mode) != STATUS_OK || model_check(&args->model) != STATUS_OK ||
        gpu_check(&args->gpu) != STATUS_OK)
        return STATUS_USAGE;
    interrupt_install();
    switch (mode) {
    case EVAL_LOGITS:
        return eval_logits(args);
    case EVAL_TOKENIZE:
        return eval_tokenize(args);
    case EVAL_DETOKENIZE:
        return eval_detokenize(args);
    case EVAL_PERPLEXITY:
        return eval_predict(args, args->paths[mode], NULL);
    case EVAL_KL:
        return eval_predict(args, args->file, args->paths[mode]);
    default:
        return eval_predict(args, args->file, NULL);
    }
}

int main(int argc, char **argv)
{
    struct eval_args args = {.ref_kv = -1};
    const char *operand = NULL;
    struct option_spec model_specs[N_MODEL_OPTIONS]; /* --ctx means something else here */
    memcpy(model_specs, model_option_specs, sizeof model_specs);
    model_specs[MODEL_OPTION_CTX].help = "most tokens for --logits (the model's limit);\n"
                                         "tokens of a window for --perplexity and --kl (512)";
    const struct option_group groups[] = {
        OPT_GROUP("What to do", mode_specs, &args),   OPT_GROUP("With what", input_specs, &args),
        OPT_GROUP("Model", model_specs, &args.model), GPU_OPTIONS(&args.gpu),
        OPT_GROUP("Output", output_specs, &args),
    };
    const struct option_set set = {
        .usage = "llama3-eval [OPTION]... --logits OUT --tokens IDS | --file TEXT\n"
                 "       llama3-eval [OPTION]... --tokenize FILE\n"
                 "       llama3-eval [OPTION]... --detokenize [FILE]\n"
                 "       llama3-eval [OPTION]... --perplexity FILE\n"
                 "       llama3-eval [OPTION]... --kl REF --file TEXT\n"
                 "Shows what a model computes, so that it can be checked.",
        .operand = "it takes one model only",
        .operands = &operand,
        .max_operands = 1,
        .groups = groups,
        .n = sizeof groups / sizeof *groups,
    };
    int status;
    if (options_begin(&set, argc, argv, &status))
        status = run(&args, operand);
    free(args.model.loras.items);
    return status;
}
