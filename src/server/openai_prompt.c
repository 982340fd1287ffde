/* SPDX-License-Identifier: MIT */
/* openai_prompt.c: what a request says to the model: a conversation's messages, or a prompt. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/json.h"
#include "base/size.h"
#include "server/openai_parts.h"

enum { MAX_MESSAGES = 16384 };

/* ---- messages ---------------------------------------------------------------------------- */

/* A field of a message, as errors name it: "messages[3].content". */
struct message_field {
    char name[64];
};

static struct message_field field_of(size_t message, const char *field)
{
    struct message_field of;
    snprintf(of.name, sizeof of.name, "messages[%zu].%s", message, field);
    return of;
}

/* Roles by the names that templates know. */
static const char *read_role(const char *role)
{
    static const char *const roles[] = {"system", "user", "assistant", "tool"};
    if (strcmp(role, "developer") == 0)
        return roles[0];
    for (size_t i = 0; i < sizeof roles / sizeof *roles; i++)
        if (strcmp(role, roles[i]) == 0)
            return roles[i];
    return NULL;
}

/* Appends the texts of a content's parts. */
static int read_parts(const struct parser *p, size_t at, const json_t *parts)
{
    for (size_t i = 0; i < json_array_size(parts); i++) {
        const json_t *part = json_array_get(parts, i);
        const char *type = json_string_value(json_object_get(part, "type"));
        const json_t *text = json_object_get(part, "text");
        if (type == NULL || strcmp(type, "text") != 0 || !json_is_string(text))
            return parser_refuse(p, "unsupported_parameter", field_of(at, "content").name,
                                 "expected parts of type \"text\", found another");
        buf_add(&p->request->contents, json_string_value(text), json_string_length(text));
    }
    buf_add(&p->request->contents, "", 1);
    return 0;
}

/* An assistant's thoughts, which clients send back by either name. */
static bool is_thoughts(const char *key)
{
    return strcmp(key, "reasoning_content") == 0 || strcmp(key, "reasoning") == 0;
}

/* Refuses fields that no template has a place for. Empty ones pass: clients send back the messages
 * of answers. */
static int check_message_fields(const struct parser *p, size_t at, const json_t *message)
{
    static const char *const fine[] = {"role", "content", "tool_call_id"};
    const bool assistant = strcmp(p->request->messages[at].role, "assistant") == 0;
    const bool tool = strcmp(p->request->messages[at].role, "tool") == 0;
    const char *key;
    json_t *value;
    json_object_foreach((json_t *)(uintptr_t)message, key, value)
    {
        bool known = json_is_null(value) || (json_is_array(value) && json_array_size(value) == 0) ||
                     (assistant && (is_thoughts(key) || strcmp(key, "tool_calls") == 0)) ||
                     (tool && strcmp(key, "name") == 0);
        for (size_t i = 0; i < sizeof fine / sizeof *fine; i++)
            known |= strcmp(key, fine[i]) == 0;
        if (!known)
            return parser_refuse(p, "unsupported_parameter", field_of(at, key).name,
                                 "not supported");
        if (is_thoughts(key) && !json_is_null(value) && !json_is_string(value))
            return parser_mismatch(p, field_of(at, key).name, "a string", value);
        if (strcmp(key, "tool_calls") == 0 && !json_is_null(value) &&
            parser_message_calls(p, field_of(at, key).name, value) < 0)
            return -1;
    }
    return 0;
}

/* Where texts of a message that are made begin in `contents`, plus 1; 0: there is none. The buffer
 * still moves, so that pointers have to wait. */
struct places {
    size_t content, json;
};

static bool has_calls(const json_t *message)
{
    return json_array_size(json_object_get(message, "tool_calls")) > 0;
}

/* Appends fields for the template, by the names that templates know: thoughts, calls, whose result
 * a message is, and that it has no content. */
static void read_fields(const struct parser *p, const json_t *message, struct places *places)
{
    static const char *const names[] = {"tool_calls", "tool_call_id", "name"};
    struct buf *out = &p->request->contents;
    const json_t *thoughts = json_object_get(message, "reasoning_content");
    json_t *fields = json_object(), *value;
    bool ok = true;
    if (!json_is_string(thoughts))
        thoughts = json_object_get(message, "reasoning");
    if (json_is_string(thoughts))
        ok = json_object_set(fields, "reasoning_content", (json_t *)(uintptr_t)thoughts) == 0;
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        value = json_object_get(message, names[i]);
        if ((json_is_string(value) && strcmp(names[i], "tool_calls") != 0) ||
            (i == 0 && has_calls(message)))
            ok = json_object_set(fields, names[i], value) == 0 && ok;
    }
    if (has_calls(message) && !json_is_string(json_object_get(message, "content")) &&
        !json_is_array(json_object_get(message, "content")))
        ok = json_object_set_new(fields, "content", json_null()) == 0 && ok;
    if (json_object_size(fields) > 0) {
        places->json = out->size + 1;
        json_print(fields, JSON_COMPACT, out);
        buf_add(out, "", 1);
    }
    out->failed = out->failed || !ok;
    json_decref(fields);
}

static int read_message(const struct parser *p, size_t at, const json_t *message,
                        struct places *places)
{
    struct llama3_message *m = &p->request->messages[at];
    m->size = sizeof *m;
    if (!json_is_object(message))
        return parser_mismatch(p, "messages", "objects", message);
    const char *role = json_string_value(json_object_get(message, "role"));
    if (role == NULL)
        return parser_mismatch(p, field_of(at, "role").name, "a string",
                               json_object_get(message, "role"));
    m->role = read_role(role);
    if (m->role == NULL)
        return parser_refuse(p, NULL, field_of(at, "role").name,
                             "expected system, developer, user, assistant or tool, found \"%.40s\"",
                             role);
    if (check_message_fields(p, at, message) < 0)
        return -1;
    read_fields(p, message, places);
    const json_t *content = json_object_get(message, "content");
    if (json_is_array(content)) {
        places->content = p->request->contents.size + 1;
        return read_parts(p, at, content);
    }
    m->content = has_calls(message) && (content == NULL || json_is_null(content))
                     ? ""
                     : json_string_value(content);
    return m->content != NULL ? 0
                              : parser_mismatch(p, field_of(at, "content").name,
                                                "a string or a list of texts", content);
}

static void set_places(struct api_request *r, const struct places *places, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        if (places[i].content > 0)
            r->messages[i].content = r->contents.data + places[i].content - 1;
        if (places[i].json > 0)
            r->messages[i].json = r->contents.data + places[i].json - 1;
    }
}

int parser_messages(const struct parser *p, const char *name, const json_t *value)
{
    struct api_request *r = p->request;
    size_t n = json_array_size(value);
    if (!json_is_array(value))
        return parser_mismatch(p, name, "a list", value);
    if (n == 0 || n > MAX_MESSAGES)
        return parser_refuse(p, NULL, name, "expected 1 to %d messages, found %zu", MAX_MESSAGES,
                             n);
    r->messages = size_alloc(n, sizeof *r->messages);
    struct places *places = size_alloc(n, sizeof *places);
    int status = r->messages != NULL && places != NULL ? 0 : parser_no_memory(p);
    for (size_t i = 0; i < n && status == 0; i++)
        status = read_message(p, i, json_array_get(value, i), &places[i]);
    if (status == 0 && r->contents.failed)
        status = parser_no_memory(p);
    if (status == 0)
        set_places(r, places, n);
    r->n_messages = n;
    free(places);
    return status;
}

/* ---- prompts ----------------------------------------------------------------------------- */

static int read_prompt_tokens(const struct parser *p, const char *name, const json_t *value)
{
    struct api_request *r = p->request;
    size_t n = json_array_size(value);
    r->tokens = size_alloc(n, sizeof *r->tokens);
    if (r->tokens == NULL)
        return parser_no_memory(p);
    for (size_t i = 0; i < n; i++) {
        const json_t *token = json_array_get(value, i);
        json_int_t id = json_integer_value(token);
        if (!json_is_integer(token) || id < 0 || id >= (json_int_t)p->vocab_size)
            return parser_refuse(p, NULL, name,
                                 "expected ids of tokens from 0 to %zu, found another value",
                                 p->vocab_size - 1);
        r->tokens[i] = (int32_t)id;
    }
    r->n_tokens = n;
    return 0;
}

/* A string, a list of tokens, or a list of one of these. */
int parser_prompt(const struct parser *p, const char *name, const json_t *value)
{
    size_t n = json_array_size(value);
    if (n == 1 && !json_is_integer(json_array_get(value, 0)))
        value = json_array_get(value, 0);
    if (json_is_integer(json_array_get(value, 0)))
        return read_prompt_tokens(p, name, value);
    if (json_is_array(value) && n != 1)
        return parser_refuse(p, "unsupported_parameter", name, "expected one prompt, found %zu",
                             json_array_size(value));
    if (!json_is_string(value))
        return parser_mismatch(p, name, "a string or a list of tokens", value);
    p->request->prompt = json_string_value(value);
    p->request->prompt_length = json_string_length(value);
    return 0;
}
