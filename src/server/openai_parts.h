/* SPDX-License-Identifier: MIT */
/*
 * openai_parts.h: what the files that parse a request share: openai.c (the request),
 * openai_fields.c (its fields), openai_prompt.c (messages and prompts) and openai_constraint.c
 * (what the answer has to be); for no one else.
 */
#ifndef SERVER_OPENAI_PARTS_H
#define SERVER_OPENAI_PARTS_H

#include "server/openai.h"

struct parser {
    struct api_request *request;
    size_t vocab_size;
    struct api_error *err;
};

/* Each fills the error and returns -1. The message of the first two begins with the parameter. */
int parser_refuse(const struct parser *p, const char *code, const char *param, const char *format,
                  ...) __attribute__((format(printf, 4, 5)));
int parser_mismatch(const struct parser *p, const char *param, const char *expected,
                    const json_t *found);
int parser_no_memory(const struct parser *p);

/* Reads every field of request->root, and refuses those that such a request doesn't have. */
int parser_fields(const struct parser *p);

/* Some of these fields. Texts of the first two stay in request->root. */
int parser_messages(const struct parser *p, const char *name, const json_t *value);
int parser_prompt(const struct parser *p, const char *name, const json_t *value);
int parser_response_format(const struct parser *p, const char *name, const json_t *value);
int parser_guided(const struct parser *p, const char *name, const json_t *value);
int parser_structured_outputs(const struct parser *p, const char *name, const json_t *value);

/* openai_tools.c: tools, and which may be called, both kept as text; calls of a message, checked.
 */
int parser_tools(const struct parser *p, const char *name, const json_t *value);
int parser_tool_choice(const struct parser *p, const char *name, const json_t *value);
int parser_parallel(const struct parser *p, const char *name, const json_t *value);
int parser_message_calls(const struct parser *p, const char *field, const json_t *calls);

#endif
