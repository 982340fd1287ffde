/* SPDX-License-Identifier: MIT */
/* grammar_read.h: what the readers of GBNF and Lark share: a place in a text, errors that name its
 * line, names, and lists of parts that are being read. */
#ifndef GRAMMAR_GRAMMAR_READ_H
#define GRAMMAR_GRAMMAR_READ_H

#include "grammar/grammar_parts.h"

enum {
    READ_MAX_NESTING = 200,    /* groups in groups, since they are read by recursion */
    READ_MAX_COUNT = 1000000,  /* repetitions that are counted */
    READ_MAX_TEXT = 256 << 20, /* bytes */
    READ_NO_PLACE = UINT32_MAX
};

struct grammar_reader {
    struct grammar *grammar;
    const char *text; /* [n] */
    uint32_t n, at;
    const char *where;
    struct llama3_error *err;
    bool failed;   /* err is filled */
    uint32_t *all; /* [n_all], a stack of nodes or regexes */
    size_t n_all, room;
    int nesting;
    struct read_name {
        uint32_t at, n;      /* of the text */
        uint32_t used;       /* where it was met first but for its definition, or READ_NO_PLACE */
        uint32_t defined_at; /* or READ_NO_PLACE */
        uint32_t value;      /* the reader's */
    } * names;               /* [n_names] */
    uint32_t n_names, names_room;
    struct hash_table table; /* of names */
};

bool read_open(struct grammar_reader *reader);
void read_close(struct grammar_reader *reader);

/* "WHERE, line N: " before the rest; N is the line of text[at]. The first error stays. Returns
 * GRAMMAR_NONE. */
node read_error(struct grammar_reader *reader, uint32_t at, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
/* "expected WHAT, found" what is at text[at]. */
node read_expected(struct grammar_reader *reader, uint32_t at, const char *what);
/* Passes on what another module said, after the place. */
node read_error_of(struct grammar_reader *reader, uint32_t at, const struct llama3_error *err);
node read_memory(struct grammar_reader *reader, size_t bytes);

/* The number of a name; it is added if it wasn't there, with the value given. READ_NO_PLACE:
 * without memory. */
uint32_t read_name(struct grammar_reader *reader, uint32_t at, uint32_t n, uint32_t value);

void read_push(struct grammar_reader *reader, uint32_t part);

/* Decimal digits at reader->at; at most READ_MAX_COUNT. */
uint32_t read_count(struct grammar_reader *reader);
/* As many hexadecimal digits, as a number. */
uint32_t read_hex(struct grammar_reader *reader, int digits);
/* The character at reader->at, of UTF-8. */
uint32_t read_scalar(struct grammar_reader *reader);

/* grammar_check(), with the place of the rule of the start in its errors. */
int read_check(struct grammar_reader *reader, uint32_t start_at);

#endif
