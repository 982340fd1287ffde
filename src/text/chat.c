/* SPDX-License-Identifier: MIT */
#include "text/chat.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/json.h"
#include "base/size.h"
#include "base/utf8.h"
#include "text/chat_names.h"
#include "text/chat_tools.h"
#include "text/jinja_value.h"

struct chat_template {
    struct jinja *jinja;
    const char *name;
    bool thinks;
    struct jinja_constant *special; /* [n_special], each with its own copies */
    size_t n_special;
    struct tool_form form;
};

/* ---- dates ------------------------------------------------------------------------------------
 */

static const char probe_date[] = "26 Jul 2024";
static const char months[] = "JanFebMarAprMayJunJulAugSepOctNovDec";

/* Reads a date as templates write it: "26 Jul 2024". */
static bool read_date(const char *date, struct tm *tm)
{
    static const int days[] = {31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31};
    if (strlen(date) != 11 || date[2] != ' ' || date[6] != ' ')
        return false;
    for (int i = 0; i < 11; i++)
        if ((i < 2 || i > 6) && (date[i] < '0' || date[i] > '9'))
            return false;
    int day = (date[0] - '0') * 10 + date[1] - '0';
    int year =
        (date[7] - '0') * 1000 + (date[8] - '0') * 100 + (date[9] - '0') * 10 + date[10] - '0';
    int month = 0;
    while (month < 12 && strncmp(months + 3 * month, date + 3, 3) != 0)
        month++;
    bool leap = month == 1 && year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    if (month == 12 || year == 0 || day < 1 || day > days[month] + leap)
        return false;
    *tm = (struct tm){
        .tm_mday = day, .tm_mon = month, .tm_year = year - 1900, .tm_hour = 12, .tm_isdst = -1};
    mktime(tm); /* the day of the week and of the year */
    return true;
}

int chat_date_check(const char *date, struct llama3_error *err)
{
    struct tm tm;
    return read_date(date, &tm)
               ? 0
               : error_input(err, "date: expected one like \"26 Jul 2024\", found \"%.40s\"", date);
}

/* ---- reading ------------------------------------------------------------------------------- */

static int add_special(struct chat_template *chat, const char *name, const char *value,
                       struct llama3_error *err)
{
    struct jinja_constant *special = &chat->special[chat->n_special];
    *special = (struct jinja_constant){strdup(name), strdup(value)};
    chat->n_special++;
    return special->name != NULL && special->value != NULL
               ? 0
               : error_memory(err, "a chat template", strlen(value));
}

static int add_specials(struct chat_template *chat, const json_t *tokens, struct llama3_error *err)
{
    const char *name;
    json_t *value;
    chat->special =
        size_alloc_for(json_object_size(tokens), sizeof *chat->special, "a chat template", err);
    if (chat->special == NULL)
        return -1;
    json_object_foreach((json_t *)(uintptr_t)tokens, name, value)
    {
        if (json_string_length(value) > 0 &&
            add_special(chat, name, json_string_value(value), err) < 0)
            return -1;
    }
    return 0;
}

static int render_probe(const void *arg, const json_t *variables, struct jinja_output *out)
{
    enum { MEMORY = 16 << 20 };
    const struct chat_template *chat = arg;
    struct tm now;
    read_date(probe_date, &now);
    const struct jinja_input input = {.variables = variables,
                                      .constants = chat->special,
                                      .n_constants = chat->n_special,
                                      .now = &now,
                                      .memory = MEMORY};
    return jinja_render(chat->jinja, &input, out, NULL);
}

/* How the template writes tools and calls; one that names none of them isn't tried. */
static int find_form(struct chat_template *chat, const char *text, struct llama3_error *err)
{
    const bool calls = strstr(text, "tool_calls") != NULL;
    if (calls || jinja_mentions(chat->jinja, "tools") || jinja_mentions(chat->jinja, "functions"))
        return tool_form_find(&chat->form, calls, render_probe, chat, err);
    return 0;
}

struct chat_template *chat_open(const char *text, const char *what, const json_t *special_tokens,
                                struct llama3_error *err)
{
    struct chat_template *chat = size_alloc_for(1, sizeof *chat, "a chat template", err);
    if (chat == NULL)
        return NULL;
    chat->name = chat_known_name(text);
    chat->thinks = strstr(text, "</think>") != NULL || strstr(text, "<think>") != NULL;
    chat->jinja = jinja_open(text, strlen(text), what, err);
    if (chat->jinja == NULL || add_specials(chat, special_tokens, err) < 0 ||
        find_form(chat, text, err) < 0) {
        chat_close(chat);
        return NULL;
    }
    return chat;
}

void chat_close(struct chat_template *chat)
{
    if (chat == NULL)
        return;
    jinja_close(chat->jinja);
    for (size_t i = 0; i < chat->n_special; i++) {
        free((char *)chat->special[i].name);
        free((char *)chat->special[i].value);
    }
    free(chat->special);
    tool_form_free(&chat->form);
    free(chat);
}

const char *chat_name(const struct chat_template *chat)
{
    return chat->name;
}

bool chat_mentions(const struct chat_template *chat, const char *name)
{
    return jinja_mentions(chat->jinja, name);
}

bool chat_thinks(const struct chat_template *chat)
{
    return chat->thinks;
}

const struct tool_form *chat_tool_form(const struct chat_template *chat)
{
    return chat->form.syntax != TOOL_NONE ? &chat->form : &tool_form_generic;
}

/* ---- messages as the template sees them ------------------------------------------------------ */

int chat_message_check(const struct llama3_message *message, size_t number,
                       struct llama3_error *err)
{
    if (message->role == NULL || message->content == NULL)
        return error_input(err, "message %zu: expected a role and content, found no %s", number,
                           message->role == NULL ? "role" : "content");
    for (const char *c = message->role; *c != '\0'; c++)
        if ((uint8_t)*c < 0x20 || (uint8_t)*c >= 0x7f)
            return error_input(err,
                               "message %zu: expected a role of printable ASCII, found byte "
                               "0x%02x",
                               number, (uint8_t)*c);
    size_t n = strlen(message->content);
    size_t valid = utf8_valid((const uint8_t *)message->content, n);
    if (valid < n)
        return error_input(err, "message %zu: expected UTF-8, found byte 0x%02x at byte %zu",
                           number, (uint8_t)message->content[valid], valid);
    if (message->role[0] == '\0')
        return error_input(err, "message %zu: expected a role, found none", number);
    if (message->json == NULL)
        return 0;
    char where[40];
    snprintf(where, sizeof where, "message %zu", number);
    json_t *fields = json_parse_exact(message->json, strlen(message->json), where, err);
    int status = fields != NULL ? 0 : -1;
    if (json_object_get(fields, "role") != NULL)
        status =
            error_input(err, "message %zu: expected one role, found another in its JSON", number);
    json_decref(fields);
    return status;
}

/* Thoughts go by several names, as in transformers: each template finds them by its own. */
static bool alias_thoughts(json_t *message)
{
    static const char *const names[] = {"reasoning_content", "thinking", "reasoning"};
    json_t *thoughts = NULL;
    for (size_t i = 0; i < 3 && (thoughts == NULL || json_is_null(thoughts)); i++)
        thoughts = json_object_get(message, names[i]);
    if (thoughts == NULL || json_is_null(thoughts))
        return true;
    return json_object_set(message, "reasoning_content", thoughts) == 0 &&
           (json_object_get(message, "thinking") != NULL ||
            json_object_set(message, "thinking", thoughts) == 0);
}

/* Behind the message that is continued: no text has this noncharacter. The space tells whether the
 * template trims. */
static const char mark_text[] = "\xef\xb7\x90 ";
static const uint32_t mark = 0xfdd0;

static json_t *message_json(const struct llama3_message *message, bool is_open)
{
    json_t *json = json_pack("{s:s, s:s+}", "role", message->role, "content", message->content,
                             is_open ? mark_text : "");
    json_t *more = message->json != NULL
                       ? json_parse_exact(message->json, strlen(message->json), "message", NULL)
                       : NULL;
    bool whole = more == NULL || json_object_update(json, more) == 0;
    json_decref(more);
    if (json != NULL && whole && alias_thoughts(json))
        return json;
    json_decref(json);
    return NULL;
}

static json_t *messages_json(const struct chat_request *r)
{
    json_t *list = json_array();
    for (size_t i = 0; i < r->n; i++)
        if (json_array_append_new(
                list, message_json(&r->messages[i], r->end == CHAT_OPEN && i + 1 == r->n)) != 0) {
            json_decref(list);
            return NULL;
        }
    return list;
}

/* What the template can name; NULL: no memory. */
static json_t *variables_of(const struct chat_template *chat, const struct chat_request *r,
                            const struct tm *now)
{
    json_t *all = json_pack("{s:b, s:n, s:n}", "add_generation_prompt", r->end == CHAT_HEADER,
                            "tools", "documents");
    if (all != NULL &&
        (r->date == NULL || json_object_set_new(all, "date_string", json_string(r->date)) == 0) &&
        (r->arguments == NULL || json_object_update(all, (json_t *)(uintptr_t)r->arguments) == 0)) {
        json_t *messages = chat_tools_apply(&chat->form, messages_json(r), all, r->arguments, now);
        if (json_object_set_new(all, "messages", messages) == 0)
            return all;
    }
    json_decref(all);
    return NULL;
}

/* ---- rendering --------------------------------------------------------------------------------
 */

/* Cuts the text behind the message that is continued. */
static int cut(struct jinja_output *text, struct llama3_error *err)
{
    size_t at = text->n;
    while (at > 0 && jinja_scalar(text->chars[at - 1]) != mark)
        at--;
    if (at == 0)
        return error_input(err, "chat template: expected the last message in what it writes, to "
                                "continue it, found none");
    bool trims = at == text->n || jinja_scalar(text->chars[at]) != ' ';
    at--;
    while (trims && at > 0 && jinja_is_space(jinja_scalar(text->chars[at - 1])))
        at--;
    text->n = at;
    return 0;
}

/* Arguments must not replace what the request says elsewhere. */
static int check_arguments(const struct chat_request *r, struct llama3_error *err)
{
    const char *const taken[] = {"messages", "add_generation_prompt",
                                 r->date != NULL ? "date_string" : "messages"};
    for (size_t i = 0; i < sizeof taken / sizeof *taken; i++)
        if (json_object_get(r->arguments, taken[i]) != NULL)
            return error_input(err,
                               "arguments: expected no variable that is set already, "
                               "found \"%s\"",
                               taken[i]);
    return 0;
}

static int check(const struct chat_request *r, struct llama3_error *err)
{
    if (r->n == 0)
        return error_input(err, "conversation: expected a message, found none");
    for (size_t i = 0; i < r->n; i++)
        if (chat_message_check(&r->messages[i], i + 1, err) < 0)
            return -1;
    if (r->end == CHAT_OPEN && strcmp(r->messages[r->n - 1].role, "assistant") != 0)
        return error_input(err,
                           "message %zu: expected one of the assistant to continue, found role "
                           "\"%.40s\"",
                           r->n, r->messages[r->n - 1].role);
    return r->date != NULL && chat_date_check(r->date, err) < 0 ? -1 : check_arguments(r, err);
}

static int render_text(const struct chat_template *chat, const struct chat_request *r,
                       struct jinja_output *text, struct llama3_error *err)
{
    struct tm now;
    if (check(r, err) < 0)
        return -1;
    if (r->date != NULL)
        read_date(r->date, &now);
    else
        localtime_r(&r->now, &now);
    json_t *variables = variables_of(chat, r, &now);
    if (variables == NULL)
        return error_memory(err, "a conversation", r->n);
    const struct jinja_input input = {.variables = variables,
                                      .constants = chat->special,
                                      .n_constants = chat->n_special,
                                      .now = &now,
                                      .memory = r->memory};
    int status = jinja_render(chat->jinja, &input, text, err);
    json_decref(variables);
    if (status == 0 && r->end == CHAT_OPEN && cut(text, err) < 0) {
        free(text->chars);
        return -1;
    }
    return status;
}

int chat_render(const struct chat_template *chat, const struct tokenizer *tokenizer,
                const struct chat_request *request, struct tokens *out, struct llama3_error *err)
{
    struct jinja_output text;
    if (render_text(chat, request, &text, err) < 0)
        return -1;
    int status = tokenizer_encode_marked(tokenizer, text.chars, text.n, out, err);
    free(text.chars);
    return status;
}

/* A conversation of one letter each, without the header of another answer. */
static int probe(const struct chat_template *chat, struct jinja_output *text,
                 struct llama3_error *err)
{
    const struct llama3_message messages[] = {
        {.size = sizeof *messages, .role = "user", .content = "q"},
        {.size = sizeof *messages, .role = "assistant", .content = "a"}};
    const struct chat_request request = {
        .messages = messages, .n = 2, .date = probe_date, .end = CHAT_NOTHING};
    return render_text(chat, &request, text, err);
}

int32_t chat_end_of_turn(const struct chat_template *chat, const struct tokenizer *tokenizer)
{
    struct jinja_output text;
    struct tokens tokens = {0};
    int32_t end = -1;
    if (probe(chat, &text, NULL) < 0)
        return -1;
    size_t at = text.n;
    while (at > 0 && text.chars[at - 1] != ('a' | (uint32_t)JINJA_GIVEN))
        at--;
    if (at > 0 &&
        tokenizer_encode_marked(tokenizer, text.chars + at, text.n - at, &tokens, NULL) == 0 &&
        tokens.n > 0 && tokenizer_kind(tokenizer, tokens.ids[0]) != TOKEN_TEXT)
        end = tokens.ids[0];
    tokens_free(&tokens);
    free(text.chars);
    return end;
}

/* The length of a "<|name|>" that begins with these characters, and its text; else 0. */
static size_t control_at(const uint32_t *chars, size_t n, char name[64])
{
    size_t length = 2;
    if (n < 5 || chars[0] != '<' || chars[1] != '|')
        return 0;
    while (length < n && length < 60 && chars[length] > ' ' && chars[length] < 0x7f &&
           chars[length] != '|')
        length++;
    if (length + 2 > n || chars[length] != '|' || chars[length + 1] != '>')
        return 0;
    for (size_t i = 0; i < length + 2; i++)
        name[i] = (char)chars[i];
    name[length + 2] = '\0';
    return length + 2;
}

int chat_check_controls(const struct chat_template *chat, const struct tokenizer *tokenizer,
                        struct llama3_error *err)
{
    struct jinja_output text = {0};
    char name[64];
    int status = probe(chat, &text, err);
    for (size_t i = 0; status == 0 && i < text.n; i++)
        if (control_at(text.chars + i, text.n - i, name) > 0 &&
            tokenizer_control(tokenizer, name) < 0)
            status = error_input(err,
                                 "template %s: expected the control token %s in the vocabulary, "
                                 "found none",
                                 chat->name, name);
    free(text.chars);
    return status;
}
