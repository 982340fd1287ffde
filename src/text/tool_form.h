/* SPDX-License-Identifier: MIT */
/*
 * tool_form.h: how a chat template writes tools and their calls, found out by rendering small
 * conversations: what stands around a call in them is what the model was trained to write.
 */
#ifndef TEXT_TOOL_FORM_H
#define TEXT_TOOL_FORM_H

#include <stdbool.h>

#include "text/jinja.h"

enum tool_syntax {
    TOOL_NONE,    /* the template has no calls */
    TOOL_JSON,    /* {"name": "f", "arguments": {"a": 1}} */
    TOOL_NAMED,   /* the name, `middle`, and the arguments as JSON */
    TOOL_PYTHONIC /* f(a=1) */
};

/* Marks have no white space at their ends; where they have some inside, models may write other. */
struct tool_form {
    enum tool_syntax syntax;
    char *begin; /* before the first call: "<tool_call>", "functools[", "" */
    char *next;  /* between two: "</tool_call>\n<tool_call>", ","; "": the template has one alone */
    char *end;   /* after the last: "</tool_call>", "]" */
    char *middle;        /* of TOOL_NAMED; else "" */
    char *arguments_key; /* of TOOL_JSON: "arguments", "parameters" */
    char *plain;         /* an answer's text has this and a line end in front: "all"; else "" */
    bool single;         /* the template refuses a message with several calls */
    bool builtin;        /* <|python_tag|>f.call(a="x") for tools of `builtin_tools` */
    bool knows_tools;    /* it writes the tools that it is given */
    bool functions;      /* as the text `functions`, and the time as `datetime` */
    bool arguments_text; /* it takes arguments as JSON text, not as objects */
    bool content_null;   /* it writes calls only of messages whose content is null */
    bool content_text;   /* or only of those whose content is a text */
};

/* A template of which nothing is known: Hermes' form, which it is told in the system's message. */
extern const struct tool_form tool_form_generic;

/* Renders variables; 0, or -1 where the template refuses them. */
typedef int tool_form_render(const void *arg, const json_t *variables, struct jinja_output *out);

/* calls: whether the template mentions tool_calls at all. -1: LLAMA3_ENOMEM. */
int tool_form_find(struct tool_form *form, bool calls, tool_form_render *render, const void *arg,
                   struct llama3_error *err);
void tool_form_free(struct tool_form *form);

#endif
