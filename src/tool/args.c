/* SPDX-License-Identifier: MIT */
#include "tool/args.h"

#include <math.h>
#include <unistd.h>

#include "tool/say.h"
#include "tool/session_file.h"

#define FIELD(name) offsetof(struct args, name)

/* args_begin() fills in the choices of --template, which are the library's. */
static struct option_spec prompt_specs[] = {
    OPT_TEXT('p', "prompt", FIELD(prompt), "TEXT", "what to answer"),
    OPT_PATH('f', "file", FIELD(file), "FILE",
             "read it from a file (-: stdin); after --prompt and\n"
             "an empty line, if both are given"),
    OPT_PATH(0, "session", FIELD(session), "FILE",
             "go on with this conversation, and keep it there"),
    OPT_TEXT(0, "system", FIELD(system), "TEXT", "instructions for the whole conversation",
             ALSO("system-prompt")),
    OPT_ONE_OF(0, "template", FIELD(template_index), "NAME", NULL,
               "chat template (recognised by the checkpoint's own)"),
    OPT_TEXT(0, "date", FIELD(date), "DATE", "today's date for the template, as \"26 Jul 2024\""),
    OPT_FLAG(0, "raw", FIELD(raw), "no chat template: continue the text (base models)"),
};

const struct option_spec answer_option_specs[N_ANSWER_OPTIONS] = {
    OPT_SIZE('n', "max-tokens", FIELD(max_tokens), "N", 1, 1 << 24,
             "end the answer after N tokens (4096)", ALSO("n-predict", "predict", "num-predict")),
    OPT_TEXTS(0, "stop", FIELD(stop), "TEXT", "end the answer before this text; may be repeated"),
    OPT_FLOAT(0, "temperature", FIELD(sampling.temperature), "X", 0, 100,
              "0 always takes the likeliest token (0.6)", ALSO("temp")),
    OPT_FLOAT(0, "top-p", FIELD(sampling.top_p), "X", 0, 1,
              "likeliest tokens that together have this\n"
              "probability; 1 is off (0.9)",
              .above = true),
    OPT_INT(0, "top-k", FIELD(sampling.top_k), "N", 0, 1 << 20,
            "the N likeliest tokens; 0 is off (0)"),
    OPT_FLOAT(0, "min-p", FIELD(sampling.min_p), "X", 0, 1,
              "tokens with at least this share of the likeliest\n"
              "one's probability; 0 is off (0)"),
    OPT_FLOAT(0, "repeat-penalty", FIELD(sampling.repeat_penalty), "X", 0, 100,
              "for tokens of prompt and answer; 1 is off (1)", .above = true),
    OPT_FLOAT(0, "frequency-penalty", FIELD(sampling.frequency_penalty), "X", -100, 100,
              "per occurrence in the answer; 0 is off (0)"),
    OPT_FLOAT(0, "presence-penalty", FIELD(sampling.presence_penalty), "X", -100, 100,
              "once per token of the answer; 0 is off (0)"),
    OPT_SEED('s', "seed", FIELD(seed), "N", "the same seed gives the same answer (random)"),
};

static const struct option_spec output_specs[] = {
    OPT_FLAG(0, "show-prompt", FIELD(show_prompt), "the prompt as the model reads it, on stderr"),
    OPT_FLAG(0, "info", FIELD(info), "what the model is and needs, instead of answering"),
    OPT_FLAG(0, "stats", FIELD(stats), "counts, speed, memory and seed, on stderr"),
    OPT_FLAG('q', "quiet", FIELD(quiet), "no progress and no notes on stderr"),
    OPT_FLAG('v', "verbose", FIELD(verbose), "the model in a line, and --stats, on stderr"),
    OPT_HELP,
    OPT_VERSION,
};

/* Refuses options that contradict each other, where one would silently drop the other. */
static int check_combinations(const struct args *args)
{
    const char *odd = args->session != NULL       ? "--session"
                      : args->system != NULL      ? "--system"
                      : args->template_index >= 0 ? "--template"
                      : args->date != NULL        ? "--date"
                                                  : NULL;
    if (args->raw && odd != NULL) {
        say_error("--raw uses no chat template, so %s has no meaning", odd);
        return -1;
    }
    if (model_check(&args->model) != 0)
        return -1;
    if (args->session != NULL && args->seed.given && args->seed.value > SESSION_MAX_SEED) {
        say_error("--seed: expected at most %llu with --session, found '%llu'",
                  (unsigned long long)SESSION_MAX_SEED, (unsigned long long)args->seed.value);
        return -1;
    }
    if (args->quiet && args->verbose) {
        say_error("--quiet and --verbose contradict each other");
        return -1;
    }
    return gpu_check(&args->gpu);
}

bool args_begin(struct args *args, int argc, char **argv, int *status)
{
    uint32_t seed; /* short enough to be typed again */
    *args = (struct args){
        .template_index = -1,
        .sampling = {.temperature = NAN,
                     .top_p = NAN,
                     .min_p = NAN,
                     .top_k = -1,
                     .repeat_penalty = NAN,
                     .frequency_penalty = NAN,
                     .presence_penalty = NAN},
    };
    if (getentropy(&seed, sizeof seed) == 0)
        args->seed.value = seed;
    const struct option_group groups[] = {
        OPT_GROUP("Prompt", prompt_specs, args),
        OPT_GROUP("Model", model_option_specs, &args->model),
        GPU_OPTIONS(&args->gpu),
        OPT_GROUP("Answer (defaults come from the checkpoint; these where it has none)",
                  answer_option_specs, args),
        OPT_GROUP("Output", output_specs, args),
    };
    const struct option_set set = {
        .usage = "llama3 [OPTION]... [--prompt TEXT] [--file FILE]\n"
                 "Answers a prompt, or piped stdin; without either, chats in the terminal.",
        .operand = "a prompt is given with --prompt",
        .groups = groups,
        .n = sizeof groups / sizeof *groups,
    };
    for (size_t i = 0; i < sizeof prompt_specs / sizeof *prompt_specs; i++)
        if (prompt_specs[i].type == OPTION_ONE_OF)
            prompt_specs[i].choices = llama3_template_names();
    if (!options_begin(&set, argc, argv, status))
        return false;
    *status = STATUS_USAGE;
    return check_combinations(args) == 0;
}

struct llama3_sampling *args_sampling(const struct args *args, const struct llama3_model *model,
                                      struct llama3_error *err)
{
    const struct {
        const char *name;
        double value; /* NAN: not given */
    } given[] = {
        {"temperature", (double)args->sampling.temperature},
        {"top_p", (double)args->sampling.top_p},
        {"min_p", (double)args->sampling.min_p},
        {"top_k", args->sampling.top_k < 0 ? (double)NAN : args->sampling.top_k},
        {"repeat_penalty", (double)args->sampling.repeat_penalty},
        {"frequency_penalty", (double)args->sampling.frequency_penalty},
        {"presence_penalty", (double)args->sampling.presence_penalty},
    };
    char text[32];
    struct llama3_sampling *sampling = llama3_sampling_open(model, err);
    if (sampling == NULL)
        return NULL;
    snprintf(text, sizeof text, "%llu", (unsigned long long)args->seed.value);
    int status = llama3_sampling_set(sampling, "seed", text, err);
    for (size_t i = 0; i < sizeof given / sizeof *given && status == 0; i++) {
        snprintf(text, sizeof text, "%.9g", given[i].value);
        if (!isnan(given[i].value))
            status = llama3_sampling_set(sampling, given[i].name, text, err);
    }
    if (status == 0)
        return sampling;
    llama3_sampling_close(sampling);
    return NULL;
}
