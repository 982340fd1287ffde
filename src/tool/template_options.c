/* SPDX-License-Identifier: MIT */
#include "tool/template_options.h"

#include <jansson.h>
#include <stdlib.h>
#include <string.h>

#include "base/json.h"
#include "base/path.h"
#include "base/utf8.h"
#include "tool/say.h"
#include "tool/text.h"

enum { MAX_TEMPLATE = 4 << 20 };

#define FIELD(name) offsetof(struct template_args, name)
const struct option_spec template_option_specs[3] = {
    OPT_TEXT(0, "template", FIELD(name), "NAME|FILE",
             "chat template: another one of the checkpoint's,\n"
             "llama3 or chatml, or a file (the checkpoint's own)"),
    OPT_TEXTS(0, "template-arg", FIELD(pairs), "NAME=VALUE",
              "a variable for the template, such as\n"
              "enable_thinking=false; may be repeated"),
    OPT_TEXT(0, "date", FIELD(date), "DATE", "the date for the template, such as \"26 Jul 2024\""),
};

/* Whether somebody who wrote this meant JSON. */
static bool looks_like_json(const char *text)
{
    return text[0] == '{' || text[0] == '[' || text[0] == '"' ||
           (text[0] != '\0' && text[strspn(text, "-0123456789")] == '\0');
}

/* A value as JSON, or as a string. */
static json_t *value_of(const char *name, const char *text)
{
    json_t *value = json_parse_value(text, strlen(text), "", NULL);
    if (value == NULL && looks_like_json(text))
        say_note("--template-arg %s: the value is not valid JSON, so it is a string", name);
    return value != NULL ? value : json_string(text);
}

/* Sets what a NAME=VALUE says; an error is on stderr. */
static bool set_pair(json_t *object, const char *pair)
{
    const char *equals = strchr(pair, '=');
    size_t n = strlen(pair);
    if (equals == NULL || equals == pair || utf8_valid((const uint8_t *)pair, n) != n) {
        say_usage("--template-arg: expected NAME=VALUE, found \"%s\"", pair);
        return false;
    }
    char *name = strndup(pair, (size_t)(equals - pair));
    bool good = name != NULL && json_object_set_new(object, name, value_of(name, equals + 1)) == 0;
    if (!good)
        say_error("not enough memory for --template-arg");
    free(name);
    return good;
}

/* A VALUE that is JSON is that, and any other one is a string. */
static int read_pairs(struct template_args *args)
{
    struct buf text = {0};
    json_t *object = json_object();
    bool good = true;
    for (size_t i = 0; i < args->pairs.n && good; i++)
        good = set_pair(object, args->pairs.items[i]);
    if (good)
        json_print(object, JSON_COMPACT, &text);
    if (text.failed)
        say_error("not enough memory for --template-arg");
    json_decref(object);
    if (text.failed)
        buf_free(&text);
    args->variables = text.data;
    return text.data != NULL ? STATUS_OK : STATUS_USAGE;
}

static bool is_builtin(const char *name)
{
    const char *const *names = llama3_template_names();
    while (*names != NULL && strcmp(*names, name) != 0)
        names++;
    return *names != NULL;
}

/* The checkpoint may have a template of the file's name, which then comes first. */
static int read_file(struct template_args *args)
{
    const char *name = args->name;
    if (name == NULL || is_builtin(name) || (strchr(name, '/') == NULL && !path_exists(name)))
        return STATUS_OK;
    int status = text_read(name, &args->text);
    if (status == STATUS_OK && args->text.size > MAX_TEMPLATE)
        status = say_error("%s: expected a chat template of at most %d MiB, found more", name,
                           MAX_TEMPLATE >> 20);
    buf_add(&args->text, "", 0);
    return status;
}

int template_read(struct template_args *args)
{
    int status = args->pairs.n > 0 ? read_pairs(args) : STATUS_OK;
    return status == STATUS_OK ? read_file(args) : status;
}

void template_free(struct template_args *args)
{
    free(args->pairs.items);
    free(args->variables);
    buf_free(&args->text);
}

void template_apply(const struct template_args *args, struct llama3_model_options *options)
{
    options->template_name = args->name;
    options->template_text = args->text.data;
}

struct llama3_template_options template_options(const struct template_args *args)
{
    return (struct llama3_template_options){.size = sizeof(struct llama3_template_options),
                                            .date = args->date,
                                            .arguments = args->variables};
}

/* The prompt of a question, and of instructions where they are given; NULL after an error. */
static int32_t *render(const struct template_args *args, const struct llama3_model *model,
                       const char *system, const char *question, size_t *n)
{
    const struct llama3_message messages[] = {
        {.size = sizeof *messages, .role = "system", .content = system},
        {.size = sizeof *messages, .role = "user", .content = question}};
    const struct llama3_template_options options = template_options(args);
    int32_t *tokens;
    bool done = llama3_apply_template(model, messages + (system == NULL), system != NULL ? 2 : 1,
                                      &options, &tokens, n, NULL) == 0;
    return done ? tokens : NULL;
}

/* Whether the template writes what a question says, or with `system` what instructions say: others
 * make another prompt. */
static bool is_written(const struct template_args *args, const struct llama3_model *model,
                       bool system)
{
    size_t n, n_others;
    int32_t *tokens = render(args, model, system ? "one" : NULL, "one", &n);
    int32_t *others = render(args, model, system ? "two" : NULL, system ? "one" : "two", &n_others);
    bool written = tokens == NULL || others == NULL || n != n_others ||
                   memcmp(tokens, others, n * sizeof *tokens) != 0;
    llama3_free(tokens);
    llama3_free(others);
    return written;
}

/* name: a template names it where it uses the option. */
static bool is_used(const struct llama3_model *model, const char *name)
{
    const struct llama3_info *info = llama3_model_info(model);
    return info->template_name != NULL &&
           (strcmp(info->template_name, "broken") == 0 || llama3_template_mentions(model, name));
}

static void note_unused(const struct llama3_model *model, const char *option, const char *name)
{
    const char *template = llama3_model_info(model)->template_name;
    if (template == NULL)
        say_note("%s%s has no effect: the model has no chat template", option, name);
    else
        say_note("%s%s has no effect: the chat template %s doesn't use it", option, name, template);
}

void template_note(const struct template_args *args, const struct llama3_model *model, bool system)
{
    json_t *variables = args->variables != NULL
                            ? json_parse(args->variables, strlen(args->variables), "", NULL)
                            : NULL;
    const char *name;
    json_t *value;
    if (system && !is_written(args, model, true))
        note_unused(model, "--system", "");
    if (llama3_model_info(model)->template_name != NULL && !is_written(args, model, false))
        note_unused(model, "what a user says", "");
    if (args->date != NULL && !is_used(model, "date_string") && !is_used(model, "strftime_now"))
        note_unused(model, "--date", "");
    json_object_foreach(variables, name, value)
    {
        if (!is_used(model, name))
            note_unused(model, "--template-arg ", name);
    }
    json_decref(variables);
}
