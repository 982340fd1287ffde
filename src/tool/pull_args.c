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
    {.name = "include",
     .type = OPTION_TEXTS,
     .offset = FIELD(include),
     .arg = "GLOB",
     .help = "only files that match, instead of what llama3\n"
             "needs; may be repeated"},
    {.name = "exclude",
     .type = OPTION_TEXTS,
     .offset = FIELD(exclude),
     .arg = "GLOB",
     .help = "no files that match; may be repeated"},
    {.name = "revision",
     .type = OPTION_TEXT,
     .offset = FIELD(revision),
     .arg = "REV",
     .help = "a branch, a tag or a commit (main)"},
    {.name = "local-dir",
     .type = OPTION_PATH,
     .offset = FIELD(local_dir),
     .arg = "DIR",
     .help = "plain files there, instead of the cache"},
    {.name = "list",
     .type = OPTION_FLAG,
     .offset = FIELD(list),
     .help = "show what is in the cache"},
    {.name = "remove",
     .type = OPTION_FLAG,
     .offset = FIELD(remove),
     .help = "remove the model from the cache, after asking"},
    {.name = "verify",
     .type = OPTION_FLAG,
     .offset = FIELD(verify),
     .help = "hash the model's files in the cache again, or\n"
             "those of all models"},
    {.name = "yes", .letter = 'y', .type = OPTION_FLAG, .offset = FIELD(yes), .help = "do not ask"},
    {.name = "int4",
     .type = OPTION_MAYBE_ONE_OF,
     .offset = FIELD(int4),
     .arg = "HOW",
     .choices = int4_names,
     .help = "quantize to 4 bits while the files arrive:\n"
             "calibrated, or uncalibrated, which is faster and\n"
             "not as good (calibrated)"},
    {.name = "drop-source",
     .type = OPTION_FLAG,
     .offset = FIELD(drop_source),
     .help = "with --int4: free the original weights as they\n"
             "have been used"},
    {.name = "offline",
     .type = OPTION_FLAG,
     .offset = FIELD(offline),
     .help = "use no network: is the model in the cache?"},
    {.name = "jobs",
     .letter = 'j',
     .type = OPTION_INT,
     .offset = FIELD(jobs),
     .arg = "N",
     .min = 1,
     .max = MAX_CONNECTIONS,
     .help = "connections at a time (8)"},
    {.name = "threads",
     .letter = 't',
     .type = OPTION_INT,
     .offset = FIELD(threads),
     .arg = "N",
     .min = 1,
     .max = 1024,
     .help = "threads that quantize (every core it may use)"},
    {.name = "quiet",
     .letter = 'q',
     .type = OPTION_FLAG,
     .offset = FIELD(quiet),
     .help = "no progress and no notes"},
    {.name = "help",
     .letter = 'h',
     .type = OPTION_FLAG,
     .offset = FIELD(help),
     .help = "this text"},
    {.name = "version",
     .letter = 'V',
     .type = OPTION_FLAG,
     .offset = FIELD(version),
     .help = "the version"},
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
    say_error("expected a model's name, OWNER/NAME or OWNER/NAME:TYPE, found '%s'", args->model);
    return -1;
}

int pull_args_check(struct pull_args *args)
{
    int modes = args->list + args->remove + args->verify;
    if (args->model != NULL && !args->list && check_name(args) != 0)
        return -1;
    if (modes > 1) {
        say_error("--list, --remove and --verify exclude each other");
        return -1;
    }
    if ((args->drop_source || args->threads > 0) && args->int4 == 0) {
        say_error("--%s has no meaning without --int4",
                  args->drop_source ? "drop-source" : "threads");
        return -1;
    }
    if (modes > 0 && (args->include.n > 0 || args->exclude.n > 0 || args->revision != NULL ||
                      args->local_dir != NULL || args->int4 != 0 || args->offline)) {
        say_error("--%s goes with none of the options that say what to fetch", args->list ? "list"
                                                                               : args->remove
                                                                                   ? "remove"
                                                                                   : "verify");
        return -1;
    }
    if (args->revision != NULL && !hub_is_revision(args->revision)) {
        say_error("--revision: expected a branch, a tag or a commit, found '%s'", args->revision);
        return -1;
    }
    if (args->model == NULL && !args->list && !args->verify) {
        say_error("expected a model's name, as meta-llama/Llama-3.2-1B-Instruct");
        return -1;
    }
    if (args->list && args->model != NULL) {
        say_error("--list shows all models: expected no name, found '%s'", args->model);
        return -1;
    }
    return 0;
}

static struct option_set option_set(struct option_group *group, struct pull_args *args)
{
    *group = (struct option_group){"Options", specs, sizeof specs / sizeof *specs, args};
    return (struct option_set){
        .program = say_program,
        .usage = "llama3-pull [OPTION]... OWNER/NAME[:TYPE]\n"
                 "       llama3-pull --list | --verify [MODEL] | --remove MODEL\n"
                 "Fetches a model from the Hugging Face hub into its cache.",
        .operand = "one model is all that is named",
        .operands = &args->model,
        .min_operands = 0,
        .max_operands = 1,
        .groups = group,
        .n = 1,
    };
}

int pull_args_parse(struct pull_args *args, int argc, char **argv)
{
    struct option_group group;
    *args = (struct pull_args){.jobs = 8};
    struct option_set set = option_set(&group, args);
    return options_parse(&set, argc, argv);
}

void pull_args_help(FILE *out)
{
    struct option_group group;
    struct pull_args args;
    struct option_set set = option_set(&group, &args);
    options_help(&set, out);
}

void pull_args_free(struct pull_args *args)
{
    struct option_group group;
    struct option_set set = option_set(&group, args);
    options_free(&set);
}
