/* SPDX-License-Identifier: MIT */
/*
 * chat.h: conversations to tokens, by the checkpoint's own chat template (jinja.h).
 *
 * Control tokens are found in the characters that the template wrote, and in no others. Between two
 * of them, the template's text and the messages' are joined and tokenized once. So no content can
 * forge a turn, and ids are those of the reference.
 */
#ifndef TEXT_CHAT_H
#define TEXT_CHAT_H

#include <jansson.h>
#include <stdbool.h>
#include <time.h>

#include "base/error.h"
#include "base/tokens.h"
#include "text/tokenizer.h"
#include "text/tool_form.h"

struct chat_template;

/* Reads a template's text. what: what errors call it. special_tokens: an object with the texts of
 * "bos_token" and the like, which the template may name; or NULL; not kept. NULL with LLAMA3_EINPUT
 * for what is no Jinja. */
struct chat_template *chat_open(const char *text, const char *what, const json_t *special_tokens,
                                struct llama3_error *err);
void chat_close(struct chat_template *chat);

/* "llama3.1" for one of the texts that are widely used, else "custom". */
const char *chat_name(const struct chat_template *chat);

/* Whether the template mentions a variable or function. */
bool chat_mentions(const struct chat_template *chat, const char *name);

/* Whether its models think before they answer: the template knows <think>. */
bool chat_thinks(const struct chat_template *chat);

/* How its models write calls: tool_form_generic where the template has none. */
const struct tool_form *chat_tool_form(const struct chat_template *chat);

/* The id that follows an assistant's message (<|eot_id|>, <|im_end|>), or -1 where there is none.
 */
int32_t chat_end_of_turn(const struct chat_template *chat, const struct tokenizer *tokenizer);

/* 0 if every <|name|> that the template writes is a control token; else -1 names it. */
int chat_check_controls(const struct chat_template *chat, const struct tokenizer *tokenizer,
                        struct llama3_error *err);

/* 0 if date is "DD Mon YYYY" with an English month and a day that exists; else -1. */
int chat_date_check(const char *date, struct llama3_error *err);

/* 0 if the role is text without control characters and the content is UTF-8. number: of the
 * message, for the error. */
int chat_message_check(const struct llama3_message *message, size_t number,
                       struct llama3_error *err);

/* What comes after the last message. */
enum chat_end {
    CHAT_HEADER, /* the header of the assistant's next turn */
    CHAT_NOTHING,
    CHAT_OPEN /* not even the end of its turn, so that the assistant goes on with it */
};

struct chat_request {
    const struct llama3_message *messages; /* [n], n >= 1 */
    size_t n;
    const char *date; /* "26 Jul 2024", for date_string and strftime_now(); NULL: `now` alone */
    time_t now;       /* where there is no date */
    enum chat_end end;
    const json_t *arguments; /* an object of more variables, "tools" and "documents" among them;
                                or NULL */
    size_t memory;           /* bytes that the template may take; 0: 256 MiB */
};

/* Appends the tokens of a conversation, those of what transformers renders; of tools that the
 * template doesn't write, see chat_tools.h. LLAMA3_EINPUT: no messages, content that isn't UTF-8,
 * or what the template refuses. On failure out is unchanged. */
int chat_render(const struct chat_template *chat, const struct tokenizer *tokenizer,
                const struct chat_request *request, struct tokens *out, struct llama3_error *err);

#endif
