/* SPDX-License-Identifier: MIT */
/* pull_args.c: the command line of llama3-pull. */
#include <stdlib.h>
#include <string.h>

#include "hub/fetch.h"
#include "tool/pull.h"
#include "tool/say.h"

static const char *const int4_names[] = {"calibrated", "uncalibrated", NULL};

#define FIELD(name) offsetof(struct pull_args, name)
static const struct option_spec specs[] = {
    OPT_TEXTS(0, "include", FIELD(include), "GLOB",
              "only files that match, instead of what llama3\n"
              "needs; may be repeated"),
    OPT_TEXTS(0, "exclude", FIELD(exclude), "GLOB", "no files that match; may be repeated"),
    OPT_TEXT(0, "revision", FIELD(revision), "REV", "a branch, a tag or a commit (main)"),
    OPT_PATH(0, "local-dir", FIELD(local_dir), "DIR", "plain files there, instead of the cache"),
    OPT_FLAG(0, "list", FIELD(list), "show what is in the cache"),
    OPT_FLAG(0, "remove", FIELD(remove), "remove the model from the cache, after asking"),
    OPT_FLAG(0, "verify", FIELD(verify),
             "hash the model's files in the cache again, or\n"
             "those of all models"),
    OPT_FLAG('y', "yes", FIELD(yes), "do not ask"),
    OPT_MAYBE_ONE_OF(0, "int4", FIELD(int4), "HOW", int4_names,
                     "quantize to 4 bits while the files arrive:\n"
                     "calibrated, or uncalibrated, which is faster and\n"
                     "not as good (calibrated)"),
    OPT_FLAG(0, "drop-source", FIELD(drop_source),
             "with --int4: free the original weights as they\n"
             "have been used"),
    OPT_FLAG(0, "offline", FIELD(offline), "use no network: is the model in the cache?"),
    OPT_INT('j', "jobs", FIELD(jobs), "N", 1, MAX_CONNECTIONS, "connections at a time (8)"),
    OPT_INT('t', "threads", FIELD(threads), "N", 1, 1024,
            "threads that quantize (every core it may use)"),
    OPT_QUIET("no progress and no notes"),
    OPT_HELP,
    OPT_VERSION,
};

/* "https://huggingface.co/OWNER/NAME" stands for OWNER/NAME. */
static const char *without_address(const char *model)
{
    const char *endpoint = getenv("HF_ENDPOINT");
    const char *const hosts[] = {endpoint, "https://huggingface.co", "https://hf.co",
                                 "http://huggingface.co", "hf:/"};
    for (size_t i = 0; i < sizeof hosts / sizeof *hosts; i++) {
        size_t n = hosts[i] != NULL ? strlen(hosts[i]) : 0;
        while (n > 0 && hosts[i][n - 1] == '/')
            n--;
        if (n > 0 && strncmp(model, hosts[i], n) == 0 && model[n] == '/')
            return model + n + 1;
    }
    return model;
}

static int check_name(struct pull_args *args)
{
    char name[2 * HUB_NAME_SIZE];
    snprintf(name, sizeof name, "%s", without_address(args->model));
    size_t n = strlen(name);
    if (n > 0 && name[n - 1] == '/')
        name[n - 1] = '\0';
    if (hub_split(name, args->repository, args->tag)) {
        if (strcmp(args->tag, "int4") == 0 && !args->remove && !args->offline) {
            args->int4 = args->int4 != 0 ? args->int4 : 1; /* what -m calls it */
            args->tag[0] = '\0';
        }
        return 0;
    }
    return say_usage("expected a model's name, OWNER/NAME or OWNER/NAME:TYPE, found \"%s\"",
                     args->model);
}

static int check(struct pull_args *args)
{
    int modes = args->list + args->remove + args->verify;
    if (args->model != NULL && !args->list && check_name(args) != STATUS_OK)
        return STATUS_USAGE;
    if (modes > 1)
        return say_usage("--list, --remove and --verify exclude each other");
    if ((args->drop_source || args->threads > 0) && args->int4 == 0)
        return say_usage("--%s has no meaning without --int4",
                         args->drop_source ? "drop-source" : "threads");
    if (modes > 0 && (args->include.n > 0 || args->exclude.n > 0 || args->revision != NULL ||
                      args->local_dir != NULL || args->int4 != 0 || args->offline))
        return say_usage("--%s goes with none of the options that say what to fetch",
                         args->list     ? "list"
                         : args->remove ? "remove"
                                        : "verify");
    if (args->revision != NULL && !hub_is_revision(args->revision))
        return say_usage("--revision: expected a branch, a tag or a commit, found \"%s\"",
                         args->revision);
    if (args->model == NULL && !args->list && !args->verify) {
        say_usage("expected a model's name, such as meta-llama/Llama-3.2-1B-Instruct");
        return say_try_help();
    }
    if (args->list && args->model != NULL)
        return say_usage("--list shows all models: expected no name, found \"%s\"", args->model);
    return STATUS_OK;
}

bool pull_args_begin(struct pull_args *args, int argc, char **argv, int *status)
{
    const struct option_group group = OPT_GROUP("Options", specs, args);
    const struct option_set set = {
        .usage = "llama3-pull [OPTION]... OWNER/NAME[:TYPE]\n"
                 "       llama3-pull --list | --verify [MODEL] | --remove MODEL\n"
                 "Fetches a model from the Hugging Face hub into its cache.",
        .operand = "it takes one model only",
        .operands = &args->model,
        .max_operands = 1,
        .groups = &group,
        .n = 1,
    };
    *args = (struct pull_args){.jobs = 8};
    if (!options_begin(&set, argc, argv, status))
        return false;
    *status = check(args);
    return *status == STATUS_OK;
}
