/* SPDX-License-Identifier: MIT */
#include "tool/constraint_options.h"

#include <jansson.h>
#include <stdlib.h>
#include <string.h>

#include "base/json.h"
#include "base/path.h"
#include "tool/say.h"
#include "tool/text.h"

#define FIELD(name) offsetof(struct constraint_args, name)
const struct option_spec constraint_option_specs[N_CONSTRAINT_OPTIONS] = {
    OPT_ARG(OPTION_MAYBE_PATH, 0, "json", FIELD(json), "SCHEMA.json",
            "a JSON object, or what a JSON Schema describes"),
    OPT_TEXT(0, "regex", FIELD(regex), "PATTERN", "what a regular expression matches",
             .once = true),
    OPT_TEXTS(0, "choice", FIELD(choices), "TEXT", "one of these texts; may be repeated"),
    OPT_PATH(0, "grammar", FIELD(grammar), "FILE",
             "a text of a grammar: GBNF, as llama.cpp has it, or\n"
             "Lark in a file that ends in .lark",
             ALSO("grammar-file")),
};

static int read_file(struct constraint_args *args, const char *path, bool stdin_is_taken)
{
    const bool is_stdin = strcmp(path, "-") == 0;
    if (is_stdin && stdin_is_taken)
        return say_usage("stdin can be read once, by --%s - or by another option", args->option);
    args->where = is_stdin ? "stdin" : path;
    int status = text_read(path, &args->text);
    return status == STATUS_OK && args->text.failed ? say_error("not enough memory for %s", path)
                                                    : status;
}

static int list_choices(struct constraint_args *args)
{
    json_t *list = json_array();
    for (size_t i = 0; i < args->choices.n && list != NULL; i++)
        if (json_array_append_new(list, json_string(args->choices.items[i])) != 0)
            args->text.failed = true;
    json_print(list, JSON_COMPACT, &args->text);
    json_decref(list);
    return args->text.failed ? say_error("not enough memory for --choice") : STATUS_OK;
}

int constraint_read(struct constraint_args *args, bool stdin_is_taken)
{
    const bool given[N_CONSTRAINT_OPTIONS] = {args->json != NULL, args->regex != NULL,
                                              args->choices.n > 0, args->grammar != NULL};
    static const char *const names[N_CONSTRAINT_OPTIONS] = {"json", "regex", "choice", "grammar"};
    for (size_t i = 0; i < N_CONSTRAINT_OPTIONS; i++) {
        if (given[i] && args->option != NULL)
            return say_usage("--%s and --%s exclude each other", args->option, names[i]);
        if (given[i])
            args->option = names[i];
    }
    if (args->choices.n > 0) {
        args->kind = LLAMA3_CONSTRAINT_CHOICE;
        args->where = "--choice";
        return list_choices(args);
    }
    if (args->regex != NULL) {
        args->kind = LLAMA3_CONSTRAINT_REGEX;
        args->where = "--regex";
        buf_add_str(&args->text, args->regex);
        return args->text.failed ? say_error("not enough memory for --regex") : STATUS_OK;
    }
    if (args->grammar != NULL) {
        args->kind = path_ends_with(args->grammar, ".lark") ? LLAMA3_CONSTRAINT_LARK
                                                            : LLAMA3_CONSTRAINT_GBNF;
        return read_file(args, args->grammar, stdin_is_taken);
    }
    args->where = "--json";
    args->kind = LLAMA3_CONSTRAINT_OBJECT;
    if (args->json == NULL || args->json[0] == '\0')
        return STATUS_OK;
    args->kind = LLAMA3_CONSTRAINT_SCHEMA;
    return read_file(args, args->json, stdin_is_taken);
}

void constraint_free(struct constraint_args *args)
{
    free(args->choices.items);
    buf_free(&args->text);
}

int constraint_make(const struct constraint_args *args, struct llama3_model *model,
                    struct llama3_constraint **out)
{
    struct llama3_error err = {.size = sizeof err};
    *out = NULL;
    if (args->option == NULL)
        return STATUS_OK;
    *out = llama3_constraint_open(model, args->kind, args->text.data, args->text.size, args->where,
                                  &err);
    return *out != NULL ? STATUS_OK : say_failure(&err);
}
