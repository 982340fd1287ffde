/* SPDX-License-Identifier: MIT */
#include "tool/args.h"

#include <math.h>
#include <unistd.h>

#include "tool/say.h"
#include "tool/session_file.h"

#define FIELD(name) offsetof(struct args, name)

static const struct option_spec prompt_specs[] = {
    {.name = "prompt",
     .letter = 'p',
     .type = OPTION_TEXT,
     .offset = FIELD(prompt),
     .arg = "TEXT",
     .help = "what to answer"},
    {.name = "file",
     .letter = 'f',
     .type = OPTION_PATH,
     .offset = FIELD(file),
     .arg = "FILE",
     .help = "read it from a file (-: stdin); after --prompt and\n"
             "an empty line, if both are given"},
    {.name = "session",
     .type = OPTION_PATH,
     .offset = FIELD(session),
     .arg = "FILE",
     .help = "go on with this conversation, and keep it there"},
    {.name = "system",
     .aliases = (const char *const[]){"system-prompt", NULL},
     .type = OPTION_TEXT,
     .offset = FIELD(system),
     .arg = "TEXT",
     .help = "instructions for the whole conversation"},
    {.name = "template",
     .type = OPTION_ONE_OF,
     .offset = FIELD(template_index),
     .arg = "NAME",
     .help = "chat template (recognised by the checkpoint's own)"},
    {.name = "date",
     .type = OPTION_TEXT,
     .offset = FIELD(date),
     .arg = "DATE",
     .help = "today's date for the template, as \"26 Jul 2024\""},
    {.name = "raw",
     .type = OPTION_FLAG,
     .offset = FIELD(raw),
     .help = "no chat template: continue the text (base models)"},
};

const struct option_spec answer_option_specs[] = {
    {.name = "max-tokens",
     .letter = 'n',
     .aliases = (const char *const[]){"n-predict", "predict", "num-predict", NULL},
     .type = OPTION_SIZE,
     .offset = FIELD(max_tokens),
     .arg = "N",
     .min = 1,
     .max = 1 << 24,
     .help = "end the answer after N tokens (4096)"},
    {.name = "stop",
     .type = OPTION_TEXTS,
     .offset = FIELD(stop),
     .arg = "TEXT",
     .help = "end the answer before this text; may be repeated"},
    {.name = "temperature",
     .aliases = (const char *const[]){"temp", NULL},
     .type = OPTION_FLOAT,
     .offset = FIELD(sampling.temperature),
     .arg = "X",
     .min = 0,
     .max = 100,
     .help = "0 always takes the likeliest token (0.6)"},
    {.name = "top-p",
     .type = OPTION_FLOAT,
     .offset = FIELD(sampling.top_p),
     .arg = "X",
     .min = 0,
     .above = true,
     .max = 1,
     .help = "likeliest tokens that together have this\n"
             "probability; 1 is off (0.9)"},
    {.name = "top-k",
     .type = OPTION_INT,
     .offset = FIELD(sampling.top_k),
     .arg = "N",
     .min = 0,
     .max = 1 << 20,
     .help = "the N likeliest tokens; 0 is off (0)"},
    {.name = "min-p",
     .type = OPTION_FLOAT,
     .offset = FIELD(sampling.min_p),
     .arg = "X",
     .min = 0,
     .max = 1,
     .help = "tokens with at least this share of the likeliest\n"
             "one's probability; 0 is off (0)"},
    {.name = "repeat-penalty",
     .type = OPTION_FLOAT,
     .offset = FIELD(sampling.repeat_penalty),
     .arg = "X",
     .min = 0,
     .above = true,
     .max = 100,
     .help = "for tokens of prompt and answer; 1 is off (1)"},
    {.name = "frequency-penalty",
     .type = OPTION_FLOAT,
     .offset = FIELD(sampling.frequency_penalty),
     .arg = "X",
     .min = -100,
     .max = 100,
     .help = "per occurrence in the answer; 0 is off (0)"},
    {.name = "presence-penalty",
     .type = OPTION_FLOAT,
     .offset = FIELD(sampling.presence_penalty),
     .arg = "X",
     .min = -100,
     .max = 100,
     .help = "once per token of the answer; 0 is off (0)"},
    {.name = "seed",
     .letter = 's',
     .type = OPTION_SEED,
     .offset = FIELD(seed),
     .arg = "N",
     .help = "the same seed gives the same answer (random)"},
};

const size_t n_answer_option_specs = sizeof answer_option_specs / sizeof answer_option_specs[0];

static const struct option_spec output_specs[] = {
    {.name = "show-prompt",
     .type = OPTION_FLAG,
     .offset = FIELD(show_prompt),
     .help = "the prompt as the model reads it, on stderr"},
    {.name = "info",
     .type = OPTION_FLAG,
     .offset = FIELD(info),
     .help = "what the model is and needs, instead of answering"},
    {.name = "stats",
     .type = OPTION_FLAG,
     .offset = FIELD(stats),
     .help = "counts, speed, memory and seed, on stderr"},
    {.name = "quiet",
     .letter = 'q',
     .type = OPTION_FLAG,
     .offset = FIELD(quiet),
     .help = "no progress and no notes on stderr"},
    {.name = "verbose",
     .letter = 'v',
     .type = OPTION_FLAG,
     .offset = FIELD(verbose),
     .help = "the model in a line, and --stats, on stderr"},
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

#define COUNT(array) (sizeof(array) / sizeof *(array))
enum { N_GROUPS = 5 };

/* The tables bound to one struct args. The template's choices are the library's, so that group is
 * copied to name them. */
struct bound {
    struct option_spec prompt[COUNT(prompt_specs)];
    struct option_group groups[N_GROUPS];
    struct option_set set;
};

static void bind(struct bound *bound, struct args *args)
{
    for (size_t i = 0; i < COUNT(prompt_specs); i++) {
        bound->prompt[i] = prompt_specs[i];
        if (bound->prompt[i].type == OPTION_ONE_OF)
            bound->prompt[i].choices = llama3_template_names();
    }
    bound->groups[0] = (struct option_group){"Prompt", bound->prompt, COUNT(prompt_specs), args};
    bound->groups[1] = (struct option_group){"Model", model_option_specs, n_model_option_specs,
                                             args != NULL ? &args->model : NULL};
    bound->groups[2] = (struct option_group){gpu_option_title, gpu_option_specs, n_gpu_option_specs,
                                             args != NULL ? &args->gpu : NULL};
    bound->groups[3] =
        (struct option_group){"Answer (defaults come from the checkpoint; these where it has none)",
                              answer_option_specs, n_answer_option_specs, args};
    bound->groups[4] = (struct option_group){"Output", output_specs, COUNT(output_specs), args};
    bound->set = (struct option_set){
        .program = say_program,
        .usage = "llama3 [OPTION]... [--prompt TEXT] [--file FILE]\n"
                 "Answers a prompt, or piped stdin; without either, chats in the terminal.",
        .operand = "a prompt is given with --prompt",
        .groups = bound->groups,
        .n = N_GROUPS,
    };
}

/* Options that cannot be meant together: what one asks for, the other would silently drop. */
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

int args_parse(struct args *args, int argc, char **argv)
{
    struct bound bound;
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
    bind(&bound, args);
    if (options_parse(&bound.set, argc, argv) != 0)
        return -1;
    return check_combinations(args);
}

void args_free(struct args *args)
{
    struct bound bound;
    bind(&bound, args);
    options_free(&bound.set);
}

void args_help(FILE *out)
{
    struct bound bound;
    bind(&bound, NULL);
    options_help(&bound.set, out);
}

struct llama3_sampling args_sampling(const struct args *args, const struct llama3_model *model)
{
    const struct llama3_sampling *given = &args->sampling;
    struct llama3_sampling sampling;
    llama3_sampling_defaults(model, &sampling);
    sampling.seed = args->seed.value;
    if (!isnan(given->temperature))
        sampling.temperature = given->temperature;
    if (!isnan(given->top_p))
        sampling.top_p = given->top_p;
    if (!isnan(given->min_p))
        sampling.min_p = given->min_p;
    if (given->top_k >= 0)
        sampling.top_k = given->top_k;
    if (!isnan(given->repeat_penalty))
        sampling.repeat_penalty = given->repeat_penalty;
    if (!isnan(given->frequency_penalty))
        sampling.frequency_penalty = given->frequency_penalty;
    if (!isnan(given->presence_penalty))
        sampling.presence_penalty = given->presence_penalty;
    return sampling;
}
