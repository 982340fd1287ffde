/* SPDX-License-Identifier: MIT */
/* jinja_run.h: what a template that is read or runs works with: memory, limits, where to fail to.
 */
#ifndef TEXT_JINJA_RUN_H
#define TEXT_JINJA_RUN_H

#include "text/jinja_value.h"

struct jinja_chunk;
struct scope;

struct jinja_run {
    jmp_buf failed;
    struct llama3_error *err;
    const char *what; /* the template, for errors */
    unsigned line;    /* where it is */

    struct jinja_chunk *chunks;
    char *free; /* [left], of the newest chunk that is shared */
    size_t left, bytes, peak, most_bytes;
    size_t steps;
    int depth;

    struct hash_key secret;
    const struct tm *now;
    struct scope *scope;       /* the innermost */
    struct scope *outermost;   /* of the template, beside what it was given */
    struct jinja_builder *out; /* what is written now */
    const struct jinja_string *loop_name, *caller_name, *varargs_name, *kwargs_name;
};

void jinja_run_free(struct jinja_run *run);

#endif
