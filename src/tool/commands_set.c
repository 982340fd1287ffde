/* SPDX-License-Identifier: MIT */
/* commands_set.c: settings of answers, by the names that session files have for them. */
#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tool/commands_parts.h"
#include "tool/revise.h"
#include "tool/say.h"

/* By its name, with '_' or '-'. */
static const struct option_spec *find_setting(const char *name)
{
    char key[32], asked[32];
    snprintf(asked, sizeof asked, "%s", name);
    for (char *c = asked; *c != '\0'; c++)
        *c = *c == '-' ? '_' : *c;
    for (size_t i = 0; i < N_ANSWER_OPTIONS; i++) {
        args_key(&answer_option_specs[i], key);
        if (strcmp(key, asked) == 0)
            return &answer_option_specs[i];
    }
    return NULL;
}

/* ---- showing -------------------------------------------------------------------------------- */

static void show(const struct chat *chat, const struct option_spec *spec,
                 const struct llama3_sampling *sampling)
{
    const void *at = (const char *)chat->args + spec->offset;
    const struct option_texts *texts = at;
    char key[32], text[32] = "";
    args_key(spec, key);
    fprintf(stderr, "  %-18s", key);
    switch (spec->type) {
    case OPTION_TEXTS:
        for (size_t i = 0; i < texts->n; i++) {
            fputs(i > 0 ? ", \"" : "\"", stderr);
            say_name(stderr, texts->items[i]);
            fputc('"', stderr);
        }
        fputs(texts->n == 0 ? "none\n" : "\n", stderr);
        break;
    case OPTION_SIZE:
        if (*(const size_t *)at > 0)
            fprintf(stderr, "%zu\n", *(const size_t *)at);
        else
            fputs("4096 (default)\n", stderr);
        break;
    default:
        llama3_sampling_get(sampling, key, text, sizeof text, NULL);
        fprintf(stderr, "%s%s\n", text,
                *(const char *const *)at != NULL ? ""
                : strcmp(key, "seed") == 0       ? " (random)"
                                                 : " (default)");
    }
}

static void show_all(const struct chat *chat)
{
    struct llama3_error err = {.size = sizeof err};
    struct llama3_sampling *sampling = args_sampling(chat->args, chat->conversation->model, &err);
    if (sampling == NULL) {
        say_failure(&err);
        return;
    }
    for (size_t i = 0; i < N_ANSWER_OPTIONS; i++)
        show(chat, &answer_option_specs[i], sampling);
    llama3_sampling_close(sampling);
}

/* ---- setting -------------------------------------------------------------------------------- */

/* The copy of a value that args may point to; NULL without memory, said. */
static const char *keep(struct chat *chat, const char *value)
{
    if (line_words_add(&chat->kept, value, strlen(value)))
        return chat->kept.items[chat->kept.n - 1];
    say_error("not enough memory for a setting");
    return NULL;
}

static bool set_size(const struct option_spec *spec, const char *value, size_t *out)
{
    char *end;
    errno = 0;
    double number = strtod(value, &end);
    if (!isdigit((unsigned char)value[0]) || value[strspn(value, "0123456789")] != '\0' ||
        errno != 0 || number < spec->min || number > spec->max) {
        say_error("/set %s: expected an integer in [%.16g, %.16g], found \"%s\"", spec->name,
                  spec->min, spec->max, value);
        return false;
    }
    *out = (size_t)number;
    return true;
}

static bool set_number(struct chat *chat, const struct option_spec *spec, const char *value,
                       const char **out)
{
    struct llama3_error err = {.size = sizeof err};
    char key[32];
    const char *kept;
    args_key(spec, key);
    if (args_check_setting(key, value, &err) != 0) {
        if (err.code == LLAMA3_EINPUT)
            say_error("/set %s", err.message);
        else
            say_failure(&err);
        return false;
    }
    if (strcmp(key, "seed") == 0 && chat->conversation->file != NULL &&
        strtoull(value, NULL, 10) > SESSION_MAX_SEED) {
        say_error("/set seed: expected at most %llu with --session, found \"%s\"",
                  (unsigned long long)SESSION_MAX_SEED, value);
        return false;
    }
    if ((kept = keep(chat, value)) == NULL)
        return false;
    *out = kept;
    return true;
}

static bool set_stop(struct chat *chat, const char *value, struct option_texts *stop)
{
    const char *kept = keep(chat, value);
    const char **items = kept != NULL ? malloc(sizeof *items) : NULL;
    if (items == NULL)
        return false;
    items[0] = kept;
    free(stop->items);
    *stop = (struct option_texts){items, 1};
    return true;
}

/* value "": the default. */
static bool set(struct chat *chat, const struct option_spec *spec, const char *value)
{
    void *at = (char *)chat->args + spec->offset;
    bool resets = value[0] == '\0';
    switch (spec->type) {
    case OPTION_TEXTS:
        if (!resets)
            return set_stop(chat, value, at);
        ((struct option_texts *)at)->n = 0;
        return true;
    case OPTION_SIZE:
        if (!resets)
            return set_size(spec, value, at);
        *(size_t *)at = 0;
        return true;
    default:
        if (!resets)
            return set_number(chat, spec, value, at);
        *(const char **)at = NULL;
        return true;
    }
}

enum turn command_set(struct chat *chat, char *argument)
{
    struct llama3_error err = {.size = sizeof err};
    size_t length = strcspn(argument, " \t");
    char *value = argument + length;
    while (isspace((unsigned char)*value))
        *value++ = '\0';
    if (argument[0] == '\0') {
        show_all(chat);
        return TURN_ANSWERED;
    }
    const struct option_spec *spec = find_setting(argument);
    if (spec == NULL) {
        say_error("/set: \"%s\" is no setting; /set alone lists them", argument);
        return TURN_ANSWERED;
    }
    if (!set(chat, spec, value) || chat->conversation->file == NULL)
        return TURN_ANSWERED;
    if (session_file_keep(chat->conversation->file, spec, chat->args, &err) == 0)
        return command_done(revise_write(chat->conversation));
    say_failure(&err);
    return TURN_UNSAVED;
}
