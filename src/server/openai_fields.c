/* SPDX-License-Identifier: MIT */
/*
 * openai_fields.c: the fields of the API: which requests have them, how each is read, and what it
 * may hold. Those with texts are read by openai_prompt.c, those of constraints by
 * openai_constraint.c.
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

/* In a completion it is a number: how many of the likeliest tokens to name. */
static int read_text_logprobs(const struct parser *p, const char *name, const json_t *value)
{
    p->request->logprobs = true;
    return read_size(p, name, value, 0, MAX_TOP_LOGPROBS, &p->request->top_logprobs);
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

/* Variables of the template. */
static int read_template_arguments(const struct parser *p, const char *name, const json_t *value)
{
    struct buf *out = &p->request->template_arguments;
    if (!json_is_object(value))
        return parser_mismatch(p, name, "an object", value);
    json_print(value, JSON_COMPACT, out);
    return out->failed ? parser_no_memory(p) : 0;
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
    if (!json_is_string(value))
        return parser_mismatch(p, name, "a string", value);
    p->request->model = json_incref((json_t *)(uintptr_t)value);
    return 0;
}

/* One adapter of a list: {"name": ..., "scale": ...}, or by "id". */
static int check_lora(const struct parser *p, const char *name, const json_t *item)
{
    static const char *const known[] = {"id", "name", "scale"};
    const json_t *id = json_object_get(item, "id"), *by = json_object_get(item, "name");
    const json_t *scale = json_object_get(item, "scale");
    const char *key;
    json_t *value;
    json_object_foreach((json_t *)(uintptr_t)item, key, value)
    {
        bool fine = false;
        for (size_t i = 0; i < sizeof known / sizeof *known; i++)
            fine |= strcmp(key, known[i]) == 0;
        if (!fine)
            return parser_refuse(p, "unknown_parameter", name, "\"%.40s\" is not supported", key);
    }
    if ((id != NULL) == (by != NULL) || (id != NULL && !json_is_integer(id)) ||
        (by != NULL && !json_is_string(by)))
        return parser_refuse(p, NULL, name, "expected a \"name\" or an \"id\" for each");
    if (scale != NULL && !(json_is_number(scale) && json_number_value(scale) >= -1000 &&
                           json_number_value(scale) <= 1000))
        return parser_refuse(p, NULL, name, "expected a \"scale\" of -1000 to 1000");
    return 0;
}

/* Which adapters there are, the server knows (adapters.c). */
static int read_lora(const struct parser *p, const char *name, const json_t *value)
{
    if (!json_is_array(value))
        return parser_mismatch(p, name, "a list", value);
    for (size_t i = 0; i < json_array_size(value); i++) {
        const json_t *item = json_array_get(value, i);
        if (!json_is_object(item))
            return parser_mismatch(p, name, "objects", item);
        if (check_lora(p, name, item) < 0)
            return -1;
    }
    p->request->lora = json_incref((json_t *)(uintptr_t)value);
    return 0;
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

#define FLAG(field_)             NULL, offsetof(struct api_request, field_), 0, 0
#define SIZE(field_, min_, max_) NULL, offsetof(struct api_request, field_), min_, max_
#define READ(function)           function, 0, 0, 0

static const struct field {
    const char *name;
    unsigned kinds; /* of requests that have it: enum api_kind */
    /* NULL: a number, or true or false, goes to the request as it is. */
    int (*read)(const struct parser *p, const char *name, const json_t *value);
    size_t offset, min, max; /* of a number; max 0: true or false */
} fields[] = {
    {"model", BOTH, READ(read_model)},
    {"lora", BOTH, READ(read_lora)},
    {"messages", API_CHAT | API_TEMPLATE, READ(parser_messages)},
    {"chat_template_kwargs", API_CHAT | API_TEMPLATE, READ(read_template_arguments)},
    {"continue_final_message", API_CHAT | API_TEMPLATE, FLAG(continue_last)},
    {"prompt", API_COMPLETION, READ(parser_prompt)},
    {"content", API_TOKENIZE, READ(parser_prompt)},
    {"add_special", API_TOKENIZE, FLAG(add_special)},
    {"temperature", BOTH, READ(read_setting)},
    {"top_p", BOTH, READ(read_setting)},
    {"top_k", BOTH, READ(read_setting)},
    {"min_p", BOTH, READ(read_setting)},
    {"frequency_penalty", BOTH, READ(read_setting)},
    {"presence_penalty", BOTH, READ(read_setting)},
    {"repeat_penalty", BOTH, READ(read_setting)},
    {"seed", BOTH, READ(read_seed)},
    {"max_tokens", BOTH, SIZE(max_tokens, 1, MAX_TOKENS)},
    {"max_completion_tokens", API_CHAT, SIZE(max_tokens, 1, MAX_TOKENS)},
    {"n", BOTH, SIZE(n, 1, MAX_CHOICES)},
    {"best_of", API_COMPLETION, READ(read_best_of)},
    {"stop", BOTH, READ(read_stop)},
    {"stream", BOTH, FLAG(stream)},
    {"stream_options", BOTH, READ(read_stream_options)},
    {"logprobs", API_CHAT, FLAG(logprobs)},
    {"logprobs", API_COMPLETION, READ(read_text_logprobs)},
    {"top_logprobs", API_CHAT, SIZE(top_logprobs, 0, MAX_TOP_LOGPROBS)},
    {"logit_bias", BOTH, READ(read_logit_bias)},
    {"response_format", BOTH, READ(parser_response_format)},
    {"structured_outputs", BOTH, READ(parser_structured_outputs)},
    {"guided_json", BOTH, READ(parser_guided)},
    {"guided_regex", BOTH, READ(parser_guided)},
    {"guided_choice", BOTH, READ(parser_guided)},
    {"guided_grammar", BOTH, READ(parser_guided)},
    {"grammar", BOTH, READ(parser_guided)},
    {"json_schema", BOTH, READ(parser_guided)},
    {"tools", API_CHAT | API_TEMPLATE, READ(parser_tools)},
    {"functions", API_CHAT, READ(read_nothing)},
    {"tool_choice", API_CHAT, READ(parser_tool_choice)},
    {"echo", API_COMPLETION, READ(read_nothing)},
    {"suffix", API_COMPLETION, READ(read_nothing)},
    {"user", BOTH, READ(ignore)},
    {"metadata", BOTH, READ(ignore)},
    {"store", BOTH, READ(ignore)},
    {"safety_identifier", BOTH, READ(ignore)},
    {"prompt_cache_key", BOTH, READ(ignore)},
    {"service_tier", BOTH, READ(ignore)},
    {"parallel_tool_calls", API_CHAT, READ(parser_parallel)},
};

static int read_field(const struct parser *p, const struct field *f, const json_t *value)
{
    void *at = (char *)p->request + f->offset;
    if (f->read != NULL)
        return f->read(p, f->name, value);
    return f->max > 0 ? read_size(p, f->name, value, f->min, f->max, at)
                      : read_flag(p, f->name, value, at);
}

/* In the order of the table, then those that it doesn't have. */
int parser_fields(const struct parser *p)
{
    const struct api_request *r = p->request;
    const size_t n = sizeof fields / sizeof *fields;
    const char *key;
    json_t *value;
    for (size_t i = 0; i < n; i++) {
        value = (fields[i].kinds & r->kind) != 0 ? json_object_get(r->root, fields[i].name) : NULL;
        if (value != NULL && !json_is_null(value) && read_field(p, &fields[i], value) < 0)
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
