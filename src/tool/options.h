/* SPDX-License-Identifier: MIT */
/*
 * tool: the programs. They use llama3.h and src/base, nothing else of the library; quantize, eval
 * and bench, which make, judge and measure models, look inside.
 *
 * options.h: a command line described by tables, from which both the parser and --help come.
 * A program lists groups of options, which programs can share, and begins with options_begin().
 */
#ifndef TOOL_OPTIONS_H
#define TOOL_OPTIONS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum option_type {                      /* what it sets */
                   OPTION_FLAG,         /* bool */
                   OPTION_TEXT,         /* const char *, valid UTF-8 */
                   OPTION_PATH,         /* const char *, any bytes but none at all */
                   OPTION_MAYBE_PATH,   /* the same, or "" where it is given without one */
                   OPTION_TEXTS,        /* struct option_texts: may be repeated; UTF-8, not empty */
                   OPTION_PATHS,        /* the same of any bytes */
                   OPTION_INT,          /* int */
                   OPTION_INT_OR,       /* int, or -i for choices[i] */
                   OPTION_SIZE,         /* size_t */
                   OPTION_BYTES,        /* uint64_t; K, M, G or T may follow, of 1024 each */
                   OPTION_SEED,         /* struct option_seed: the whole range of uint64_t */
                   OPTION_FLOAT,        /* float */
                   OPTION_ONE_OF,       /* int, an index into choices */
                   OPTION_MAYBE_ONE_OF, /* int, 1 + that index, or 1 where it is given without one
                                         */
                   OPTION_HELP,         /* nothing: options_begin() answers it */
                   OPTION_VERSION       /* the same */
};

struct option_texts {
    const char **items; /* [n] */
    size_t n;
};

struct option_seed {
    uint64_t value;
    bool given; /* by this option */
};

struct option_spec {
    enum option_type type;
    char letter;                /* short name, 0: none */
    const char *name;           /* long name */
    size_t offset;              /* of the value in the group's values */
    const char *arg;            /* name of the argument, NULL for a flag */
    double min, max;            /* numbers */
    bool above;                 /* min itself is not allowed */
    const char *const *choices; /* of OPTION_*ONE_OF and OPTION_INT_OR, NULL-terminated */
    const char *help;           /* lines separated by \n */
    const char *aliases[4];     /* other long names, NULL-terminated */
};

/* A row of a table. After its help, the last argument, may follow ALSO(), ".above = true" and, of
 * OPT_INT_OR, ".choices = names". */
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
#define OPT_SEED(...)         OPT_ARG(OPTION_SEED, __VA_ARGS__)
#define OPT_INT(...)          OPT_NUMBER(OPTION_INT, __VA_ARGS__)
#define OPT_INT_OR(...)       OPT_NUMBER(OPTION_INT_OR, __VA_ARGS__)
#define OPT_SIZE(...)         OPT_NUMBER(OPTION_SIZE, __VA_ARGS__)
#define OPT_BYTES(...)        OPT_NUMBER(OPTION_BYTES, __VA_ARGS__)
#define OPT_FLOAT(...)        OPT_NUMBER(OPTION_FLOAT, __VA_ARGS__)
#define OPT_ONE_OF(...)       OPT_CHOICE(OPTION_ONE_OF, __VA_ARGS__)
#define OPT_MAYBE_ONE_OF(...) OPT_CHOICE(OPTION_MAYBE_ONE_OF, __VA_ARGS__)
#define OPT_HELP              OPT_ROW(OPTION_HELP, 'h', "help", 0, .help = "this text")
#define OPT_VERSION           OPT_ROW(OPTION_VERSION, 'V', "version", 0, .help = "the version")

#define ALSO(...) .aliases = {__VA_ARGS__}

struct option_group {
    const char *title;
    const struct option_spec *specs; /* [n] */
    size_t n;
    void *values; /* the struct that offsets count from, already filled with the defaults */
};

#define OPT_GROUP(title, specs, values)                       \
    {                                                         \
        title, specs, sizeof(specs) / sizeof *(specs), values \
    }

struct option_set {
    const char *usage;     /* what follows "usage: " */
    const char *operand;   /* what to tell who gives an argument too many */
    const char **operands; /* [max_operands] arguments that are no options, in order */
    size_t max_operands;
    size_t min_operands; /* needed; beyond these, an argument right after an OPTION_MAYBE_PATH is
                            that option's */
    const struct option_group *groups; /* [n] */
    size_t n;
};

/* How every program begins: an error instead of a signal that ends it (say_instead_of_dying()),
 * then the command line, which fills the groups' values. Whether to go on; if not, --help or
 * --version was answered or a usage error said, and *status is what main() returns. Values point
 * into argv; an option_texts' items are the caller's to free() in any case. */
bool options_begin(const struct option_set *set, int argc, char **argv, int *status);

/* Whether a number is what an option may set. */
bool option_in_range(const struct option_spec *spec, double value);

#endif
