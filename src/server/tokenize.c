/* SPDX-License-Identifier: MIT */
/*
 * tokenize.c: /tokenize and /apply-template. As JSON a list of tokens takes twice the memory of
 * their text, so it is streamed.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "server/answer.h"
#include "server/reply.h"
#include "server/server.h"

static int take(const struct work *work, uint64_t bytes, struct api_error *err)
{
    const struct server *s = work->server;
    struct llama3_error error;
    return share_take(work->memory, bytes, &error) == 0
               ? 0
               : api_error_from(err, &error, s->model_path, s->model_id);
}

static void put_tokens(const int32_t *tokens, size_t n, struct reply *reply)
{
    char number[16];
    buf_add_str(&reply->text, "\"tokens\":[");
    for (size_t i = 0; i < n && !reply->gone; i++) {
        int length = snprintf(number, sizeof number, "%s%" PRId32, i > 0 ? "," : "", tokens[i]);
        buf_add(&reply->text, number, (size_t)length);
        reply_more(reply);
    }
    buf_add_str(&reply->text, "]}");
}

static struct reply begin(const struct work *work)
{
    work_log(work, 200, NULL);
    return (struct reply){.http = work->http, .type = "application/json"};
}

static int answer_tokens(const struct work *work, const struct api_request *request,
                         struct llama3_error *err)
{
    int32_t *tokens;
    size_t n;
    if (llama3_tokenize(work->server->model, request->prompt, request->prompt_length,
                        request->add_special, &tokens, &n, err) < 0)
        return -1;
    struct reply reply = begin(work);
    buf_add_str(&reply.text, "{");
    put_tokens(tokens, n, &reply);
    reply_end(&reply, 200);
    llama3_free(tokens);
    return 0;
}

/* Called by json_dump_callback(). */
static int put_text(const char *bytes, size_t n, void *arg)
{
    struct reply *reply = arg;
    buf_add(&reply->text, bytes, n);
    reply_more(reply);
    return reply->text.failed || reply->gone ? -1 : 0;
}

static int answer_template(const struct work *work, const struct api_request *request,
                           struct llama3_error *err)
{
    const struct llama3_model *model = work->server->model;
    int32_t *tokens;
    char *text;
    size_t n, length;
    if (api_request_render(request, model, &work->server->template, &tokens, &n, err) < 0)
        return -1;
    int status = llama3_detokenize(model, tokens, n, true, &text, &length, err);
    if (status == 0) {
        struct reply reply = begin(work);
        json_t *prompt = json_stringn(text, length);
        llama3_free(text);
        buf_add_str(&reply.text, "{\"prompt\":");
        if (json_dump_callback(prompt, put_text, &reply, JSON_ENCODE_ANY) != 0 && !reply.gone)
            reply.text.failed = true;
        json_decref(prompt);
        buf_add_str(&reply.text, ",");
        put_tokens(tokens, n, &reply);
        reply_end(&reply, 200);
    }
    llama3_free(tokens);
    return status;
}

void tokenize_run(const struct work *work)
{
    const bool chat = work->route == ROUTE_TEMPLATE;
    /* Besides parsing, a template takes memory for its text and for a JSON value of it. */
    const uint64_t beyond = chat ? 2 : 0;
    struct server *s = work->server;
    struct api_request request = {0};
    struct api_error err;
    struct llama3_error error = {.size = sizeof error};
    size_t size;
    const char *body = http_body(work->http, &size);
    const enum api_kind kind = chat ? API_TEMPLATE : API_TOKENIZE;
    int status = take(work, api_request_cost(kind, body, size, &s->template) + size * beyond, &err);
    if (status == 0)
        status = api_request_parse(&request, kind, body, size, NULL, 0, &err);
    if (status == 0) {
        http_free_body(work->http);
        status = (chat ? answer_template : answer_tokens)(work, &request, &error);
        if (status < 0)
            api_error_from(&err, &error, s->model_path, s->model_id);
    }
    if (status < 0)
        work_fail(work, &err);
    api_request_free(&request);
}
