/* SPDX-License-Identifier: MIT */
/*
 * openai_fields.c: the fields of the API: which requests have them, how each is read, and what it
 * may hold. Those with texts are read by openai_prompt.c.
 */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/json.h"
#include "server/openai_parts.h"

enum { MAX_TOKENS = 1 << 24, MAX_STOP_BYTES = 1024 };

/* ---- numbers and flags ------------------------------------------------------------------- */

static int read_size(const struct parser *p, const char *name, const json_t *value, size_t min,
                     size_t max, size_t *out)
{
    if (!json_is_integer(value))
        return parser_mismatch(p, name, "an integer", value);
    json_int_t found = json_integer_value(value);
    if (found < (json_int_t)min || found > (json_int_t)max)
        return parser_refuse(p, NULL, name, "expected %zu..%zu, found %" JSON_INTEGER_FORMAT, min,
                             max, found);
    *out = (size_t)found;
    return 0;
}

static int read_flag(const struct parser *p, const char *name, const json_t *value, bool *out)
{
    if (!json_is_boolean(value))
        return parser_mismatch(p, name, "true or false", value);
    *out = json_is_true(value);
    return 0;
}

/* A setting of the sampling, which checks its range. */
static int read_setting(const struct parser *p, const char *name, const json_t *value)
{
    struct llama3_error why = {.size = sizeof why};
    char text[32];
    if (!json_is_number(value))
        return parser_mismatch(p, name, "a number", value);
    json_number_text(value, text);
    if (llama3_sampling_set(p->request->sampling, name, text, &why) == 0)
        return 0;
    return parser_refuse(p, NULL, name, "%s", why.message + strlen(name) + 2); /* "top_p: " */
}

/* Any 64 bits; a negative number is another spelling of the upper half. */
static int read_seed(const struct parser *p, const char *name, const json_t *value)
{
    if (!json_is_integer(value))
        return parser_mismatch(p, name, "an integer of 64 bits", value);
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

/* n must have been read. Only the API's default is supported: the best of n. */
static int read_best_of(const struct parser *p, const char *name, const json_t *value)
{
    size_t best_of = 0;
    if (read_size(p, name, value, 1, MAX_CHOICES, &best_of) < 0)
        return -1;
    return best_of == p->request->n ? 0
                                    : parser_refuse(p, "unsupported_parameter", name,
                                                    "expected the same as \"n\", %zu, found %zu",
                                                    p->request->n, best_of);
}

static int read_stream(const struct parser *p, const char *name, const json_t *value)
{
    return read_flag(p, name, value, &p->request->stream);
}

static int read_stream_options(const struct parser *p, const char *name, const json_t *value)
{
    const char *key;
    json_t *option;
    bool ignored;
    if (!json_is_object(value))
        return parser_mismatch(p, name, "an object", value);
    json_object_foreach((json_t *)(uintptr_t)value, key, option)
    {
        int status;
        if (strcmp(key, "include_usage") == 0)
            status =
                read_flag(p, "stream_options.include_usage", option, &p->request->include_usage);
        else if (strcmp(key, "include_obfuscation") == 0)
            status = read_flag(p, "stream_options.include_obfuscation", option, &ignored);
        else
            status = parser_refuse(p, "unknown_parameter", name, "\"%s\" is not supported", key);
        if (status < 0)
            return -1;
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

/* In a completion it is a number: how many of the likeliest tokens to name. */
static int read_text_logprobs(const struct parser *p, const char *name, const json_t *value)
{
    p->request->logprobs = true;
    return read_top_logprobs(p, name, value);
}

static int read_add_special(const struct parser *p, const char *name, const json_t *value)
{
    return read_flag(p, name, value, &p->request->add_special);
}

/* ---- lists ------------------------------------------------------------------------------- */

static int add_stop(const struct parser *p, const char *name, const json_t *value)
{
    struct api_request *r = p->request;
    if (!json_is_string(value))
        return parser_mismatch(p, name, "strings", value);
    size_t n = json_string_length(value);
    if (n == 0 || n > MAX_STOP_BYTES || r->n_stop == MAX_STOPS)
        return parser_refuse(p, NULL, name,
                             "expected at most %d strings of 1 to %d bytes, found others",
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

static int add_bias(const struct parser *p, const char *name, const char *key, const json_t *bias)
{
    struct llama3_error why = {.size = sizeof why};
    char *end;
    unsigned long token = strtoul(key, &end, 10);
    if (key[0] < '0' || key[0] > '9' || *end != '\0' || token > INT32_MAX)
        return parser_refuse(p, NULL, name, "expected ids of tokens, found \"%s\"", key);
    if (!json_is_number(bias))
        return parser_mismatch(p, name, "a number", bias);
    if (llama3_sampling_bias(p->request->sampling, (int32_t)token, (float)json_number_value(bias),
                             &why) == 0)
        return 0;
    return why.code == LLAMA3_ENOMEM ? parser_no_memory(p)
                                     : parser_refuse(p, NULL, name, "%s", why.message);
}

static int read_logit_bias(const struct parser *p, const char *name, const json_t *value)
{
    const char *key;
    json_t *bias;
    if (!json_is_object(value))
        return parser_mismatch(p, name, "an object", value);
    if (json_object_size(value) > MAX_BIASES)
        return parser_refuse(p, NULL, name, "expected at most %d tokens, found %zu", MAX_BIASES,
                             json_object_size(value));
    json_object_foreach((json_t *)(uintptr_t)value, key, bias)
    {
        if (add_bias(p, name, key, bias) < 0)
            return -1;
    }
    return 0;
}

/* ---- fields that must not ask for anything ------------------------------------------------ */

static int ignore(const struct parser *p, const char *name, const json_t *value)
{
    (void)p;
    (void)name;
    (void)value;
    return 0;
}

static int read_model(const struct parser *p, const char *name, const json_t *value)
{
    return json_is_string(value) ? 0 : parser_mismatch(p, name, "a string", value);
}

/* Only {"type": "text"}, which is what the answer is anyway. */
static int read_response_format(const struct parser *p, const char *name, const json_t *value)
{
    const char *type = json_string_value(json_object_get(value, "type"));
    if (type != NULL && strcmp(type, "text") == 0 && json_object_size(value) == 1)
        return 0;
    return parser_refuse(p, "unsupported_parameter", name, "only the type \"text\" is supported");
}

static int read_tool_choice(const struct parser *p, const char *name, const json_t *value)
{
    const char *choice = json_string_value(value);
    if (choice != NULL && strcmp(choice, "none") == 0)
        return 0;
    return parser_refuse(p, "unsupported_parameter", name, "tools are not supported");
}

/* Taken as long as it asks for nothing: false, "", or an empty list. */
static int read_nothing(const struct parser *p, const char *name, const json_t *value)
{
    if (json_is_false(value) || (json_is_array(value) && json_array_size(value) == 0) ||
        (json_is_string(value) && json_string_length(value) == 0))
        return 0;
    return parser_refuse(p, "unsupported_parameter", name, "not supported");
}

/* ---- all fields --------------------------------------------------------------------------- */

enum { BOTH = API_CHAT | API_COMPLETION };

static const struct field {
    const char *name;
    int (*read)(const struct parser *p, const char *name, const json_t *value);
    unsigned kinds; /* of requests that have it: enum api_kind */
} fields[] = {
    {"model", read_model, BOTH},
    {"messages", parser_messages, API_CHAT | API_TEMPLATE},
    {"prompt", parser_prompt, API_COMPLETION},
    {"content", parser_prompt, API_TOKENIZE},
    {"add_special", read_add_special, API_TOKENIZE},
    {"temperature", read_setting, BOTH},
    {"top_p", read_setting, BOTH},
    {"top_k", read_setting, BOTH},
    {"min_p", read_setting, BOTH},
    {"frequency_penalty", read_setting, BOTH},
    {"presence_penalty", read_setting, BOTH},
    {"repeat_penalty", read_setting, BOTH},
    {"seed", read_seed, BOTH},
    {"max_tokens", read_max_tokens, BOTH},
    {"max_completion_tokens", read_max_tokens, API_CHAT},
    {"n", read_n, BOTH},
    {"best_of", read_best_of, API_COMPLETION},
    {"stop", read_stop, BOTH},
    {"stream", read_stream, BOTH},
    {"stream_options", read_stream_options, BOTH},
    {"logprobs", read_chat_logprobs, API_CHAT},
    {"logprobs", read_text_logprobs, API_COMPLETION},
    {"top_logprobs", read_top_logprobs, API_CHAT},
    {"logit_bias", read_logit_bias, BOTH},
    {"response_format", read_response_format, API_CHAT},
    {"tools", read_nothing, API_CHAT},
    {"functions", read_nothing, API_CHAT},
    {"tool_choice", read_tool_choice, API_CHAT},
    {"echo", read_nothing, API_COMPLETION},
    {"suffix", read_nothing, API_COMPLETION},
    {"user", ignore, BOTH},
    {"metadata", ignore, BOTH},
    {"store", ignore, BOTH},
    {"safety_identifier", ignore, BOTH},
    {"prompt_cache_key", ignore, BOTH},
    {"service_tier", ignore, BOTH},
    {"parallel_tool_calls", ignore, API_CHAT},
};

/* In the order of the table, then those that it doesn't have. */
int parser_fields(const struct parser *p)
{
    const struct api_request *r = p->request;
    const size_t n = sizeof fields / sizeof *fields;
    const char *key;
    json_t *value;
    for (size_t i = 0; i < n; i++) {
        value = (fields[i].kinds & r->kind) != 0 ? json_object_get(r->root, fields[i].name) : NULL;
        if (value != NULL && !json_is_null(value) && fields[i].read(p, fields[i].name, value) < 0)
            return -1;
    }
    json_object_foreach(r->root, key, value)
    {
        bool known = json_is_null(value);
        for (size_t i = 0; i < n && !known; i++)
            known = (fields[i].kinds & r->kind) != 0 && strcmp(fields[i].name, key) == 0;
        if (!known)
            return parser_refuse(p, "unknown_parameter", key, "not supported");
    }
    return 0;
}
