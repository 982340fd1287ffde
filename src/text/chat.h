/* SPDX-License-Identifier: MIT */
/*
 * chat.h: conversations to tokens. Only this code emits control ids. Between two of them, the
 * template's text and the message's content are joined and tokenized once, special tokens off, so
 * no content can forge a turn.
 *
 * A template is recognised by the SHA-256 of its exact text, with every line end as LF and without
 * one LF at the end, as Jinja reads it.
 */
#ifndef TEXT_CHAT_H
#define TEXT_CHAT_H

#include <stdbool.h>

#include "base/error.h"
#include "base/tokens.h"
#include "text/tokenizer.h"

struct chat_template;

/* NULL if unknown; the error lists the names for --template. */
const struct chat_template *chat_template_recognise(const char *text, struct llama3_error *err);
const struct chat_template *chat_template_by_name(const char *name, struct llama3_error *err);
const char *chat_template_name(const struct chat_template *chat);
const char *const *chat_template_names(void); /* NULL-terminated */

/* The control id that ends a turn (<|eot_id|>, <|im_end|>), or -1 where the tokenizer lacks it. */
int32_t chat_template_end_of_turn(const struct chat_template *chat,
                                  const struct tokenizer *tokenizer);

/* Whether the template writes today's date unless another is given (llama3.2). The caller then
 * passes the date, and keeps it for the whole conversation. */
bool chat_template_wants_today(const struct chat_template *chat);

/* Whether the template writes a date at all. */
bool chat_template_has_date(const struct chat_template *chat);

/* 0 if date is "DD Mon YYYY" with an English month and a day that exists; else -1. */
int chat_date_check(const char *date, struct llama3_error *err);

/* 0 if the vocabulary has every control token that the template emits; else -1 names it. */
int chat_template_check(const struct chat_template *chat, const struct tokenizer *tokenizer,
                        struct llama3_error *err);

/* 0 if the role is known and the content is UTF-8. number: of the message, for the error. */
int chat_message_check(const struct llama3_message *message, size_t number,
                       struct llama3_error *err);

/* What comes after the last message. */
enum chat_end {
    CHAT_HEADER, /* the header of the assistant's next turn */
    CHAT_NOTHING,
    CHAT_OPEN /* not even the end of its turn: the assistant continues it */
};

/* Appends the tokens of a conversation, exactly those that Jinja renders from the template without
 * tools. Roles: system, user, assistant, and tool or ipython, which are the same. date: "26 Jul
 * 2024", or NULL for the template's fixed default. LLAMA3_EINPUT: an unknown role, no messages, or
 * content that isn't UTF-8. On failure out is unchanged. */
int chat_render(const struct chat_template *chat, const struct tokenizer *tokenizer,
                const struct llama3_message *messages, size_t n, const char *date,
                enum chat_end end, struct tokens *out, struct llama3_error *err);

#endif
