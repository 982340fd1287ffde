/* SPDX-License-Identifier: MIT */
/*
 * jinja.h: chat templates, which are programs in the language of Jinja2 3.1, as transformers sets
 * it up: trim_blocks, lstrip_blocks, the sandbox whose objects can't be changed, tojson without
 * HTML, break and continue, generation blocks, raise_exception and strftime_now.
 *
 * What a template writes says of each character where it came from: from the template, or from
 * what it was given. So a message can't write a control token (chat.h), whatever a template does
 * with it. Templates come from strangers: steps, depth, memory and output have limits.
 */
#ifndef TEXT_JINJA_H
#define TEXT_JINJA_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <time.h>

#include "base/error.h"

/* A character of a template's output: a Unicode scalar value, and this bit if it did not come from
 * the template. */
enum { JINJA_GIVEN = INT32_MIN };

struct jinja;

/* Reads a template, UTF-8 of n bytes. what: what errors call it. LLAMA3_EINPUT with the line of
 * what is no Jinja, or not supported. */
struct jinja *jinja_open(const char *text, size_t n, const char *what, struct llama3_error *err);
void jinja_close(struct jinja *jinja);

/* Whether the template mentions a name, as a variable or a function. */
bool jinja_mentions(const struct jinja *jinja, const char *name);

/* A variable whose characters count as the template's own: bos_token. */
struct jinja_constant {
    const char *name, *value;
};

struct jinja_input {
    const json_t *variables;                /* an object: these are given */
    const struct jinja_constant *constants; /* [n_constants] */
    size_t n_constants;
    const struct tm *now; /* of strftime_now() */
    size_t memory;        /* bytes that rendering may take; 0: 256 MiB */
};

struct jinja_output {
    uint32_t *chars; /* [n], for free() */
    size_t n;
    size_t peak; /* bytes that rendering took at most at once, these among them */
};

/* LLAMA3_EINPUT: the template failed, by raise_exception() or by what it met. Thread-safe. */
int jinja_render(const struct jinja *jinja, const struct jinja_input *input,
                 struct jinja_output *out, struct llama3_error *err);

#endif
