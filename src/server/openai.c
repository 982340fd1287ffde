/* SPDX-License-Identifier: MIT */
#include "server/openai.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "base/json.h"
#include "base/size.h"

enum {
    MAX_MESSAGES = 16384,
    MAX_TOKENS = 1 << 24,
    MAX_STOP_BYTES = 1024,
    BAD_REQUEST = 400,
};

static int wrong(struct api_error *err, const char *param, const char *expected,
                 const json_t *found)
{
    return api_error_set(err, BAD_REQUEST, NULL, param, "request: \"%s\": expected %s, found %s",
                         param, expected, json_kind(found));
}

static int out_of_memory(struct api_error *err)
{
    return api_error_set(err, 503, NULL, NULL, "not enough memory for the request");
}

/* ---- fields ------------------------------------------------------------------------------ */

struct parser {
    struct api_request *request;
    size_t vocab_size;
    struct api_error *err;
};

/* A field: how it is read, and of which of the two requests it is one. */
struct field {
    const char *name;
    int (*read)(const struct parser *p, const char *name, const json_t *value);
    bool of_chat, of_completion;
};

static int read_size(const struct parser *p, const char *name, const json_t *value, size_t min,
                     size_t max, size_t *out)
{
    if (!json_is_integer(value))
        return wrong(p->err, name, "an integer", value);
    json_int_t found = json_integer_value(value);
    if (found < (json_int_t)min || found > (json_int_t)max)
        return api_error_set(p->err, BAD_REQUEST, NULL, name,
                             "request: \"%s\": expected %zu..%zu, found %" JSON_INTEGER_FORMAT,
                             name, min, max, found);
    *out = (size_t)found;
    return 0;
}

static int read_flag(const struct parser *p, const char *name, const json_t *value, bool *out)
{
    if (!json_is_boolean(value))
        return wrong(p->err, name, "true or false", value);
    *out = json_is_true(value);
    return 0;
}

static int ignore(const struct parser *p, const char *name, const json_t *value)
{
    (void)p;
    (void)name;
    (void)value;
    return 0;
}

static int read_model(const struct parser *p, const char *name, const json_t *value)
{
    return json_is_string(value) ? 0 : wrong(p->err, name, "a string", value);
}

/* Passes a setting on to the sampling, which knows its range. */
static int set(const struct parser *p, const char *name, const char *value)
{
    struct llama3_error why;
    size_t prefix = strlen(name) + 2; /* "top_p: " */
    if (llama3_sampling_set(p->request->sampling, name, value, &why) == 0)
        return 0;
    return api_error_set(p->err, BAD_REQUEST, NULL, name, "request: \"%s\": %s", name,
                         why.message + prefix);
}

static int read_setting(const struct parser *p, const char *name, const json_t *value)
{
    char text[32];
    if (!json_is_number(value))
        return wrong(p->err, name, "a number", value);
    json_number_text(value, text);
    return set(p, name, text);
}

/* Any 64 bits; those that are negative are another spelling of the upper half. */
static int read_seed(const struct parser *p, const char *name, const json_t *value)
{
    if (!json_is_integer(value))
        return wrong(p->err, name, "an integer of 64 bits", value);
    p->request->seed = (uint64_t)json_integer_value(value);
    p->request->has_seed = true;
    return 0;
}

static int read_max_tokens(const struct parser *p, const char *name, const json_t *value)
{
    return read_size(p, name, value, 1, MAX_TOKENS, &p->request->max_tokens);
}

static int read_n(const struct parser *p, const char *name, const json_t *value)
{
    return read_size(p, name, value, 1, MAX_CHOICES, &p->request->n);
}

/* Must come after n; it is only what the API's default does. */
static int read_best_of(const struct parser *p, const char *name, const json_t *value)
{
    size_t best_of = 0;
    if (read_size(p, name, value, 1, MAX_CHOICES, &best_of) < 0)
        return -1;
    return best_of == p->request->n
               ? 0
               : api_error_set(p->err, BAD_REQUEST, "unsupported_parameter", name,
                               "request: \"best_of\": only what \"n\" says is supported");
}

static int add_stop(const struct parser *p, const char *name, const json_t *value)
{
    struct api_request *r = p->request;
    if (!json_is_string(value))
        return wrong(p->err, name, "strings", value);
    size_t n = json_string_length(value);
    if (n == 0 || n > MAX_STOP_BYTES || r->n_stop == MAX_STOPS)
        return api_error_set(p->err, BAD_REQUEST, NULL, name,
                             "request: \"stop\": expected at most %d strings of 1 to %d bytes, "
                             "found others",
                             MAX_STOPS, MAX_STOP_BYTES);
    r->stop[r->n_stop++] = json_string_value(value);
    return 0;
}

static int read_stop(const struct parser *p, const char *name, const json_t *value)
{
    p->request->stop_value = json_incref((json_t *)(uintptr_t)value);
    if (!json_is_array(value))
        return add_stop(p, name, value);
    for (size_t i = 0; i < json_array_size(value); i++)
        if (add_stop(p, name, json_array_get(value, i)) < 0)
            return -1;
    return 0;
}

static int read_stream(const struct parser *p, const char *name, const json_t *value)
{
    return read_flag(p, name, value, &p->request->stream);
}

static int read_stream_options(const struct parser *p, const char *name, const json_t *value)
{
    const char *key;
    json_t *option;
    bool flag;
    if (!json_is_object(value))
        return wrong(p->err, name, "an object", value);
    json_object_foreach((json_t *)(uintptr_t)value, key, option)
    {
        if (strcmp(key, "include_usage") == 0) {
            if (read_flag(p, "stream_options.include_usage", option, &p->request->include_usage) <
                0)
                return -1;
        } else if (strcmp(key, "include_obfuscation") == 0) {
            if (read_flag(p, "stream_options.include_obfuscation", option, &flag) < 0)
                return -1;
        } else {
            return api_error_set(p->err, BAD_REQUEST, "unknown_parameter", name,
                                 "request: \"stream_options\": \"%s\" is not known", key);
        }
    }
    return 0;
}

static int read_chat_logprobs(const struct parser *p, const char *name, const json_t *value)
{
    return read_flag(p, name, value, &p->request->logprobs);
}

static int read_top_logprobs(const struct parser *p, const char *name, const json_t *value)
{
    return read_size(p, name, value, 0, MAX_TOP_LOGPROBS, &p->request->top_logprobs);
}

/* Of a completion it is a number: how many of the likeliest tokens to name. */
static int read_text_logprobs(const struct parser *p, const char *name, const json_t *value)
{
    p->request->logprobs = true;
    return read_size(p, name, value, 0, MAX_TOP_LOGPROBS, &p->request->top_logprobs);
}

static int read_logit_bias(const struct parser *p, const char *name, const json_t *value)
{
    struct api_request *r = p->request;
    const char *key;
    json_t *bias;
    if (!json_is_object(value))
        return wrong(p->err, name, "an object", value);
    if (json_object_size(value) > MAX_BIASES)
        return api_error_set(p->err, BAD_REQUEST, NULL, name,
                             "request: \"logit_bias\": expected at most %d tokens, found %zu",
                             MAX_BIASES, json_object_size(value));
    json_object_foreach((json_t *)(uintptr_t)value, key, bias)
    {
        struct llama3_error why;
        char *end;
        unsigned long token = strtoul(key, &end, 10);
        if (key[0] < '0' || key[0] > '9' || *end != '\0' || token > INT32_MAX)
            return api_error_set(p->err, BAD_REQUEST, NULL, name,
                                 "request: \"logit_bias\": expected ids of tokens, found \"%s\"",
                                 key);
        if (!json_is_number(bias))
            return wrong(p->err, name, "a number", bias);
        if (llama3_sampling_bias(r->sampling, (int32_t)token, (float)json_number_value(bias),
                                 &why) < 0)
            return api_error_set(p->err, why.code == LLAMA3_ENOMEM ? 503 : BAD_REQUEST, NULL, name,
                                 "request: \"logit_bias\": %s", why.message);
    }
    return 0;
}

/* Only {"type": "text"}, which is what the answer is anyway. */
static int read_response_format(const struct parser *p, const char *name, const json_t *value)
{
    const char *type = json_string_value(json_object_get(value, "type"));
    if (type != NULL && strcmp(type, "text") == 0 && json_object_size(value) == 1)
        return 0;
    return api_error_set(p->err, BAD_REQUEST, "unsupported_parameter", name,
                         "request: \"response_format\": only the type \"text\" is supported");
}

static int read_tool_choice(const struct parser *p, const char *name, const json_t *value)
{
    const char *choice = json_string_value(value);
    if (choice != NULL && strcmp(choice, "none") == 0)
        return 0;
    return api_error_set(p->err, BAD_REQUEST, "unsupported_parameter", name,
                         "request: \"tool_choice\": tools are not supported");
}

/* Fields that may be given as long as they ask for nothing: false, 0, "", an empty list. */
static int read_nothing(const struct parser *p, const char *name, const json_t *value)
{
    if (json_is_false(value) || (json_is_array(value) && json_array_size(value) == 0) ||
        (json_is_string(value) && json_string_length(value) == 0))
        return 0;
    return api_error_set(p->err, BAD_REQUEST, "unsupported_parameter", name,
                         "request: \"%s\" is not supported", name);
}

/* ---- messages ---------------------------------------------------------------------------- */

/* Where in a request a message's field is: "messages[3].content". */
struct place {
    char name[64];
};

static struct place place_of(size_t message, const char *field)
{
    struct place place;
    snprintf(place.name, sizeof place.name, "messages[%zu].%s", message, field);
    return place;
}

/* Roles by the names that templates know. */
static const char *read_role(const json_t *value)
{
    static const char *const roles[] = {"system", "user", "assistant", "tool"};
    const char *role = json_string_value(value);
    if (role == NULL)
        return NULL;
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
    struct place place = place_of(at, "content");
    for (size_t i = 0; i < json_array_size(parts); i++) {
        const json_t *part = json_array_get(parts, i);
        const char *type = json_string_value(json_object_get(part, "type"));
        const json_t *text = json_object_get(part, "text");
        if (type == NULL || strcmp(type, "text") != 0 || !json_is_string(text))
            return api_error_set(p->err, BAD_REQUEST, "unsupported_parameter", place.name,
                                 "request: \"%s\": expected parts of type \"text\", found another",
                                 place.name);
        buf_add(&p->request->contents, json_string_value(text), json_string_length(text));
    }
    buf_add(&p->request->contents, "", 1);
    return 0;
}

/* What a client may send back of an answer, or what has no place in a template. */
static int check_message_fields(const struct parser *p, size_t at, const json_t *message)
{
    static const char *const fine[] = {"role", "content", "tool_call_id"};
    const char *key;
    json_t *value;
    json_object_foreach((json_t *)(uintptr_t)message, key, value)
    {
        bool known = json_is_null(value) || (json_is_array(value) && json_array_size(value) == 0);
        for (size_t i = 0; i < sizeof fine / sizeof *fine; i++)
            known |= strcmp(key, fine[i]) == 0;
        if (!known)
            return api_error_set(p->err, BAD_REQUEST, "unsupported_parameter",
                                 place_of(at, key).name, "request: \"%s\" is not supported",
                                 place_of(at, key).name);
    }
    return 0;
}

/* content: of one that came in parts, its offset in `contents` plus 1 until all are read. */
static int read_message(const struct parser *p, size_t at, const json_t *message, size_t *offset)
{
    struct llama3_message *m = &p->request->messages[at];
    m->size = sizeof *m;
    if (!json_is_object(message))
        return wrong(p->err, "messages", "objects", message);
    m->role = read_role(json_object_get(message, "role"));
    if (m->role == NULL)
        return api_error_set(p->err, BAD_REQUEST, NULL, place_of(at, "role").name,
                             "request: \"%s\": expected system, developer, user, assistant or "
                             "tool, found another",
                             place_of(at, "role").name);
    if (check_message_fields(p, at, message) < 0)
        return -1;
    const json_t *content = json_object_get(message, "content");
    if (json_is_array(content)) {
        *offset = p->request->contents.size + 1;
        return read_parts(p, at, content);
    }
    m->content = json_string_value(content);
    return m->content != NULL ? 0
                              : wrong(p->err, place_of(at, "content").name,
                                      "a string or a list of texts", content);
}

static int read_messages(const struct parser *p, const char *name, const json_t *value)
{
    struct api_request *r = p->request;
    size_t n = json_array_size(value);
    if (!json_is_array(value))
        return wrong(p->err, name, "a list", value);
    if (n == 0 || n > MAX_MESSAGES)
        return api_error_set(p->err, BAD_REQUEST, NULL, name,
                             "request: \"messages\": expected 1 to %d messages, found %zu",
                             MAX_MESSAGES, n);
    r->messages = size_alloc(n, sizeof *r->messages);
    size_t *offsets = size_alloc(n, sizeof *offsets);
    int status = r->messages != NULL && offsets != NULL ? 0 : out_of_memory(p->err);
    for (size_t i = 0; i < n && status == 0; i++)
        status = read_message(p, i, json_array_get(value, i), &offsets[i]);
    if (status == 0 && r->contents.failed)
        status = out_of_memory(p->err);
    for (size_t i = 0; i < n && status == 0; i++)
        if (offsets[i] > 0)
            r->messages[i].content = r->contents.data + offsets[i] - 1;
    r->n_messages = n;
    free(offsets);
    return status;
}

/* ---- prompts ----------------------------------------------------------------------------- */

static int read_prompt_tokens(const struct parser *p, const char *name, const json_t *value)
{
    struct api_request *r = p->request;
    size_t n = json_array_size(value);
    r->tokens = size_alloc(n, sizeof *r->tokens);
    if (r->tokens == NULL)
        return out_of_memory(p->err);
    for (size_t i = 0; i < n; i++) {
        const json_t *token = json_array_get(value, i);
        json_int_t id = json_integer_value(token);
        if (!json_is_integer(token) || id < 0 || id >= (json_int_t)p->vocab_size)
            return api_error_set(p->err, BAD_REQUEST, NULL, name,
                                 "request: \"prompt\": expected ids of tokens below %zu, found "
                                 "another value",
                                 p->vocab_size);
        r->tokens[i] = (int32_t)id;
    }
    r->n_tokens = n;
    return 0;
}

static int read_prompt(const struct parser *p, const char *name, const json_t *value)
{
    size_t n = json_array_size(value);
    if (n == 1 && !json_is_integer(json_array_get(value, 0)))
        value = json_array_get(value, 0);
    if (json_is_integer(json_array_get(value, 0)))
        return read_prompt_tokens(p, name, value);
    if (json_is_array(value) && n != 1)
        return api_error_set(p->err, BAD_REQUEST, "unsupported_parameter", name,
                             "request: \"prompt\": expected one prompt, found %zu",
                             json_array_size(value));
    if (!json_is_string(value))
        return wrong(p->err, name, "a string or a list of tokens", value);
    p->request->prompt = json_string_value(value);
    p->request->prompt_length = json_string_length(value);
    return 0;
}

static int read_special(const struct parser *p, const char *name, const json_t *value)
{
    return read_flag(p, name, value, &p->request->add_special);
}

/* ---- the requests ------------------------------------------------------------------------ */

static const struct field fields[] = {
    {"model", read_model, true, true},
    {"messages", read_messages, true, false},
    {"prompt", read_prompt, false, true},
    {"temperature", read_setting, true, true},
    {"top_p", read_setting, true, true},
    {"top_k", read_setting, true, true},
    {"min_p", read_setting, true, true},
    {"frequency_penalty", read_setting, true, true},
    {"presence_penalty", read_setting, true, true},
    {"repeat_penalty", read_setting, true, true},
    {"seed", read_seed, true, true},
    {"max_tokens", read_max_tokens, true, true},
    {"max_completion_tokens", read_max_tokens, true, false},
    {"n", read_n, true, true},
    {"best_of", read_best_of, false, true},
    {"stop", read_stop, true, true},
    {"stream", read_stream, true, true},
    {"stream_options", read_stream_options, true, true},
    {"logprobs", read_chat_logprobs, true, false},
    {"logprobs", read_text_logprobs, false, true},
    {"top_logprobs", read_top_logprobs, true, false},
    {"logit_bias", read_logit_bias, true, true},
    {"response_format", read_response_format, true, false},
    {"tools", read_nothing, true, false},
    {"functions", read_nothing, true, false},
    {"tool_choice", read_tool_choice, true, false},
    {"echo", read_nothing, false, true},
    {"suffix", read_nothing, false, true},
    {"user", ignore, true, true},
    {"metadata", ignore, true, true},
    {"store", ignore, true, true},
    {"safety_identifier", ignore, true, true},
    {"prompt_cache_key", ignore, true, true},
    {"service_tier", ignore, true, true},
    {"parallel_tool_calls", ignore, true, false},
};

static const struct field template_fields[] = {{"messages", read_messages, true, false}};
static const struct field tokenize_fields[] = {{"content", read_prompt, true, false},
                                               {"add_special", read_special, true, false}};

static json_t *parse(const char *body, size_t n, struct api_error *err)
{
    struct llama3_error error;
    json_t *root = json_parse_small(n > 0 ? body : "", n, "request", &error);
    if (root == NULL)
        api_error_set(err, error.code == LLAMA3_ENOMEM ? 503 : BAD_REQUEST, NULL, NULL, "%s",
                      error.message);
    return root;
}

/* Every field in the order of the table, then those that are in none. */
static int read_fields(const struct parser *p, const struct field *table, size_t n_table)
{
    const struct api_request *r = p->request;
    const char *key;
    json_t *value;
    for (size_t i = 0; i < n_table; i++) {
        const struct field *f = &table[i];
        value = json_object_get(r->root, f->name);
        if (value != NULL && !json_is_null(value) && (r->chat ? f->of_chat : f->of_completion) &&
            f->read(p, f->name, value) < 0)
            return -1;
    }
    json_object_foreach(r->root, key, value)
    {
        bool known = json_is_null(value);
        for (size_t i = 0; i < n_table && !known; i++)
            known = strcmp(table[i].name, key) == 0 &&
                    (r->chat ? table[i].of_chat : table[i].of_completion);
        if (!known)
            return api_error_set(p->err, BAD_REQUEST, "unknown_parameter", key,
                                 "request: \"%.100s\" is not supported", key);
    }
    return 0;
}

static int required(struct api_error *err, const char *name)
{
    return api_error_set(err, BAD_REQUEST, "missing_required_parameter", name,
                         "request: expected \"%s\", found nothing", name);
}

static int check(const struct api_request *r, struct api_error *err)
{
    if (r->chat && r->messages == NULL)
        return required(err, "messages");
    if (!r->chat && r->prompt == NULL && r->tokens == NULL)
        return required(err, "prompt");
    if (!r->stream && !json_is_null(json_object_get(r->root, "stream_options")) &&
        json_object_get(r->root, "stream_options") != NULL)
        return api_error_set(err, BAD_REQUEST, NULL, "stream_options",
                             "request: \"stream_options\" has no meaning without \"stream\"");
    if (r->chat && r->top_logprobs > 0 && !r->logprobs)
        return api_error_set(err, BAD_REQUEST, NULL, "top_logprobs",
                             "request: \"top_logprobs\" has no meaning without \"logprobs\"");
    return 0;
}

int api_request_parse(struct api_request *r, bool chat, const char *body, size_t n,
                      const struct llama3_sampling *defaults, size_t vocab_size,
                      struct api_error *err)
{
    *r = (struct api_request){.chat = chat, .n = 1};
    struct parser parser = {r, vocab_size, err};
    r->sampling = llama3_sampling_copy(defaults, NULL);
    if (r->sampling == NULL)
        return out_of_memory(err);
    r->root = parse(body, n, err);
    if (r->root != NULL && read_fields(&parser, fields, sizeof fields / sizeof *fields) == 0 &&
        check(r, err) == 0)
        return 0;
    api_request_free(r);
    return -1;
}

static int parse_small(struct api_request *r, const struct field *table, size_t n_table,
                       const char *body, size_t n, struct api_error *err)
{
    *r = (struct api_request){.chat = true};
    struct parser parser = {r, 0, err};
    r->root = parse(body, n, err);
    if (r->root == NULL || read_fields(&parser, table, n_table) < 0)
        return -1;
    if (json_object_get(r->root, table[0].name) == NULL)
        return required(err, table[0].name);
    return 0;
}

int api_messages_parse(struct api_request *r, const char *body, size_t n, struct api_error *err)
{
    if (parse_small(r, template_fields, 1, body, n, err) == 0 && r->messages != NULL)
        return 0;
    api_request_free(r);
    return -1;
}

int api_text_parse(struct api_request *r, const char *body, size_t n, struct api_error *err)
{
    int status = parse_small(r, tokenize_fields, 2, body, n, err);
    if (status == 0 && r->prompt == NULL)
        status = api_error_set(err, BAD_REQUEST, NULL, "content",
                               "request: \"content\": expected a string, found nothing");
    if (status < 0)
        api_request_free(r);
    return status;
}

uint64_t api_request_cost(const char *body, size_t n)
{
    /* A byte becomes a token of 4 bytes at most, beside which the merges of a long word take 4.4
     * (bpe.c); and it is copied into the text between two control tokens. */
    enum { TOKENIZING = 10 };
    return json_cost(n > 0 ? body : "", n) + (uint64_t)n * TOKENIZING;
}

void api_request_free_texts(struct api_request *r)
{
    json_decref(r->root);
    free(r->messages);
    buf_free(&r->contents);
    free(r->tokens);
    r->root = NULL;
    r->messages = NULL;
    r->prompt = NULL;
    r->tokens = NULL;
    r->n_messages = r->prompt_length = r->n_tokens = 0;
}

void api_request_free(struct api_request *r)
{
    api_request_free_texts(r);
    json_decref(r->stop_value);
    llama3_sampling_close(r->sampling);
    *r = (struct api_request){0};
}
