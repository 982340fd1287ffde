/* SPDX-License-Identifier: MIT */
/*
 * tool: the programs. They use llama3.h and src/base and nothing else of the library, but for
 * bench, which measures the inside.
 *
 * options.h: a command line described by tables, which make both the parser and --help. A program
 * lists groups of options, which programs can share, and begins with options_begin().
 */
#ifndef TOOL_OPTIONS_H
#define TOOL_OPTIONS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum option_type {                    /* what it sets */
                   OPTION_FLAG,       /* bool */
                   OPTION_TEXT,       /* const char *, valid UTF-8 */
                   OPTION_PATH,       /* const char *, any bytes, not empty */
                   OPTION_MAYBE_PATH, /* the same, or "" without an argument */
                   OPTION_TEXTS,      /* struct option_texts: may be repeated; UTF-8, not empty */
                   OPTION_PATHS,      /* the same with any bytes */
                   OPTION_INT,        /* int */
                   OPTION_INT_OR,     /* int, or -i for choices[i] */
                   OPTION_SIZE,       /* size_t */
                   OPTION_BYTES,  /* uint64_t; a suffix K, M, G or T multiplies by powers of 1024 */
                   OPTION_ONE_OF, /* int, an index into choices */
                   OPTION_MAYBE_ONE_OF, /* int, 1 + that index, or 1 without an argument */
                   OPTION_QUIET,        /* say_quiet */
                   OPTION_HELP,         /* nothing: options_begin() answers it */
                   OPTION_VERSION       /* the same */
};

struct option_texts {
    const char **items; /* [n] */
    size_t n;
};

bool option_texts_has(const struct option_texts *texts, const char *text);

struct option_spec {
    enum option_type type;
    char letter;      /* short name, 0: none */
    const char *name; /* long name */
    size_t offset;    /* of the value in the group's values */
    const char *arg;  /* name of the argument, NULL for a flag */
    double min, max;  /* numbers */
    bool once; /* a text or path that is an error the second time; of others the last counts */
    /* Of OPTION_TEXT, instead of its own check; a status, with errors on stderr. */
    int (*check)(const struct option_spec *spec, const char *text);
    const char *const *choices; /* of OPTION_*ONE_OF and OPTION_INT_OR, NULL-terminated */
    const char *help;           /* lines separated by \n; NULL: --help leaves it out */
    const char *aliases[4];     /* other long names, NULL-terminated */
};

/* Rows of a table. The help is the last argument; ALSO(), ".check = function", ".once = true" and,
 * for OPT_INT_OR, ".choices = names" may follow it. */
#define OPT_ROW(type_, letter_, name_, field_, ...)                                    \
    {                                                                                  \
        .type = type_, .letter = letter_, .name = name_, .offset = field_, __VA_ARGS__ \
    }
#define OPT_ARG(type_, letter_, name_, field_, arg_, ...) \
    OPT_ROW(type_, letter_, name_, field_, .arg = arg_, .help = __VA_ARGS__)
#define OPT_NUMBER(type_, letter_, name_, field_, arg_, min_, max_, ...)          \
    OPT_ROW(type_, letter_, name_, field_, .arg = arg_, .min = min_, .max = max_, \
            .help = __VA_ARGS__)
#define OPT_CHOICE(type_, letter_, name_, field_, arg_, choices_, ...) \
    OPT_ROW(type_, letter_, name_, field_, .arg = arg_, .choices = choices_, .help = __VA_ARGS__)

#define OPT_FLAG(letter_, name_, field_, ...) \
    OPT_ROW(OPTION_FLAG, letter_, name_, field_, .help = __VA_ARGS__)
#define OPT_TEXT(...)         OPT_ARG(OPTION_TEXT, __VA_ARGS__)
#define OPT_TEXTS(...)        OPT_ARG(OPTION_TEXTS, __VA_ARGS__)
#define OPT_PATH(...)         OPT_ARG(OPTION_PATH, __VA_ARGS__)
#define OPT_PATHS(...)        OPT_ARG(OPTION_PATHS, __VA_ARGS__)
#define OPT_MAYBE_PATH(...)   OPT_ARG(OPTION_MAYBE_PATH, __VA_ARGS__)
#define OPT_INT(...)          OPT_NUMBER(OPTION_INT, __VA_ARGS__)
#define OPT_INT_OR(...)       OPT_NUMBER(OPTION_INT_OR, __VA_ARGS__)
#define OPT_SIZE(...)         OPT_NUMBER(OPTION_SIZE, __VA_ARGS__)
#define OPT_BYTES(...)        OPT_NUMBER(OPTION_BYTES, __VA_ARGS__)
#define OPT_ONE_OF(...)       OPT_CHOICE(OPTION_ONE_OF, __VA_ARGS__)
#define OPT_MAYBE_ONE_OF(...) OPT_CHOICE(OPTION_MAYBE_ONE_OF, __VA_ARGS__)
#define OPT_QUIET(...)        OPT_ROW(OPTION_QUIET, 'q', "quiet", 0, .help = __VA_ARGS__)
#define OPT_HELP              OPT_ROW(OPTION_HELP, 'h', "help", 0, .help = "this text")
#define OPT_VERSION           OPT_ROW(OPTION_VERSION, 'V', "version", 0, .help = "the version")

#define ALSO(...) .aliases = {__VA_ARGS__}

struct option_group {
    const char *title;
    const struct option_spec *specs; /* [n] */
    size_t n;
    void *values; /* the struct that offsets are in, holding the defaults */
};

#define OPT_GROUP(title, specs, values)                       \
    {                                                         \
        title, specs, sizeof(specs) / sizeof *(specs), values \
    }

struct option_set {
    const char *usage;     /* what follows "usage: " */
    const char *operand;   /* what to say of an argument too many */
    const char **operands; /* [max_operands] arguments that are not options, in order */
    size_t max_operands;
    size_t min_operands; /* with more than these, an argument right after an OPTION_MAYBE_PATH
                            belongs to that option */
    const struct option_group *groups; /* [n] */
    size_t n;
};

/* A size in bytes, as OPTION_BYTES takes it; false for another text. */
bool options_read_bytes(const char *text, uint64_t *out);

/* Begins every program. Signals become errors (say_instead_of_dying()), then the command line fills
 * the groups' values. Returns whether to go on. If not, --help or --version was answered or a usage
 * error reported, and main() returns *status. Values point into argv; the caller frees the items of
 * every option_texts in any case. */
bool options_begin(const struct option_set *set, int argc, char **argv, int *status);

#endif
