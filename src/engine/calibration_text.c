/* SPDX-License-Identifier: MIT */
#include "engine/calibration_text.h"

#include <string.h>

#include "base/buf.h"
#include "text/chat.h"

/* share/calibration.txt, by scripts/embed */
extern const unsigned char calibration_sample_text[]; /* [calibration_sample_size] */
extern const size_t calibration_sample_size;

enum { MAX_MESSAGES = 32 };
enum section { SECTION_NONE, SECTION_TEXT, SECTION_CHAT };

struct text_reader {
    const struct model *model;
    struct tokenizer *tokenizer;
    struct chat_template *chat; /* NULL: none */
    struct tokens *out;
    struct llama3_error *err;
    size_t line;
    enum section section;
    struct buf text; /* of the document */
    struct {
        const char *role;
        struct buf content;
    } messages[MAX_MESSAGES]; /* [n_messages] of the conversation */
    size_t n_messages;
};

static int refuse(const struct text_reader *r, const char *expected)
{
    return error_input(r->err, "calibration text, line %zu: expected %s", r->line, expected);
}

/* ---- a section to tokens --------------------------------------------------------------------- */

static int encode(struct text_reader *r, const struct buf *text)
{
    if (text->failed)
        return error_memory(r->err, "the calibration text", text->size);
    return tokenizer_encode(r->tokenizer, text->data, text->size, r->out, r->err);
}

/* Without a chat template. */
static int encode_plain(struct text_reader *r)
{
    struct buf text = {0};
    for (size_t i = 0; i < r->n_messages; i++) {
        const char *role = r->messages[i].role;
        buf_add_str(&text, strcmp(role, "system") == 0 ? "System"
                           : strcmp(role, "user") == 0 ? "User"
                                                       : "Assistant");
        buf_add_str(&text, ": ");
        buf_add_str(&text, r->messages[i].content.data);
        buf_add_str(&text, "\n\n");
    }
    int result = encode(r, &text);
    buf_free(&text);
    return result;
}

/* A window begins with BOS already, and a second one inside it would be wrong. */
static void drop_bos(struct text_reader *r, size_t first)
{
    const struct vocab *vocab = &r->model->vocab;
    struct tokens *out = r->out;
    if (!vocab->add_bos || out->n == first || out->ids[first] != vocab->bos)
        return;
    out->n--;
    memmove(out->ids + first, out->ids + first + 1, (out->n - first) * sizeof *out->ids);
}

static int encode_chat(struct text_reader *r)
{
    struct llama3_message messages[MAX_MESSAGES];
    struct llama3_error err;
    size_t first = r->out->n;
    for (size_t i = 0; i < r->n_messages; i++) {
        if (r->messages[i].content.failed)
            return error_memory(r->err, "the calibration text", r->messages[i].content.size);
        messages[i] = (struct llama3_message){.role = r->messages[i].role,
                                              .content = r->messages[i].content.data};
    }
    const struct chat_request request = {
        .messages = messages,
        .n = r->n_messages,
        .date = "26 Jul 2024", /* any, but always the same */
        .end = CHAT_HEADER,
    };
    if (r->chat == NULL)
        return encode_plain(r);
    if (chat_render(r->chat, r->tokenizer, &request, r->out, &err) != 0)
        return err.code == LLAMA3_EINPUT ? encode_plain(r) : error_copy(r->err, &err);
    drop_bos(r, first);
    return 0;
}

/* Encodes the section that ends here. */
static int end_section(struct text_reader *r)
{
    enum section section = r->section;
    int result = 0;
    r->section = SECTION_NONE;
    if (section == SECTION_TEXT) {
        if (r->text.size == 0)
            return refuse(r, "a document before it, found none");
        buf_add_str(&r->text, "\n");
        result = encode(r, &r->text);
    } else if (section == SECTION_CHAT) {
        if (r->n_messages == 0)
            return refuse(r, "a conversation before it, found none");
        result = encode_chat(r);
    }
    buf_clear(&r->text);
    return result;
}

/* ---- lines ----------------------------------------------------------------------------------- */

static int begin_message(struct text_reader *r, const char *role)
{
    if (r->section != SECTION_CHAT)
        return refuse(r, "a message in a conversation, found one outside");
    if (r->n_messages == MAX_MESSAGES)
        return refuse(r, "no more messages in the conversation");
    r->messages[r->n_messages].role = role;
    buf_clear(&r->messages[r->n_messages].content);
    buf_add_str(&r->messages[r->n_messages].content, "");
    r->n_messages++;
    return 0;
}

static bool is(const char *word, size_t n, const char *name)
{
    return n == strlen(name) && memcmp(word, name, n) == 0;
}

static int read_mark(struct text_reader *r, const char *word, size_t n)
{
    static const char *const roles[] = {"system", "user", "assistant"};
    for (size_t i = 0; i < sizeof roles / sizeof *roles; i++)
        if (is(word, n, roles[i]))
            return begin_message(r, roles[i]);
    bool text = is(word, n, "text");
    if (!text && !is(word, n, "chat"))
        return refuse(r, "text, chat, system, user or assistant behind %%");
    if (end_section(r) != 0)
        return -1;
    r->section = text ? SECTION_TEXT : SECTION_CHAT;
    r->n_messages = 0;
    return 0;
}

/* line: with its line end, if it has one. Line ends join a message's lines; the last has none. */
static int read_line(struct text_reader *r, const char *line, size_t n)
{
    if (n > 3 && memcmp(line, "%% ", 3) == 0)
        return read_mark(r, line + 3, n - 3 - (line[n - 1] == '\n'));
    if (r->section == SECTION_TEXT) {
        buf_add(&r->text, line, n);
    } else if (r->section == SECTION_CHAT) {
        if (r->n_messages == 0)
            return refuse(r, "a message, found text of nobody");
        struct buf *content = &r->messages[r->n_messages - 1].content;
        if (content->size > 0)
            buf_add_str(content, "\n");
        buf_add(content, line, n - (line[n - 1] == '\n'));
    }
    return 0;
}

static int read_lines(struct text_reader *r, const char *text, size_t n, size_t end)
{
    bool found = false;
    for (size_t at = 0; at < n && r->out->n < end;) {
        const char *newline = memchr(text + at, '\n', n - at);
        size_t length = newline == NULL ? n - at : (size_t)(newline - (text + at)) + 1;
        r->line++;
        if (read_line(r, text + at, length) != 0)
            return -1;
        found = found || r->section != SECTION_NONE;
        at += length;
    }
    r->line++;
    if (!found)
        return refuse(r, "a document or a conversation before it, found none");
    return r->out->n < end ? end_section(r) : 0;
}

int calibration_text_of(const struct model *model, const char *text, size_t n, size_t limit,
                        struct tokens *out, struct llama3_error *err)
{
    struct text_reader r = {.model = model, .out = out, .err = err};
    const char *template = json_string_value(json_object_get(model->templates, "default"));
    size_t first = out->n, end = first + limit;
    if (memchr(text, '\0', n) != NULL)
        return error_input(err, "calibration text: expected text, found a NUL byte");
    r.tokenizer = tokenizer_open(&model->vocab, err);
    if (r.tokenizer == NULL)
        return -1;
    if (template != NULL)
        r.chat = chat_open(template, model->path, model->special_tokens, NULL);
    int result = read_lines(&r, text, n, end);
    out->n = result != 0 ? first : out->n < end ? out->n : end;
    for (size_t i = 0; i < MAX_MESSAGES; i++)
        buf_free(&r.messages[i].content);
    buf_free(&r.text);
    chat_close(r.chat);
    tokenizer_close(r.tokenizer);
    return result;
}

int calibration_text(const struct model *model, size_t limit, struct tokens *out,
                     struct llama3_error *err)
{
    return calibration_text_of(model, (const char *)calibration_sample_text,
                               calibration_sample_size, limit, out, err);
}
