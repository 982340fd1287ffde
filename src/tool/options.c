/* SPDX-License-Identifier: MIT */
#include "tool/options.h"

#include <ctype.h>
#include <errno.h>
#include <getopt.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/utf8.h"
#include "tool/say.h"

/* getopt_long's value for the option at index i of all groups, under any long name. Lower values
 * are letters. */
enum { FIRST_LONG = 256, HELP_COLUMN = 30 };

/* Counts all long names. */
static size_t count(const struct option_set *set)
{
    size_t n = 0;
    for (size_t g = 0; g < set->n; g++) {
        for (size_t i = 0; i < set->groups[g].n; i++) {
            const char *const *alias = set->groups[g].specs[i].aliases;
            for (n++; *alias != NULL; alias++)
                n++;
        }
    }
    return n;
}

static const struct option_spec *find(const struct option_set *set, int value, void **values)
{
    int index = FIRST_LONG;
    for (size_t g = 0; g < set->n; g++) {
        const struct option_group *group = &set->groups[g];
        for (size_t i = 0; i < group->n; i++, index++) {
            if (value == index || (value < FIRST_LONG && value == group->specs[i].letter)) {
                *values = group->values;
                return &group->specs[i];
            }
        }
    }
    return NULL;
}

enum { NAMES_SIZE = 256 };

/* "f16, f32" */
static const char *choice_names(const struct option_spec *spec, char names[NAMES_SIZE])
{
    names[0] = '\0';
    for (int i = 0; spec->choices[i] != NULL; i++) {
        size_t used = strlen(names);
        snprintf(names + used, NAMES_SIZE - used, "%s%s", i > 0 ? ", " : "", spec->choices[i]);
    }
    return names;
}

static int bad_number(const struct option_spec *spec, const char *text)
{
    char names[NAMES_SIZE];
    bool words = spec->type == OPTION_INT_OR;
    return say_usage("--%s: expected %s%san integer in [%.10g, %.10g], found \"%s\"", spec->name,
                     words ? choice_names(spec, names) : "", words ? " or " : "", spec->min,
                     spec->max, text);
}

static bool in_range(const struct option_spec *spec, double value)
{
    return value >= spec->min && value <= spec->max;
}

static int set_integer(const struct option_spec *spec, const char *text, long long *out)
{
    char *end;
    errno = 0;
    *out = strtoll(text, &end, 10);
    if (strchr("+-0123456789", text[0]) == NULL || end == text || *end != '\0' || errno != 0 ||
        !in_range(spec, (double)*out))
        return bad_number(spec, text);
    return STATUS_OK;
}

/* Its index, or -1. */
static int find_choice(const struct option_spec *spec, const char *text)
{
    for (int i = 0; spec->choices[i] != NULL; i++)
        if (strcmp(spec->choices[i], text) == 0)
            return i;
    return -1;
}

bool options_read_bytes(const char *text, uint64_t *out)
{
    static const char units[] = "KMGT";
    char *end;
    double value = strtod(text, &end);
    const char *unit = *end != '\0' ? strchr(units, toupper((unsigned char)*end)) : NULL;
    double bytes = ldexp(value, unit != NULL ? 10 * (int)(unit - units + 1) : 0);
    if (end == text || strspn(text, "0123456789.") != (size_t)(end - text) ||
        end[unit != NULL] != '\0' || !(bytes < 0x1p64))
        return false;
    *out = (uint64_t)bytes;
    return true;
}

static int set_bytes(const struct option_spec *spec, const char *text, uint64_t *out)
{
    uint64_t bytes;
    if (!options_read_bytes(text, &bytes) || !in_range(spec, (double)bytes))
        return say_usage("--%s: expected %.16g to %.16g bytes, such as 1500M or 1.5G, found \"%s\"",
                         spec->name, spec->min, spec->max, text);
    *out = bytes;
    return STATUS_OK;
}

static int set_choice(const struct option_spec *spec, const char *text, int *out)
{
    char names[NAMES_SIZE];
    int choice = find_choice(spec, text);
    if (choice < 0)
        return say_usage("--%s: expected one of %s, found \"%s\"", spec->name,
                         choice_names(spec, names), text);
    *out = choice;
    return STATUS_OK;
}

static int set_int_or(const struct option_spec *spec, const char *text, int *out)
{
    long long integer;
    int choice = find_choice(spec, text);
    if (choice < 0 && set_integer(spec, text, &integer) != STATUS_OK)
        return STATUS_USAGE;
    *out = choice >= 0 ? -choice : (int)integer;
    return STATUS_OK;
}

static int check_text(const struct option_spec *spec, const char *text)
{
    size_t n = strlen(text), valid = utf8_valid((const uint8_t *)text, n);
    if (valid == n)
        return STATUS_OK;
    return say_usage("--%s: expected UTF-8, found an invalid sequence at byte %zu", spec->name,
                     valid);
}

static int need_some(const struct option_spec *spec, const char *text)
{
    if (text[0] != '\0')
        return STATUS_OK;
    return say_usage("--%s: expected %s, found nothing", spec->name, spec->arg);
}

static int add_text(struct option_texts *texts, const char *text)
{
    const char **items = reallocarray(texts->items, texts->n + 1, sizeof *items);
    if (items == NULL)
        return say_error("not enough memory");
    items[texts->n] = text;
    *texts = (struct option_texts){items, texts->n + 1};
    return STATUS_OK;
}

static int set_value(const struct option_spec *spec, void *values, const char *text)
{
    void *at = (char *)values + spec->offset;
    long long integer;
    if (spec->once && *(const char **)at != NULL)
        return say_usage("--%s: expected once, found twice", spec->name);
    switch (spec->type) {
    case OPTION_FLAG:
        *(bool *)at = true;
        return STATUS_OK;
    case OPTION_TEXT:
        *(const char **)at = text;
        return spec->check != NULL ? spec->check(spec, text) : check_text(spec, text);
    case OPTION_PATH:
        *(const char **)at = text;
        return need_some(spec, text);
    case OPTION_MAYBE_PATH:
        *(const char **)at = text != NULL ? text : "";
        return text != NULL ? need_some(spec, text) : STATUS_OK;
    case OPTION_TEXTS:
        if (check_text(spec, text) != STATUS_OK || need_some(spec, text) != STATUS_OK)
            return STATUS_USAGE;
        return add_text(at, text);
    case OPTION_PATHS:
        return need_some(spec, text) == STATUS_OK ? add_text(at, text) : STATUS_USAGE;
    case OPTION_INT:
    case OPTION_SIZE:
        if (set_integer(spec, text, &integer) != STATUS_OK)
            return STATUS_USAGE;
        if (spec->type == OPTION_INT)
            *(int *)at = (int)integer;
        else
            *(size_t *)at = (size_t)integer;
        return STATUS_OK;
    case OPTION_INT_OR:
        return set_int_or(spec, text, at);
    case OPTION_BYTES:
        return set_bytes(spec, text, at);
    case OPTION_ONE_OF:
        return set_choice(spec, text, at);
    case OPTION_MAYBE_ONE_OF:
        *(int *)at = 0;
        if (text != NULL && set_choice(spec, text, at) != STATUS_OK)
            return STATUS_USAGE;
        ++*(int *)at;
        return STATUS_OK;
    case OPTION_QUIET:
        say_quiet = true;
        return STATUS_OK;
    case OPTION_HELP:
    case OPTION_VERSION:
        return STATUS_OK;
    }
    return STATUS_USAGE;
}

/* Whether the argument is optional. */
static bool is_maybe(const struct option_spec *spec)
{
    return spec->type == OPTION_MAYBE_PATH || spec->type == OPTION_MAYBE_ONE_OF;
}

/* getopt's view of the tables: letters "m:p:hV" and the long options. */
static void describe(const struct option_set *set, char *letters, struct option *longs)
{
    int value = FIRST_LONG;
    for (size_t g = 0; g < set->n; g++) {
        for (size_t i = 0; i < set->groups[g].n; i++) {
            const struct option_spec *spec = &set->groups[g].specs[i];
            int argument = spec->arg == NULL ? no_argument
                           : is_maybe(spec)  ? optional_argument
                                             : required_argument;
            if (spec->letter != 0) {
                *letters++ = spec->letter;
                if (argument != no_argument)
                    *letters++ = ':';
                if (argument == optional_argument)
                    *letters++ = ':';
            }
            struct option option = {.name = spec->name, .has_arg = argument, .val = value++};
            *longs++ = option;
            for (const char *const *alias = spec->aliases; *alias != NULL; alias++) {
                option.name = *alias;
                *longs++ = option;
            }
        }
    }
    *letters = '\0';
    *longs = (struct option){0};
}

/* An argument after an option that may have one, as in "--verify TEXT". It is the option's if
 * enough operands are left without it. "-" is no operand and always the option's. */
struct maybe {
    const struct option_spec *spec; /* NULL: there is none */
    void *values;
    const char *text;
};

static void note_maybe(struct maybe *maybe, const struct option_spec *spec, void *values,
                       const char *next)
{
    if (spec->type == OPTION_MAYBE_PATH && optarg == NULL && next != NULL &&
        (next[0] != '-' || next[1] == '\0'))
        *maybe = (struct maybe){spec, values, next};
}

/* Takes that argument out of the operands argv[optind..argc). Returns the new argc. */
static int take_maybe(const struct option_set *set, const struct maybe *maybe, int argc,
                      char **argv)
{
    int kept = optind;
    if (maybe->spec == NULL ||
        (strcmp(maybe->text, "-") != 0 && (size_t)(argc - optind) <= set->min_operands))
        return argc;
    for (int i = optind; i < argc; i++)
        if (argv[i] == maybe->text)
            *(const char **)(void *)((char *)maybe->values + maybe->spec->offset) = argv[i];
        else
            argv[kept++] = argv[i];
    return kept;
}

/* OPTION_HELP or OPTION_VERSION if that was given, else OPTION_FLAG; -1 after a usage error. */
static int parse(const struct option_set *set, int argc, char **argv)
{
    int asked = OPTION_FLAG;
    size_t n = count(set);
    char *letters = malloc(3 * n + 1);
    struct option *longs = calloc(n + 1, sizeof *longs);
    struct maybe maybe = {0};
    int rc = letters != NULL && longs != NULL ? 0 : -1, value;
    if (rc != 0) {
        say_error("not enough memory");
        goto out;
    }
    describe(set, letters, longs);
    argv[0] = (char *)(uintptr_t)say_program; /* getopt's own messages begin with it */
    while (rc == 0 && (value = getopt_long(argc, argv, letters, longs, NULL)) != -1) {
        void *values = NULL;
        const struct option_spec *spec = find(set, value, &values);
        rc = spec != NULL ? set_value(spec, values, optarg) : -1;
        if (rc == 0 && (spec->type == OPTION_HELP || spec->type == OPTION_VERSION))
            asked = (int)spec->type;
        if (rc == 0)
            note_maybe(&maybe, spec, values, optind < argc ? argv[optind] : NULL);
    }
    argc = take_maybe(set, &maybe, argc, argv);
    for (size_t i = 0; rc == 0 && i < set->max_operands && optind < argc; i++)
        set->operands[i] = argv[optind++];
    if (rc == 0 && optind < argc) {
        say_error("unexpected argument \"%s\": %s", argv[optind], set->operand);
        rc = -1;
    }
    if (rc != 0)
        say_try_help();
out:
    free(longs);
    free(letters);
    return rc == 0 ? asked : -1;
}

static void print_row(const struct option_spec *spec)
{
    char letter[8] = "   ";
    if (spec->letter != 0)
        snprintf(letter, sizeof letter, "-%c,", spec->letter);
    bool maybe = is_maybe(spec);
    int width = printf("  %s --%s%s%s%s", letter, spec->name,
                       maybe               ? "[="
                       : spec->arg != NULL ? " "
                                           : "",
                       spec->arg != NULL ? spec->arg : "", maybe ? "]" : "");
    for (const char *line = spec->help; line != NULL;) {
        const char *end = strchr(line, '\n');
        int length = (int)(end != NULL ? (size_t)(end - line) : strlen(line));
        int gap = HELP_COLUMN - width;
        printf("%*s%.*s\n", gap > 1 ? gap : 1, "", length, line);
        width = 0;
        line = end != NULL ? end + 1 : NULL;
    }
    if (spec->aliases[0] == NULL)
        return;
    printf("%*salso", HELP_COLUMN, "");
    for (const char *const *alias = spec->aliases; *alias != NULL; alias++)
        printf(" --%s%s", *alias, alias[1] != NULL ? "," : "\n");
}

static void print_help(const struct option_set *set)
{
    printf("usage: %s\n", set->usage);
    for (size_t g = 0; g < set->n; g++) {
        printf("\n%s\n", set->groups[g].title);
        for (size_t i = 0; i < set->groups[g].n; i++)
            if (set->groups[g].specs[i].help != NULL)
                print_row(&set->groups[g].specs[i]);
    }
}

bool option_texts_has(const struct option_texts *texts, const char *text)
{
    for (size_t i = 0; i < texts->n; i++)
        if (strcmp(texts->items[i], text) == 0)
            return true;
    return false;
}

bool options_begin(const struct option_set *set, int argc, char **argv, int *status)
{
    say_instead_of_dying();
    int asked = parse(set, argc, argv);
    if (asked == OPTION_FLAG)
        return true;
    if (asked == OPTION_HELP)
        print_help(set);
    else if (asked == OPTION_VERSION)
        printf("%s %s\n", say_program, llama3_version());
    *status = asked < 0 ? STATUS_USAGE : finish_stdout();
    return false;
}
