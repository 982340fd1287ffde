/* SPDX-License-Identifier: MIT */
/*
 * regex_parts.h: the inside of regex.h, which its files share.
 *
 * Functions that are called re_* build without asking whether the result's language is empty: what
 * they return may be a node that is known to be empty only after a search (regex_settle()).
 */
#ifndef GRAMMAR_REGEX_PARTS_H
#define GRAMMAR_REGEX_PARTS_H

#include <string.h>

#include "base/hash.h"
#include "grammar/regex.h"

enum regex_kind {
    KIND_NONE,
    KIND_EMPTY,
    KIND_BYTES,    /* args[a .. a + 8): the bits of its set */
    KIND_CONCAT,   /* a, which is no concatenation, then b */
    KIND_OR,       /* args[a .. a + b): ascending, no OR among them */
    KIND_AND,      /* the same */
    KIND_NOT,      /* a */
    KIND_REPEAT,   /* a, b to c times */
    KIND_STRINGS,  /* table a, strings b to c exclusive, their first d bytes left out */
    KIND_MULTIPLE, /* divisor a, phase b, remainder c | d << 32 */
    KIND_LOOP      /* b: its number; c: what it stands for, which has it behind a byte */
};

enum regex_life { LIFE_UNKNOWN, LIFE_LIVE, LIFE_DEAD };

struct regex_node {
    uint8_t kind;
    uint8_t life;
    bool nullable;
    bool utf8;      /* all its strings are valid UTF-8; false: not known */
    uint32_t depth; /* of what a recursion over it needs */
    uint32_t a, b, c, d;
    uint32_t row;  /* its number plus 1, or 0 */
    uint32_t mark; /* the last search that came here */
};

enum { REGEX_ROWS = 64 /* of a block */, REGEX_DEPTH = 1500, REGEX_INFINITE = UINT32_MAX };

/* One of the vectors below: [n], of room for capacity. */
struct regex_vector {
    void *items;
    size_t n, capacity;
};

struct regex_table {
    const char **bytes; /* [n] into text */
    uint32_t *lengths;  /* [n] */
    uint32_t *tags;     /* [n], or NULL */
    char *text;
    uint32_t n;
    uint32_t longest; /* bytes */
    bool utf8;
};

/* Multiples of d / 10^scale. */
struct regex_divisor {
    uint64_t d;
    uint32_t scale;
    bool bare; /* without a point, and not zero */
};

/* A class of characters, by the hash of its ranges, so that it is made once. */
struct regex_class {
    uint64_t hash;
    regex r;
};
enum { REGEX_CLASSES = 256 };

struct regexes {
    struct regex_node *nodes; /* [n] */
    size_t n, capacity;
    uint32_t *slots; /* [slot_mask + 1]: nodes by hash, 0 where free */
    size_t slot_mask;
    struct hash_key key;
    struct regex_vector args;     /* of regex: lists, and sets of bytes */
    struct regex_vector rows;     /* of regex *: blocks of REGEX_ROWS rows of 256 */
    struct regex_vector scratch;  /* of regex: a stack of lists that are being made */
    struct regex_vector raw;      /* of row numbers that a search has written to */
    struct regex_vector tables;   /* of struct regex_table */
    struct regex_vector divisors; /* of struct regex_divisor */
    size_t n_rows;
    size_t memory, limit;
    uint32_t searches;
    bool searching;
    regex anything;  /* all byte strings */
    regex character; /* one character in UTF-8 */
    regex text;      /* any number of them */
    regex more[4];   /* so many continuation bytes, of any value */
    struct regex_class classes[REGEX_CLASSES];
    regex *formats; /* [], those that were made, or REGEX_NONE */
    bool failed;
    struct llama3_error why;
};

static inline const struct regex_node *regex_node(const struct regexes *all, regex r)
{
    return &all->nodes[r];
}

static inline const regex *regex_args(const struct regexes *all, const struct regex_node *n)
{
    return &((const regex *)all->args.items)[n->a];
}

static inline struct byte_set regex_set(const struct regexes *all, const struct regex_node *n)
{
    struct byte_set set;
    memcpy(&set, regex_args(all, n), sizeof set);
    return set;
}

/* Words are little-endian, as the machine (quant/dtype.c). */
static inline bool regex_set_has(const struct regexes *all, const struct regex_node *n,
                                 uint8_t byte)
{
    return regex_args(all, n)[byte / 32] >> byte % 32 & 1;
}

static inline const struct regex_table *regex_table(const struct regexes *all, uint32_t i)
{
    return &((const struct regex_table *)all->tables.items)[i];
}

static inline uint32_t *regex_row_of(const struct regexes *all, uint32_t row)
{
    return ((uint32_t **)all->rows.items)[row / REGEX_ROWS] + (size_t)(row % REGEX_ROWS) * 256;
}

static inline bool byte_set_has(const struct byte_set *set, uint8_t byte)
{
    return set->bits[byte / 64] >> byte % 64 & 1;
}

static inline void byte_set_add(struct byte_set *set, unsigned first, unsigned last)
{
    for (unsigned i = first; i <= last; i++)
        set->bits[i / 64] |= (uint64_t)1 << i % 64;
}

static inline bool byte_set_empty(const struct byte_set *s)
{
    return (s->bits[0] | s->bits[1] | s->bits[2] | s->bits[3]) == 0;
}

static inline void byte_set_narrow(struct byte_set *set, const struct byte_set *by, uint64_t invert)
{
    for (int i = 0; i < 4; i++)
        set->bits[i] &= by->bits[i] ^ invert;
}

/* ---- regex.c ---- */

/* Records the first failure; returns REGEX_NONE. */
regex regex_fail(struct regexes *all, enum llama3_code code, const char *what);
/* Room for `more` more items of `size` bytes; false: failed. */
bool regex_room(struct regexes *all, struct regex_vector *v, size_t more, size_t size);
/* Memory that counts, zeroed; NULL: failed. */
void *regex_alloc(struct regexes *all, size_t n, size_t size);
void regex_release(struct regexes *all, void *memory, size_t bytes);
void regex_push(struct regexes *all, regex r); /* on scratch */
/* The node like this one; list: its n args, whose place `like` needn't say. */
regex regex_intern(struct regexes *all, const struct regex_node *like, const regex *list, size_t n);
/* A loop, which stands for what regex_close_loop() says later. */
regex regex_open_loop(struct regexes *all, bool nullable);
void regex_close_loop(struct regexes *all, regex loop, regex body);

/* ---- regex_build.c ---- */

regex re_bytes(struct regexes *all, unsigned first, unsigned last);
regex re_concat(struct regexes *all, regex a, regex b);
/* Of scratch[base ..), which they take away. */
regex re_or_list(struct regexes *all, size_t base);
regex re_and_list(struct regexes *all, size_t base);
regex re_or(struct regexes *all, regex a, regex b);
regex re_and(struct regexes *all, regex a, regex b);
regex re_not(struct regexes *all, regex a);
regex re_repeat(struct regexes *all, regex a, uint32_t min, uint32_t max);
regex re_optional(struct regexes *all, regex a);

/* ---- regex_step.c ---- */

/* r, or REGEX_NONE if its language is empty. */
regex regex_settle(struct regexes *all, regex r);
/* A derivative, settled, and the bytes that have the same one, of which `byte` is one. */
regex regex_step_class(struct regexes *all, regex r, uint8_t byte, struct byte_set *same);

/* ---- regex_strings.c ---- */

regex regex_strings_step(struct regexes *all, regex r, uint8_t byte, struct byte_set *same);
void regex_strings_close(struct regex_table *table);

/* ---- regex_number.c ---- */

/* 0.d1d2d3... * 10^point, without zeros in front or behind; n == 0: zero. */
struct regex_decimal {
    bool negative;
    char *digits; /* [n], a part of memory */
    char *memory; /* for free(); NULL on failure */
    size_t n;
    int64_t point;
};

int regex_read_decimal(struct regex_decimal *d, const char *text, struct llama3_error *err);

/* ---- regex_multiple.c ---- */

regex regex_multiple_step(struct regexes *all, regex r, uint8_t byte, struct byte_set *same);

/* ---- regex_chars.c ---- */

/* Ranges in order, without what is no scalar; those that touch are joined. out: [2 * n], not in.
 * Returns how many there are. */
size_t regex_tidy(uint32_t (*out)[2], const uint32_t (*in)[2], size_t n);
/* Makes regexes.more, character and text. */
void regex_chars_open(struct regexes *all);

#endif
