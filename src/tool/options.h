/* SPDX-License-Identifier: MIT */
/*
 * tool: the programs. They use llama3.h and src/base, nothing else of the library; quantize, eval
 * and bench, which make, judge and measure models, look inside.
 *
 * options.h: a command line described by tables, from which both the parser and --help come.
 * A program lists groups of options; a group can be shared between programs.
 */
#ifndef TOOL_OPTIONS_H
#define TOOL_OPTIONS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

enum option_type {                     /* what it sets */
                   OPTION_FLAG,        /* bool */
                   OPTION_TEXT,        /* const char *, valid UTF-8 */
                   OPTION_PATH,        /* const char *, any bytes but none at all */
                   OPTION_MAYBE_PATH,  /* the same, or "" where it is given without one */
                   OPTION_TEXTS,       /* struct option_texts: may be repeated; UTF-8, not empty */
                   OPTION_PATHS,       /* the same of any bytes */
                   OPTION_INT,         /* int */
                   OPTION_INT_OR,      /* int, or -i for choices[i] */
                   OPTION_SIZE,        /* size_t */
                   OPTION_BYTES,       /* uint64_t; K, M, G or T may follow, of 1024 each */
                   OPTION_SEED,        /* struct option_seed: the whole range of uint64_t */
                   OPTION_FLOAT,       /* float */
                   OPTION_ONE_OF,      /* int, an index into choices */
                   OPTION_MAYBE_ONE_OF /* int, 1 + that index, or 1 where it is given without one */
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
    const char *name;           /* long name */
    char letter;                /* short name, 0: none */
    const char *const *aliases; /* other long names, NULL-terminated; NULL: none */
    enum option_type type;
    size_t offset;    /* of the value in the group's values */
    const char *arg;  /* name of the argument, NULL for a flag */
    const char *help; /* lines separated by \n */
    double min, max;  /* numbers */
    bool above;       /* min itself is not allowed */
    const char *const
        *choices; /* OPTION_ONE_OF, OPTION_MAYBE_ONE_OF and OPTION_INT_OR, NULL-terminated */
};

struct option_group {
    const char *title;
    const struct option_spec *specs; /* [n] */
    size_t n;
    void *values; /* the struct that offsets count from, already filled with the defaults */
};

struct option_set {
    const char *program;
    const char *usage;     /* what follows "usage: " */
    const char *operand;   /* what to tell who gives an argument too many */
    const char **operands; /* [max_operands] arguments that are no options, in order */
    size_t max_operands;
    size_t min_operands; /* needed; beyond these, an argument right after an OPTION_MAYBE_PATH is
                            that option's */
    const struct option_group *groups; /* [n] */
    size_t n;
};

/* Fills the groups' values. -1 after a usage error, which is then on stderr. Values point into
 * argv. */
int options_parse(const struct option_set *set, int argc, char **argv);
void options_free(const struct option_set *set);

/* Whether a number is what an option may set. */
bool option_in_range(const struct option_spec *spec, double value);

void options_help(const struct option_set *set, FILE *out);

#endif
