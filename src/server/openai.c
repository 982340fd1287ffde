/* SPDX-License-Identifier: MIT */
/*
 * openai.c: a request as a whole: from its body to a checked struct, what that costs, and its end.
 */
#include "server/openai.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "base/json.h"
#include "server/openai_parts.h"

int parser_refuse(const struct parser *p, const char *code, const char *param, const char *format,
                  ...)
{
    char text[sizeof p->err->error.message];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    return api_error_set(p->err, 400, code, param, "request: \"%.100s\": %s", param, text);
}

int parser_mismatch(const struct parser *p, const char *param, const char *expected,
                    const json_t *found)
{
    return parser_refuse(p, NULL, param, "expected %s, found %s", expected, json_kind(found));
}

int parser_no_memory(const struct parser *p)
{
    return api_error_set(p->err, 503, NULL, NULL, "not enough memory for the request");
}

static int parse(const struct parser *p, const char *body, size_t n)
{
    struct llama3_error err;
    p->request->root = json_parse_small(n > 0 ? body : "", n, "request", &err);
    if (p->request->root != NULL)
        return 0;
    return api_error_set(p->err, err.code == LLAMA3_ENOMEM ? 503 : 400, NULL, NULL, "%s",
                         err.message);
}

/* What no field can be checked for alone. */
static int check(const struct parser *p)
{
    const struct api_request *r = p->request;
    const json_t *stream_options = json_object_get(r->root, "stream_options");
    const char *missing = NULL;
    if (r->kind == API_CHAT || r->kind == API_TEMPLATE)
        missing = r->messages == NULL ? "messages" : NULL;
    else if (r->prompt == NULL && r->tokens == NULL)
        missing = r->kind == API_TOKENIZE ? "content" : "prompt";
    if (missing != NULL)
        return api_error_set(p->err, 400, "missing_required_parameter", missing,
                             "request: expected \"%s\", found nothing", missing);
    if (stream_options != NULL && !json_is_null(stream_options) && !r->stream)
        return parser_refuse(p, NULL, "stream_options", "has no meaning without \"stream\"");
    if (r->kind == API_CHAT && r->top_logprobs > 0 && !r->logprobs)
        return parser_refuse(p, NULL, "top_logprobs", "has no meaning without \"logprobs\"");
    return 0;
}

/* Bytes that a chat's template may take: for its values, which are about as large as those of JSON;
 * for texts, whose characters have 4 bytes, and of which widely used templates make 2 to 7, but
 * some a value of each character; and for what it does besides: some 200 kB at most. */
static size_t template_memory(const char *body, size_t n)
{
    enum { RENDERING = 32, LEAST = 1 << 20 };
    return json_cost(n > 0 ? body : "", n) + n * RENDERING + LEAST;
}

int api_request_parse(struct api_request *r, enum api_kind kind, const char *body, size_t n,
                      const struct llama3_sampling *defaults, size_t vocab_size,
                      struct api_error *err)
{
    const struct parser parser = {r, vocab_size, err};
    *r = (struct api_request){.kind = kind, .n = 1, .template_memory = template_memory(body, n)};
    if (defaults != NULL)
        r->sampling = llama3_sampling_copy(defaults, NULL);
    int status = defaults != NULL && r->sampling == NULL ? parser_no_memory(&parser) : 0;
    if (status == 0 && parse(&parser, body, n) == 0 && parser_fields(&parser) == 0 &&
        check(&parser) == 0)
        return 0;
    api_request_free(r);
    return -1;
}

uint64_t api_request_cost(enum api_kind kind, const char *body, size_t n,
                          const struct llama3_template_options *defaults)
{
    /* A byte becomes a token of 4 bytes at most, beside which the merges of a long word take 4.4
     * (bpe.c). It is also copied into the text between two control tokens. A chat's JSON is read
     * again for its template, whose memory is free for the tokens once it is done; tools and
     * arguments of calls once more, and the names of tools once more for the answer. The defaults'
     * JSON is parsed, printed with the request's, parsed again, and made the template's values. */
    enum { TOKENIZING = 10, COPIES = 4 };
    const uint64_t json = json_cost(n > 0 ? body : "", n);
    return kind == API_CHAT || kind == API_TEMPLATE
               ? 4 * json + 4 * (uint64_t)n + template_memory(body, n) +
                     COPIES * (uint64_t)defaults->memory
               : json + (uint64_t)n * TOKENIZING;
}

/* Appends a JSON object with the members of the defaults and of another, of which the latter count.
 */
static int merge(const char *defaults, const json_t *own, struct buf *out, struct llama3_error *err)
{
    json_t *all = json_parse_exact(defaults, strlen(defaults), "template arguments", err);
    if (all == NULL)
        return -1;
    if (json_object_update(all, (json_t *)(uintptr_t)own) == 0)
        json_print(all, JSON_COMPACT, out);
    else
        out->failed = true;
    json_decref(all);
    return out->failed ? error_memory(err, "template arguments", out->size) : 0;
}

int api_request_render(const struct api_request *r, const struct llama3_model *model,
                       const struct llama3_template_options *defaults, int32_t **tokens,
                       size_t *n_tokens, struct llama3_error *err)
{
    struct llama3_template_options options = *defaults;
    struct buf merged = {0};
    const json_t *own = json_object_get(r->root, "chat_template_kwargs");
    const bool given = r->template_arguments.data != NULL;
    if (given && json_object_get(own, "date_string") != NULL)
        options.date = NULL;
    options.memory += r->template_memory;
    options.continue_last = r->continue_last;
    if (r->tools.size > 0)
        options.tools = r->tools.data;
    if (given && options.arguments != NULL && merge(options.arguments, own, &merged, err) < 0) {
        buf_free(&merged);
        return -1;
    }
    if (given)
        options.arguments = merged.data != NULL ? merged.data : r->template_arguments.data;
    int status =
        llama3_apply_template(model, r->messages, r->n_messages, &options, tokens, n_tokens, err);
    buf_free(&merged);
    return status;
}

void api_request_free_texts(struct api_request *r)
{
    json_decref(r->root);
    free(r->messages);
    buf_free(&r->contents);
    buf_free(&r->template_arguments);
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
    json_decref(r->model);
    json_decref(r->lora);
    json_decref(r->stop_value);
    buf_free(&r->tools);
    buf_free(&r->callable);
    buf_free(&r->constraint.text);
    llama3_sampling_close(r->sampling);
    *r = (struct api_request){0};
}
