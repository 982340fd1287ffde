/* SPDX-License-Identifier: MIT */
/* template_options.h: the options of the chat template, which llama3 and llama3-server share. */
#ifndef TOOL_TEMPLATE_OPTIONS_H
#define TOOL_TEMPLATE_OPTIONS_H

#include "base/buf.h"
#include "llama3.h"
#include "tool/options.h"

struct template_args {
    const char *name; /* or a file; NULL: the checkpoint's own */
    const char *date;
    struct option_texts pairs; /* NAME=VALUE */
    struct buf text;           /* the file's; empty data: a name or nothing is given */
    char *variables;           /* the pairs as a JSON object; NULL: none */
};

extern const struct option_spec template_option_specs[3];
#define TEMPLATE_OPTIONS(args) OPT_GROUP("Chat template", template_option_specs, args)

/* Reads what the options name. A status; errors are on stderr. */
int template_read(struct template_args *args);
void template_free(struct template_args *args);

/* Fills what chooses the template. */
void template_apply(const struct template_args *args, struct llama3_model_options *options);
/* What each conversation gets; borrows. */
struct llama3_template_options template_options(const struct template_args *args);

/* Notes what the model's template doesn't use: of these options, of instructions if there are any
 * (`system`), and of questions. */
void template_note(const struct template_args *args, const struct llama3_model *model, bool system);

#endif
