/* SPDX-License-Identifier: MIT */
#include "tool/args.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/path.h"
#include "base/utf8.h"
#include "tool/kv_cache.h"
#include "tool/say.h"
#include "tool/session_file.h"
#include "tool/terminal.h"
#include "tool/text.h"

#define FIELD(name) offsetof(struct args, name)

static int refuse_image(const struct option_spec *spec, const char *path)
{
    (void)path;
    return say_usage("--%s: Llama 3 models are of text alone, so no image or sound can be read",
                     spec->name);
}

static const struct option_spec prompt_specs[] = {
    OPT_TEXT('p', "prompt", FIELD(prompt), "TEXT", "what to answer", .once = true),
    OPT_PATHS('f', "file", FIELD(files), "FILE",
              "read it from a file (-: stdin); may be repeated;\n"
              "then comes an empty line, and --prompt"),
    OPT_PATH(0, "session", FIELD(session), "NAME|FILE",
             "go on with this conversation, and keep it there (a\n"
             "FILE has a slash or ends in .json)"),
    OPT_FLAG(0, "sessions", FIELD(sessions), "list the named ones, instead of answering"),
    OPT_TEXT(0, "system", FIELD(system), "TEXT|@FILE", "instructions for the whole conversation",
             ALSO("system-prompt")),
    OPT_FLAG(0, "no-history", FIELD(no_history), "keep none of what is typed in a chat"),
    OPT_TEXT(0, "image", FIELD(image), "FILE", NULL, ALSO("mmproj", "audio"),
             .check = refuse_image),
    OPT_FLAG(0, "raw", FIELD(raw), "no chat template: continue the text (base models)"),
};

void args_key(const struct option_spec *spec, char key[32])
{
    snprintf(key, 32, "%s", spec->name);
    for (char *c = key; *c != '\0'; c++)
        if (*c == '-')
            *c = '_';
}

int args_check_setting(const char *key, const char *value, struct llama3_error *err)
{
    struct llama3_sampling *sampling = llama3_sampling_open(NULL, err);
    int status = sampling != NULL ? llama3_sampling_set(sampling, key, value, err) : -1;
    llama3_sampling_close(sampling);
    return status;
}

/* The library knows the ranges; its message begins with the setting's name. */
static int check_setting(const struct option_spec *spec, const char *value)
{
    char key[32];
    struct llama3_error err = {.size = sizeof err};
    args_key(spec, key);
    if (args_check_setting(key, value, &err) == 0)
        return STATUS_OK;
    return err.code == LLAMA3_EINPUT ? say_usage("--%s%s", spec->name, err.message + strlen(key))
                                     : say_failure(&err);
}

#define OPT_SETTING(...) OPT_TEXT(__VA_ARGS__, .check = check_setting)

const struct option_spec answer_option_specs[N_ANSWER_OPTIONS] = {
    OPT_SIZE('n', "max-tokens", FIELD(max_tokens), "N", 1, 1 << 24,
             "end the answer after N tokens (4096)", ALSO("n-predict", "predict", "num-predict")),
    OPT_TEXTS(0, "stop", FIELD(stop), "TEXT", "end the answer before this text; may be repeated"),
    OPT_SETTING(0, "temperature", FIELD(temperature), "X",
                "0 always takes the likeliest token (0.6)", ALSO("temp")),
    OPT_SETTING(0, "top-p", FIELD(top_p), "X",
                "likeliest tokens that together have this\n"
                "probability; 1 is off (0.9)"),
    OPT_SETTING(0, "top-k", FIELD(top_k), "N", "the N likeliest tokens; 0 is off (0)"),
    OPT_SETTING(0, "min-p", FIELD(min_p), "X",
                "tokens with at least this share of the likeliest\n"
                "one's probability; 0 is off (0)"),
    OPT_SETTING(0, "repeat-penalty", FIELD(repeat_penalty), "X",
                "for tokens of prompt and answer; 1 is off (1)"),
    OPT_SETTING(0, "frequency-penalty", FIELD(frequency_penalty), "X",
                "per occurrence in the answer; 0 is off (0)"),
    OPT_SETTING(0, "presence-penalty", FIELD(presence_penalty), "X",
                "once per token of the answer; 0 is off (0)"),
    OPT_SETTING('s', "seed", FIELD(seed), "N", "the same seed gives the same answer (random)"),
};

static const char *const thinks[] = {[THINK_SHOW] = "show", [THINK_HIDE] = "hide", NULL};

static const char *const repeat_stops[] = {"on", "off", NULL};

static const struct option_spec output_specs[] = {
    OPT_ONE_OF(0, "repeat-stop", FIELD(no_repeat_stop), "on|off", repeat_stops,
               "end an answer that goes in circles (on)"),
    OPT_ONE_OF(0, "think", FIELD(think), "show|hide", thinks,
               "thoughts of a model that thinks before it answers\n"
               "(show)"),
    OPT_FLAG(0, "plain", FIELD(plain), "answers as they are, not as Markdown in a terminal"),
    OPT_ONE_OF(0, "color", FIELD(color), "auto|always|never", terminal_colors,
               "styles (auto: on a terminal that has them)", ALSO("colour")),
    OPT_FLAG(0, "show-prompt", FIELD(show_prompt), "the prompt as the model reads it, on stderr"),
    OPT_FLAG(0, "info", FIELD(info), "what the model is and needs, instead of answering"),
    OPT_FLAG(0, "stats", FIELD(stats), "counts, speed, memory and seed, on stderr"),
    OPT_QUIET("no progress and no notes on stderr"),
    OPT_FLAG('v', "verbose", FIELD(verbose), "the model in a line, and --stats, on stderr"),
    OPT_HELP,
    OPT_VERSION,
};

const char *args_chat_option(const struct args *args)
{
    return args->session != NULL         ? "--session"
           : args->system != NULL        ? "--system"
           : args->template.pairs.n > 0  ? "--template-arg"
           : args->template.date != NULL ? "--date"
           : args->think == THINK_HIDE   ? "--think hide"
                                         : NULL;
}

/* Refuses options that contradict each other, where one would silently drop the other. */
static int check_combinations(const struct args *args)
{
    const char *odd = args->template.name != NULL ? "--template" : args_chat_option(args);
    if (args->raw && odd != NULL)
        return say_usage("--raw uses no chat template, so %s has no meaning", odd);
    if (args->session != NULL && args->seed != NULL &&
        strtoull(args->seed, NULL, 10) > SESSION_MAX_SEED)
        return say_usage("--seed: expected at most %llu with --session, found \"%s\"",
                         (unsigned long long)SESSION_MAX_SEED, args->seed);
    if (say_quiet && args->verbose)
        return say_usage("--quiet and --verbose contradict each other");
    return gpu_check(&args->gpu);
}

/* Reads --system @FILE, without the newline that ends a file. */
static int read_system(struct args *args)
{
    const char *text = args->system, *path = text != NULL && text[0] == '@' ? text + 1 : NULL;
    bool twice = path != NULL && strcmp(path, "-") == 0 && option_texts_has(&args->files, "-");
    if (path == NULL)
        return STATUS_OK;
    if (path[0] == '\0')
        return say_usage("--system: expected a file after '@', found nothing");
    if (twice)
        return say_usage("stdin can be read once, by --system @- or by --file -");
    args->system_is_stdin = strcmp(path, "-") == 0;
    int status = text_read(path, &args->system_text);
    text_drop_newline(&args->system_text);
    args->system = args->system_text.size > 0 ? args->system_text.data : NULL;
    if (status == STATUS_OK && args->system_text.failed)
        return say_error("not enough memory");
    if (status == STATUS_OK && args->system == NULL)
        return say_error("--system: %s holds no text", path);
    return status;
}

/* Whether stdin is, or will be, read as a text. */
static bool reads_stdin(const struct args *args)
{
    return option_texts_has(&args->files, "-") || args->system_is_stdin ||
           (args->files.n == 0 && args->prompt == NULL && isatty(STDIN_FILENO) == 0);
}

/* ---- words that are no options: a prompt ----------------------------------------------------- */

/* "owner/name", perhaps with ":Q4_K_M". */
static bool is_hub_name(const char *word)
{
    static const char letters[] =
        "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._";
    size_t owner = strspn(word, letters), name = 0;
    if (owner > 0 && word[owner] == '/')
        name = strspn(word + owner + 1, letters);
    const char *end = word + owner + 1 + name;
    return name > 0 && word[0] != '.' && (*end == '\0' || *end == ':');
}

static bool has_weights(const char *word)
{
    return path_ends_with(word, ".gguf") || path_ends_with(word, ".safetensors");
}

static bool is_checkpoint(const char *word)
{
    return (path_exists(word) && has_weights(word)) || path_exists_in(word, "config.json");
}

/* Joins the words, NULL-terminated, to the prompt. A checkpoint among them is a -m that was
 * forgotten: a path anywhere, a name of the hub, which could be words, at the beginning alone. One
 * word that is a path is a -f that was forgotten. */
static int take_words(struct args *args, const char *const *words)
{
    struct buf prompt = {0};
    if (words[0] == NULL)
        return STATUS_OK;
    if (args->prompt != NULL)
        return say_usage("expected one prompt, found --prompt and \"%s\"", words[0]);
    for (size_t i = 0; words[i] != NULL; i++) {
        size_t n = strlen(words[i]), valid = utf8_valid((const uint8_t *)words[i], n);
        if (valid < n)
            return say_usage("word %zu: expected UTF-8, found an invalid sequence at byte %zu",
                             i + 1, valid);
        if (is_checkpoint(words[i]) || (i == 0 && (is_hub_name(words[i]) || has_weights(words[i]))))
            return say_usage("expected a prompt, found \"%s\", which names a model: -m %s opens "
                             "it, and --prompt takes any text",
                             words[i], words[i]);
    }
    if (words[1] == NULL && path_exists(words[0]))
        return say_usage("expected a prompt, found \"%s\", which names a file: -f %s asks about "
                         "it, and --prompt takes any text",
                         words[0], words[0]);
    for (size_t i = 0; words[i] != NULL; i++) {
        buf_add_str(&prompt, i > 0 ? " " : "");
        buf_add_str(&prompt, words[i]);
    }
    args->words = prompt.data;
    args->prompt = prompt.data;
    return prompt.failed ? say_error("not enough memory for the prompt") : STATUS_OK;
}

void args_free(struct args *args)
{
    free(args->files.items);
    buf_free(&args->system_text);
    free(args->words);
    free(args->stop.items);
    constraint_free(&args->constraint);
    free(args->model.loras.items);
    template_free(&args->template);
}

bool args_begin(struct args *args, int argc, char **argv, int *status)
{
    uint32_t seed; /* short enough to be typed again */
    *args = (struct args){0};
    if (getentropy(&seed, sizeof seed) != 0)
        seed = 0;
    snprintf(args->random_seed, sizeof args->random_seed, "%u", seed);
    const struct option_group groups[] = {
        OPT_GROUP("Prompt", prompt_specs, args),
        TEMPLATE_OPTIONS(&args->template),
        OPT_GROUP("Model", model_option_specs, &args->model),
        GPU_OPTIONS(&args->gpu),
        OPT_GROUP("Answer (defaults come from the checkpoint; these where it has none)",
                  answer_option_specs, args),
        CONSTRAINT_OPTIONS(&args->constraint),
        OPT_GROUP("Output", output_specs, args),
    };
    const char **words = calloc((size_t)argc + 1, sizeof *words);
    const struct option_set set = {
        .usage = "llama3 [OPTION]... [--prompt TEXT | WORD...] [--file FILE]...\n"
                 "Answers a prompt, or piped stdin; without either, chats in the terminal.",
        .operand = "a prompt is given with --prompt",
        .operands = words,
        .max_operands = words != NULL ? (size_t)argc : 0,
        .min_operands = SIZE_MAX, /* a word after --json belongs to the prompt */
        .groups = groups,
        .n = sizeof groups / sizeof *groups,
    };
    if (!options_begin(&set, argc, argv, status)) {
        free(words);
        return false;
    }
    terminal_set_color((enum terminal_color)args->color);
    *status = words != NULL ? take_words(args, words) : STATUS_OK;
    free(words);
    if (*status == STATUS_OK)
        *status = check_combinations(args);
    if (*status == STATUS_OK)
        *status = kv_cache_limit(&args->cache_bytes);
    if (*status == STATUS_OK)
        *status = read_system(args);
    if (*status == STATUS_OK)
        *status = constraint_read(&args->constraint, reads_stdin(args));
    if (*status == STATUS_OK)
        *status = template_read(&args->template);
    return *status == STATUS_OK;
}

struct llama3_sampling *args_sampling(const struct args *args, const struct llama3_model *model,
                                      struct llama3_error *err)
{
    struct llama3_sampling *sampling = llama3_sampling_open(model, err);
    int status = sampling != NULL ? 0 : -1;
    if (status == 0)
        status = llama3_sampling_set(sampling, "seed", args->random_seed, err);
    for (size_t i = 0; i < N_ANSWER_OPTIONS && status == 0; i++) {
        const struct option_spec *spec = &answer_option_specs[i];
        const char *const *value = (const void *)((const char *)args + spec->offset);
        char key[32];
        args_key(spec, key);
        if (spec->check == check_setting && *value != NULL)
            status = llama3_sampling_set(sampling, key, *value, err);
    }
    if (status == 0)
        return sampling;
    llama3_sampling_close(sampling);
    return NULL;
}
