/* SPDX-License-Identifier: MIT */
/* constraint_options.h: what the text of an answer has to be, as options. */
#ifndef TOOL_CONSTRAINT_OPTIONS_H
#define TOOL_CONSTRAINT_OPTIONS_H

#include "base/buf.h"
#include "llama3.h"
#include "tool/options.h"

struct constraint_args {
    const char *json; /* a schema's file; "": any JSON object */
    const char *regex, *grammar;
    struct option_texts choices;
    /* constraint_read(): */
    const char *option; /* the one that was given; NULL: none */
    const char *where;  /* a file, or the option, as errors call the text */
    enum llama3_constraint_kind kind;
    struct buf text;
};

/* A group of options. */
enum { N_CONSTRAINT_OPTIONS = 4 };
extern const struct option_spec constraint_option_specs[N_CONSTRAINT_OPTIONS];
#define CONSTRAINT_OPTIONS(values) OPT_GROUP("Form of the answer", constraint_option_specs, values)

/* Reads what the option names. stdin_is_taken: by another option. A status; errors are on stderr.
 * For constraint_free() in any case. */
int constraint_read(struct constraint_args *args, bool stdin_is_taken);
void constraint_free(struct constraint_args *args);

/* The constraint for answers of a model: *out is for llama3_constraint_close(), NULL without such
 * an option. A status; errors are on stderr. */
int constraint_make(const struct constraint_args *args, struct llama3_model *model,
                    struct llama3_constraint **out);

#endif
