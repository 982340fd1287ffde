/* SPDX-License-Identifier: MIT */
/*
 * chat.c: renders conversations. Templates are Jinja programs; here is what each does, written in
 * C. chat_templates.c lists the hashes of their texts.
 */
#include "text/chat.h"

#include <string.h>

#include "base/buf.h"
#include "base/utf8.h"
#include "text/chat_templates.h"
#include "text/unicode.h"

/* Collects the text between two control ids, which is tokenized as one. */
struct renderer {
    const struct tokenizer *tokenizer;
    const struct llama3_message *last; /* the message whose turn stays open; NULL: none */
    bool ends_with_header;             /* of the assistant's next turn */
    struct tokens *out;
    struct buf text;
    struct llama3_error *err;
    bool failed; /* err is filled */
};

static void flush(struct renderer *renderer)
{
    if (!renderer->failed && renderer->text.failed)
        renderer->failed = error_memory(renderer->err, "a conversation", renderer->text.size) != 0;
    if (!renderer->failed && renderer->text.size > 0)
        renderer->failed = tokenizer_encode(renderer->tokenizer, renderer->text.data,
                                            renderer->text.size, renderer->out, renderer->err) != 0;
    buf_clear(&renderer->text);
}

static void put_text(struct renderer *renderer, const char *text)
{
    buf_add_str(&renderer->text, text);
}

static void put_id(struct renderer *renderer, int32_t id)
{
    flush(renderer);
    tokens_add(renderer->out, id);
}

static void put_control(struct renderer *renderer, const char *name)
{
    put_id(renderer, tokenizer_control(renderer->tokenizer, name));
}

/* What Python's str.strip() strips: White_Space and U+001C..1F. */
static bool is_stripped(uint32_t scalar)
{
    return unicode_class(scalar) == UNICODE_SPACE || (scalar >= 0x1c && scalar <= 0x1f);
}

/* Jinja's trim. The text is valid UTF-8. */
static void put_trimmed(struct renderer *renderer, const char *text)
{
    const uint8_t *bytes = (const uint8_t *)text;
    size_t n = strlen(text), from = 0, to = 0; /* to: the end of what is kept */
    bool begun = false;

    for (size_t at = 0; at < n;) {
        uint32_t scalar = 0;
        size_t next = at + (size_t)utf8_decode(bytes + at, n - at, &scalar);
        if (!is_stripped(scalar)) {
            from = begun ? from : at;
            begun = true;
            to = next;
        }
        at = next;
    }
    buf_add(&renderer->text, text + from, to - from);
}

/* tojson as transformers defines it: Python's json.dumps(ensure_ascii=False). */
static void put_json(struct renderer *renderer, const char *text)
{
    static const char hex[] = "0123456789abcdef";
    static const char plain[] = "\"\\\b\f\n\r\t", escaped[] = "\"\\bfnrt";

    put_text(renderer, "\"");
    for (; *text != '\0'; text++) {
        const char *special = strchr(plain, *text);
        uint8_t byte = (uint8_t)*text;
        if (special != NULL) {
            const char pair[] = {'\\', escaped[special - plain]};
            buf_add(&renderer->text, pair, sizeof pair);
        } else if (byte < 0x20) {
            const char code[] = {'\\', 'u', '0', '0', hex[byte >> 4], hex[byte & 15]};
            buf_add(&renderer->text, code, sizeof code);
        } else {
            buf_add(&renderer->text, text, 1);
        }
    }
    put_text(renderer, "\"");
}

/* ---- the templates ----------------------------------------------------------------------- */

static void put_header(struct renderer *renderer, const char *role)
{
    put_control(renderer, "<|start_header_id|>");
    put_text(renderer, role);
    put_control(renderer, "<|end_header_id|>");
    put_text(renderer, "\n\n");
}

static void put_turn(struct renderer *renderer, const struct llama3_message *message)
{
    put_header(renderer, message->role);
    put_trimmed(renderer, message->content);
    if (message != renderer->last)
        put_control(renderer, "<|eot_id|>");
}

static void put_last_header(struct renderer *renderer)
{
    if (renderer->ends_with_header)
        put_header(renderer, "assistant");
}

static void render_llama3(struct renderer *renderer, const struct llama3_message *messages,
                          size_t n)
{
    put_id(renderer, tokenizer_bos(renderer->tokenizer));
    for (size_t i = 0; i < n; i++)
        put_turn(renderer, &messages[i]);
    put_last_header(renderer);
}

/* Without tools, 3.1, 3.2 and 3.3 differ only in the date. */
static void render_llama31(struct renderer *renderer, const struct llama3_message *messages,
                           size_t n, const char *date)
{
    size_t first = strcmp(messages[0].role, "system") == 0 ? 1 : 0;

    put_id(renderer, tokenizer_bos(renderer->tokenizer));
    put_header(renderer, "system");
    put_text(renderer, "Cutting Knowledge Date: December 2023\nToday Date: ");
    put_text(renderer, date);
    put_text(renderer, "\n\n");
    if (first == 1)
        put_trimmed(renderer, messages[0].content);
    put_control(renderer, "<|eot_id|>");

    for (size_t i = first; i < n; i++) {
        if (strcmp(messages[i].role, "tool") == 0 || strcmp(messages[i].role, "ipython") == 0) {
            put_header(renderer, "ipython");
            put_json(renderer, messages[i].content);
            put_control(renderer, "<|eot_id|>");
        } else {
            put_turn(renderer, &messages[i]);
        }
    }
    put_last_header(renderer);
}

static void put_chatml_header(struct renderer *renderer, const char *role)
{
    put_control(renderer, "<|im_start|>");
    put_text(renderer, role);
    put_text(renderer, "\n");
}

static void end_chatml_turn(struct renderer *renderer)
{
    put_control(renderer, "<|im_end|>");
    put_text(renderer, "\n");
}

static void render_chatml(struct renderer *renderer, const struct llama3_message *messages,
                          size_t n, const char *default_system)
{
    if (default_system != NULL && strcmp(messages[0].role, "system") != 0) {
        put_chatml_header(renderer, "system");
        put_text(renderer, default_system);
        end_chatml_turn(renderer);
    }
    for (size_t i = 0; i < n; i++) {
        put_chatml_header(renderer, messages[i].role);
        put_text(renderer, messages[i].content);
        if (&messages[i] != renderer->last)
            end_chatml_turn(renderer);
    }
    if (renderer->ends_with_header)
        put_chatml_header(renderer, "assistant");
}

/* ---- the interface ----------------------------------------------------------------------- */

const char *chat_template_name(const struct chat_template *chat)
{
    return chat->name;
}

bool chat_template_wants_today(const struct chat_template *chat)
{
    return chat->wants_today;
}

bool chat_template_has_date(const struct chat_template *chat)
{
    return chat->form == CHAT_LLAMA31;
}

int32_t chat_template_end_of_turn(const struct chat_template *chat,
                                  const struct tokenizer *tokenizer)
{
    return tokenizer_control(tokenizer, chat->end_of_turn);
}

int chat_template_check(const struct chat_template *chat, const struct tokenizer *tokenizer,
                        struct llama3_error *err)
{
    for (size_t i = 0; chat->controls[i] != NULL; i++)
        if (tokenizer_control(tokenizer, chat->controls[i]) < 0)
            return error_input(
                err, "template %s: expected the control token %s in the vocabulary, found none",
                chat->name, chat->controls[i]);
    if (chat->has_bos && tokenizer_bos(tokenizer) < 0)
        return error_input(err, "template %s: expected a BOS token in the vocabulary, found none",
                           chat->name);
    return 0;
}

int chat_message_check(const struct llama3_message *message, size_t number,
                       struct llama3_error *err)
{
    static const char *const roles[] = {"system", "user", "assistant", "tool", "ipython"};
    bool known = false;

    if (message->role == NULL || message->content == NULL)
        return error_input(err, "message %zu: expected a role and content, found no %s", number,
                           message->role == NULL ? "role" : "content");
    for (size_t i = 0; i < sizeof roles / sizeof *roles; i++)
        known = known || strcmp(message->role, roles[i]) == 0;
    if (!known)
        return error_input(
            err, "message %zu: expected role system, user, assistant or tool, found \"%.40s\"",
            number, message->role);
    size_t n = strlen(message->content);
    size_t valid = utf8_valid((const uint8_t *)message->content, n);
    if (valid < n)
        return error_input(err, "message %zu: expected UTF-8, found byte 0x%02x at byte %zu",
                           number, (uint8_t)message->content[valid], valid);
    return 0;
}

int chat_render(const struct chat_template *chat, const struct tokenizer *tokenizer,
                const struct llama3_message *messages, size_t n, const char *date,
                enum chat_end end, struct tokens *out, struct llama3_error *err)
{
    size_t before = out->n;
    struct renderer renderer = {.tokenizer = tokenizer,
                                .last = end == CHAT_OPEN && n > 0 ? &messages[n - 1] : NULL,
                                .ends_with_header = end == CHAT_HEADER,
                                .out = out,
                                .err = err};

    if (n == 0)
        return error_input(err, "conversation: expected a message, found none");
    for (size_t i = 0; i < n; i++)
        if (chat_message_check(&messages[i], i + 1, err) != 0)
            return -1;
    if (renderer.last != NULL && strcmp(renderer.last->role, "assistant") != 0)
        return error_input(err,
                           "message %zu: expected one of the assistant to continue, found role "
                           "\"%.40s\"",
                           n, renderer.last->role);
    if (date != NULL && chat_date_check(date, err) != 0)
        return -1;
    if (chat_template_check(chat, tokenizer, err) != 0)
        return -1;

    switch (chat->form) {
    case CHAT_LLAMA3:
        render_llama3(&renderer, messages, n);
        break;
    case CHAT_LLAMA31:
        render_llama31(&renderer, messages, n, date != NULL ? date : "26 Jul 2024");
        break;
    case CHAT_CHATML:
        render_chatml(&renderer, messages, n, chat->default_system);
        break;
    }
    flush(&renderer);
    buf_free(&renderer.text);
    if (!renderer.failed && out->failed)
        renderer.failed = error_memory(err, "the tokens of a conversation", 0) != 0;
    if (renderer.failed) {
        out->n = before;
        out->failed = false;
        return -1;
    }
    return 0;
}
